"""The judgement of an epoch: how good it is, whether it is the best so far, and whether healthy."""

from __future__ import annotations

from typing import Any

import numpy as np

from moe.train.averaging import NoAverage
from moe.train.best_weights import BestWeights
from moe.train.context import Context, Progress
from moe.train.faults import FaultPolicy
from moe.train.guard import Fault
from moe.train.stages import Stage
from moe.train.validation import Validation


class EpochJudge:
    """Validates the epochs of one stage, reports them and keeps the weights of the best.

    Args:
      context: of the run.
      stage: which one.
      progress: where the run stands; scores and symptoms are noted there.
      validation: of the stage.
      average: of the weights; it is the average that is judged and kept.
      best: the weights kept so far.
      faults: what becomes of a score that is no number.
    """

    def __init__(
        self,
        context: Context,
        stage: Stage,
        progress: Progress,
        *,
        validation: Validation,
        average: NoAverage,
        best: BestWeights,
        faults: FaultPolicy,
    ) -> None:
        self._context = context
        self._stage = stage
        self._progress = progress
        self._validation = validation
        self._average = average
        self._best = best
        self._faults = faults

    def judge(
        self, epoch: int, text: str = "", train: dict[str, Any] | None = None
    ) -> tuple[bool, dict[str, Any]]:
        """Validates and reports, and keeps the weights if they are the best so far.

        Args:
          epoch: which one, from 1; 0: before the first.
          text: what is said of the training besides.
          train: what is logged of it.

        Returns:
          Whether they are, and the record of the validation split.

        Raises:
          CutShortError: nothing is changed yet.
          UserError, NonFiniteError: the validation NLL is not finite.
        """
        reporter = self._context.reporter
        with self._average.evaluated():
            validation = self._validation.look()
            improved = self._keep_if_best(epoch, validation)
        where = self._position(epoch)
        if train:
            reporter.log(where | {"split": "train", **train})
        reporter.log(where | {"split": "validation", **validation})
        reporter.say(
            f"{self._stage.name} epoch {epoch}: {text}validation {validation['accuracy']:.4f} "
            f"(nll {validation['nll']:.4f}){' *' if improved else ''}"
        )
        return improved, validation

    def _position(self, epoch: int) -> dict[str, Any]:
        """What every record of an epoch begins with.

        `seconds` is the clock: from the first touch of the data, without compilation, validation
        and checkpoints. A continued run has prepared its data once.
        """
        progress = self._progress
        trained = sum(stage["seconds"] for stage in progress.finished) + progress.seconds
        return {
            "step": progress.total_steps,
            "epoch": epoch,
            "seconds": round(self._context.meter.prepare_seconds + trained, 3),
            "stage": self._stage.name,
        }

    def _keep_if_best(self, epoch: int, validation: dict[str, Any]) -> bool:
        """Notes score and weights if nothing so far was better.

        Raises:
          UserError, NonFiniteError: the score is no number.
        """
        progress = self._progress
        if not np.isfinite(validation["nll"]):
            part = self._stage.parts[-1] if self._stage.kind == "part" else "mixture"
            what = f"the validation NLL of {part} is {validation['nll']}"
            raise self._faults.error(f"after epoch {epoch}", Fault(part, what))
        score = [-validation["nll"]]
        if self._context.config.train.monitor == "accuracy":
            score.insert(0, validation["accuracy"])  # the NLL decides between equals
        improved = progress.best_score is None or score > progress.best_score
        if improved:
            progress.best_score, progress.best_epoch = score, epoch
            self._best.keep()
        return improved

    def look_for_symptoms(self, epoch: int, validation: dict[str, Any], last: bool) -> str:
        """Warns of what is newly wrong with the mixture.

        Args:
          epoch: from 1.
          validation: the record of `judge`.
          last: whether the stage is over.

        Returns:
          What the run is to be stopped for, as `--on_unhealthy=stop` asks; empty: nothing.
        """
        seen = self._validation.symptoms(epoch, validation, last)
        if seen is None:
            return ""
        progress, where = self._progress, f"{self._stage.name} epoch {epoch}"
        stops = self._context.config.runtime.on_unhealthy == "stop"
        for symptom in seen:
            if symptom.key in progress.symptoms:
                continue
            entry = progress.note(
                self._stage.name, epoch, symptom.condition, symptom.expert, str(symptom)
            )
            self._context.reporter.log(
                {"event": "unhealthy", "step": progress.total_steps, **entry, "stops": stops}
            )
            if not stops:
                self._context.reporter.say(f"warning: {where}: {symptom}")
        progress.symptoms = [symptom.key for symptom in seen]
        return f"{where}: {' '.join(map(str, seen))}" if seen and stops else ""
