"""Trains a mixture through its stages, continuing where a checkpoint left off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from moe.errors import UserError
from moe.train.context import Context, Progress
from moe.train.stage_run import StageRun
from moe.train.stages import Stage, parts_of


def train_stages(context: Context, stages: Sequence[Stage]) -> list[dict[str, Any]]:
    """Trains every stage that is not finished yet; the mixture then holds the best weights.

    Returns:
      One record a stage: name, kind, parts, steps, epochs, best epoch, examples, seconds.

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
    # What was done after the checkpoint is done again, and logged again.
    context.reporter.drop(lambda record: _is_ahead(record, progress, stages))
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
        run = StageRun(context, stages[progress.stage], progress, parts)
        if saved:
            context.store.restore(saved, run.variables())
            saved = None
        elif progress.stage:
            run.save()
        run.train()
        if progress.stage == len(stages) - 1 and run.unsaved_steps:
            run.save()  # with the optimizer: what a longer run would go on from
        run.finish()
    return progress.finished


def _is_ahead(record: Mapping[str, Any], progress: Progress, stages: Sequence[Stage]) -> bool:
    """Whether a record of `metrics.jsonl` is from after the moment that `progress` describes."""
    # A stage may report before its first step, on the last step of the stage before.
    at_start = progress.step == 0 and record.get("stage") == stages[progress.stage].name
    step = record.get("step")
    return at_start or not isinstance(step, int) or step > progress.total_steps
