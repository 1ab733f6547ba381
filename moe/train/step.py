"""One training step: gradients on every replica, one update of every part."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import tensorflow as tf

from moe import randomness
from moe.replicas import sum_over_replicas
from moe.train.averaging import NoAverage
from moe.train.guard import FINE, find_fault
from moe.train.loss_scale import LossScale
from moe.train.objectives import Objective, active_parts
from moe.train.optimizers import Optimizer, apply_active
from moe.types import Batch

Step = Callable[[Batch, tf.Tensor], tf.Tensor]


def make_train_step(
    objective: Objective,
    optimizers: Mapping[str, Optimizer],
    strategy: tf.distribute.Strategy,
    *,
    key: tuple[int, int],
    global_batch_size: int,
    loss_scale: LossScale,
    average: NoAverage | None = None,
    seed_states: tuple[tf.Variable, ...] = (),
    statistics: tuple[tf.Variable, ...] = (),
    accumulate: int = 1,
    jit_compile: bool = False,
) -> Step:
    """The step of a stage, to be traced inside the loop.

    Args:
      objective: what to minimise.
      optimizers: one for each part that the stage trains; nothing else changes.
      strategy: the default strategy on one device.
      key: randomness of the stage.
      global_batch_size: S over all replicas.
      loss_scale: what float16 needs.
      average: of the weights, see `moe.train.averaging`; None: there is none.
      seed_states: seed variables of foreign stochastic layers; set anew in every step, so that
        their draws depend on the step and not on history.
      statistics: variables that networks change themselves as they run; put back where a step is
        left out.
      accumulate: slices of the batch that are run one after the other, their gradients added up:
        the memory of a slice, the update of the whole batch.
      jit_compile: compile loss and gradients with XLA; on a single replica only, because losses
        that need sums over replicas cannot be compiled apart.

    Returns:
      `(batch, step)` -> `<float32>[M + 1]`: the objective's metric sums over the global batch,
      and the step's fault, see `moe.train.guard`. A step with a fault changes nothing.
    """
    variables = {part: list(optimizer.variables) for part, optimizer in optimizers.items()}
    average = average or NoAverage()
    replicas = strategy.num_replicas_in_sync

    def gradients_of(batch: Batch, step_key: tf.Tensor, stretch: tf.Tensor | int):
        stretches = replicas * accumulate
        with randomness.key_scope(step_key, stretch, stretches), tf.GradientTape() as tape:
            outcome = objective.train(batch, global_batch_size)
            loss = loss_scale.scale(outcome.loss)
        gradients = tape.gradient(
            loss, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        return gradients, outcome.sums, (outcome.load, outcome.wanted)

    if jit_compile:
        gradients_of = tf.function(gradients_of, jit_compile=True, autograph=False)
    if accumulate > 1:
        gradients_of = _in_slices(gradients_of, accumulate)

    def on_replica(batch: Batch, step: tf.Tensor):
        number = tf.distribute.get_replica_context().replica_id_in_sync_group
        step_key = randomness.fold(tf.constant(key, tf.int32), step)
        own_key = randomness.fold(step_key, number)
        for n, state in enumerate(seed_states):
            state.assign(tf.cast(randomness.fold(own_key, -1 - n), state.dtype))
        before = [tf.identity(statistic.read_value()) for statistic in statistics]
        gradients, sums, loads = gradients_of(batch, step_key, number)
        gradients, sums = sum_over_replicas((gradients, sums))
        gradients = loss_scale.unscale(gradients)
        fault = loss_scale.judge(find_fault(sums, gradients))
        for statistic, value in zip(statistics, before, strict=True):
            statistic.assign(tf.where(fault == FINE, statistic.read_value(), value))
        return gradients, tf.concat([sums, fault[tf.newaxis]], 0), sum_over_replicas(loads)

    def step_fn(batch: Batch, step: tf.Tensor) -> tf.Tensor:
        gradients, columns, loads = strategy.run(on_replica, args=(batch, step))

        def first(value):  # after the sum over replicas all have the same
            return strategy.experimental_local_results(value)[0]

        load, wanted = (first(value) for value in loads)
        active = active_parts(load, optimizers)
        columns = first(columns)

        def update() -> None:
            apply_active(optimizers, strategy, gradients, active, step)
            objective.follow(wanted)
            average.follow(strategy, step)

        loss_scale.apply(columns[-1], update)
        return columns

    return step_fn


def _in_slices(gradients_of: Callable, slices: int) -> Callable:
    """`gradients_of` over equal slices of a batch, one after the other; every result is a sum.

    To what is drawn a slice is what a replica is, a stretch of the whole batch: masks of its own,
    and for each example the expert that the whole batch would draw.
    """

    def in_slices(batch: Batch, step_key: tf.Tensor, replica: tf.Tensor | int):
        parts = [tf.reshape(c, [slices, -1, *c.shape[1:]]) for c in batch]

        def one(n: tf.Tensor):
            piece = Batch(*(part[n] for part in parts))
            return gradients_of(piece, step_key, replica * slices + n)

        def add(n: tf.Tensor, so_far):
            return n + 1, tf.nest.map_structure(tf.add, so_far, one(n))

        # Not in parallel: that would need the memory that is to be saved.
        _, total = tf.while_loop(
            lambda n, so_far: n < slices, add, (1, one(tf.constant(0))), parallel_iterations=1
        )
        return total

    return in_slices
