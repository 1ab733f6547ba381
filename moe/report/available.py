"""Whether a report can be drawn here."""

from __future__ import annotations

import importlib.util

from moe.errors import UserError, warn

REPORT = "report.html"
_NEEDED = {"matplotlib": "matplotlib", "jinja2": "Jinja2"}


def report_wanted(asked: bool | None) -> bool:
    """Whether to write a report: as asked, else where it can be done.

    Args:
      asked: `--report`, `--noreport`, or None: neither.

    Raises:
      UserError: it was asked for and cannot be done.
    """
    if asked is False:
        return False
    missing = [name for package, name in _NEEDED.items() if not importlib.util.find_spec(package)]
    if not missing:
        return True
    need = f'{" and ".join(missing)} (pip install --editable ".[report]")'
    if asked:
        raise UserError(f"--report needs {need}.")
    warn(f"no figures and no report.html: they need {need}; --noreport leaves them out silently.")
    return False
