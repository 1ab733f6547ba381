"""Optimizers that update each weight in one fused pass, a part of the mixture at a time.

A part that saw no example in a step is left untouched: weights, slots and step count (only an
average of the weights, `moe.train.averaging`, is one clock for all parts). Keras'
optimizers cannot skip a part inside a traced step under a distribution strategy, and they walk
over each weight several times.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

import tensorflow as tf

from moe.config.sections import TrainConfig
from moe.train.muon import muon_step
from moe.train.schedules import Schedule

_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-7


class Pace(NamedTuple):
    """What an update rule is told besides weight and gradient.

    Attributes:
      rate: `<float32>[]`, learning rate of the step.
      count: `<float32>[]`, how many updates there were before.
      momentum: share of the earlier updates that goes on, where the rule has a choice.
      compute_dtype: of matrix products.
    """

    rate: tf.Tensor
    count: tf.Tensor
    momentum: float
    compute_dtype: str


class Rule(NamedTuple):
    """One update rule.

    Attributes:
      num_slots: variables of the weight's shape that it keeps, all starting at zero.
      update: `(variable, gradient, slots, pace)`.
    """

    num_slots: int
    update: Callable[[tf.Variable, tf.Tensor, Sequence[tf.Variable], Pace], None]


def _sgd(variable, gradient, slots, pace) -> None:
    del slots
    tf.raw_ops.ResourceApplyGradientDescent(var=variable.handle, alpha=pace.rate, delta=gradient)


def _momentum(nesterov: bool) -> Callable:
    def update(variable, gradient, slots, pace) -> None:
        tf.raw_ops.ResourceApplyKerasMomentum(
            var=variable.handle,
            accum=slots[0].handle,
            lr=pace.rate,
            grad=gradient,
            momentum=pace.momentum,
            use_nesterov=nesterov,
        )

    return update


def _adam(variable, gradient, slots, pace) -> None:
    """Kingma & Ba 2014 (1412.6980), the form before section 2.1 ends (epsilon hat), as in Keras."""
    tf.raw_ops.ResourceApplyAdam(
        var=variable.handle,
        m=slots[0].handle,
        v=slots[1].handle,
        beta1_power=tf.pow(_BETA_1, pace.count + 1.0),
        beta2_power=tf.pow(_BETA_2, pace.count + 1.0),
        lr=pace.rate,
        beta1=_BETA_1,
        beta2=_BETA_2,
        epsilon=_EPSILON,
        grad=gradient,
    )


def _muon(of_fixed_size: bool) -> Callable:
    def update(variable, gradient, slots, pace) -> None:
        muon_step(
            variable,
            gradient,
            slots[0],
            pace.rate,
            pace.momentum,
            of_fixed_size=of_fixed_size,
            compute_dtype=pace.compute_dtype,
        )

    return update


RULES = {
    "sgd": Rule(0, _sgd),
    "momentum": Rule(1, _momentum(nesterov=False)),
    "nesterov": Rule(1, _momentum(nesterov=True)),
    "adam": Rule(2, _adam),
    "adamw": Rule(2, _adam),
    "muon": Rule(1, _muon(of_fixed_size=False)),
    "muon_of_fixed_size": Rule(1, _muon(of_fixed_size=True)),
}


class Optimizer(Protocol):
    """Updates the weights of one part; its gradients come in the order of `variables`."""

    variables: tuple[tf.Variable, ...]

    def state(self) -> list[tf.Variable]:
        """Everything that a checkpoint must hold, in a fixed order."""

    def apply(
        self, strategy: tf.distribute.Strategy, gradients: Sequence[tf.Tensor], step: tf.Tensor
    ) -> None:
        """One update. Call in cross-replica context with gradients already summed over replicas."""


class PartOptimizer:
    """Updates weights by one rule and at one rate.

    Must be created inside the strategy's scope.

    Args:
      rule: a name of `RULES`.
      variables: trainable `tf.Variable`s.
      learning_rate: peak rate.
      schedule: factor of the rate by step.
      weight_decay: decoupled decay (Loshchilov & Hutter 2017, 1711.05101): before each update,
        weights of rank 2 and more shrink by `rate * weight_decay`.
      momentum, compute_dtype: see `Pace`.
    """

    def __init__(
        self,
        rule: str,
        variables: Sequence[tf.Variable],
        learning_rate: float,
        schedule: Schedule,
        weight_decay: float = 0.0,
        momentum: float = TrainConfig.momentum,
        compute_dtype: str = "float32",
    ) -> None:
        self._rule = RULES[rule]
        self._learning_rate = learning_rate
        self._schedule = schedule
        self._weight_decay = weight_decay
        self._momentum = momentum
        self._compute_dtype = compute_dtype
        self.variables = tuple(variables)
        self.count = tf.Variable(
            0.0, trainable=False, aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA
        )
        self.slots = [
            [tf.Variable(tf.zeros_like(v), trainable=False) for _ in range(self._rule.num_slots)]
            for v in self.variables
        ]

    def state(self) -> list[tf.Variable]:
        """Everything that a checkpoint must hold, in a fixed order."""
        return [self.count, *(slot for slots in self.slots for slot in slots)]

    def apply(
        self, strategy: tf.distribute.Strategy, gradients: Sequence[tf.Tensor], step: tf.Tensor
    ) -> None:
        """One update. Call in cross-replica context with gradients already summed over replicas."""
        rate = self._learning_rate * self._schedule(step)
        # Read once: every weight of the step sees the same number of earlier updates.
        count = tf.identity(self.count.read_value())
        pace = Pace(rate, count, self._momentum, self._compute_dtype)

        def update(variable, gradient, *slots):
            if self._weight_decay and variable.shape.rank >= 2:
                variable.assign_sub(variable * (rate * self._weight_decay))
            self._rule.update(variable, tf.convert_to_tensor(gradient), slots, pace)

        for variable, gradient, slots in zip(self.variables, gradients, self.slots, strict=True):
            strategy.extended.update(variable, update, args=(gradient, *slots))
        self.count.assign(count + 1.0)


class GroupedOptimizer:
    """Several optimizers for the weights of one part.

    Args:
      groups: the optimizers, no weight in two of them.
    """

    def __init__(self, groups: Sequence[PartOptimizer]) -> None:
        self._groups = tuple(groups)
        self.variables = tuple(v for group in groups for v in group.variables)

    def state(self) -> list[tf.Variable]:
        """Of all, one after the other."""
        return [v for group in self._groups for v in group.state()]

    def apply(
        self, strategy: tf.distribute.Strategy, gradients: Sequence[tf.Tensor], step: tf.Tensor
    ) -> None:
        """One update of each."""
        start = 0
        for group in self._groups:
            end = start + len(group.variables)
            group.apply(strategy, gradients[start:end], step)
            start = end


def rate_flags(optimizer: str) -> str:
    """The flags that say how fast `--optimizer` learns, for advice."""
    return "--learning_rate and --muon_rate" if optimizer == "muon" else "--learning_rate"


def apply_active(
    optimizers: Mapping[str, Optimizer],
    strategy: tf.distribute.Strategy,
    gradients: Mapping[str, Sequence[tf.Tensor]],
    active: Mapping[str, tf.Tensor],
    step: tf.Tensor,
) -> None:
    """Updates every part; one that `active` names only where its flag (`<bool>[]`) is true."""
    for part, optimizer in optimizers.items():

        def update(part=part, optimizer=optimizer):
            optimizer.apply(strategy, gradients[part], step)

        if part in active:
            tf.cond(active[part], lambda update=update: (update(), 0)[1], lambda: 0)
        else:
            update()
