"""The one exception that a user's input can cause."""


class UserError(Exception):
    """Something the user can mend: a bad flag, a missing file, a wrong column.

    The message is one line: what is wrong and what to do. The programs print it on
    stderr without a traceback and exit with code 2.
    """
