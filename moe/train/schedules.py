"""Learning-rate schedules: functions from a step to a factor of `--learning_rate`."""

from __future__ import annotations

import math
from collections.abc import Callable

import tensorflow as tf

Schedule = Callable[[tf.Tensor], tf.Tensor]
_WARMUP = 0.2


def make_schedule(name: str, total_steps: int) -> Schedule:
    """A schedule over `total_steps` steps.

    `constant`: 1. `cosine`: from 1 to 0 along half a cosine. `triangular`: up to 1 over the first
    fifth, then down to 0 in a straight line.

    Returns:
      A function `<int64>[]` step -> `<float32>[]` factor, usable inside a `tf.function`.
    """

    def progress(step: tf.Tensor) -> tf.Tensor:
        return tf.cast(step, tf.float32) / float(max(1, total_steps))

    def constant(step: tf.Tensor) -> tf.Tensor:
        del step
        return tf.constant(1.0)

    def cosine(step: tf.Tensor) -> tf.Tensor:
        return 0.5 * (1.0 + tf.cos(math.pi * tf.minimum(progress(step), 1.0)))

    def triangular(step: tf.Tensor) -> tf.Tensor:
        done = progress(step)
        rising = (done + 1.0 / max(1, total_steps)) / _WARMUP
        return tf.maximum(0.0, tf.minimum(tf.minimum(rising, 1.0), (1.0 - done) / (1.0 - _WARMUP)))

    return {"constant": constant, "cosine": cosine, "triangular": triangular}[name]
