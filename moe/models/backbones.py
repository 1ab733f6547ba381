"""The networks that can be a gate, an expert or a baseline, by name.

A builder takes the shape of one example's features and the number of outputs and returns a Keras
model from `<float>[S, *input_shape]` to `<float32>[S, outputs]` logits. It is called under the
run's dtype policy. `register` adds one; a name `package.module:function` imports one. One that
takes a `width` too can be had at any: `NAME*1.5` has one and a half times the channels and units in
every layer but the last.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Sequence

import keras

from moe.backbone_names import add_backbone, backbone_problem
from moe.errors import UserError, reason
from moe.models.layers import Conv2D, Dropout, MaxPool
from moe.models.normalization import BatchNorm

Builder = Callable[[tuple[int, ...], int], keras.Model]
_BUILDERS: dict[str, Builder] = {}


def register(name: str) -> Callable[[Builder], Builder]:
    """Decorator: makes a builder available as `--gate_backbone=NAME` and its sisters."""

    def add(builder: Builder) -> Builder:
        _BUILDERS[name] = builder
        add_backbone(name)
        return builder

    return add


def names() -> tuple[str, ...]:
    """All registered names."""
    return tuple(_BUILDERS)


def find(name: str) -> Builder:
    """The builder called `name`: registered, `mlp-64-32`, or `package.module:function`, and any of
    them times a factor of its width.

    Raises:
      UserError: there is none, or it has but one width.
    """
    problem = backbone_problem(name)
    if problem:
        raise UserError(f"backbone {name}: must be {problem}.")
    plain, star, factor = name.partition("*")
    builder = _find_plain(plain)
    if not star:
        return builder
    if not _takes_width(builder):
        raise UserError(f"backbone {name}: {plain} takes no argument `width`.")
    return functools.partial(builder, width=float(factor))


def has_widths(name: str) -> bool:
    """Whether the backbone called `name` can be had at any width.

    Raises:
      UserError: there is none of that name.
    """
    return _takes_width(find(name))


def _takes_width(builder: Builder) -> bool:
    try:
        return "width" in inspect.signature(builder).parameters
    except (TypeError, ValueError):  # nothing to call, or nothing that says what it takes
        return False


def _find_plain(name: str) -> Builder:
    """The builder of a name without a factor."""
    if name in _BUILDERS:
        return _BUILDERS[name]
    if ":" not in name:
        widths = [int(width) for width in name.split("-")[1:]]
        return functools.partial(mlp, widths=widths)
    module, _, function = name.partition(":")
    try:
        return getattr(importlib.import_module(module), function)
    except Exception as error:  # a user's own code may raise anything
        raise UserError(f"backbone {name}: cannot be imported ({reason(error)}).") from error


def build(name: str, input_shape: tuple[int, ...], outputs: int) -> keras.Model:
    """Builds the network and checks what it promises.

    Raises:
      UserError: it does not fit the features, or its outputs are not `[S, outputs]`.
    """
    builder = find(name)
    try:
        model = builder(input_shape, outputs)
        if isinstance(model, keras.Model) and not model.built:
            model(_input(input_shape))
    except Exception as error:  # a user's own code may raise anything
        raise UserError(
            f"backbone {name} does not fit features of shape {list(input_shape)} ({reason(error)})."
        ) from error
    shape = getattr(model, "output_shape", type(model).__name__)
    if not isinstance(model, keras.Model) or shape != (None, outputs):
        raise UserError(
            f"backbone {name}: must return a Keras model with outputs (None, {outputs}), "
            f"not {shape}."
        )
    return model


def _head(x, outputs: int, initializer: str | keras.Initializer = "glorot_uniform"):
    """Logits in float32 whatever the policy: probabilities are made of them."""
    dense = keras.layers.Dense(
        outputs, dtype="float32", name="logits", kernel_initializer=initializer
    )
    return dense(x)


def _input(input_shape: tuple[int, ...]):
    return keras.Input(input_shape, dtype=keras.config.dtype_policy().compute_dtype)


def _wide(size: int, width: float) -> int:
    """So many channels or units at `width` times the usual."""
    return max(1, round(size * width))


def _convolutions(
    input_shape: tuple[int, ...], blocks: Sequence[Sequence[int]], rate: float, width: float
):
    """Blocks of 3x3 convolutions, each block followed by 2x2 max-pooling and dropout."""
    inputs = x = _input(input_shape)
    for sizes in blocks:
        for size in sizes:
            x = _convolution(_wide(size, width))(x)
        x = MaxPool()(x)
        x = Dropout(rate)(x)
    return inputs, x


@register("small")
def small(input_shape: tuple[int, ...], outputs: int, width: float = 1.0) -> keras.Model:
    """The 2017 notebook's baseline and gate: 32-32, 64-64, dense 512 (27 M MACs on CIFAR-10)."""
    inputs, x = _convolutions(input_shape, [[32, 32], [64, 64]], rate=0.25, width=width)
    return _dense_top(inputs, x, outputs, units=_wide(512, width), rate=0.5)


@register("deep")
def deep(input_shape: tuple[int, ...], outputs: int, width: float = 1.0) -> keras.Model:
    """The 2017 notebook's expert: 32-32, 64-64, 128-128-128, dense 512 (49 M MACs)."""
    inputs, x = _convolutions(
        input_shape, [[32, 32], [64, 64], [128, 128, 128]], rate=0.25, width=width
    )
    return _dense_top(inputs, x, outputs, units=_wide(512, width), rate=0.5)


@register("tiny")
def tiny(input_shape: tuple[int, ...], outputs: int, width: float = 1.0) -> keras.Model:
    """A light convolutional net for quick runs: 16, 32, 64, dense 128 (3 M MACs on 32x32x3)."""
    inputs, x = _convolutions(input_shape, [[16], [32], [64]], rate=0.0, width=width)
    return _dense_top(inputs, x, outputs, units=_wide(128, width), rate=0.25)


@register("pooled")
def pooled(input_shape: tuple[int, ...], outputs: int, width: float = 1.0) -> keras.Model:
    """16, 32, 32, global average, linear: adds up its evidence, so it cannot serve two regions."""
    inputs = x = _input(input_shape)
    for size in (16, 32):
        x = _convolution(_wide(size, width))(x)
        x = MaxPool()(x)
    x = _convolution(_wide(32, width))(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, _head(x, outputs), name="pooled")


@register("fast")
def fast(input_shape: tuple[int, ...], outputs: int, width: float = 1.0) -> keras.Model:
    """Normalised convolutions, 2x2 of 24, then 64-64, 256-256, 256-256 (118 M MACs on CIFAR-10).

    The network of CIFAR-10's speed records (Jordan 2024, 2404.00498, `airbench94`): statistics
    that follow fast, factors of the normalisation left to the next layer, small logits at the
    start. With ReLU, the cheapest activation on every device, where the record has GELU.

    Args:
      input_shape, outputs: as of every builder.
      width: factor of all channels but the first layer's, which are two for each number in its
        window.
    """

    # What PyTorch draws from by default, on which the recipe's rates are tuned.
    def start():  # anew for every layer: an initializer draws the same numbers again
        return keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")

    def normalised(x):
        return keras.layers.ReLU()(BatchNorm(momentum=0.6, scale=False)(x))

    inputs = x = _input(input_shape)
    x = keras.layers.Conv2D(8 * input_shape[-1], 2, activation="relu", kernel_initializer=start())(
        x
    )
    for channels in (64, 256, 256):
        shape = {"filters": _wide(channels, width), "kernel_size": 3, "padding": "same"}
        one, two = (Conv2D(**shape, use_bias=False, kernel_initializer=start()) for _ in range(2))
        # Pooling before the normalisation leaves it a quarter of the work.
        x = normalised(two(normalised(MaxPool()(one(x)))))
    x = keras.layers.GlobalMaxPooling2D()(x)
    x = keras.layers.Rescaling(1 / 9)(x)
    return keras.Model(inputs, _head(x, outputs, start()))


def _convolution(channels: int) -> keras.layers.Layer:
    return keras.layers.Conv2D(channels, 3, padding="same", activation="relu")


def _dense_top(inputs, x, outputs: int, *, units: int, rate: float, **head) -> keras.Model:
    x = keras.layers.Flatten()(x)
    x = keras.layers.Dense(units, activation="relu")(x)
    x = Dropout(rate)(x)
    return keras.Model(inputs, _head(x, outputs, **head))


def mlp(
    input_shape: tuple[int, ...], outputs: int, widths: Sequence[int], width: float = 1.0
) -> keras.Model:
    """Dense layers of the given widths, each times `width`, with ReLU."""
    inputs = x = _input(input_shape)
    x = keras.layers.Flatten()(x)
    for units in widths:
        x = keras.layers.Dense(_wide(units, width), activation="relu")(x)
    return keras.Model(inputs, _head(x, outputs))


def combiner(input_shape: tuple[int, ...], outputs: int) -> keras.Model:
    """Says how far an expert may overrule the baseline: flatten, dense, dropout .5, out.

    Dense 512 for images, as in 2017; 32 for table rows. Starts at `a = 1/2` everywhere: an even
    blend.
    """
    inputs = x = _input(input_shape)
    units = 512 if len(input_shape) == 3 else 32
    return _dense_top(inputs, x, outputs, units=units, rate=0.5, initializer="zeros")
