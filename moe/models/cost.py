"""Parameters and multiply-accumulate operations (MACs) of Keras networks."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

import keras

from moe.models.mixture import MixtureOfExperts
from moe.models.starts import leaves, uses
from moe.models.trunk import has_kernel


def parameters(model: keras.Model) -> int:
    """Number of weights, trained or not."""
    return int(model.count_params())


def macs(model: keras.Model) -> int:
    """MACs of convolutions and dense layers for one example; element-wise work is not counted."""
    return sum(times * macs_of_layer(layer) for layer, times in uses(model))


def training_macs(model: keras.Model, inputs_learn: bool = False) -> int:
    """MACs of one example's training step.

    Forward and backward count as three forwards: the gradient by the inputs and the gradient by the
    weights cost one more each. Frozen weights need no gradient, and neither do inputs in front of
    which nothing learns.

    Args:
      model: the network.
      inputs_learn: whether something in front of it does.
    """
    total, learns = 0, inputs_learn
    for layer, times in uses(model):
        own = any(len(weight.shape) > 1 for weight in layer.trainable_weights)
        total += times * macs_of_layer(layer) * (1 + own + learns)
        learns = learns or bool(layer.trainable_weights)
    return total


_COUNTED = (keras.layers.Dense, keras.layers.Conv2D, keras.layers.DepthwiseConv2D)
_ALWAYS_RUN = ("trunk", "gate", "baseline")


class Cost(NamedTuple):
    """What a network or a mixture weighs.

    Attributes:
      parameters: number of weights.
      macs: multiply-accumulate operations for one example.
    """

    parameters: int
    macs: int


def part_costs(mixture: MixtureOfExperts) -> dict[str, Cost]:
    """The cost of every network of the mixture, by the name of the part."""
    return {name: Cost(parameters(model), macs(model)) for name, model in mixture.parts().items()}


def active_cost(mixture: MixtureOfExperts, num_chosen: float) -> Cost:
    """What runs for one example when `num_chosen` experts answer; the mean over experts.

    Test-time views count: each costs the same again.
    """
    costs = part_costs(mixture)
    share = num_chosen / mixture.num_experts
    total = [0.0, 0.0]
    for name, cost in costs.items():
        if name == "baseline" and not mixture.blends:
            continue  # only a reference: no answer needs it
        weight = 1.0 if name in _ALWAYS_RUN else share
        total = [t + weight * c for t, c in zip(total, cost, strict=True)]
    return Cost(round(total[0]), mixture.views * round(total[1]))


def cost_alone(mixture: MixtureOfExperts, parts: Collection[str]) -> Cost:
    """What runs for one example where a network answers by itself; the mean over `parts`.

    A trunk among them runs in front of each.
    """
    costs = {part: found for part, found in part_costs(mixture).items() if part in parts}
    trunk = costs.pop("trunk", Cost(0, 0))
    parameters, macs = (
        always + round(sum(found) / len(costs))
        for always, found in zip(trunk, zip(*costs.values(), strict=True), strict=True)
    )
    return Cost(parameters, mixture.views * macs)


def stage_macs(
    mixture: MixtureOfExperts, kind: str, parts: Sequence[str], num_chosen: float
) -> int:
    """MACs that one training example costs in a stage: a network that learns counts as three
    forwards, a frozen one as one.
    """
    return round(
        _stage_total(mixture, kind, parts, num_chosen, lambda part, network: 3 * macs(network))
    )


def stage_flops(
    mixture: MixtureOfExperts, kind: str, parts: Sequence[str], num_chosen: float
) -> int:
    """Floating-point operations that are really done for it: two a MAC, see `training_macs`."""

    def learning_cost(part: str, network: keras.Model) -> int:
        return training_macs(network, inputs_learn=part != "trunk" and "trunk" in parts)

    return round(2 * _stage_total(mixture, kind, parts, num_chosen, learning_cost))


def _stage_total(
    mixture: MixtureOfExperts,
    kind: str,
    parts: Sequence[str],
    num_chosen: float,
    learning_cost: Callable[[str, keras.Model], int],
) -> float:
    models = mixture.parts()
    learning = {part for part in parts if models[part].trainable_variables}
    if kind == "part":
        models = {name: models[name] for name in models if name in ("trunk", *learning)}
    total = 0.0
    for name, model in models.items():
        share = 1.0 if kind == "part" or name in _ALWAYS_RUN else num_chosen / mixture.num_experts
        total += share * (learning_cost(name, model) if name in learning else macs(model))
    return total


def uncounted_layers(model: keras.Model) -> list[str]:
    """Names of layers that hold matrices but whose MACs are not known here, and count as 0."""
    known = (keras.layers.Embedding,)  # looks up, multiplies nothing
    return [
        layer.name
        for layer in leaves(model)
        if (has_kernel(layer) or any(len(w.shape) > 1 for w in layer.trainable_weights))
        and not isinstance(layer, known)
        and not macs_of_layer(layer)
    ]


def macs_of_layer(layer: keras.layers.Layer) -> int:
    """MACs of one layer for one example; 0 for element-wise ones.

    Also 0 where it is not known how often the kernel is used: for images of any size, and in a
    network with a `call` of its own.
    """
    if not isinstance(layer, _COUNTED):
        return 0
    try:
        positions = layer.output.shape[1:-1]
    except AttributeError:
        return 0
    return 0 if None in positions else math.prod(positions) * math.prod(layer.kernel.shape)
