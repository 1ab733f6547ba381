"""Augmentation of whole batches: vectorised, stateless, on uint8."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

_CROP_REACH = 4

Augmentation = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def flip(images: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    """Mirrors half of the images left to right: `[S, H, W, D]`, `<int32>[2]` -> `[S, H, W, D]`."""
    draw = tf.random.stateless_uniform([tf.shape(images)[0]], key)
    mirrored = (draw < 0.5)[:, tf.newaxis, tf.newaxis, tf.newaxis]
    return tf.where(mirrored, tf.reverse(images, axis=[2]), images)


def crop(images: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    """Moves each image by up to 4 pixels either way, the edge mirrored into the gap.

    An image with a side of 4 pixels or less moves by less: a mirror shows no more than there is.
    """
    shape = tf.shape(images)
    size, height, width = shape[0], shape[1], shape[2]
    reach = tf.minimum(_CROP_REACH, tf.minimum(height, width) - 1)
    around = [reach, reach]
    padded = tf.pad(images, [[0, 0], around, around, [0, 0]], mode="REFLECT")
    offset = tf.random.stateless_uniform([2, size, 1], key, maxval=2 * reach + 1, dtype=tf.int32)
    rows = offset[0] + tf.range(height)
    columns = offset[1] + tf.range(width)
    return tf.gather(tf.gather(padded, rows, axis=1, batch_dims=1), columns, axis=2, batch_dims=1)


def flip_crop(images: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    """`flip`, then `crop`."""
    return crop(flip(images, key), key + 1)


def unchanged(features: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    """No augmentation."""
    del key
    return features


AUGMENTATIONS: dict[str, Augmentation] = {
    "none": unchanged,
    "flip": flip,
    "flip_crop": flip_crop,
}
