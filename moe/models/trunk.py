"""Networks cut in two: a trunk that all of a mixture share, and branches that go on from it."""

from __future__ import annotations

import keras

from moe.errors import UserError
from moe.models.starts import leaves

_KERNELS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)


def trunk_of(model: keras.Model, count: int, name: str) -> keras.Model:
    """The layers of `model` up to its kernel number `count + 1`, with its inputs.

    What follows kernel number `count` without one of its own (pooling, normalisation, activation)
    belongs to the trunk.

    Args:
      model: a chain of layers.
      count: kernels (convolutions and dense layers) in the trunk, at least 1.
      name: of the backbone, for the message.

    Raises:
      UserError: `model` is no chain, or has no kernel left for a branch.
    """
    layers = _chain(model, name)
    last = layers[_cut(layers, count, name) - 1]
    return keras.Model(model.inputs[0], last.output)


def branch_of(
    model: keras.Model, count: int, name: str, input_shape: tuple[int, ...]
) -> keras.Model:
    """The other layers of `model`, anew, for inputs of another shape.

    Args:
      model, count, name: as in `trunk_of`.
      input_shape: of one example behind the trunk.

    Raises:
      UserError: as in `trunk_of`.
    """
    layers = _chain(model, name)
    inputs = x = keras.Input(input_shape, dtype=keras.config.dtype_policy().compute_dtype)
    for layer in layers[_cut(layers, count, name) :]:
        x = layer.__class__.from_config(layer.get_config())(x)
    return keras.Model(inputs, x)


def _chain(model: keras.Model, name: str) -> list[keras.layers.Layer]:
    """The layers behind the inputs, each of which takes what the one before it gives."""
    layers = [x for x in leaves(model) if not isinstance(x, keras.layers.InputLayer)]
    before = model.inputs
    for layer in layers:
        taken = layer.input if len(layer._inbound_nodes) == 1 else None
        if len(before) != 1 or taken is not before[0]:
            raise UserError(
                f"--trunk: backbone {name} is no plain chain of layers, which alone can be cut."
            )
        before = [layer.output]
    return layers


def _cut(layers: list[keras.layers.Layer], count: int, name: str) -> int:
    kernels = [n for n, layer in enumerate(layers) if isinstance(layer, _KERNELS)]
    if count >= len(kernels):
        raise UserError(
            f"--trunk={count}: backbone {name} has {len(kernels)} layers with a kernel, and the "
            "last one at least must be a branch of its own."
        )
    return kernels[count]
