"""What a stage's networks say on the validation split, and whether the routing there is healthy."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from moe.data.pipeline import evaluation_batches
from moe.evaluate.attribution import boost_counts
from moe.train.context import Context
from moe.train.health import ALONE, NAMED, UNNAMED, HealthWatch, Symptom
from moe.train.objectives import Judgement, Objective
from moe.train.routing_watch import RoutingWatch
from moe.train.stages import Stage

_BATCH = 512


class CutShortError(Exception):
    """A validation that was not finished, because the run is to stop."""


class Validation:
    """Looks at the validation examples of a stage, epoch by epoch.

    Args:
      context: of the run.
      stage: which one.
      objective: what the stage learns, and how an example is judged by it.
    """

    def __init__(self, context: Context, stage: Stage, objective: Objective) -> None:
        self._split = split = context.data.validation.of_group(stage.group)
        self._stop = context.stop
        self._named = context.groups.named
        self._judge = tf.function(objective.evaluate, autograph=False)
        self._watch, self._health = None, None
        if objective.routes:
            groups = context.groups
            self._watch = RoutingWatch(
                split.examples.label, split.group, context.mixture.num_classes
            )
            together = NAMED if groups.named else UNNAMED
            self._health = HealthWatch(
                groups.names,
                groups.shares(split.group),
                len(split),
                together if stage.kind == "joint" else ALONE,
            )

    def state(self) -> dict[str, list[tf.Variable]]:
        """What a checkpoint holds of it, by name."""
        return {"routing_watch": self._watch.state()} if self._watch else {}

    def look(self) -> dict[str, Any]:
        """The record of the split as the networks are now.

        Raises:
          CutShortError: the run is to stop.
        """
        judged = self.judge_all()
        record = {
            "accuracy": float(judged.correct.mean()),
            "nll": float(judged.nll.astype(np.float64).mean()),
        }
        if self._watch:
            record |= self._watch.look(judged.routed)
            if self._named:
                right = judged.routed.favourite == self._split.group
                record["gate_accuracy"] = float(right.mean())
        if judged.baseline_correct is not None:
            record |= boost_counts(judged.correct, judged.baseline_correct)
        return record

    def judge_all(self) -> Judgement:
        """The judgements of every example, in order, as arrays.

        Raises:
          CutShortError: the run is to stop.
        """
        parts, weight = [], []
        for batch in evaluation_batches(self._split, _BATCH):
            if self._stop.number is not None:
                raise CutShortError
            parts.append(self._judge(batch))
            weight.append(batch.weight.numpy())
        real = np.concatenate(weight) > 0
        if real.sum() != len(self._split):
            raise AssertionError(f"{real.sum()} of {len(self._split)} examples evaluated")
        return tf.nest.map_structure(
            lambda *column: (
                None if column[0] is None else np.concatenate([c.numpy() for c in column])[real]
            ),
            *parts,
        )

    def symptoms(self, epoch: int, record: dict[str, Any], last: bool) -> list[Symptom] | None:
        """What is wrong with the mixture; None: it is too early to tell, or there is none.

        Args:
          epoch, last: as for `HealthWatch.look`.
          record: what `look` found after that epoch.
        """
        return self._health.look(epoch, record, last) if self._health else None
