"""What a user is told when something is wrong: an error that ends the program, or a warning."""

from __future__ import annotations

import sys


class UserError(Exception):
    """Something the user can mend: a bad flag, a missing file, a wrong column.

    The message is one line: what is wrong and what to do. The programs print it on
    stderr without a traceback and exit with code 2.
    """


def reason(error: BaseException) -> str:
    """Type and words of somebody else's error in one line; alone, it may say a page, or nothing."""
    said = " ".join(str(error).split())
    kind = type(error).__name__
    return f"{kind}: {said:.300}" if said else kind


def first_line(error: BaseException) -> str:
    """Its words up to a line's end, of errors that go on with where they come from."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def warn(message: str) -> None:
    """Prints a one-line warning on stderr."""
    print(f"warning: {message}", file=sys.stderr, flush=True)
