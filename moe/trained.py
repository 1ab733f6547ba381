"""A finished run, opened to be used: its mixture with the best weights, and what they mean.

The data set is not needed: `config.json` says what an example looks like and names the classes.
"""

from __future__ import annotations

import os
import pathlib
from typing import NamedTuple

import tensorflow as tf

from moe.config import Config
from moe.errors import UserError
from moe.models.build import build_mixture
from moe.models.mixture import MixtureOfExperts
from moe.run_files import StoredRun, read_run
from moe.taxonomy import Groups, stored_groups
from moe.train.checkpoint import CheckpointStore, Saved
from moe.train.precision import choose_precision
from moe.train.state import model_variables
from moe.workspace import open_workspace


class Trained(NamedTuple):
    """A trained mixture.

    Attributes:
      config: of the run, fully resolved.
      classes: L names.
      groups: one expert each.
      input_shape: of one example's features.
      policy: the Keras dtype policy that the networks were built under.
      mixture: with the run's best weights.
      parts: the networks that were trained; the others still have random weights.
    """

    config: Config
    classes: tuple[str, ...]
    groups: Groups
    input_shape: tuple[int, ...]
    policy: str
    mixture: MixtureOfExperts
    parts: list[str]

    @property
    def input_spec(self) -> tf.TensorSpec:
        """A batch of raw examples: `<uint8>[S, H, W, D]` images or `<float32>[S, F]` table rows.

        The one place that says what users hand in, to an export and to `--predict` alike. Rows
        that have to be prepared before a mixture can read them would be described here, and
        prepared in `moe.serving.answering`.
        """
        dtype = tf.uint8 if len(self.input_shape) == 3 else tf.float32
        return tf.TensorSpec([None, *self.input_shape], dtype, name="features")

    def routes(self) -> bool:
        """Whether a gate routes to experts here; where not, a baseline answers alone.

        Raises:
          UserError: none of the networks that were trained answers by itself.
        """
        if set(self.parts) == set(self.mixture.parts()):
            return True
        if "baseline" in self.parts:
            return False
        raise UserError(f"this run trained {', '.join(self.parts)} only, and none of them answers.")


def open_trained(workdir: str | os.PathLike, precision: str | None = None) -> Trained:
    """Opens a finished run on the current device.

    Args:
      workdir: a folder that `train.py` wrote.
      precision: of the networks; the one the run was trained in if None.

    Raises:
      UserError: there is no run, it is not finished, or its files are damaged.
    """
    workdir = pathlib.Path(workdir)
    stored = find_run(workdir)
    config, classes, groups, shape = _described(stored)
    policy = choose_precision(precision or stored.precision).policy
    mixture = build_mixture(config, groups, shape, len(classes), policy)
    parts = restore_best(mixture, workdir)
    return Trained(config, classes, groups, shape, policy, mixture, parts)


def find_run(workdir: pathlib.Path, flag: str = "workdir") -> StoredRun:
    """What identifies the run in `workdir`, which `flag` named.

    Raises:
      UserError: there is none, or its file is damaged.
    """
    if not (workdir / "config.json").exists():
        raise UserError(f"--{flag}={workdir}: no run there (config.json is missing).")
    return read_run(workdir)


def best_weights(workdir: pathlib.Path, flag: str = "workdir") -> Saved:
    """The finished weights of the run in `workdir`, which `flag` named.

    Raises:
      UserError: the run is not finished or its weights are damaged.
    """
    saved = CheckpointStore(workdir / "best").newest()
    if saved is None:
        raise UserError(f"--{flag}={workdir}: the run is not finished; train.py continues it.")
    return saved


def restore_best(mixture: MixtureOfExperts, workdir: pathlib.Path) -> list[str]:
    """Fills the mixture with a finished run's weights; returns the parts that were trained.

    Raises:
      UserError: the run is not finished or its weights are damaged.
    """
    saved = best_weights(workdir)
    parts = saved.progress["parts"]
    CheckpointStore(workdir / "best").restore(saved, model_variables(mixture, parts))
    return parts


def _described(stored: StoredRun) -> tuple[Config, tuple[str, ...], Groups, tuple[int, ...]]:
    """Configuration, classes, groups and the shape of an example."""
    if stored.groups is None or stored.classes is None or stored.input_shape is None:
        # Begun before runs noted this down: the data set still knows.
        workspace = open_workspace(stored.config, stored.groups)
        classes = tuple(workspace.source.classes)
        return workspace.config, classes, workspace.groups, workspace.input_shape
    named = not stored.config.data.groups.startswith("none:")
    groups = stored_groups(stored.groups, stored.classes, named)
    return stored.config, tuple(stored.classes), groups, tuple(stored.input_shape)
