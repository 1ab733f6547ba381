"""What convolutions start from instead of a random draw: identities, and the data itself."""

from __future__ import annotations

import collections
import functools
import itertools
import weakref
from collections.abc import Iterable, Iterator

import keras
import numpy as np

from moe.errors import UserError

_EPSILON = 5e-4
"""Added to eigenvalues, so that directions without variance are not blown up."""
_IMAGES = 5_000
_FROZEN_HERE: weakref.WeakSet[keras.layers.Layer] = weakref.WeakSet()
"""What whitens already may be put into another mixture, where it is fitted again."""
_CHUNK = 240_000
"""Patches at a time."""


def leaves(layer: keras.layers.Layer) -> Iterator[keras.layers.Layer]:
    """The layers that hold no others, in the order in which they were put together."""
    for leaf, _ in uses(layer):
        yield leaf


def uses(layer: keras.layers.Layer, times: int = 1) -> Iterator[tuple[keras.layers.Layer, int]]:
    """The `leaves` of a layer that is called `times` times, and how often each of them is."""
    inner = getattr(layer, "layers", None)
    if not inner:
        yield layer, times
        return
    graph = getattr(layer, "_functional", None) or layer  # where a `Sequential` has its own
    nodes = itertools.chain.from_iterable(getattr(graph, "_nodes_by_depth", {}).values())
    called = collections.Counter(id(node.operation) for node in nodes)
    for child in inner:
        yield from uses(child, times * (called[id(child)] or 1))


def start_as_identity(model: keras.Model) -> None:
    """Has every convolution that keeps the size of an image start by handing on its channels.

    Filter `i` copies channel `i`, as far as there are channels; filters beyond keep their random
    draw (Zagoruyko & Komodakis 2017, 1706.00388; in this form Jordan 2024, 2404.00498).
    """
    for layer in keeping_size(model):
        height, width, channels, filters = layer.kernel.shape
        kernel = layer.kernel.numpy()
        copied = range(min(channels, filters))
        kernel[..., copied] = 0
        kernel[height // 2, width // 2, copied, copied] = 1
        layer.kernel.assign(kernel)


def keeping_size(model: keras.Model) -> list[keras.layers.Conv2D]:
    """The convolutions that learn, keep the size of an image, and have a pixel in the middle."""

    def fits(layer: keras.layers.Layer) -> bool:
        if not _is_learning_convolution(layer) or layer.padding != "same":
            return False
        height, width = layer.kernel.shape[:2]
        return layer.groups == 1 and max(layer.strides) == 1 and bool(height % 2 * width % 2)

    return [layer for layer in leaves(model) if fits(layer)]


def _is_learning_convolution(layer: keras.layers.Layer | None) -> bool:
    """Whether it is a convolution, and its filters are not frozen as pretrained ones are."""
    is_convolution = isinstance(layer, keras.layers.Conv2D)
    # Where it is adapted (LoRA) the kernel is no variable but a sum.
    return is_convolution and layer.trainable and getattr(layer.kernel, "trainable", False)


def whitening_filters(images: np.ndarray, height: int, width: int) -> np.ndarray:
    """Filters whose answers to patches of `images` are uncorrelated and of one size.

    The eigenvectors of the patches' second moments, each over the root of its eigenvalue and in
    both signs (Page 2019, "How to train your ResNet"; Jordan 2024, 2404.00498).

    Args:
      images: `<float>[N, H, W, D]`, standardised.
      height, width: of a patch.

    Returns:
      `<float32>[height, width, D, 2 P]` with `P = height * width * D`: the directions by falling
      variance, then the same negated.
    """
    depth = images.shape[-1]
    size = height * width * depth
    moments, count = np.zeros((size, size)), 0
    windows_each = (images.shape[1] - height + 1) * (images.shape[2] - width + 1)
    step = max(1, _CHUNK // windows_each)
    for start in range(0, len(images), step):
        windows = np.lib.stride_tricks.sliding_window_view(
            images[start : start + step], (height, width), axis=(1, 2)
        )  # [N, H', W', D, height, width]
        patches = windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, size).astype(np.float32)
        moments += patches.T @ patches
        count += len(patches)
    variances, directions = np.linalg.eigh(moments / count)
    filters = (directions / np.sqrt(variances.clip(0) + _EPSILON))[:, ::-1]
    both = np.concatenate([filters, -filters], axis=1).astype(np.float32)
    return both.reshape(height, width, depth, 2 * size)


class Whitening:
    """First convolutions that whiten what they see: fitted to the training examples, then frozen.

    Their offsets go on learning. Freezes the filters at once, so that no optimizer is made for
    them.

    Args:
      networks: those that do not begin with a convolution that learns are passed over.

    Raises:
      UserError: none of them begins with one, or one has more filters than there are directions,
        has them in groups, or takes patches with gaps.
    """

    def __init__(self, networks: Iterable[keras.Model]) -> None:
        firsts = [_first(network) for network in networks]
        self._layers = [
            first for first in firsts if first in _FROZEN_HERE or _is_learning_convolution(first)
        ]
        if not self._layers:
            raise UserError("--whiten: none of the networks begins with a convolution that learns.")
        for layer in self._layers:
            height, width, channels, filters = layer.kernel.shape
            if layer.groups > 1:
                raise UserError(
                    f"--whiten: a first convolution has {layer.groups} groups of channels, and "
                    "patches are whitened with all of them."
                )
            if max(layer.dilation_rate) > 1:
                raise UserError(
                    "--whiten: a first convolution is dilated, and patches are whitened pixel by "
                    "pixel."
                )
            most = 2 * height * width * channels
            if filters > most:
                raise UserError(
                    f"--whiten: a first convolution has {filters} filters, and patches of "
                    f"{height} x {width} x {channels} give no more than {most}."
                )
            layer.kernel.trainable = False
            _FROZEN_HERE.add(layer)

    def fit(self, images: np.ndarray) -> None:
        """Takes the filters from standardised training images, `<float32>[N, H, W, D]`.

        A layer with fewer filters than there are directions has those of the highest variance.

        Raises:
          UserError: patches are larger than the images.
        """
        filters_of = functools.cache(functools.partial(whitening_filters, images))
        for layer in self._layers:
            height, width, _, filters = layer.kernel.shape
            if height > images.shape[1] or width > images.shape[2]:
                raise UserError(
                    f"--whiten: a first convolution takes patches of {height} x {width}, and "
                    f"images have {images.shape[1]} x {images.shape[2]}."
                )
            both = filters_of(height, width)
            half, directions = -(-filters // 2), both.shape[-1] // 2
            chosen = [*range(half), *range(directions, directions + filters - half)]
            layer.kernel.assign(both[..., chosen])


def sample(features: np.ndarray) -> np.ndarray:
    """As many of the training examples as say what a patch looks like, 5,000 at most, from all
    over the split: it may be in order of classes.
    """
    if len(features) <= _IMAGES:
        return features
    return features[np.linspace(0, len(features) - 1, _IMAGES).astype(int)]


def _first(model: keras.Model) -> keras.Operation | None:
    """What an image meets first in a network: a layer, or an operation that is none."""
    if isinstance(model, keras.Sequential):
        steps = model.layers
    else:  # those of a network with a `call` of its own are not known
        steps = getattr(model, "operations", ())
    for step in steps:
        if not isinstance(step, keras.layers.InputLayer):
            return _first(step) if getattr(step, "layers", None) else step
    return None
