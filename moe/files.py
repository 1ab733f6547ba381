"""Reading and writing the small files of a run."""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import hashlib
import json
import math
import os
import pathlib
import re
import shutil
from collections.abc import Iterator
from typing import Any

from moe.errors import UserError, warn


def choose_workdir(asked: str | None, kind: str) -> pathlib.Path:
    """The folder that was asked for, else `runs/KIND-TIME`; it need not be there yet."""
    now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    # A data set may be named by a path.
    slug = re.sub(r"[^\w.-]+", "-", kind).strip("-")
    return pathlib.Path(asked or f"runs/{slug}-{now}")


def is_there(path: pathlib.Path) -> bool:
    """Whether something is at `path`; what may not be looked at is not, where `exists` raises."""
    return os.path.exists(path)


def make_workdir(workdir: pathlib.Path, flag: str = "workdir") -> None:
    """Makes the folder of a run, if it is not there; or that which another `flag` names.

    Raises:
      UserError: it cannot be made or written to.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--{flag}={workdir}: cannot be made ({error.strerror}).") from error
    if not os.access(workdir, os.W_OK):
        raise UserError(f"--{flag}={workdir}: is not writable.")


@contextlib.contextmanager
def alone_in(workdir: pathlib.Path, lock: str = ".lock") -> Iterator[None]:
    """While open, nobody else may open this for the same folder and the same `lock` in it.

    The lock is the kernel's: it ends with the process, whatever ends that.

    Raises:
      UserError: another process has it, or the folder takes no file.
    """
    try:
        # Not through a link: the file is written to.
        opened = os.open(workdir / lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        raise UserError(f"--workdir={workdir}: is not writable ({error.strerror}).") from error
    with open(opened, "r+", encoding="utf-8", errors="replace") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"--workdir={workdir}: process {file.read(20).strip() or 'unknown'} is training in "
                "it; wait for it, end it, or use another --workdir."
            ) from error
        except OSError as error:  # some network file systems have no locks
            warn(f"--workdir={workdir}: cannot be locked ({error.strerror}).")
        with contextlib.suppress(OSError):  # a full disk will be noticed elsewhere
            os.truncate(opened, 0)
            os.write(opened, str(os.getpid()).encode())
        yield


def sweep(folder: pathlib.Path) -> None:
    """Removes what `write_whole` and `whole_folder` left in a folder when they were killed."""
    for path in folder.glob(".?*.old"):
        place = path.with_name(path.name[1:-4])
        if is_there(place):
            shutil.rmtree(path, ignore_errors=True)
        else:
            os.replace(path, place)
    for path in folder.glob(".?*.tmp"):
        remove(path)


def remove(path: pathlib.Path) -> None:
    """Removes a file, a link or a whole folder, if it is there.

    Raises:
      OSError: a file or link cannot be removed.
    """
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def digest_of(path: pathlib.Path) -> str:
    """SHA-256 of what a file holds, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_whole(path: pathlib.Path, content: bytes) -> None:
    """Writes a file whole or not at all: beside its place first, then moved there.

    Raises:
      UserError: the disk does not take it; what stood at `path` before still does.
    """
    aside = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_bytes(content)
        os.replace(aside, path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}).") from error
    finally:
        with contextlib.suppress(OSError):
            aside.unlink()


@contextlib.contextmanager
def whole_folder(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A folder to fill, beside `path`: moved there when the block ends well, else removed.

    Raises:
      UserError: the disk does not take it; what stood at `path` before still does.
    """
    aside, before = (path.with_name(f".{path.name}.{end}") for end in ("tmp", "old"))
    try:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        yield aside
        if is_there(path):  # a folder cannot be moved onto one that holds something
            shutil.rmtree(before, ignore_errors=True)
            os.replace(path, before)
        os.replace(aside, path)
        shutil.rmtree(before, ignore_errors=True)
    except OSError as error:
        if is_there(before) and not is_there(path):
            os.replace(before, path)
        raise UserError(f"{path}: cannot be written ({error.strerror or error}).") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def write_json(path: pathlib.Path, content: Any, indent: int | None = 2) -> None:
    """Writes `content` as JSON, whole or not at all; without an `indent` in one line.

    Raises:
      UserError: the disk does not take it.
    """
    write_whole(path, f"{json.dumps(content, indent=indent, allow_nan=False)}\n".encode())


def parse_json(text: str, **options: Any) -> Any:
    """`json.loads`, which gives up on brackets in brackets in brackets with an error of its own.

    Raises:
      ValueError: this is no JSON, or none that anybody wrote on purpose.
    """
    try:
        return json.loads(text, **options)
    except RecursionError:
        raise ValueError("too deep") from None


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text:.20} is too large")
    return value


def _whole_number(text: str) -> int:
    value = int(text)
    if abs(value) > _LARGEST:
        raise ValueError(f"{text:.20}… is too large")
    return value


_LARGEST = 1e300
"""Of whole numbers: what is larger is no float, and nothing that is counted."""


def read_own_json(path: str, flag: str) -> Any:
    """The content of a JSON file that somebody wrote by hand and named in a flag.

    Raises:
      UserError: it cannot be read, is no JSON, or names something twice.
    """
    try:
        text = pathlib.Path(path).read_text(encoding="utf-8-sig")  # some editors mark it
        return parse_json(text, object_pairs_hook=_no_doubles, parse_constant=_no_number)
    except (OSError, ValueError) as error:
        raise UserError(f"--{flag}={path}: cannot be read as JSON ({error}).") from error


def read_json(path: pathlib.Path) -> Any:
    """The content of a JSON file.

    Raises:
      UserError: it is missing, unreadable or no JSON.
    """
    try:
        text = path.read_text(encoding="utf-8")
        return parse_json(
            text, parse_constant=_no_number, parse_float=_number, parse_int=_whole_number
        )
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise UserError(f"{path}: is damaged, no JSON ({error}).") from error


def read_json_lines(path: pathlib.Path) -> list[dict[str, Any]]:
    """The JSON objects of a file that has one a line; what is no such line is left out.

    Raises:
      UserError: the file cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise UserError(f"{path}: cannot be read or written ({error.strerror}).") from error
    records = []
    for line in lines:  # a process that was killed leaves half a line
        with contextlib.suppress(ValueError):
            records.append(parse_json(line))
    return [record for record in records if isinstance(record, dict)]


def _no_number(name: str) -> None:
    """NaN and Infinity are no JSON, and `write_json` never writes them."""
    raise ValueError(f"{name} is no number")


def _no_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{name!r} is there twice")
        found[name] = value
    return found
