"""Stages are data: what each mode trains, one after the other."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from moe.config import Config
from moe.data.pipeline import Split
from moe.errors import UserError
from moe.taxonomy import Groups

TUNING_RATE = 0.1
"""Learning rate of the joint stage of `staged`, as a share of the rate from scratch."""


@dataclasses.dataclass(frozen=True)
class Stage:
    """One stretch of training.

    Attributes:
      name: as logged.
      kind: the objective: `part` (one network by itself), `blend` or `joint`.
      parts: names of the networks that learn; all others stay as they are. A `part` may have the
        trunk learn with it, which then stands first.
      group: train and validate on this group's examples only; None: on all.
      rate: factor of the learning rate.
      start_counts: the weights that the stage starts from are a candidate for its best ones (an
        even blend, a mixture put together of trained parts), not a random draw.
    """

    name: str
    kind: str
    parts: tuple[str, ...]
    group: int | None = None
    rate: float = 1.0
    start_counts: bool = False


def stages_of(config: Config, groups: Groups, parts: Sequence[str]) -> list[Stage]:
    """The stages of `config.mode`.

    Args:
      config: fully resolved.
      groups: one expert each.
      parts: the names of the mixture's networks.
    """
    # A trunk learns with the baseline; what is trained after that goes on from it as it is.
    first = tuple(part for part in parts if part in ("trunk", "baseline"))
    baseline = [Stage("baseline", "part", first)] if "baseline" in parts else []
    gate = [Stage("gate", "part", ("gate",))]
    experts = [
        Stage(name, "part", (f"expert_{e}",), group=e) for e, name in enumerate(groups.names)
    ]
    combiners = tuple(part for part in parts if part.startswith("combiner_"))
    blend = [Stage("blend", "blend", combiners, start_counts=True)] if combiners else []
    joint = Stage("joint", "joint", tuple(parts))
    separate = [*baseline, *gate, *experts, *blend]
    return {
        "baseline": baseline,
        "gate": gate,
        "experts": experts,
        "separate": separate,
        "joint": [joint],
        "staged": [*separate, dataclasses.replace(joint, rate=TUNING_RATE, start_counts=True)],
    }[config.mode]


def parts_of(stages: Sequence[Stage]) -> list[str]:
    """The names of all networks that learn in one of the stages."""
    return sorted({part for stage in stages for part in stage.parts})


def check_examples(
    stages: Sequence[Stage],
    train: Split,
    validation: Split,
    batch_size: int,
    replicas: int,
    accumulate: int = 1,
) -> None:
    """Refuses what would otherwise stop a later stage, hours after the start.

    Raises:
      UserError: replicas or slices cannot share a batch evenly, or a stage has less than one batch
        to train on, or nothing to validate on.
    """
    if batch_size % replicas:
        raise UserError(f"--batch_size={batch_size}: {replicas} replicas cannot share it evenly.")
    if batch_size // replicas % accumulate:
        raise UserError(
            f"--batch_size={batch_size}: cannot be cut into --accumulate={accumulate} equal slices"
            f" on each of {replicas} devices."
        )
    for stage in stages:
        examples = train.size_of_group(stage.group)
        if examples < batch_size:
            raise UserError(
                f"--batch_size={batch_size}: stage {stage.name} has only {examples} training "
                "examples; use a smaller batch."
            )
        if not validation.size_of_group(stage.group):
            raise UserError(
                f"stage {stage.name} has no validation examples; raise --validation_fraction or "
                "--train_examples."
            )
