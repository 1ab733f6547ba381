"""`--init_from`: networks that start from another run's weights, not from a random draw.

Only folders that `train.py` wrote are read. Features stay standardised on this run's own training
split, and optimizers start anew.
"""

from __future__ import annotations

import dataclasses
import itertools
import pathlib
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import tensorflow as tf

from moe.config.specs import read_init_from
from moe.errors import UserError, warn
from moe.models.mixture import MixtureOfExperts
from moe.run_files import find_run
from moe.train.checkpoint import CheckpointStore, Saved
from moe.train.stages import Stage
from moe.train.state import part_variables
from moe.trained import best_weights
from moe.workspace import Workspace


@dataclasses.dataclass(frozen=True)
class _Side:
    """One end of a transfer.

    Attributes:
      groups: classes by expert, in the order of the experts.
      classes: L names; None where an older version did not note them down.
      group_heads: whether experts answer over their own group's classes only.
      parts: the networks that there are.
    """

    groups: Mapping[str, Sequence[str]]
    classes: Sequence[str] | None
    group_heads: bool
    parts: Sequence[str]

    def expert(self, part: str) -> str:
        """The name of the expert that `expert_0` or `combiner_0` belongs to."""
        return dict(enumerate(self.groups)).get(int(part.rpartition("_")[2]), part)

    def find(self, name: str) -> str | None:
        """The part that is called `name`: as in `parts`, or as its expert."""
        named = {self.expert(part): part for part in self.parts if part.startswith("expert_")}
        return name if name in self.parts else named.get(name)

    def role(self, part: str) -> tuple[str, ...]:
        """What a part is there for: parts of two runs with equal roles fit by name."""
        if part == "gate":
            return ("gate", *self.groups)
        if part in ("trunk", "baseline"):
            return (part,)
        return (part.partition("_")[0], self.expert(part))

    def outputs(self, part: str) -> Sequence[str] | None:
        """The names of what a part tells apart."""
        if part == "trunk":
            return None
        if part == "gate":
            return tuple(self.groups)
        if self.group_heads and part.startswith("expert_"):
            return tuple(self.groups[self.expert(part)])
        return None if self.classes is None else tuple(self.classes)


@dataclasses.dataclass(frozen=True)
class _Donor:
    """A finished run."""

    folder: str
    store: CheckpointStore
    saved: Saved
    side: _Side
    whitens: bool


def take_over(
    workspace: Workspace, mixture: MixtureOfExperts, trains: Sequence[str]
) -> dict[str, str]:
    """Fills networks with what other runs learned, as `--init_from` says.

    Args:
      workspace: of this run.
      mixture: of this run; changed only if everything that is asked for fits.
      trains: the parts that this run trains.

    Returns:
      For each part that was filled the `RUN:PART` that its weights come from.

    Raises:
      UserError: a run or a part is not there, is not finished, or its weights have other shapes.
    """
    config, classes = workspace.config, workspace.source.classes
    here = _Side(
        workspace.groups.members(classes), classes, config.model.expert_head == "group", trains
    )
    sources: dict[str, tuple[_Donor, str]] = {}
    for spec in config.train.init_from:
        sources |= _sources(spec, here)
    models = mixture.parts()
    values = {}
    for part, (donor, theirs) in sources.items():
        if mixture.whitens and not donor.whitens and mixture.sees_examples(part):
            raise UserError(
                f"--init_from: {donor.folder}:{theirs} was trained without --whiten, which would "
                "freeze its first layer as it is; use --nowhiten."
            )
        values[part] = _weights(donor, theirs, part, part_variables(models[part]))
        there = donor.side.outputs(theirs)
        if there is not None and there != here.outputs(part):
            warn(
                f"--init_from: {donor.folder}:{theirs} tells other things apart than {part} here; "
                "its last layer has to learn anew."
            )
    for part, weights in values.items():
        for variable, value in zip(part_variables(models[part]), weights, strict=True):
            variable.assign(value)
    return {part: f"{donor.folder}:{theirs}" for part, (donor, theirs) in sources.items()}


def count_starts(stages: Sequence[Stage], filled: Collection[str]) -> list[Stage]:
    """The same stages; where all of its parts are `filled`, a stage may be best at its start."""
    return [
        dataclasses.replace(
            stage, start_counts=stage.start_counts or set(stage.parts) <= set(filled)
        )
        for stage in stages
    ]


def _sources(spec: str, here: _Side) -> dict[str, tuple[_Donor, str]]:
    """Who gives what to each part that `spec` names."""
    run, asked, to = read_init_from(spec)
    donor = _open(run)
    if asked is None:
        roles = {donor.side.role(part): part for part in donor.side.parts}
        fits = {part: roles[here.role(part)] for part in here.parts if here.role(part) in roles}
        if not fits:
            raise UserError(
                f"--init_from={spec}: nothing fits by name; it trained {_names(donor.side)}, this "
                f"run trains {_names(here)}; use --init_from='RUN:PART->PART'."
            )
        return {part: (donor, theirs) for part, theirs in fits.items()}
    theirs, mine = donor.side.find(asked), here.find(to or asked)
    if theirs is None:
        raise UserError(f"--init_from={spec}: {run} trained no {asked}, but {_names(donor.side)}.")
    if mine is None:
        raise UserError(
            f"--init_from={spec}: this run trains no {to or asked}, but {_names(here)}."
        )
    return {mine: (donor, theirs)}


def _open(run: str) -> _Donor:
    folder = pathlib.Path(run)
    stored = find_run(folder, "init_from")
    saved = best_weights(folder, "init_from")
    side = _Side(
        stored.groups or {},
        (stored.data or {}).get("classes"),
        stored.config.model.expert_head == "group",
        saved.progress["parts"],
    )
    whitens = stored.config.model.whiten
    return _Donor(run, CheckpointStore(folder / "best"), saved, side, whitens)


def _weights(
    donor: _Donor, theirs: str, mine: str, variables: Sequence[tf.Variable]
) -> list[np.ndarray]:
    """The donor's weights of a part, checked against those that they are for."""
    values = donor.store.read(donor.saved, theirs)
    there = [_kind(value.dtype.name, value.shape) for value in values]
    here = [_kind(variable.dtype.name, variable.shape) for variable in variables]
    for number, (one, other) in enumerate(itertools.zip_longest(there, here), start=1):
        if one != other:
            raise UserError(
                f"--init_from: {donor.folder}:{theirs} does not fit {mine}: weight {number} is "
                f"{one} there and {other} here."
            )
    return values


def _kind(dtype: str, shape: Sequence[int]) -> str:
    return f"{dtype}{list(shape)}"


def _names(side: _Side) -> str:
    """The parts, experts by their names."""
    return ", ".join(
        side.expert(part) if part.startswith("expert_") else part for part in side.parts
    )
