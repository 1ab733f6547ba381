"""Checkpoints that are whole or do not count.

A checkpoint is a pair of TensorFlow files and a manifest `NAME.json` with their SHA-256 sums and
the progress of the run. All three are written aside and moved into place, the manifest last: a
killed save leaves files without a manifest, which are swept away at the next start. Which one is
the newest is read off the manifests; TensorFlow's state file `checkpoint` is written for its own
tools and never read.
"""

from __future__ import annotations

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

from moe.errors import UserError, warn

Variables = Mapping[str, Sequence[tf.Variable]]
_FORMAT = 1
_NAME = re.compile(r"ckpt-(\d+)")
_ASIDE = "incomplete"


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

    def newest(self) -> Saved | None:
        """The newest whole checkpoint, or None if none was ever completed here.

        Damaged ones are skipped with a warning.

        Raises:
          UserError: there are checkpoints, and every one is damaged.
        """
        numbers = self._numbers()
        for number in numbers:
            try:
                return self._verify(number)
            except ValueError as error:
                warn(f"{self._directory}/ckpt-{number}: {error}; skipped.")
        if numbers:
            raise UserError(
                f"{self._directory}: every checkpoint is damaged; restore one from a copy, or "
                "start again with another --workdir."
            )
        return None

    def sweep(self) -> None:
        """Removes what a killed save left behind."""
        shutil.rmtree(self._directory / _ASIDE, ignore_errors=True)
        if not self._directory.is_dir():
            return
        whole = {f"ckpt-{number}" for number in self._numbers()}
        for path in self._directory.iterdir():
            if path.name.startswith("ckpt-") and path.name.split(".")[0] not in whole:
                path.unlink()

    def save(self, number: int, variables: Variables, progress: Mapping[str, Any]) -> None:
        """Writes checkpoint `number`; it counts from the moment this returns.

        Raises:
          UserError: the disk does not take it.
        """
        name = f"ckpt-{number}"
        aside = self._directory / _ASIDE
        try:
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir(parents=True)
            _trackable(variables).write(str(aside / name))
            files = {path.name: _digest(path) for path in sorted(aside.iterdir())}
            manifest = {
                "format": _FORMAT,
                "variables": {key: len(group) for key, group in variables.items()},
                "files": files,
                "progress": progress,
            }
            manifest["digest"] = _manifest_digest(manifest)
            (aside / f"{name}.json").write_text(json.dumps(manifest, indent=1))
            for file in (*files, f"{name}.json"):
                os.replace(aside / file, self._directory / file)
            aside.rmdir()
            state = aside.with_name("checkpoint.tmp")
            state.write_text(f'model_checkpoint_path: "{name}"\n')
            os.replace(state, self._directory / "checkpoint")
        except (OSError, tf.errors.OpError) as error:
            shutil.rmtree(aside, ignore_errors=True)
            raise UserError(
                f"{self._directory}: checkpoint {number} cannot be written "
                f"({str(error).splitlines()[0]}); the one before it is still good."
            ) from error
        for old in self._numbers()[self._keep :]:
            # The manifest goes first: without it the rest does not count.
            (self._directory / f"ckpt-{old}.json").unlink()
            for path in self._directory.glob(f"ckpt-{old}.*"):
                path.unlink()

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
                f"({str(error).splitlines()[0]})."
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

    def _verify(self, number: int) -> Saved:
        """Checks a checkpoint against its manifest.

        Raises:
          ValueError: what is wrong with it.
        """
        prefix = self._directory / f"ckpt-{number}"
        try:
            manifest = json.loads(prefix.with_name(f"{prefix.name}.json").read_text())
            if manifest["digest"] != _manifest_digest(manifest):
                raise ValueError("has a damaged manifest")
            files, progress = manifest["files"], manifest["progress"]
            if manifest["format"] != _FORMAT:
                raise ValueError(f"has format {manifest['format']}, not {_FORMAT}")
            for name, digest in files.items():
                path = self._directory / name
                if not name.startswith(f"{prefix.name}.") or path.is_symlink():
                    raise ValueError(f"names a file that is not its own ({name})")
                if _digest(path) != digest:
                    raise ValueError(f"{name} is damaged")
        except (OSError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"is incomplete ({type(error).__name__}: {error})") from error
        return Saved(number, prefix, progress)


def _digest(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
