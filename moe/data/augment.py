"""Augmentation of whole batches: vectorised, stateless, on uint8.

An augmentation takes `<uint8>[S, H, W, D]` images, the step's key `<int32>[2]` and `<int32>[S]`
turns: an image's turn is a random start of its own and grows by one every epoch.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from moe.config.sections import DataConfig

Augmentation = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]


def flip(images: tf.Tensor, key: tf.Tensor, turn: tf.Tensor | None = None) -> tf.Tensor:
    """Mirrors half of the images left to right: `[S, H, W, D]`, `<int32>[2]` -> `[S, H, W, D]`."""
    del turn
    return _mirror(images, tf.random.stateless_uniform([tf.shape(images)[0]], key) < 0.5)


def alternate(images: tf.Tensor, key: tf.Tensor, turn: tf.Tensor) -> tf.Tensor:
    """Mirrors an image left to right every other epoch, half of them in the first one.

    Two epochs show both sides of every image; of random flips a quarter shows the same one twice
    (Jordan 2024, 2404.00498).
    """
    del key
    return _mirror(images, turn % 2 == 1)


def _mirror(images: tf.Tensor, which: tf.Tensor) -> tf.Tensor:
    which = which[:, tf.newaxis, tf.newaxis, tf.newaxis]
    return tf.where(which, tf.reverse(images, axis=[2]), images)


def crop(images: tf.Tensor, key: tf.Tensor, reach: int = DataConfig.crop_reach) -> tf.Tensor:
    """Moves each image by up to `reach` pixels either way, the edge mirrored into the gap.

    An image with a side of that many pixels or less moves by less: a mirror shows no more than
    there is.
    """
    shape = tf.shape(images)
    size, height, width = shape[0], shape[1], shape[2]
    reach = tf.minimum(reach, tf.minimum(height, width) - 1)
    around = [reach, reach]
    padded = tf.pad(images, [[0, 0], around, around, [0, 0]], mode="REFLECT")
    offset = tf.random.stateless_uniform([2, size, 1], key, maxval=2 * reach + 1, dtype=tf.int32)
    rows = offset[0] + tf.range(height)
    columns = offset[1] + tf.range(width)
    return tf.gather(tf.gather(padded, rows, axis=1, batch_dims=1), columns, axis=2, batch_dims=1)


def unchanged(features: tf.Tensor, key: tf.Tensor, turn: tf.Tensor | None = None) -> tf.Tensor:
    """No augmentation."""
    del key, turn
    return features


def make_augmentation(name: str, crop_reach: int = DataConfig.crop_reach) -> Augmentation:
    """The augmentation called `name`, one of `moe.config.choices.AUGMENTATIONS`."""
    sides, _, moves = name.partition("_")
    mirror = {"none": unchanged, "crop": unchanged, "flip": flip, "alternate": alternate}[sides]
    if "crop" not in (sides, moves):
        return mirror

    def mirror_and_crop(images: tf.Tensor, key: tf.Tensor, turn: tf.Tensor) -> tf.Tensor:
        return crop(mirror(images, key, turn), key + 1, crop_reach)

    return mirror_and_crop
