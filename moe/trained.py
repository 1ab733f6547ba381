"""A finished run, opened to be used: its mixture with the best weights, and what they mean.

The data set is not needed: `config.json` says what an example looks like and names the classes.
"""

from __future__ import annotations

import os
import pathlib
from typing import NamedTuple

import tensorflow as tf

from moe.config.run import Config
from moe.data.table import Table
from moe.defaults import check_images
from moe.errors import UserError
from moe.models.build import build_mixture
from moe.models.mixture import MixtureOfExperts
from moe.run_files import StoredRun, find_run
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
      table: how rows of a CSV file become features, where the run learned that.
      policy: the Keras dtype policy that the networks were built under.
      mixture: with the run's best weights.
      parts: the networks that were trained; the others still have random weights.
    """

    config: Config
    classes: tuple[str, ...]
    groups: Groups
    input_shape: tuple[int, ...]
    table: Table | None
    policy: str
    mixture: MixtureOfExperts
    parts: list[str]

    @property
    def input_spec(self) -> tf.TensorSpec:
        """A batch of examples: `<uint8>[S, H, W, D]` images or `<float32>[S, F]` table rows.

        The rows of a `csv:` data set are what `table.apply` makes of those in the file.
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


def open_trained(
    workdir: str | os.PathLike, precision: str | None = None, tta: str | None = None
) -> Trained:
    """Opens a finished run on the current device.

    Args:
      workdir: a folder that `train.py` wrote.
      precision: of the networks; the one the run was trained in if None.
      tta: test-time augmentation, `none` or `flip`; the run's own if None.

    Raises:
      UserError: there is no run, it is not finished, or its files are damaged.
    """
    workdir = pathlib.Path(workdir)
    stored = find_run(workdir)
    config, classes, groups, shape, table = _described(stored)
    tta = tta or config.model.tta
    mirrors = (stored.data or {}).get("mirrors", True)
    check_images("tta", tta, len(shape) == 3, mirrors, config.data.dataset)
    policy = choose_precision(precision or stored.precision).policy
    mixture = build_mixture(config, groups, shape, len(classes), policy)
    parts = restore_best(mixture, workdir)
    mixture.mirrors = tta == "flip"
    return Trained(config, classes, groups, shape, table, policy, mixture, parts)


def best_weights(workdir: pathlib.Path, flag: str = "workdir") -> Saved:
    """The finished weights of the run in `workdir`, which `flag` named.

    Raises:
      UserError: the run is not finished or its weights are damaged.
    """
    saved = CheckpointStore(workdir / "best").newest()
    if saved is None:
        raise UserError(f"--{flag}={workdir}: the run is not finished; train.py continues it.")
    return saved


def restore_best(
    mixture: MixtureOfExperts, workdir: pathlib.Path, flag: str = "workdir"
) -> list[str]:
    """Fills the mixture with the weights of the finished run in `workdir`, which `flag` named.

    Returns:
      The parts that were trained.

    Raises:
      UserError: the run is not finished or its weights are damaged.
    """
    saved = best_weights(workdir, flag)
    parts = saved.progress["parts"]
    CheckpointStore(workdir / "best").restore(saved, model_variables(mixture, parts))
    return parts


def _described(
    stored: StoredRun,
) -> tuple[Config, tuple[str, ...], Groups, tuple[int, ...], Table | None]:
    """Configuration, classes, groups, the shape of an example, and how table rows are prepared."""
    data = stored.data or {}
    if stored.groups is None or not {"classes", "input_shape"} <= set(data):
        # Begun before runs noted this down: the data set still knows.
        workspace = open_workspace(stored.config, stored.groups)
        config, groups, data = workspace.config, workspace.groups, workspace.describe_data()
    else:
        config = stored.config
        named = not config.data.groups.startswith("none:")
        groups = stored_groups(stored.groups, data["classes"], named)
    table = data.get("table")
    prepare = None if table is None else Table.from_dict(table)
    return config, tuple(data["classes"]), groups, tuple(data["input_shape"]), prepare
