"""Networks cut in two: a trunk that all of a mixture share, and branches that go on from it."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from moe.errors import UserError, reason


def trunk_of(model: keras.Model, count: int, name: str) -> keras.Model:
    """The layers of `model` up to its kernel number `count + 1`, with its inputs.

    A kernel is a weight that has the word in its name.
    What follows kernel number `count` without one of its own (pooling, normalisation, activation)
    belongs to the trunk.

    Args:
      model: a chain of layers.
      count: layers with a kernel (convolutions, dense layers) in the trunk, at least 1.
      name: of the backbone, for the message.

    Raises:
      UserError: `model` is no chain, or has no kernel left for a branch.
    """
    layers = _chain(model, name)
    last = layers[_cut(layers, count, name) - 1]
    return keras.Model(model.inputs[0], last._inbound_nodes[0].output_tensors[0])


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
    misfit = (
        f"--trunk={count}: what backbone {name} has behind its kernel number {count} does not fit "
        f"a trunk's answers of shape {list(input_shape)}"
    )
    try:
        for layer, other in zip(rest, again, strict=True):
            x = other(x)
            _keep_frozen(layer, other, name)
    except UserError:
        raise
    except Exception as error:  # a layer of the user's own may raise anything
        raise UserError(f"{misfit}: {reason(error)}") from error
    if x.shape != model.output_shape:
        raise UserError(f"{misfit}.")
    return keras.Model(inputs, x)


def _anew(layer: keras.layers.Layer, name: str) -> keras.layers.Layer:
    """Another layer of the same configuration."""
    try:
        return layer.__class__.from_config(layer.get_config())
    except Exception as error:  # a layer of the user's own may raise anything
        raise UserError(
            f"--trunk: layer {layer.name} of backbone {name} cannot be made from its get_config() "
            f"({reason(error)})."
        ) from error


def _keep_frozen(layer: keras.layers.Layer, other: keras.layers.Layer, name: str) -> None:
    """Gives a layer that was made anew what of the first one is frozen, layers within included.

    Raises:
      UserError: one learns, but not with all weights of its own: which of them are to stay?
    """
    if not layer.trainable_weights:
        other.set_weights(layer.get_weights())
        if other.trainable_weights:  # frozen after it was made, which no configuration tells
            other.trainable = False
        for inner in other._flatten_layers():
            if isinstance(inner, keras.layers.Normalization):  # computes with a copy of its weights
                inner.finalize_state()
        return
    children = _children(layer)
    for mine, theirs in zip(children, _children(other), strict=True):
        _keep_frozen(mine, theirs, name)
    within = {id(weight) for child in children for weight in child.weights}
    for mine, theirs in zip(layer.weights, other.weights, strict=True):
        # Statistics that move do not learn either; they are vectors, and begin anew.
        stays = not mine.trainable and (theirs.trainable or len(mine.shape) > 1)
        if stays and id(mine) not in within:
            raise UserError(
                f"--trunk: layer {layer.name} of backbone {name} is frozen in part ({mine.name}), "
                "which a branch of its own cannot begin with; freeze the layer, or nothing of it."
            )


def _children(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """The layers that it holds itself: those of a network, or attributes."""
    return list(layer._flatten_layers(include_self=False, recursive=False))


def _chain(model: keras.Model, name: str) -> list[keras.layers.Layer]:
    """The layers behind the inputs, each of which takes what the one before it gives."""
    layers = [x for x in model.layers if not isinstance(x, keras.layers.InputLayer)]
    given = model.inputs
    for layer in layers:
        calls = layer._inbound_nodes
        if len(calls) != 1 or not _same(calls[0].input_tensors, given):
            break
        given = calls[0].output_tensors
    # Operations between layers, or behind the last, are no layers and would be lost.
    if not _same(given, model.outputs):
        raise UserError(
            f"--trunk: backbone {name} is no plain chain of layers, which alone can be cut."
        )
    return layers


def _same(some: Sequence[keras.KerasTensor], others: Sequence[keras.KerasTensor]) -> bool:
    """Whether they are one and the same tensor."""
    return len(some) == len(others) == 1 and some[0] is others[0]


def _cut(layers: list[keras.layers.Layer], count: int, name: str) -> int:
    kernels = [n for n, layer in enumerate(layers) if _has_kernel(layer)]
    if count >= len(kernels):
        raise UserError(
            f"--trunk={count}: backbone {name} has {len(kernels)} layers with a kernel, and the "
            "last one at least must be a branch of its own."
        )
    return kernels[count]


def _has_kernel(layer: keras.layers.Layer) -> bool:
    return any("kernel" in weight.name for weight in layer.weights)
