"""One stage from its first or its continued step to its end: the one loop of every mode."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from moe import randomness
from moe.data.augment import make_augmentation
from moe.data.pipeline import (
    Split,
    evaluation_batches,
    replica_batches,
    steps_per_epoch,
    training_batches,
)
from moe.errors import UserError
from moe.evaluate.attribution import boost_counts
from moe.train.averaging import make_average
from moe.train.checkpoint import Variables
from moe.train.context import Context, Progress
from moe.train.health import HealthWatch
from moe.train.loop import make_train_loop
from moe.train.loss_scale import make_loss_scale
from moe.train.meter import LONG_SECONDS
from moe.train.objectives import Judgement, make_objective, per_example
from moe.train.profile import profiling
from moe.train.routing_watch import RoutingWatch
from moe.train.schedules import make_schedule
from moe.train.stages import Stage
from moe.train.state import foreign_seed_states, model_variables, part_variables
from moe.train.step import make_train_step
from moe.train.weight_groups import make_optimizer

_LOOP_SECONDS = 1.0
_MAX_LOOP_STEPS = 1_000
_EVALUATION_BATCH = 512


class StageRun:
    """One stage from its first or its continued step to its end."""

    def __init__(
        self, context: Context, stage: Stage, progress: Progress, parts: Sequence[str]
    ) -> None:
        self._context = context
        self._stage = stage
        self._progress = progress
        self._parts = parts
        config = context.config
        self._data = context.data.train.of_group(stage.group)
        self._validation = context.data.validation.of_group(stage.group)
        self._batch_size = config.train.batch_size
        self._epoch_steps = steps_per_epoch(len(self._data), self._batch_size)
        # A stage that its seconds end has steps without end.
        self._steps = stage.steps or np.iinfo(np.int64).max
        self._objective = make_objective(stage, context.mixture, config, context.groups)
        # Elsewhere no gate learns to route.
        self._watch = (
            RoutingWatch(self._validation.examples.label, context.mixture.num_classes)
            if stage.kind == "joint"
            else None
        )
        self._health = (
            HealthWatch(context.groups.names, context.groups.shares(self._validation.group))
            if stage.kind == "joint"
            else None
        )
        self._seed_key = randomness.seed_pair(config.train.seed, "stage", stage.name)
        models = context.mixture.parts()
        with context.strategy.scope():
            schedule = make_schedule(config.train.schedule, self._steps)
            self._optimizers = {
                part: make_optimizer(
                    models[part],
                    config.train,
                    schedule,
                    rate=stage.rate,
                    ends_in_head=part != "trunk",
                    policy=context.policy,
                )
                for part in stage.parts
                if models[part].trainable_variables
            }
            self._loss_scale = make_loss_scale(context.policy)
            learning = {part: part_variables(models[part]) for part in self._optimizers}
            self._average = make_average(config.train, learning, self._steps)
            # The best weights so far: part of the checkpoint, so that one file tells it all.
            self._best = {
                part: [tf.Variable(v, trainable=False) for v in part_variables(models[part])]
                for part in stage.parts
            }
        self._fixed_steps = config.runtime.steps_per_loop
        self._judge = tf.function(self._objective.evaluate, autograph=False)
        self._epoch_seconds = 0.0
        self._epoch_examples_before = 0.0
        self._stopping = False
        self._warm_up_seconds: float | None = None
        self.unsaved_steps = 0

    def variables(self) -> Variables:
        """Everything that the checkpoint of a running stage holds."""
        return (
            model_variables(self._context.mixture, self._parts)
            | {f"optimizer.{part}": opt.state() for part, opt in self._optimizers.items()}
            | {"loss_scale": self._loss_scale.state()}
            | self._average.state()
            | {f"best.{part}": best for part, best in self._best.items()}
            | ({"routing_watch": self._watch.state()} if self._watch else {})
        )

    def train(self) -> None:
        """Trains to the end of the stage."""
        if self._optimizers and not self._is_over():
            iterator, loop = self._start()
            saved_at, per_loop = time.monotonic(), 1
            if self._stage.start_counts and self._progress.step == 0:
                self._judge_epoch(0)
            self._open_epoch()
            while not self._is_over():
                # The first step of a stage is a loop of its own: it compiles and warms up.
                if self._warm_up_seconds is not None and self._fixed_steps:
                    per_loop = self._fixed_steps
                steps = min(per_loop, self._until_boundary())
                seconds = self._run_loop(loop, iterator, steps)
                per_loop = max(1, min(_MAX_LOOP_STEPS, int(_LOOP_SECONDS * steps / seconds)))
                per_loop = self._agree(per_loop)
                improved = self._at_epoch_end() and self._turn_epoch()
                if improved or self._must_save(time.monotonic() - saved_at):
                    self.save()
                    saved_at = time.monotonic()
                if self._stopping:
                    self._context.stop.check()
            progress = self._progress
            if progress.seconds >= LONG_SECONDS:
                self._context.meter.probe_input(iterator, progress.seconds / progress.step)

    def _agree(self, per_loop: int) -> int:
        """The chief's number of steps; notes whether any worker was asked to stop."""
        stop = self._context.stop
        per_loop, self._stopping = self._context.team.agree(per_loop, stop.number is not None)
        if self._stopping:
            stop.note()
        return per_loop

    # --- one loop -------------------------------------------------------------------------------

    def _start(self):
        """The iterator at the stage's position, and the traced loop."""
        config, strategy = self._context.config, self._context.strategy
        batches = training_batches(
            self._data,
            self._batch_size,
            self._seed_key,
            self._progress.step,
            make_augmentation(config.data.augment, config.data.crop_reach),
        )
        if strategy.num_replicas_in_sync > 1:
            batches = strategy.distribute_datasets_from_function(
                functools.partial(replica_batches, batches, self._batch_size)
            )
        iterator = iter(batches)
        step = make_train_step(
            self._objective,
            self._optimizers,
            strategy,
            key=randomness.seed_pair(config.train.seed, "step", self._stage.name),
            global_batch_size=self._batch_size,
            loss_scale=self._loss_scale,
            average=self._average,
            seed_states=foreign_seed_states(self._context.mixture),
            accumulate=config.train.accumulate,
            jit_compile=bool(config.runtime.jit_compile),
        )
        loop = make_train_loop(step, len(self._objective.metric_names))
        started = time.perf_counter()
        loop.get_concrete_function(iterator, _int64(0), _int64(0))
        self._context.meter.compile_seconds += time.perf_counter() - started
        return iterator, loop

    def _run_loop(self, loop, iterator, steps: int) -> float:
        progress = self._progress
        started = time.perf_counter()
        # Reading the rows waits for the device: one synchronisation a loop.
        with profiling(self._profile_to()):
            rows = loop(iterator, _int64(progress.step), _int64(steps)).numpy().astype(np.float64)
        seconds = time.perf_counter() - started
        self._check_finite(rows)
        for row in rows:  # One after the other: the sum must not depend on how loops were cut.
            progress.sums = [float(s) for s in np.add(progress.sums, row)]
        self.unsaved_steps += steps
        progress.step += steps
        progress.total_steps += steps
        progress.seconds += seconds
        self._epoch_seconds += seconds
        self._meter(steps, seconds)
        self._context.reporter.advance(
            self._epoch_step() or self._epoch_steps,
            steps * self._batch_size,
            progress.sums[0] / max(progress.sums[-1], 1.0),
        )
        return seconds

    def _meter(self, steps: int, seconds: float) -> None:
        """Books what the first loop took beyond its share of the second one as compilation."""
        meter = self._context.meter
        if self._warm_up_seconds is None:
            self._warm_up_seconds = seconds
            meter.warm_up(seconds)
            return
        excess = max(0.0, self._warm_up_seconds - seconds / steps)
        self._warm_up_seconds = 0.0
        meter.compile_seconds += excess
        self._progress.seconds -= excess
        self._epoch_seconds -= min(excess, self._epoch_seconds)
        meter.add(steps, seconds)

    def _profile_to(self) -> pathlib.Path | None:
        """Where this loop is profiled to; None for all but the first that is traced and warm."""
        is_it = self._warm_up_seconds is not None and not self._context.meter.windows
        return self._context.profile_to if is_it else None

    def _check_finite(self, rows: np.ndarray) -> None:
        """Stops before anything is saved that was computed from a number that is none.

        Raises:
          UserError: a metric of a step is not finite, or float16 overflows at every scale.
        """
        bad = np.argwhere(~np.isfinite(rows))
        if len(bad):
            step, metric = bad[0]
            raise UserError(
                f"stage {self._stage.name}, step {self._progress.step + step}: "
                f"{self._objective.metric_names[metric]} is {rows[step, metric]}; lower "
                "--learning_rate. The last checkpoint is from before that."
            )
        if not rows[:, -1].any() and self._loss_scale.factor.numpy() <= 1.0:
            raise UserError(
                f"stage {self._stage.name}, step {self._progress.step}: the gradients overflow "
                "float16 at every loss scale; use --precision=mixed_bfloat16 or float32."
            )

    def _until_boundary(self) -> int:
        """Steps to the next moment at which Python must look: epoch, checkpoint, end."""
        progress = self._progress
        ends = [self._steps - progress.step, self._epoch_steps - self._epoch_step()]
        every = self._context.config.runtime.checkpoint_steps
        if every:
            ends.append(every - progress.step % every)
        return min(ends)

    # --- epochs ---------------------------------------------------------------------------------

    def _epoch(self) -> int:
        """Number of the epoch that the next step belongs to, from 1."""
        return self._progress.step // self._epoch_steps + 1

    def _epoch_step(self) -> int:
        return self._progress.step % self._epoch_steps

    def _at_epoch_end(self) -> bool:
        return self._epoch_step() == 0 or self._is_spent()

    def _is_spent(self) -> bool:
        """Whether all steps or seconds are used up."""
        progress, seconds = self._progress, self._stage.seconds
        return progress.step >= self._steps or (seconds is not None and progress.seconds >= seconds)

    def _is_over(self) -> bool:
        progress, patience = self._progress, self._context.config.train.patience
        if self._is_spent():
            return True
        waited = self._epoch() - 1 - progress.best_epoch
        return bool(patience) and progress.best_score is not None and waited >= patience

    def _open_epoch(self) -> None:
        progress = self._progress
        if not progress.sums:
            progress.sums = [0.0] * len(self._objective.metric_names)
        self._epoch_seconds, self._epoch_examples_before = 0.0, progress.sums[-1]
        of = f"/{-(-self._steps // self._epoch_steps)}" if self._stage.steps else ""
        self._context.reporter.start_epoch(
            f"{self._stage.name} {self._epoch()}{of}",
            self._epoch_step(),
            self._epoch_steps,
            self._batch_size,
        )

    def _turn_epoch(self) -> bool:
        """Closes the epoch and opens the next; says whether the closed one is the best so far."""
        improved = self._close_epoch()
        if not self._is_over():
            self._open_epoch()
        return improved

    def _close_epoch(self) -> bool:
        """Reports the epoch and validates; says whether it is the best so far."""
        progress, reporter = self._progress, self._context.reporter
        reporter.end_epoch()
        epoch = -(-progress.step // self._epoch_steps)
        examples = max(progress.sums[-1], 1.0)  # none where float16 skipped every step
        train = per_example(self._objective.metric_names, progress.sums)
        speed = (examples - self._epoch_examples_before) / max(self._epoch_seconds, 1e-9)
        where = {"step": progress.total_steps, "epoch": epoch, "stage": self._stage.name}
        reporter.log(where | {"split": "train", **train, "examples_per_second": speed})
        progress.sums = []
        return self._judge_epoch(
            epoch,
            f"loss {train['loss']:.4f}, accuracy {train['accuracy']:.4f}, "
            f"{speed:,.0f} examples/s, ",
        )

    def _judge_epoch(self, epoch: int, training: str = "") -> bool:
        """Validates, keeps the weights if they are the best so far, and says whether they are."""
        progress, reporter = self._progress, self._context.reporter
        with self._average.evaluated():
            validation = self._validate()
            improved = self._keep_if_best(epoch, validation)
        reporter.log(
            {
                "step": progress.total_steps,
                "epoch": epoch,
                "stage": self._stage.name,
                "split": "validation",
                **validation,
            }
        )
        reporter.say(
            f"{self._stage.name} epoch {epoch}: {training}validation {validation['accuracy']:.4f} "
            f"(nll {validation['nll']:.4f}){' *' if improved else ''}"
        )
        self._check_health(epoch, validation)
        return improved

    def _keep_if_best(self, epoch: int, validation: dict[str, Any]) -> bool:
        """Notes score and weights if nothing so far was better.

        Raises:
          UserError: the score is no number.
        """
        progress = self._progress
        if not np.isfinite(validation["nll"]):
            raise UserError(
                f"stage {self._stage.name}, after epoch {epoch}: the validation NLL is "
                f"{validation['nll']}; lower --learning_rate. The last checkpoint is from before "
                "that epoch's end."
            )
        score = [-validation["nll"]]
        if self._context.config.train.monitor == "accuracy":
            score.insert(0, validation["accuracy"])  # the NLL decides between equals
        improved = progress.best_score is None or score > progress.best_score
        if improved:
            progress.best_score, progress.best_epoch = score, epoch
            models = self._context.mixture.parts()
            for part, best in self._best.items():
                for keep, now in zip(best, part_variables(models[part]), strict=True):
                    keep.assign(now)
        return improved

    def _validate(self) -> dict[str, Any]:
        judged = self._judge_all(self._validation)
        record = {
            "accuracy": float(judged.correct.mean()),
            "nll": float(judged.nll.astype(np.float64).mean()),
        }
        if self._watch:
            record |= self._watch.look(judged.gate_log_probs)
            if self._context.groups.named:
                favourite = judged.gate_log_probs.argmax(axis=1)
                record["gate_accuracy"] = float((favourite == self._validation.group).mean())
        if judged.baseline_correct is not None:
            record |= boost_counts(judged.correct, judged.baseline_correct)
        return record

    def _judge_all(self, split: Split) -> Judgement:
        """The judgements of every example of a split, in order, as arrays."""
        parts, weight = [], []
        for batch in evaluation_batches(split, _EVALUATION_BATCH):
            parts.append(self._judge(batch))
            weight.append(batch.weight.numpy())
        real = np.concatenate(weight) > 0
        if real.sum() != len(split):
            raise AssertionError(f"{real.sum()} of {len(split)} examples evaluated")
        return Judgement(
            *(
                None if column[0] is None else np.concatenate([c.numpy() for c in column])[real]
                for column in zip(*parts, strict=True)
            )
        )

    def _check_health(self, epoch: int, validation: dict[str, Any]) -> None:
        """Warns of what is newly wrong with the mixture, or stops for it.

        Raises:
          UserError: something is, and `--on_unhealthy=stop` was asked for.
        """
        if self._health is None:
            return
        for symptom in self._health.look(epoch, validation):
            text = f"{self._stage.name} epoch {epoch}: {symptom}"
            if self._context.config.runtime.on_unhealthy == "stop":
                self.save()
                raise UserError(f"{text} Saved as it is; --on_unhealthy=warn goes on.")
            self._context.reporter.say(f"warning: {text}")
            self._context.reporter.log(
                {"event": "unhealthy", "step": self._progress.total_steps, "epoch": epoch}
                | {"stage": self._stage.name, **symptom._asdict()}
            )

    # --- saving ---------------------------------------------------------------------------------

    def _must_save(self, seconds_since: float) -> bool:
        runtime = self._context.config.runtime
        every = runtime.checkpoint_steps
        return (
            seconds_since >= runtime.checkpoint_seconds
            or bool(every and self._progress.step % every == 0)
            or self._stopping
        )

    def save(self) -> None:
        """Writes a checkpoint of the run as it stands."""
        progress = self._progress
        # A stage's end adds no step: the number of the next one's start must still be a new one.
        number = progress.total_steps + progress.stage
        if self._context.team.is_chief:
            self._context.store.save(number, self.variables(), dataclasses.asdict(progress))
        self.unsaved_steps = 0

    def finish(self) -> None:
        """Takes the best weights, notes the outcome and opens the next stage."""
        progress = self._progress
        models = self._context.mixture.parts()
        if progress.best_score is not None:
            for part, best in self._best.items():
                for now, keep in zip(part_variables(models[part]), best, strict=True):
                    now.assign(keep)
        progress.finished.append(
            {
                "name": self._stage.name,
                "kind": self._stage.kind,
                "parts": list(self._stage.parts),
                "steps": progress.step,
                "epochs": progress.step / self._epoch_steps,
                "best_epoch": progress.best_epoch,
                "examples": progress.step * self._batch_size,
                "seconds": progress.seconds,
            }
        )
        progress.stage += 1
        progress.step, progress.seconds, progress.sums = 0, 0.0, []
        progress.best_score, progress.best_epoch = None, 0


def _int64(number: int) -> tf.Tensor:
    return tf.constant(number, tf.int64)
