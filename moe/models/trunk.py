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
    """The other layers of `model` for inputs of another shape: anew, but frozen ones as they are.

    Args:
      model, count, name: as in `trunk_of`.
      input_shape: of one example behind the trunk.

    Raises:
      UserError: as in `trunk_of`, or these layers cannot be made anew or do not fit such inputs.
    """
    layers = _chain(model, name)
    rest = layers[_cut(layers, count, name) :]
    again = [_anew(layer, name) for layer in rest]
    inputs = x = keras.Input(input_shape, dtype=keras.config.dtype_policy().compute_dtype)
    try:
        for layer, other in zip(rest, again, strict=True):
            x = other(x)
            if not layer.trainable:
                other.set_weights(layer.get_weights())
        fits = x.shape == model.output_shape
    except ValueError:  # a window that is larger than the image, say
        fits = False
    if not fits:
        raise UserError(
            f"--trunk={count}: what backbone {name} has behind its kernel number {count} does not "
            f"fit a trunk's answers of shape {list(input_shape)}."
        )
    return keras.Model(inputs, x)


def _anew(layer: keras.layers.Layer, name: str) -> keras.layers.Layer:
    """Another layer of the same configuration."""
    try:
        return layer.__class__.from_config(layer.get_config())
    except Exception as error:  # a layer of the user's own may raise anything
        raise UserError(
            f"--trunk: layer {layer.name} of backbone {name} cannot be made from its get_config() "
            f"({type(error).__name__}: {' '.join(str(error).split())[:200]})."
        ) from error


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
