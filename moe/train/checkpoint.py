"""Checkpoints that are whole or do not count.

A checkpoint is a pair of TensorFlow files and a manifest `NAME.json` with their SHA-256 sums and
the progress of the run. All three are written aside and moved into place, the manifest last: a
killed save leaves files without a manifest, which are swept away at the next start. Which one is
the newest is read off the manifests; TensorFlow's state file `checkpoint` is written for its own
tools, and all that is read off it is that a checkpoint was completed here once. Links are not
followed: nothing outside of the folder is taken for a checkpoint.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import pathlib
import re
import shutil
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from moe.errors import UserError, first_line, reason, warn
from moe.files import digest_of, parse_json, remove

Variables = Mapping[str, Sequence[tf.Variable]]
_FORMAT = 1
_NAME = re.compile(r"ckpt-(\d+)")
_FILE = re.compile(r"(ckpt-\d+)\.(index|data-\d{5}-of-\d{5})")
_ASIDE = "incomplete"
_STATE = "checkpoint"
_MOST_BYTES = 2**20
"""Of a manifest; a larger file is none."""


class Saved(NamedTuple):
    """A checkpoint on disk: its number, path prefix and the progress stored with it."""

    number: int
    prefix: pathlib.Path
    progress: dict[str, Any]


class CheckpointStore:
    """The checkpoints `ckpt-NUMBER` of one folder.

    Args:
      directory: made when the first checkpoint is written.
      keep: how many of the newest stay.
    """

    def __init__(self, directory: pathlib.Path, keep: int = 2) -> None:
        self._directory = directory
        self._keep = keep
        self._damaged: set[int] = set()

    def newest(self) -> Saved | None:
        """The newest whole checkpoint, or None if none was ever completed here.

        Damaged ones are skipped with a warning.

        Raises:
          UserError: there were checkpoints, and every one is damaged or gone; or the folder is a
            link.
        """
        self._refuse_foreign()
        numbers = self._numbers()
        for number in numbers:
            try:
                return self._verify(number)
            except ValueError as error:
                self._damaged.add(number)
                warn(f"{self._directory}/ckpt-{number}: {error}; skipped.")
        if numbers or (self._directory / _STATE).exists():
            raise UserError(
                f"{self._directory}: every checkpoint is {'damaged' if numbers else 'gone'}; "
                "restore one from a copy, or start again with another --workdir."
            )
        return None

    def last_number(self) -> int | None:
        """The number of the newest one, whole or damaged; None if there is none."""
        return next(iter(self._numbers()), None)

    def sweep(self) -> None:
        """Removes what a killed save left behind, and nothing that no save has written."""
        self._refuse_foreign()
        remove(self._directory / _ASIDE)
        if not self._directory.is_dir():
            return
        whole = {f"ckpt-{number}" for number in self._numbers()}
        for path in self._directory.iterdir():
            part = _FILE.fullmatch(path.name)
            if (part and part[1] not in whole) or path.name == f"{_STATE}.tmp":
                remove(path)

    def save(self, number: int, variables: Variables, progress: Mapping[str, Any]) -> None:
        """Writes checkpoint `number`; it counts from the moment this returns.

        Raises:
          UserError: the disk does not take it.
        """
        self._refuse_foreign()
        name = f"ckpt-{number}"
        aside = self._directory / _ASIDE
        try:
            remove(aside)
            aside.mkdir(parents=True)
            _trackable(variables).write(str(aside / name))
            files = {path.name: digest_of(path) for path in sorted(aside.iterdir())}
            manifest = {
                "format": _FORMAT,
                "variables": {key: len(group) for key, group in variables.items()},
                "files": files,
                "progress": progress,
            }
            manifest["digest"] = _manifest_digest(manifest)
            (aside / f"{name}.json").write_text(json.dumps(manifest, indent=1))
            # Also after a power cut there is no manifest without the files that it names.
            for file in (*files, f"{name}.json"):
                _sync(aside / file)
            for file in files:
                os.replace(aside / file, self._directory / file)
            _sync(self._directory)
            os.replace(aside / f"{name}.json", self._directory / f"{name}.json")
            _sync(self._directory)
            aside.rmdir()
            state = aside.with_name(f"{_STATE}.tmp")
            state.write_text(f'model_checkpoint_path: "{name}"\n')
            os.replace(state, self._directory / _STATE)
        except (OSError, tf.errors.OpError) as error:
            with contextlib.suppress(OSError):
                self.sweep()
            raise self._refusal(number, variables, error) from error
        self._damaged.discard(number)
        try:
            self._forget_before(number)
        except OSError as error:
            warn(f"{error.filename}: an old checkpoint cannot be removed ({error.strerror}).")

    def _good_until(self, number: int) -> list[int]:
        """Numbers up to `number` of those not found damaged, newest first."""
        # A higher number is a damaged one, which the run went back behind.
        return [n for n in self._numbers() if n <= number and n not in self._damaged]

    def _forget_before(self, number: int) -> None:
        """Removes all but the newest good checkpoints up to `number`."""
        good = self._good_until(number)
        for other in set(self._numbers()) - set(good[: self._keep]):
            # The manifest goes first: without it the rest does not count.
            (self._directory / f"ckpt-{other}.json").unlink()
            for path in self._own_files(other):
                path.unlink()

    def _refusal(self, number: int, variables: Variables, error: Exception) -> UserError:
        """What is said where the disk does not take checkpoint `number`."""
        needed = sum(v.dtype.size * v.shape.num_elements() for g in variables.values() for v in g)
        there = self._directory if self._directory.is_dir() else pathlib.Path(".")
        good = self._good_until(number)
        before = f"; ckpt-{good[0]} is still good" if good else ""
        return UserError(
            f"{self._directory}: checkpoint {number} cannot be written "
            f"({first_line(error)}); it takes {needed:,} bytes and more, "
            f"{shutil.disk_usage(there).free:,} are free{before}."
        )

    def restore(self, saved: Saved, variables: Variables) -> None:
        """Fills `variables`; every one must be in the file and every one in the file be asked for.

        Raises:
          UserError: the checkpoint belongs to another model.
        """
        try:
            _trackable(variables).read(str(saved.prefix)).assert_consumed()
        except (AssertionError, ValueError, tf.errors.OpError) as error:
            raise UserError(
                f"{saved.prefix}: does not hold exactly the variables of this model "
                f"({first_line(error)})."
            ) from error

    def read(self, saved: Saved, key: str) -> list[np.ndarray]:
        """The values of the variables that were saved under `key`, in their order."""
        reader = tf.train.load_checkpoint(str(saved.prefix))
        place = re.compile(rf"{re.escape(key)}/v(\d+)/.*VARIABLE_VALUE")
        found = map(place.fullmatch, reader.get_variable_to_shape_map())
        ordered = sorted((match for match in found if match), key=lambda match: int(match[1]))
        return [reader.get_tensor(match[0]) for match in ordered]

    def _numbers(self) -> list[int]:
        """Numbers of all manifests, newest first."""
        if not self._directory.is_dir():
            return []
        matches = (_NAME.fullmatch(path.stem) for path in self._directory.glob("ckpt-*.json"))
        return sorted((int(match[1]) for match in matches if match), reverse=True)

    def _own_files(self, number: int) -> list[pathlib.Path]:
        """The files of a checkpoint, but for its manifest."""
        there = self._directory.glob(f"ckpt-{number}.*")
        return [path for path in there if _FILE.fullmatch(path.name)]

    def _refuse_foreign(self) -> None:
        if self._directory.is_symlink():
            raise UserError(
                f"{self._directory}: is a link, and checkpoints outside of the workdir are not "
                "trusted; put the folder itself there."
            )
        if self._directory.exists() and not self._directory.is_dir():
            raise UserError(f"{self._directory}: is a file where checkpoints go; move it away.")

    def _verify(self, number: int) -> Saved:
        """Checks a checkpoint against its manifest.

        Raises:
          ValueError: what is wrong with it.
        """
        prefix = self._directory / f"ckpt-{number}"
        stored = prefix.with_name(f"{prefix.name}.json")
        try:
            if stored.is_symlink() or stored.stat().st_size > _MOST_BYTES:
                raise ValueError("has a manifest that is none")
            manifest = parse_json(stored.read_text())
            if manifest["digest"] != _manifest_digest(manifest):
                raise ValueError("has a damaged manifest")
            files, progress = manifest["files"], manifest["progress"]
            if manifest["format"] != _FORMAT:
                raise ValueError(f"has format {manifest['format']}, not {_FORMAT}")
            strange = {path.name for path in self._own_files(number)} - set(files)
            if strange:
                raise ValueError(f"has files beside it that it does not name ({min(strange)})")
            for name, digest in files.items():
                path = self._directory / name
                part = _FILE.fullmatch(name)
                if not part or part[1] != prefix.name or path.is_symlink():
                    raise ValueError(f"names a file that is not its own ({name})")
                if digest_of(path) != digest:
                    raise ValueError(f"{name} is damaged")
        except (OSError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"is incomplete ({reason(error)})") from error
        return Saved(number, prefix, progress)


def _sync(path: pathlib.Path) -> None:
    """Returns when the disk has what was written to a file, or which files are in a folder."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems cannot do it with folders
            raise
    finally:
        os.close(opened)


def _manifest_digest(manifest: Mapping[str, Any]) -> str:
    """SHA-256 of everything else in the manifest: a wrong position is as bad as a wrong weight."""
    content = {key: value for key, value in manifest.items() if key != "digest"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _trackable(variables: Variables) -> tf.train.Checkpoint:
    """Names every variable explicitly: nothing is left to what Keras happens to track."""
    return tf.train.Checkpoint(
        **{
            key: tf.train.Checkpoint(**{f"v{n:03d}": variable for n, variable in enumerate(group)})
            for key, group in variables.items()
            if group
        }
    )
