"""Parameters and multiply-accumulate operations (MACs) of Keras networks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import keras
import numpy as np

from moe.models.mixture import MixtureOfExperts


def parameters(model: keras.Model) -> int:
    """Number of weights, trained or not."""
    return int(model.count_params())


def macs(model: keras.Model) -> int:
    """MACs of convolutions and dense layers for one example; element-wise work is not counted."""
    return sum(macs_of_layer(layer) for layer in _leaves(model))


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


def active_cost(mixture: MixtureOfExperts, num_chosen: int) -> Cost:
    """What runs for one example when `num_chosen` experts answer; the mean over experts."""
    costs = part_costs(mixture)
    share = num_chosen / mixture.num_experts
    total = [0.0, 0.0]
    for name, cost in costs.items():
        if name == "baseline" and not mixture.blends:
            continue  # only a reference: no answer needs it
        weight = 1.0 if name in ("gate", "baseline") else share
        total = [t + weight * c for t, c in zip(total, cost, strict=True)]
    return Cost(*(round(t) for t in total))


def stage_macs(mixture: MixtureOfExperts, kind: str, parts: Sequence[str], num_chosen: int) -> int:
    """MACs that one training example costs in a stage.

    Forward and backward through a network that learns count as three forwards (the gradient by
    the inputs and the gradient by the weights each cost one more); a frozen one counts once.
    """
    costs = part_costs(mixture)
    models = mixture.parts()
    learning = {part for part in parts if models[part].trainable_variables}
    if kind == "part":
        return 3 * sum(costs[part].macs for part in learning)
    total = 0.0
    for name, cost in costs.items():
        running = 1.0 if name in ("gate", "baseline") else num_chosen / mixture.num_experts
        total += running * cost.macs * (3 if name in learning else 1)
    return round(total)


def uncounted_layers(model: keras.Model) -> list[str]:
    """Names of layers that hold matrices but whose MACs are not known here, and count as 0."""
    known = (keras.layers.Embedding,)  # looks up, multiplies nothing
    return [
        layer.name
        for layer in _leaves(model)
        if any(len(w.shape) > 1 for w in layer.trainable_weights)
        and not isinstance(layer, known)
        and not macs_of_layer(layer)
    ]


def _leaves(layer: keras.layers.Layer):
    """The layers that hold no others, in no particular order."""
    inner = getattr(layer, "layers", None)
    if not inner:
        yield layer
        return
    for child in inner:
        yield from _leaves(child)


def macs_of_layer(layer: keras.layers.Layer) -> int:
    """MACs of one layer for one example; 0 for element-wise ones."""
    if isinstance(layer, keras.layers.Dense):
        positions = math.prod(layer.output.shape[1:-1])
        return positions * int(np.prod(layer.kernel.shape))
    if isinstance(layer, keras.layers.Conv2D):
        height, width = layer.output.shape[1:3]
        return height * width * int(np.prod(layer.kernel.shape))
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        height, width = layer.output.shape[1:3]
        return height * width * int(np.prod(layer.kernel.shape))
    return 0
