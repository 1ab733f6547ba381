"""Averages of the weights over the steps: what is evaluated and kept, where one is asked for."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import tensorflow as tf

from moe.config.sections import TrainConfig

_LOOKAHEAD_DECAY = 0.95
"""Of one step, at the end of the training."""


class NoAverage:
    """The weights are evaluated as they are."""

    def state(self) -> dict[str, list[tf.Variable]]:
        """What a checkpoint must hold."""
        return {}

    def follow(self, strategy: tf.distribute.Strategy, step: tf.Tensor) -> None:
        """Nothing to do."""

    @contextlib.contextmanager
    def evaluated(self) -> Iterator[None]:
        """Inside, the networks have the weights that are to be judged."""
        yield


class _Average(NoAverage):
    """An average that starts at the weights as they are.

    Must be created inside the strategy's scope.

    Args:
      weights: of each part that learns, batch statistics included.
    """

    def __init__(self, weights: Mapping[str, Sequence[tf.Variable]]) -> None:
        self._weights = {
            part: [v for v in variables if v.dtype.is_floating]
            for part, variables in weights.items()
        }
        self._averages = {
            part: [tf.Variable(v, trainable=False) for v in variables]
            for part, variables in self._weights.items()
        }

    def state(self) -> dict[str, list[tf.Variable]]:
        return {f"average.{part}": averages for part, averages in self._averages.items()}

    @contextlib.contextmanager
    def evaluated(self) -> Iterator[None]:
        kept = [tf.identity(weight.read_value()) for weight, _ in self._pairs()]
        for weight, average in self._pairs():
            weight.assign(average)
        try:
            yield
        finally:
            for (weight, _), value in zip(self._pairs(), kept, strict=True):
                weight.assign(value)

    def _pairs(self) -> Iterator[tuple[tf.Variable, tf.Variable]]:
        for part, weights in self._weights.items():
            yield from zip(weights, self._averages[part], strict=True)

    def _update_all(
        self,
        strategy: tf.distribute.Strategy,
        function: Callable[[tf.Variable, tf.Variable], None],
    ) -> None:
        """Calls `function(weight, average)` for every weight, in cross-replica context."""
        for weight, average in self._pairs():
            strategy.extended.update(weight, function, args=(average,))


class MovingAverage(_Average):
    """An exponential average of the weights after each step (Polyak & Juditsky 1992).

    `a += (1 - d_t) (w - a)`, where `d_t = min(decay, (1 + t) / (10 + t))` lets go of the start, as
    in `tf.train.ExponentialMovingAverage`.

    Args:
      weights: as in `_Average`.
      decay: in (0, 1).
    """

    def __init__(self, weights: Mapping[str, Sequence[tf.Variable]], decay: float) -> None:
        super().__init__(weights)
        self._decay = decay

    def follow(self, strategy: tf.distribute.Strategy, step: tf.Tensor) -> None:
        done = tf.cast(step, tf.float32)
        share = 1.0 - tf.minimum(self._decay, (1.0 + done) / (10.0 + done))

        def update(weight: tf.Variable, average: tf.Variable) -> None:
            average.assign_add(share * (weight - average))

        self._update_all(strategy, update)


class Lookahead(_Average):
    """Every few steps the average comes nearer, and the weights go back to it.

    Zhang et al. 2019, 1907.08610, with the decay of Jordan 2024, 2404.00498: of `t` of `T` steps
    done, the average keeps `.95^k (t / T)^3`, so it follows freely at first and hardly at the end.
    Up to the first look it is the weights themselves, so that nothing untrained is ever judged;
    after it the last step is looked at, too. `T <= k`: there is none.

    Args:
      weights: as in `_Average`.
      every: `k`, steps between two looks.
      total_steps: `T`.
    """

    def __init__(
        self, weights: Mapping[str, Sequence[tf.Variable]], every: int, total_steps: int
    ) -> None:
        super().__init__(weights)
        self._every = every
        self._total_steps = total_steps
        self._first_look = every if total_steps > every else total_steps + 1

    def follow(self, strategy: tf.distribute.Strategy, step: tf.Tensor) -> None:
        done = step + 1
        progress = tf.cast(done, tf.float32) / float(self._total_steps)
        share = 1.0 - _LOOKAHEAD_DECAY**self._every * progress**3

        def update(weight: tf.Variable, average: tf.Variable) -> None:
            average.assign_add(share * (weight - average))
            weight.assign(average.read_value())

        def look() -> int:
            self._update_all(strategy, update)
            return 0

        def start() -> int:
            self._update_all(strategy, lambda weight, average: average.assign(weight))
            return 0

        def wait() -> int:
            return tf.cond(done < self._first_look, start, lambda: 0)

        is_due = (done % self._every == 0) | (done == self._total_steps)
        tf.cond((done >= self._first_look) & is_due, look, wait)


def make_average(
    config: TrainConfig, weights: Mapping[str, Sequence[tf.Variable]], total_steps: int
) -> NoAverage:
    """The average that the flags ask for. Call inside the strategy's scope."""
    if config.lookahead:
        return Lookahead(weights, config.lookahead, total_steps)
    return MovingAverage(weights, config.ema_decay) if config.ema_decay else NoAverage()
