"""Stages are data: what each mode trains, one after the other."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence

from moe.config.run import Config
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
      steps: how many it may last; None: as many as its seconds allow.
      seconds: of training that it may last; None: as many as its steps take.
      done: its parts come trained from another run, and nothing is left to do.
    """

    name: str
    kind: str
    parts: tuple[str, ...]
    group: int | None = None
    rate: float = 1.0
    start_counts: bool = False
    steps: int | None = None
    seconds: float | None = None
    done: bool = False


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


def leave_out(
    stages: Sequence[Stage], names: Sequence[str], filled: Collection[str]
) -> list[Stage]:
    """The same stages, those called `names` done: `--skip_stages`.

    Args:
      stages: of the mode.
      names: what another run has done.
      filled: the parts that were taken from another run.

    Raises:
      UserError: there is no such stage, it is the last one, or not all of its parts are `filled`.
    """
    there = {stage.name: stage for stage in stages}
    for name in names:
        if name not in there:
            raise UserError(f"--skip_stages={name}: must be one of {', '.join(there)}.")
        missing = [part for part in there[name].parts if part not in filled]
        if missing:
            raise UserError(f"--skip_stages={name}: --init_from gives no {missing[0]}.")
    if stages[-1].name in names:
        raise UserError(f"--skip_stages={stages[-1].name}: nothing would be left to train.")
    return [dataclasses.replace(stage, done=stage.name in names) for stage in stages]


def parts_of(stages: Sequence[Stage]) -> list[str]:
    """The names of all networks that learn in one of the stages."""
    return sorted({part for stage in stages for part in stage.parts})


def filled_parts(stages: Sequence[Stage], routing: str) -> list[str]:
    """The networks that learn in batches which fixed shapes fill up (`moe.routing.run_fixed`).

    Soft routing gives everybody the whole batch, and experts that choose fill their room.

    Args:
      stages: what is to be trained.
      routing: of joint training.
    """
    kinds = {"blend"} if routing in ("soft", "expert_choice") else {"blend", "joint"}
    parts = parts_of([stage for stage in stages if stage.kind in kinds and not stage.done])
    return [part for part in parts if part.startswith(("expert_", "combiner_"))]


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
        if stage.done:
            continue
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
