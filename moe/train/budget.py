"""How long each stage of a run may last, and how `--budget` is shared out among them.

Within a run every stage gets the same number of epochs of its own examples, except in `staged`,
where the joint stage gets half as many as the stages before it: a third of what each network sees.
`epochs:N` is what a network may see in all: N in every stage, in `staged` 2N/3 and then N/3.
`macs:N` is turned into the number of epochs that costs N in all. `seconds:N` is shared out by what
the stages would cost in MACs if they had that many epochs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from moe.config.run import Config
from moe.config.specs import read_budget
from moe.data.pipeline import Split, steps_per_epoch
from moe.errors import warn
from moe.models import cost
from moe.models.mixture import MixtureOfExperts
from moe.models.routers import make_router
from moe.train.stages import Stage

TUNING_SHARE = 1 / 3
"""Of the epochs that a network sees in `staged`, those of the joint stage."""


def experts_learning(config: Config, mixture: MixtureOfExperts, kind: str) -> float:
    """How many experts run for an example while a stage of this kind trains."""
    if kind != "joint":
        return 1
    model, factor = config.model, config.train.capacity_factor
    router = make_router(model.routing, model.top_k, capacity_factor=factor)
    return router.train.running(mixture.num_experts)


def allot(
    config: Config, mixture: MixtureOfExperts, stages: Sequence[Stage], train: Split
) -> list[Stage]:
    """The same stages with their steps and seconds.

    A stage that is done has its share of the budget all the same: the others last as long as they
    would beside it.
    """
    batch_size = config.train.batch_size
    epoch_steps = [
        steps_per_epoch(train.size_of_group(stage.group), batch_size) for stage in stages
    ]
    if config.train.budget is None:
        steps = [config.train.steps or config.train.epochs * size for size in epoch_steps]
        return [dataclasses.replace(s, steps=n) for s, n in zip(stages, steps, strict=True)]
    budget = read_budget(config.train.budget)
    part = [_share(config.mode, stage) for stage in stages]
    if budget.unit == "epochs":
        epochs = [budget.amount * share for share in part]
        return _by_epochs(config, stages, epochs, epoch_steps)
    macs = [
        share * size * batch_size * _macs(config, mixture, stage)
        for stage, share, size in zip(stages, part, epoch_steps, strict=True)
    ]
    if budget.unit == "macs":
        epochs = [budget.amount * share / sum(macs) for share in part]
        return _by_epochs(config, stages, epochs, epoch_steps)
    seconds = [budget.amount * cost / sum(macs) for cost in macs]
    return [dataclasses.replace(s, seconds=n) for s, n in zip(stages, seconds, strict=True)]


def _share(mode: str, stage: Stage) -> float:
    """How much of the epochs of a run a stage gets."""
    if mode != "staged":
        return 1.0
    return TUNING_SHARE if stage.kind == "joint" else 1 - TUNING_SHARE


def _macs(config: Config, mixture: MixtureOfExperts, stage: Stage) -> int:
    """Of one training example."""
    running = experts_learning(config, mixture, stage.kind)
    return cost.stage_macs(mixture, stage.kind, stage.parts, running)


def _by_epochs(
    config: Config, stages: Sequence[Stage], epochs: Sequence[float], epoch_steps: Sequence[int]
) -> list[Stage]:
    steps = [round(n * size) for n, size in zip(epochs, epoch_steps, strict=True)]
    short = [stage.name for stage, n in zip(stages, steps, strict=True) if n < 1]
    if short:
        warn(
            f"--budget={config.train.budget}: does not pay for a step of {', '.join(short)}; it "
            "takes one all the same."
        )
    steps = [max(1, n) for n in steps]
    return [dataclasses.replace(s, steps=n) for s, n in zip(stages, steps, strict=True)]
