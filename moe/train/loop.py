"""Many steps in one traced function: Python wakes up only between two loops."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from moe.train.step import Step

Loop = Callable[[tf.data.Iterator, tf.Tensor, tf.Tensor], tf.Tensor]


def make_train_loop(step_fn: Step, num_metrics: int) -> Loop:
    """Wraps a step into a loop on the device.

    Returns:
      A `tf.function` `(iterator, first_step, num_steps)` -> `<float32>[num_steps, M + 1]`: the
      metric sums and the fault of every single step, so that totals do not depend on how steps
      were cut into loops. Both numbers are `<int64>[]` tensors; a Python int would trace anew each
      time.
    """

    # Only the loop itself is rewritten by AutoGraph; the step is straight-line graph code.
    step_fn = tf.autograph.experimental.do_not_convert(step_fn)

    @tf.function
    def loop(iterator, first_step: tf.Tensor, num_steps: tf.Tensor) -> tf.Tensor:
        rows = tf.TensorArray(
            tf.float32, size=tf.cast(num_steps, tf.int32), element_shape=[num_metrics + 1]
        )
        for number in tf.range(num_steps):
            sums = step_fn(next(iterator), first_step + number)
            rows = rows.write(tf.cast(number, tf.int32), sums)
        return rows.stack()

    return loop
