"""Loss scaling: keeps float16 gradients away from zero, and skips steps that overflow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import tensorflow as tf

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
        self.skipped = tf.Variable(0, **once)

    def state(self) -> list[tf.Variable]:
        """What a checkpoint must hold."""
        return [self.factor, self.good_steps, self.skipped]


class Unscaled(_Scale):
    """No scaling: for every precision but float16."""

    def scale(self, loss: tf.Tensor) -> tf.Tensor:
        """The loss to differentiate."""
        return loss

    def unscale(self, gradients: Gradients) -> tuple[Gradients, tf.Tensor]:
        """The gradients of the loss itself, and whether they may be used (`<bool>[]`)."""
        return gradients, tf.constant(True)

    def count(self, usable: tf.Tensor, sums: tf.Tensor) -> tf.Tensor:
        """The step's metric sums, as they are to be counted."""
        del usable
        return sums

    def apply(self, usable: tf.Tensor, update: Callable[[], None]) -> None:
        """Carries out the update."""
        del usable
        update()


class DynamicScale(_Scale):
    """Multiplies the loss by a power of two that follows what the gradients allow.

    It doubles after `GROWTH_STEPS` good steps and halves at every overflow; the step that
    overflowed is skipped (Micikevicius et al. 2017, 1710.03740). The gradients are looked at after
    they were summed over replicas, so an overflow on one of them is seen by all.

    Must be created inside the strategy's scope.
    """

    GROWTH_STEPS = 2_000

    def scale(self, loss: tf.Tensor) -> tf.Tensor:
        """The loss to differentiate."""
        return loss * self.factor

    def unscale(self, gradients: Gradients) -> tuple[Gradients, tf.Tensor]:
        """The gradients of the loss itself, and whether all are finite; in replica context."""
        shrink = 1.0 / self.factor.read_value()
        unscaled = {part: [g * shrink for g in group] for part, group in gradients.items()}
        flat = [g for group in unscaled.values() for g in group]
        return unscaled, tf.reduce_all([tf.reduce_all(tf.math.is_finite(g)) for g in flat])

    def count(self, usable: tf.Tensor, sums: tf.Tensor) -> tf.Tensor:
        """The step's metric sums; a step that is skipped counts no example."""
        return tf.where(usable, sums, tf.zeros_like(sums))

    def apply(self, usable: tf.Tensor, update: Callable[[], None]) -> None:
        """Carries out the update if the gradients are usable; in cross-replica context."""

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
            self.skipped.assign_add(1)
            return 0

        tf.cond(usable, good, overflow)


LossScale = Unscaled | DynamicScale


def make_loss_scale(policy: str) -> LossScale:
    """The scaling that a Keras dtype policy needs."""
    return DynamicScale() if policy == "mixed_float16" else Unscaled()
