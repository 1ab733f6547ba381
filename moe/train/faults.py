"""What becomes of a run when a number is none: its step is skipped, or the run ends with advice."""

from __future__ import annotations

import math
from collections.abc import Sequence

from moe.errors import UserError
from moe.train.context import Context, Progress
from moe.train.guard import FINE, OVERFLOW, Fault, NonFiniteError, describe
from moe.train.optimizers import rate_flags
from moe.train.stages import Stage

_MOST_IN_A_ROW = 20
"""Steps without a finite number after which skipping them leads nowhere."""


class FaultPolicy:
    """Deals with the faults of one stage as `--on_nonfinite` says.

    Args:
      context: of the run.
      stage: which one.
      progress: where the run stands; faults are noted there.
      epoch_steps: steps of an epoch.
    """

    def __init__(
        self, context: Context, stage: Stage, progress: Progress, epoch_steps: int
    ) -> None:
        self._context = context
        self._stage = stage
        self._progress = progress
        self._epoch_steps = epoch_steps
        self._in_a_row = 0

    def book(
        self,
        number: int,
        fault: float,
        sums: Sequence[float],
        names: Sequence[str],
        parts: Sequence[str],
    ) -> bool:
        """Books step `number` of a loop, whose steps the progress does not count yet.

        Args:
          number: from 0.
          fault: of `moe.train.guard.find_fault`.
          sums, names, parts: as for `moe.train.guard.describe`.

        Returns:
          Whether all its numbers are numbers; else it changed nothing.

        Raises:
          UserError, NonFiniteError: see `error`; the step is not to be skipped.
        """
        if fault == FINE:
            self._in_a_row = 0
            return True
        if fault == OVERFLOW:
            self._progress.overflows += 1
        else:
            self._bear(number, describe(fault, sums, names, parts))
        self._in_a_row += 1
        return False

    def _bear(self, number: int, fault: Fault) -> None:
        progress, context = self._progress, self._context
        where = f"step {progress.step + number + 1}"
        give_up = self._in_a_row + 1 >= _MOST_IN_A_ROW
        if context.config.runtime.on_nonfinite != "skip" or give_up:
            again = f", as in {self._in_a_row} steps before" if self._in_a_row else ""
            raise self.error(where, fault._replace(what=f"{fault.what}{again}"), number + 1)
        progress.skipped += 1
        said = f"{where}: {fault.what}; the step is skipped"
        context.reporter.say(f"warning: stage {self._stage.name}, {said}")
        context.reporter.log(
            {"event": "skipped", "step": progress.total_steps + number + 1}
            | {"stage": self._stage.name, "part": fault.part, "why": fault.what}
        )
        epoch = progress.epoch(self._epoch_steps)
        progress.note_fault(self._stage.name, epoch, fault.part, said)

    def error(self, where: str, fault: Fault, steps: int = 0) -> UserError | NonFiniteError:
        """The error about a number that is none: nothing computed from it may be saved.

        Args:
          where: in the stage.
          fault: what it is about.
          steps: where a step is at fault, how many were done since the progress was noted down.
        """
        context, progress = self._context, self._progress
        what = f"stage {self._stage.name}, {where}: {fault.what}"
        is_untrained = not progress.step + steps
        if context.config.runtime.on_nonfinite == "rollback" and not is_untrained:
            done = progress.step + steps
            return NonFiniteError(what, fault, math.ceil(done / self._epoch_steps))
        rates = rate_flags(context.config.train.optimizer)
        advice = f"lower {rates}, or try --on_nonfinite=rollback"
        if context.policy == "mixed_float16":
            advice = "use --precision=mixed_bfloat16 or float32"
        elif steps and progress.total_steps + steps == 1:
            advice = "nothing is learned yet: look for numbers in the data that are none, or huge"
        if is_untrained:  # which no learning rate mends
            advice = "look at how its network is made, or at --init_from"
        context.reporter.log(
            {"event": "nonfinite", "step": progress.total_steps + steps}
            | {"stage": self._stage.name, "part": fault.part, "why": fault.what}
        )
        is_saved = context.store.last_number() is not None
        before = " The last checkpoint is from before that." if is_saved else ""
        return UserError(f"{what}; {advice}.{before}")
