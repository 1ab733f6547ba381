"""How fast a run trains, and how near that is to what the device can do."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator

import keras
import numpy as np
import tensorflow as tf

_MATRIX = 2_048
_PROBED_BATCHES = 20
LONG_SECONDS = 10.0
"""Of training: enough to spend a second on what it was made of."""


@dataclasses.dataclass
class Meter:
    """Speed of training loops; compilation, evaluation and checkpoints apart.

    Attributes:
      compile_seconds: tracing and compiling.
      prepare_seconds: reading the data and fitting what is fitted to them before the training.
      warm_ups: one step and its seconds, for the first loop of each stage.
      windows: steps and seconds of each later loop.
      input_share: what the pipeline alone takes for a batch, over a step; of the stage where that
        is most; None: not measured.
      started: when the run was started (`time.perf_counter`).
      first_step: when its first loop had ended.
    """

    compile_seconds: float = 0.0
    prepare_seconds: float = 0.0
    warm_ups: list[tuple[int, float]] = dataclasses.field(default_factory=list)
    windows: list[tuple[int, float]] = dataclasses.field(default_factory=list)
    input_share: float | None = None
    started: float = dataclasses.field(default_factory=lambda: time.perf_counter())
    first_step: float | None = None

    @contextlib.contextmanager
    def preparing(self) -> Iterator[None]:
        """Inside, something is done with the data that training waits for."""
        started = time.perf_counter()
        yield
        self.prepare_seconds += time.perf_counter() - started

    def warm_up(self, seconds: float) -> None:
        """Notes the first step of a stage."""
        if self.first_step is None:
            self.first_step = time.perf_counter()
        self.warm_ups.append((1, seconds))

    def add(self, steps: int, seconds: float) -> None:
        """Notes a later loop."""
        self.windows.append((steps, seconds))

    def step_milliseconds(self, percentile: float) -> float | None:
        """Percentile of the step time over all loops; warm-ups only where there is nothing else."""
        windows = self.windows or self.warm_ups
        if not windows:
            return None
        steps, seconds = np.asarray(windows).T
        return float(np.percentile(np.repeat(seconds / steps, steps.astype(int)), percentile)) * 1e3

    def seconds_since_start(self) -> float:
        """Wall clock."""
        return time.perf_counter() - self.started

    def startup_seconds(self) -> float | None:
        """From the start of the run to the end of its first loop."""
        return None if self.first_step is None else self.first_step - self.started

    def probe_input(self, batches: Iterator, step_seconds: float) -> None:
        """Times the pipeline with nobody who trains on what it delivers.

        Args:
          batches: of a stage that has ended.
          step_seconds: what a step of it took.
        """
        for _ in range(_PROBED_BATCHES):  # what was prefetched meanwhile
            next(batches)
        started = time.perf_counter()
        for _ in range(_PROBED_BATCHES):
            next(batches)
        share = (time.perf_counter() - started) / _PROBED_BATCHES / step_seconds
        self.input_share = max(share, self.input_share or 0.0)


def matrix_products(policy: str, repeats: int) -> Callable[[], tf.Tensor]:
    """Products of two large matrices in the compute dtype: a practical ceiling of the device.

    Returns:
      A function that starts `repeats` products; the `numpy()` of what it returns waits for them.
    """
    dtype = keras.DTypePolicy(policy).compute_dtype
    matrix = tf.cast(tf.random.stateless_normal([_MATRIX, _MATRIX], (1, 2)), dtype)

    @tf.function
    def run(matrix: tf.Tensor) -> tf.Tensor:
        product = matrix
        for _ in range(repeats):  # the factor keeps the numbers finite
            product = tf.matmul(product, matrix) * tf.cast(0.02, dtype)
        return tf.cast(product[0, 0], tf.float32)

    return lambda: run(matrix)


def matrix_product_flops() -> int:
    """Floating-point operations of one product of `matrix_products`."""
    return 2 * _MATRIX**3


def measure_ceiling(policy: str, repeats: int = 4) -> float:
    """FLOP/s of large matrix products, the best of three times."""
    run = matrix_products(policy, repeats)
    run().numpy()
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        run().numpy()
        seconds.append(time.perf_counter() - started)
    return repeats * matrix_product_flops() / min(seconds)
