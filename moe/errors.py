"""What a user is told when something is wrong: an error that ends the program, or a warning."""

from __future__ import annotations

import re
import sys

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
"""Of a terminal, as Keras puts them into its messages."""


class UserError(Exception):
    """Something the user can mend: a bad flag, a missing file, a wrong column.

    The message is one line: what is wrong and what to do. The programs print it on
    stderr without a traceback and exit with code 2.
    """


def reason(error: BaseException) -> str:
    """Type and words of somebody else's error in one line; alone, it may say a page, or nothing."""
    said = " ".join(_COLOURS.sub("", str(error)).split())
    kind = type(error).__name__
    return f"{kind}: {said:.300}" if said else kind


def first_line(error: BaseException) -> str:
    """Its words up to a line's end, of errors that go on with where they come from."""
    said = _COLOURS.sub("", str(error)).strip()
    return said.partition("\n")[0] or type(error).__name__


def warn(message: str) -> None:
    """Prints a one-line warning on stderr."""
    print(f"warning: {message}", file=sys.stderr, flush=True)
