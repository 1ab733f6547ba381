"""What a user is told when something is wrong: an error that ends the program, or a warning."""

from __future__ import annotations

import sys


class UserError(Exception):
    """Something the user can mend: a bad flag, a missing file, a wrong column.

    The message is one line: what is wrong and what to do. The programs print it on
    stderr without a traceback and exit with code 2.
    """


def warn(message: str) -> None:
    """Prints a one-line warning on stderr."""
    print(f"warning: {message}", file=sys.stderr, flush=True)
