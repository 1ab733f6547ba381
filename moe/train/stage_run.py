"""One stage from its first or its continued step to its end: the one loop of every mode."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import pathlib
import time
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from moe import randomness
from moe.data.augment import make_augmentation
from moe.data.pipeline import (
    replica_batches,
    steps_per_epoch,
    training_batches,
)
from moe.errors import UserError
from moe.train.averaging import make_average
from moe.train.best_weights import BestWeights
from moe.train.checkpoint import Variables
from moe.train.context import Context, Progress
from moe.train.faults import FaultPolicy
from moe.train.guard import Fault, all_finite
from moe.train.judge import EpochJudge
from moe.train.loop import make_train_loop
from moe.train.loss_scale import make_loss_scale
from moe.train.meter import LONG_SECONDS
from moe.train.objectives import make_objective, per_example
from moe.train.profile import profiling
from moe.train.schedules import make_schedule
from moe.train.stages import Stage
from moe.train.state import (
    foreign_seed_states,
    model_variables,
    moving_statistics,
    part_variables,
)
from moe.train.step import make_train_step
from moe.train.validation import CutShortError, Validation
from moe.train.weight_groups import make_optimizer

_LOOP_SECONDS = 1.0
_MAX_LOOP_SECONDS = 5.0
"""Also where the steps of a loop were asked for: no signal is heard while it runs."""
_MAX_LOOP_STEPS = 1_000


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
        self._batch_size = config.train.batch_size
        self._epoch_steps = steps_per_epoch(len(self._data), self._batch_size)
        # A stage that its seconds end has steps without end.
        self._steps = stage.steps or np.iinfo(np.int64).max
        self._objective = make_objective(stage, context.mixture, config, context.groups)
        self._faults = FaultPolicy(context, stage, progress, self._epoch_steps)
        self._validation = Validation(context, stage, self._objective)
        self._seed_key = randomness.seed_pair(config.train.seed, "stage", stage.name)
        models = context.mixture.parts()
        self._models = {part: models[part] for part in stage.parts}
        with context.strategy.scope():
            schedule = make_schedule(config.train.schedule, self._steps)
            self._optimizers = {
                part: make_optimizer(
                    model,
                    config.train,
                    schedule,
                    rate=stage.rate * progress.rate,
                    ends_in_head=part != "trunk",
                    policy=context.policy,
                )
                for part, model in self._models.items()
                if model.trainable_variables
            }
            self._loss_scale = make_loss_scale(context.policy)
            learning = {part: part_variables(self._models[part]) for part in self._optimizers}
            self._average = make_average(config.train, learning, self._steps)
            self._best = BestWeights(self._models)
        self._judge = EpochJudge(
            context,
            stage,
            progress,
            validation=self._validation,
            average=self._average,
            best=self._best,
            faults=self._faults,
        )
        fixed = config.runtime.steps_per_loop
        self._most_steps = fixed or _MAX_LOOP_STEPS
        self._loop_seconds = _MAX_LOOP_SECONDS if fixed else _LOOP_SECONDS
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
            | self._best.state()
            | self._validation.state()
        )

    def train(self) -> None:
        """Trains to the end of the stage.

        Raises:
          StopTraining: a signal asked for it; everything is saved.
          UserError, NonFiniteError: a number is not finite, see `moe.train.guard`.
        """
        if not self._optimizers:
            return
        if self._progress.is_open and self._at_epoch_end():
            with contextlib.suppress(CutShortError):
                self._close_epoch()
            self._agree()
            self._context.stop.check()
        if self._is_over():
            return
        iterator, loop = self._start()
        saved_at, per_loop = time.monotonic(), 1
        if self._stage.start_counts and self._progress.step == 0:
            with contextlib.suppress(CutShortError):
                self._judge.judge(0)  # of what nothing has been learned yet
        # Up to here everything is saved.
        self._agree()
        self._context.stop.check()
        self._open_epoch()
        while not self._is_over():
            steps = min(per_loop, self._until_boundary())
            seconds = self._run_loop(loop, iterator, steps)
            improved = self._at_epoch_end() and self._turn_epoch()
            # The first step of a stage is a loop of its own: it compiles and warms up.
            fitting = int(self._loop_seconds * steps / seconds)
            is_due = self._is_due(time.monotonic() - saved_at)
            per_loop, is_due = self._agree(max(1, min(self._most_steps, fitting)), is_due)
            if improved or is_due or self._must_save():
                self.save()
                saved_at = time.monotonic()
            if self._stopping:
                self._context.stop.check()
        progress = self._progress
        if progress.seconds >= LONG_SECONDS:
            self._context.meter.probe_input(iterator, progress.seconds / progress.step)

    def _agree(self, per_loop: int = 1, is_due: bool = False) -> tuple[int, bool]:
        """What the chief's clock says: steps of the next loop, and whether a checkpoint is due.

        Notes besides whether any worker was asked to stop.
        """
        stop = self._context.stop
        said = -per_loop if is_due else per_loop
        said, self._stopping = self._context.team.agree(said, stop.number is not None)
        if self._stopping:
            stop.note()
        return abs(said), said < 0

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
            statistics=moving_statistics(self._models.values()),
            accumulate=config.train.accumulate,
            jit_compile=bool(config.runtime.jit_compile),
        )
        loop = make_train_loop(step, len(self._objective.metric_names))
        started = time.perf_counter()
        with self._context.at_once():
            loop.get_concrete_function(iterator, _int64(0), _int64(0))
        self._context.meter.compile_seconds += time.perf_counter() - started
        return iterator, loop

    def _run_loop(self, loop, iterator, steps: int) -> float:
        progress = self._progress
        with profiling(self._profile_to()):  # whose start and end are no training time
            started = time.perf_counter()
            # Reading the rows waits for the device: one synchronisation a loop.
            rows = loop(iterator, _int64(progress.step), _int64(steps)).numpy().astype(np.float64)
            seconds = time.perf_counter() - started
        # One after the other: the sum must not depend on how loops were cut.
        names, parts = self._objective.metric_names, list(self._optimizers)
        for number, (*sums, fault) in enumerate(rows):
            if self._faults.book(number, fault, sums, names, parts):
                progress.sums = [float(s) for s in np.add(progress.sums, sums)]
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

    def _until_boundary(self) -> int:
        """Steps to the next moment at which Python must look: epoch, checkpoint, end."""
        progress = self._progress
        ends = [self._steps - progress.step, self._epoch_steps - self._epoch_step()]
        every = self._context.config.runtime.checkpoint_steps
        if every:
            ends.append(every - progress.step % every)
        return min(ends)

    # --- epochs ---------------------------------------------------------------------------------

    def _epoch_step(self) -> int:
        return self._progress.step % self._epoch_steps

    def _at_epoch_end(self) -> bool:
        return self._epoch_step() == 0 or self._is_spent()

    def _is_spent(self) -> bool:
        """Whether all steps or seconds are used up.

        How much of the first loop was compilation, which is not paid for, the second one tells.
        """
        progress, seconds = self._progress, self._stage.seconds
        if seconds is None or self._warm_up_seconds:
            return progress.step >= self._steps
        return progress.step >= self._steps or progress.seconds >= seconds

    def _is_over(self) -> bool:
        progress, patience = self._progress, self._context.config.train.patience
        if self._is_spent():
            return True
        waited = progress.epoch(self._epoch_steps) - 1 - progress.best_epoch
        return bool(patience) and progress.best_score is not None and waited >= patience

    def _open_epoch(self) -> None:
        progress = self._progress
        if not progress.sums:
            progress.sums = [0.0] * len(self._objective.metric_names)
        self._epoch_seconds, self._epoch_examples_before = 0.0, progress.sums[-1]
        of = f"/{-(-self._steps // self._epoch_steps)}" if self._stage.steps else ""
        self._context.reporter.start_epoch(
            f"{self._stage.name} {progress.epoch(self._epoch_steps)}{of}",
            self._epoch_step(),
            self._epoch_steps,
            self._batch_size,
        )

    def _turn_epoch(self) -> bool:
        """Closes the epoch and opens the next; says whether the closed one is the best so far.

        A stop request may leave it open: the run that is continued then closes it first.
        """
        self._context.reporter.end_epoch()
        try:
            improved = self._close_epoch()
        except CutShortError:
            return False
        if not self._is_over():
            self._open_epoch()
        return improved

    def _close_epoch(self) -> bool:
        """Validates and reports the epoch; says whether it is the best so far.

        Raises:
          CutShortError: nothing is changed yet.
          UserError: the mixture is unhealthy, and `--on_unhealthy=stop` was asked for.
          UserError, NonFiniteError: the validation NLL is not finite.
        """
        progress = self._progress
        epoch = -(-progress.step // self._epoch_steps)
        train = per_example(self._objective.metric_names, progress.sums)
        text = f"loss {train['loss']:.4f}, accuracy {train['accuracy']:.4f}, "
        if self._epoch_seconds:
            speed = (progress.sums[-1] - self._epoch_examples_before) / self._epoch_seconds
            train["examples_per_second"] = speed
            text += f"{speed:,.0f} examples/s, "
        if self._context.policy == "mixed_float16":
            train["overflows"] = progress.overflows
        improved, validation = self._judge.judge(epoch, text, train)
        progress.sums, progress.closed_at = [], progress.step
        trouble = self._judge.look_for_symptoms(epoch, validation, last=self._is_over())
        if trouble:
            self.save()
            raise UserError(
                f"{trouble} Stopped and saved for --on_unhealthy=stop; "
                "the same command with --on_unhealthy=warn goes on."
            )
        return improved

    # --- saving ---------------------------------------------------------------------------------

    def _is_due(self, seconds_since: float) -> bool:
        return seconds_since >= self._context.config.runtime.checkpoint_seconds

    def _must_save(self) -> bool:
        every = self._context.config.runtime.checkpoint_steps
        at_step = every and self._progress.step % every == 0
        return bool(at_step or (self._stopping and self.unsaved_steps))

    def save(self) -> None:
        """Writes a checkpoint of the run as it stands.

        Raises:
          UserError: the disk does not take it.
          UserError, NonFiniteError: a weight is not finite, as an update can make it.
        """
        progress = self._progress
        for part, optimizer in self._optimizers.items():
            if not all_finite(optimizer.variables):
                fault = Fault(part, f"the weights of {part} are not finite")
                raise self._faults.error(f"step {progress.step}", fault)
        # A stage's end adds no step: the number of the next one's start must still be a new one.
        number = progress.total_steps + progress.stage
        if self._context.team.is_chief:
            self._context.store.save(number, self.variables(), dataclasses.asdict(progress))
        self.unsaved_steps = 0

    def finish(self) -> None:
        """Takes the best weights, notes the outcome and opens the next stage."""
        progress = self._progress
        if progress.best_score is not None:
            self._best.take()
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
                "rate": progress.rate,
                "rollbacks": progress.rollbacks,
                "skipped": progress.skipped,
                "overflows": progress.overflows,
            }
        )
        progress.enter_next_stage()


def _int64(number: int) -> tf.Tensor:
    return tf.constant(number, tf.int64)
