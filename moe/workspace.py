"""Opening a run: data set, groups and mixture, as training and evaluation both need them."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence

import tensorflow as tf

from moe.config import Config
from moe.data.pipeline import Split
from moe.data.registry import open_source
from moe.data.source import Examples, Source
from moe.data.splits import split_rows
from moe.defaults import resolve
from moe.errors import UserError
from moe.models.build import build_mixture
from moe.models.mixture import MixtureOfExperts
from moe.taxonomy import Groups, resolve_groups


@dataclasses.dataclass(frozen=True)
class Workspace:
    """The data of a run.

    Attributes:
      config: fully resolved.
      source: the data set; its test split is still closed.
      groups: one expert each.
      train, validation: disjoint parts of the training split.
    """

    config: Config
    source: Source
    groups: Groups
    train: Split
    validation: Split

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one example's features."""
        return self.train.examples.features.shape[1:]

    def check_groups(self, stored: Mapping[str, Sequence[str]] | None) -> None:
        """Refuses a groups file that says something else than when the run began.

        Raises:
          UserError: it does.
        """
        now = self.groups.members(self.source.classes)
        # The order counts: it says which expert is which.
        if stored is not None and list(stored.items()) != list(now.items()):
            raise UserError(
                f"--groups={self.config.data.groups}: now says {now}, but the run was begun with "
                f"{stored}; put that back, or use another --workdir."
            )

    def open_test(self) -> Split:
        """Reads the test split: for the final evaluation and `eval.py`, nobody else."""
        return self._with_groups(self.source.test())

    def build(self, strategy: tf.distribute.Strategy, policy: str) -> MixtureOfExperts:
        """A freshly initialised mixture under `strategy`."""
        with strategy.scope():
            return build_mixture(
                self.config, self.groups, self.input_shape, len(self.source.classes), policy
            )

    def _with_groups(self, examples: Examples) -> Split:
        return Split(examples, self.groups.of(examples))


def open_workspace(
    config: Config, stored_groups: Mapping[str, Sequence[str]] | None = None
) -> Workspace:
    """Reads the training split and resolves everything that depends on it.

    Args:
      config: as asked for.
      stored_groups: what a finished run noted down, in case its groups file is gone.

    Raises:
      UserError: the data set cannot be had, or a flag does not fit it.
    """
    # Noted in the run's configuration, so that a later evaluation finds the data again.
    data_dir = config.data.data_dir or os.environ.get("TFDS_DATA_DIR")
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, data_dir=data_dir))
    source = open_source(config.data.dataset, data_dir)
    examples = source.train()
    config = resolve(config, source, examples.features.ndim - 1)
    groups = resolve_groups(config.data.groups, source, stored_groups)
    if config.model.expert_head == "group" and groups.group_of_class is None:
        raise UserError(
            f"--expert_head=group: the groups of {source.name} do not partition its classes."
        )
    if config.model.top_k > len(groups.names):
        raise UserError(f"--top_k={config.model.top_k}: there are {len(groups.names)} experts.")
    if config.model.routing == "noisy_topk" and config.model.top_k == len(groups.names):
        raise UserError(
            f"--routing=noisy_topk: chooses {config.model.top_k} of {len(groups.names)} experts, "
            "so noise decides nothing; lower --top_k, or use --routing=soft."
        )
    split = Split(examples, groups.of(examples))
    train, validation = split_rows(
        examples.label,
        config.data.validation_fraction,
        config.data.train_examples,
        config.data.data_seed,
    )
    return Workspace(config, source, groups, split.take(train), split.take(validation))
