"""Loss scaling: keeps float16 gradients away from zero, and lowers where they overflow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import tensorflow as tf

from moe.train.guard import FINE, OVERFLOW

Gradients = Mapping[str, Sequence[tf.Tensor]]


class _Scale:
    """The state of a loss scale; every precision stores it, so that a run may change precision."""

    START = 2.0**15

    def __init__(self) -> None:
        once = {
            "trainable": False,
            "aggregation": tf.VariableAggregation.ONLY_FIRST_REPLICA,
        }
        self.factor = tf.Variable(self.START, **once)
        self.good_steps = tf.Variable(0, **once)

    def state(self) -> list[tf.Variable]:
        """What a checkpoint must hold."""
        return [self.factor, self.good_steps]


class Unscaled(_Scale):
    """No scaling: for every precision but float16."""

    def scale(self, loss: tf.Tensor) -> tf.Tensor:
        """The loss to differentiate."""
        return loss

    def unscale(self, gradients: Gradients) -> Gradients:
        """The gradients of the loss itself."""
        return gradients

    def judge(self, fault: tf.Tensor) -> tf.Tensor:
        """The fault of a step, knowing what the scale has to do with it."""
        return fault

    def apply(self, fault: tf.Tensor, update: Callable[[], None]) -> None:
        """Carries out the update of a step without a fault; in cross-replica context."""
        tf.cond(fault == FINE, lambda: (update(), 0)[1], lambda: 0)


class DynamicScale(_Scale):
    """Multiplies the loss by a power of two that follows what the gradients allow.

    It doubles after `GROWTH_STEPS` good steps and halves at every step that has a fault, which
    counts as an overflow as long as there is something to halve (Micikevicius et al. 2017,
    1710.03740).

    Must be created inside the strategy's scope.
    """

    GROWTH_STEPS = 2_000

    def scale(self, loss: tf.Tensor) -> tf.Tensor:
        """The loss to differentiate."""
        return loss * self.factor

    def unscale(self, gradients: Gradients) -> Gradients:
        """The gradients of the loss itself; in replica context."""
        shrink = 1.0 / self.factor.read_value()
        return {part: [g * shrink for g in group] for part, group in gradients.items()}

    def judge(self, fault: tf.Tensor) -> tf.Tensor:
        """The fault of a step; `OVERFLOW` where a lower scale may mend it. In replica context."""
        mendable = (fault != FINE) & (self.factor.read_value() > 1.0)
        return tf.where(mendable, float(OVERFLOW), fault)

    def apply(self, fault: tf.Tensor, update: Callable[[], None]) -> None:
        """Carries out the update of a step without a fault; in cross-replica context."""

        def good() -> int:
            update()
            steps = self.good_steps + 1
            grown = steps >= self.GROWTH_STEPS
            self.factor.assign(tf.where(grown, self.factor * 2.0, self.factor))
            self.good_steps.assign(tf.where(grown, 0, steps))
            return 0

        def overflow() -> int:
            self.factor.assign(tf.maximum(1.0, self.factor / 2.0))
            self.good_steps.assign(0)
            return 0

        tf.cond(fault == FINE, good, overflow)


LossScale = Unscaled | DynamicScale


def make_loss_scale(policy: str) -> LossScale:
    """The scaling that a Keras dtype policy needs."""
    return DynamicScale() if policy == "mixed_float16" else Unscaled()
