"""Reading and writing the small files of a run."""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any

from moe.errors import UserError


def write_json(path: pathlib.Path, content: Any) -> None:
    """Writes `content` whole or not at all.

    Raises:
      UserError: the disk does not take it.
    """
    aside = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        os.replace(aside, path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}).") from error


def read_json(path: pathlib.Path) -> Any:
    """The content of a JSON file.

    Raises:
      UserError: it is missing, unreadable or no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise UserError(f"{path}: is damaged, no JSON ({error}).") from error
