"""What convolutions start from instead of a random draw: identities, and the data itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import keras
import numpy as np

from moe.errors import UserError

_EPSILON = 5e-4
"""Added to eigenvalues, so that directions without variance are not blown up."""
_IMAGES = 5_000
_CHUNK = 250


def leaves(layer: keras.layers.Layer) -> Iterator[keras.layers.Layer]:
    """The layers that hold no others, in the order in which they were put together."""
    inner = getattr(layer, "layers", None)
    if not inner:
        yield layer
        return
    for child in inner:
        yield from leaves(child)


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
    """Whether its filters are not frozen, as pretrained ones are."""
    is_convolution = isinstance(layer, keras.layers.Conv2D)
    return is_convolution and layer.trainable and layer.kernel.trainable


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
    for start in range(0, len(images), _CHUNK):
        windows = np.lib.stride_tricks.sliding_window_view(
            images[start : start + _CHUNK], (height, width), axis=(1, 2)
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
        has them in groups, or takes patches that are larger than the image.
    """

    def __init__(self, networks: Iterable[keras.Model]) -> None:
        firsts = (_first_layer(network) for network in networks)
        self._layers = [layer for layer in firsts if _is_learning_convolution(layer)]
        if not self._layers:
            raise UserError("--whiten: none of the networks begins with a convolution that learns.")
        for layer in self._layers:
            height, width, channels, filters = layer.kernel.shape
            if layer.groups > 1:
                raise UserError(
                    f"--whiten: a first convolution has {layer.groups} groups of channels, and "
                    "patches are whitened with all of them."
                )
            images = layer.input.shape[1:3]
            if any(p > (s or p) for p, s in zip((height, width), images, strict=True)):
                raise UserError(
                    f"--whiten: a first convolution takes patches of {height} x {width}, and "
                    f"images have {' x '.join(map(str, images))}."
                )
            most = 2 * height * width * channels
            if filters > most:
                raise UserError(
                    f"--whiten: a first convolution has {filters} filters, and patches of "
                    f"{height} x {width} x {channels} give no more than {most}."
                )
            layer.kernel.trainable = False

    def fit(self, images: np.ndarray) -> None:
        """Takes the filters from standardised training images, `<float32>[N, H, W, D]`.

        A layer with fewer filters than there are directions has those of the highest variance.
        """
        for layer in self._layers:
            height, width, _, filters = layer.kernel.shape
            both = whitening_filters(images, height, width)
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


def _first_layer(model: keras.Model) -> keras.layers.Layer | None:
    layers = (x for x in leaves(model) if not isinstance(x, keras.layers.InputLayer))
    return next(layers, None)
