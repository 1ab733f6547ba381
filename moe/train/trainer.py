"""Trains a mixture through its stages, continuing where a checkpoint left off."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from moe.errors import UserError
from moe.train.checkpoint import Saved
from moe.train.context import Context, Progress
from moe.train.guard import NonFiniteError
from moe.train.optimizers import rate_flags
from moe.train.stage_run import StageRun
from moe.train.stages import Stage, parts_of

_MOST_ROLLBACKS = 5
"""In one stage: its learning rate is a thirty-second by then."""


def train_stages(context: Context, stages: Sequence[Stage]) -> Progress:
    """Trains every stage that is not finished yet; the mixture then holds the best weights.

    Returns:
      Where the run then stands: behind all stages, with a record of each, and what went wrong.

    Raises:
      StopTraining: a signal asked for it; everything is saved.
      UserError: the checkpoints are damaged or belong to another model, or workers see different
        ones.
    """
    if context.team.is_chief:
        context.store.sweep()
    parts = parts_of(stages)
    saved = context.store.newest()
    progress = Progress.from_dict(saved.progress) if saved else Progress()

    def forget_what_comes_again() -> None:
        context.reporter.drop(lambda record: _is_ahead(record, progress, stages))

    forget_what_comes_again()
    if saved:
        context.reporter.log({"event": "continued", "step": progress.total_steps})
        context.reporter.say(f"continuing from step {progress.total_steps}")
    there, _ = context.team.agree(progress.total_steps, stop=False)
    if there != progress.total_steps:
        raise UserError(
            f"this worker sees a checkpoint of step {progress.total_steps}, the chief one of step "
            f"{there}: --workdir must be a folder that all workers share."
        )
    while progress.stage < len(stages):
        if stages[progress.stage].done:
            progress.stage += 1
            continue
        # The end of the stage before may be nowhere but in memory.
        all_saved = saved or not progress.stage
        with context.at_once() if all_saved else contextlib.nullcontext():
            run = StageRun(context, stages[progress.stage], progress, parts)
        if saved:
            context.store.restore(saved, run.variables())
            saved = None
        elif progress.stage or context.config.runtime.on_nonfinite == "rollback":
            run.save()
        try:
            run.train()
            if progress.stage == len(stages) - 1 and run.unsaved_steps:
                run.save()  # with the optimizer: what a longer run would go on from
        except NonFiniteError as error:
            saved, progress = _go_back(context, progress, str(error))
            forget_what_comes_again()
            stage, fault = stages[progress.stage].name, error.fault
            context.reporter.log(
                {"event": "rollback", "step": progress.total_steps, "stage": stage}
                | {"rate": progress.rate, "part": fault.part, "why": fault.what}
            )
            progress.note_fault(
                stage,
                error.epoch,
                fault.part,
                f"{fault.what}; back to a checkpoint, and on at half the learning rate",
            )
            continue
        run.finish()
    return progress


def _go_back(context: Context, progress: Progress, why: str) -> tuple[Saved, Progress]:
    """The last checkpoint, and where the run stands there, at half the learning rate.

    Without another rate the same numbers would come again: everything random is a function of
    seed and step.

    Raises:
      UserError: that was done often enough.
    """
    if progress.rollbacks >= _MOST_ROLLBACKS:
        raise UserError(
            f"{why}, also at {progress.rate:g} times the learning rate; lower "
            f"{rate_flags(context.config.train.optimizer)} and look at the data."
        )
    saved = context.store.newest()
    halved = {"rate": progress.rate / 2, "rollbacks": progress.rollbacks + 1}
    progress = dataclasses.replace(Progress.from_dict(saved.progress), **halved)
    context.reporter.end_epoch()
    context.reporter.say(
        f"warning: {why}; back to step {progress.total_steps} and on at {progress.rate:g} times "
        "the learning rate"
    )
    return saved, progress


def _is_ahead(record: Mapping[str, Any], progress: Progress, stages: Sequence[Stage]) -> bool:
    """Whether a record of `metrics.jsonl` is from after the moment that `progress` describes."""
    # A stage may report before its first step, on the last step of the stage before.
    at_start = progress.step == 0 and record.get("stage") == stages[progress.stage].name
    step = record.get("step")
    if not isinstance(step, int):
        return True
    # That a run went back to the checkpoint is not written in it, nor what is not yet validated.
    comes_again = record.get("event") == "rollback" or (progress.is_open and "split" in record)
    return at_start or step > progress.total_steps - comes_again
