"""Opening a run: data set, groups and mixture, as training and evaluation both need them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from moe.backbone_names import each_backbone
from moe.config.run import Config
from moe.data.pipeline import Split
from moe.data.registry import open_source
from moe.data.source import Examples, Source
from moe.data.splits import split_rows
from moe.data.weights import class_weights, example_weights
from moe.defaults import resolve
from moe.errors import UserError
from moe.models.build import build_mixture
from moe.models.mixture import MixtureOfExperts
from moe.run_files import StoredData, StoredRun
from moe.taxonomy import Groups, resolve_groups


@dataclasses.dataclass(frozen=True)
class Workspace:
    """The data of a run.

    Attributes:
      config: fully resolved.
      source: the data set; its test split is still closed.
      groups: one expert each.
      train, validation: disjoint parts of the training split.
      class_weights: how much each class counts in the losses, or None where all count the same.
      contents: digest of the whole training split, before anything is done to it by chance.
    """

    config: Config
    source: Source
    groups: Groups
    train: Split
    validation: Split
    class_weights: Mapping[str, float] | None
    contents: str

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one example's features."""
        return self.train.examples.features.shape[1:]

    def check_groups(self, stored: Mapping[str, Sequence[str]] | None) -> None:
        """Refuses a groups file that says something else than when the run began.

        Raises:
          UserError: it does.
        """
        flag = f"--groups={self.config.data.groups}"
        _check_same(flag, stored, self.groups.members(self.source.classes))

    def check_stored(self, stored: StoredRun) -> None:
        """Refuses what files changed behind the flags since the run began: examples, groups,
        weights of classes.

        Raises:
          UserError: they did.
        """
        self.check_data(stored.data)
        self.check_groups(stored.groups)
        self.check_class_weights(stored.class_weights)

    def describe_data(self) -> StoredData:
        """What a run relies on in its data, as plain values."""
        return {
            "classes": list(self.source.classes),
            "input_shape": list(self.input_shape),
            "train_examples": len(self.train),
            "validation_examples": len(self.validation),
            "table": self.source.table,
            "contents": self.contents,
            "mirrors": self.source.mirrors,
        }

    def digest(self) -> str:
        """Of all that files may change behind the flags: examples, groups, weights of classes."""
        data = self.describe_data()
        del data["mirrors"]  # which follows from the flags
        told = [
            data,
            self.groups.members(self.source.classes),
            self.class_weights or {},
        ]
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]

    def check_data(self, stored: Mapping[str, Any] | None) -> None:
        """Refuses data that changed since the run began, as one's own files may.

        Raises:
          UserError: they did.
        """
        now = self.describe_data()
        changed = [name for name, value in (stored or {}).items() if value != now.get(name)]
        if changed:
            raise UserError(
                f"--dataset={self.source.name}: is no longer what the run was begun with (other "
                f"{', '.join(changed)}); put its files back, or use another --workdir."
            )

    def check_class_weights(self, stored: Mapping[str, float] | None) -> None:
        """Refuses weights of the classes that are not those with which the run began.

        Raises:
          UserError: they are not.
        """
        flag = f"--class_weights={self.config.train.class_weights}"
        _check_same(flag, stored, self.class_weights or {})

    def open_test(self) -> Split:
        """Reads the test split: for final evaluations and `eval.py`, which choose nothing by it.

        Raises:
          UserError: its examples have another shape than those of training.
        """
        examples = self.source.test()
        shape = examples.features.shape[1:]
        if shape != self.input_shape:
            raise UserError(
                f"--dataset={self.source.name}: test examples have the shape {list(shape)}, those "
                f"of training {list(self.input_shape)}; --image_size=N makes images N x N."
            )
        return _split(self.config, self.source, self.groups, examples, "test")

    def build(self, strategy: tf.distribute.Strategy, policy: str) -> MixtureOfExperts:
        """A freshly initialised mixture under `strategy`."""
        with strategy.scope():
            return build_mixture(
                self.config, self.groups, self.input_shape, len(self.source.classes), policy
            )


_PARTS = ("train", "validation", "test")


def _split(config: Config, source: Source, groups: Groups, examples: Examples, part: str) -> Split:
    """A part of the data, arranged as the data set says, with its groups."""
    if source.arrange is not None:
        random = np.random.default_rng([config.data.data_seed, _PARTS.index(part)])
        examples = source.arrange(examples, random)
    return Split(examples, groups.of(examples))


def _check_same(flag: str, stored: Mapping[str, Any] | None, now: Mapping[str, Any]) -> None:
    # The order counts: it says which expert is which.
    if stored is not None and list(stored.items()) != list(now.items()):
        raise UserError(
            f"{flag}: now says {now}, but the run was begun with {stored}; put that back, or use "
            "another --workdir."
        )


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
    data = dataclasses.replace(config.data, data_dir=data_dir)
    config = dataclasses.replace(config, data=data)
    source = open_source(data.dataset, data_dir, data.image_size, data.skip_unreadable)
    examples = source.train()
    config = resolve(config, source, examples.features.ndim - 1)
    groups = resolve_groups(config.data.groups, source, stored_groups)
    if config.model.expert_head == "group" and groups.group_of_class is None:
        raise UserError(
            f"--expert_head=group: the groups of {source.name} do not partition its classes."
        )
    each_backbone(config.model.expert_backbone, len(groups.names))  # before it is built
    if config.model.top_k > len(groups.names):
        raise UserError(f"--top_k={config.model.top_k}: there are {len(groups.names)} experts.")
    if config.model.routing == "noisy_topk" and config.model.top_k == len(groups.names):
        raise UserError(
            f"--routing=noisy_topk: chooses {config.model.top_k} of {len(groups.names)} experts, "
            "so noise decides nothing; lower --top_k, or use --routing=soft."
        )
    train, validation = split_rows(
        examples.label, data.validation_fraction, data.train_examples, data.data_seed
    )
    if source.fit is not None:
        # What features need to know of the data, they learn from what is trained on alone.
        source = source.fit(train)
        examples = source.train()
    contents = examples.digest()
    by_class = None
    if config.train.class_weights is not None:
        by_class = class_weights(config.train.class_weights, source.classes, examples.label[train])
        weight = example_weights(by_class, examples.label, examples.weight)
        examples = examples._replace(weight=weight)
    parts = {
        part: _split(config, source, groups, examples.take(rows), part)
        for part, rows in (("train", train), ("validation", validation))
    }
    return Workspace(config, source, groups, **parts, class_weights=by_class, contents=contents)
