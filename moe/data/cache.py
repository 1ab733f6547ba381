"""Decoded splits on disk, so that the second start need not decode anything.

An entry is a folder with one `.npy` file a column and a manifest with their SHA-256 sums. Its name
holds a digest of the source files' content and of how they are decoded: a changed source is
another entry, and the old one goes when nobody has used it for a week. Entries are written aside
and moved into place whole, so two processes may write the same one at once; one that goes while
another process reads it is to that one an entry that is not there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pathlib
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence

import numpy as np

from moe.data.source import Examples
from moe.files import digest_of, parse_json

_FORMAT = 1
_ABANDONED_SECONDS = 3_600
_UNUSED_SECONDS = 7 * 24 * 3_600
_MANIFEST = "manifest.json"


def cache_folder() -> pathlib.Path:
    """`$XDG_CACHE_HOME/moe-classification`, in the home folder if that is not set."""
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(base) / "moe-classification"


def cached(
    name: str,
    sources: Sequence[pathlib.Path],
    read: Callable[[], Examples],
    folder: pathlib.Path | None = None,
    choices: Sequence[str] = (),
) -> Examples:
    """The examples of `read`, from the cache where it holds them.

    Args:
      name: of the split, for people who look into the folder.
      sources: the files that `read` decodes; their content is the entry's key.
      read: decodes; called where there is no whole entry.
      folder: where entries live; `cache_folder()` if None.
      choices: whatever else the examples depend on.
    """
    folder = folder or cache_folder()
    origin = [_FORMAT, [digest_of(path) for path in sources], *choices]
    key = hashlib.sha256(json.dumps(origin).encode())
    entry = folder / f"{name}-{key.hexdigest()[:16]}"
    found = _load(entry)
    if found is None:
        found = read()
        _store(entry, found)
    else:
        with contextlib.suppress(OSError):  # others may own it
            os.utime(entry)
    return found


def _load(entry: pathlib.Path) -> Examples | None:
    """The entry's examples; None if it is missing, incomplete or damaged."""
    try:
        sums = parse_json((entry / _MANIFEST).read_text(encoding="utf-8"))
        if any(digest_of(entry / name) != digest for name, digest in sums.items()):
            return None
        columns = {
            name: np.load(entry / f"{name}.npy", allow_pickle=False)
            for name in Examples._fields
            if f"{name}.npy" in sums
        }
        return Examples(**columns)
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def _store(entry: pathlib.Path, examples: Examples) -> None:
    """Writes the entry; a cache that cannot be written is no reason to stop."""
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        _sweep(entry)
        aside = pathlib.Path(tempfile.mkdtemp(prefix=".incomplete-", dir=entry.parent))
    except OSError:
        return
    try:
        for name, column in examples._asdict().items():
            if column is not None:
                np.save(aside / f"{name}.npy", column, allow_pickle=False)
        sums = {path.name: digest_of(path) for path in sorted(aside.iterdir())}
        (aside / _MANIFEST).write_text(json.dumps(sums), encoding="utf-8")
        # A damaged entry gives way; one that another process finished meanwhile is as good.
        if entry.exists() and _load(entry) is None:
            shutil.rmtree(entry, ignore_errors=True)
        os.rename(aside, entry)
    except OSError:
        pass
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _sweep(entry: pathlib.Path) -> None:
    """Removes what killed processes left, and what other sources of that name have left behind.

    What is young may be another process's work.
    """
    name = entry.name.rpartition("-")[0]
    for path in entry.parent.iterdir():
        if path.name.startswith(".incomplete-"):
            allowed = _ABANDONED_SECONDS
        elif re.fullmatch(re.escape(name) + "-[0-9a-f]{16}", path.name) and path != entry:
            allowed = _UNUSED_SECONDS
        else:
            continue
        if _idle_seconds(path) > allowed:
            shutil.rmtree(path, ignore_errors=True)


def _idle_seconds(folder: pathlib.Path) -> float:
    """Since anybody made, used or wrote into the folder; 0 where another process removes it."""
    try:
        return time.time() - max(p.stat().st_mtime for p in (folder, *folder.iterdir()))
    except OSError:
        return 0.0
