"""Networks cut in two: a trunk that all of a mixture share, and branches that go on from it."""

from __future__ import annotations

import keras

from moe.errors import UserError, reason
from moe.models.normalization import BatchNorm

_MOVING = (BatchNorm, keras.layers.BatchNormalization)
"""Have statistics that move with what they see; where they learn, those begin anew."""


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
    answers = _chain(model, name)
    last = _cut(list(answers), count, name) - 1
    return keras.Model(model.inputs[0], list(answers.values())[last])


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
    layers = list(_chain(model, name))
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
    if not layer.trainable:  # maybe only since it was made, which no configuration tells
        other.trainable = False
    children = _children(layer)
    for mine, theirs in zip(children, _children(other), strict=True):
        _keep_frozen(mine, theirs, name)
    if not layer.trainable_weights:
        other.set_weights(layer.get_weights())
        if other.trainable_weights:
            other.trainable = False
        if isinstance(other, keras.layers.Normalization):  # computes with a copy of its weights
            other.finalize_state()
        return
    within = {id(weight) for child in children for weight in child.weights}
    for mine, theirs in zip(layer.weights, other.weights, strict=True):
        if mine.trainable or id(mine) in within:
            continue
        if theirs.trainable:
            raise UserError(
                f"--trunk: layer {layer.name} of backbone {name} is frozen in part ({mine.name}), "
                "which a branch of its own cannot begin with; freeze the layer, or nothing of it."
            )
        if not isinstance(layer, _MOVING):
            theirs.assign(mine)


def _children(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """The layers that it holds itself: those of a network, or attributes."""
    return list(layer._flatten_layers(include_self=False, recursive=False))


def _chain(model: keras.Model, name: str) -> dict[keras.layers.Layer, keras.KerasTensor]:
    """The layers behind the input, each of which takes what the one before it gives: its answer.

    Followed from the output: layers may have been called elsewhere, too, as a `Sequential` that
    grows calls all of them again.
    """
    answers: dict[keras.layers.Layer, keras.KerasTensor] = {}
    is_chain = len(model.inputs) == len(model.outputs) == 1
    answer = model.outputs[0]
    while is_chain and answer is not model.inputs[0]:
        layer, number, _ = answer._keras_history
        call = layer._inbound_nodes[number]
        # An operation that is no layer would be lost.
        is_layer = isinstance(layer, keras.layers.Layer) and layer not in answers
        is_chain = is_layer and len(call.input_tensors) == len(call.output_tensors) == 1
        if is_chain:
            answers[layer], answer = answer, call.input_tensors[0]
    if not is_chain:
        raise UserError(
            f"--trunk: backbone {name} is no plain chain of layers, which alone can be cut."
        )
    return dict(reversed(answers.items()))


def _cut(layers: list[keras.layers.Layer], count: int, name: str) -> int:
    kernels = [n for n, layer in enumerate(layers) if has_kernel(layer)]
    if count >= len(kernels):
        raise UserError(
            f"--trunk={count}: backbone {name} has {len(kernels)} layers with a kernel, and the "
            "last one at least must be a branch of its own."
        )
    return kernels[count]


def has_kernel(layer: keras.layers.Layer) -> bool:
    """Whether it mixes channels or units: a weight of it has the word in its name."""
    return any("kernel" in weight.name for weight in layer.weights)
