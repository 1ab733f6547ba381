"""Small Keras layers that the networks are made of."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from moe import randomness


def keep_mask(shape: tf.Tensor, rate: float, key: tf.Tensor) -> tf.Tensor:
    """An independent coin for every element: `<bool>[*shape]`, True with probability 1 - rate.

    One 32-bit random word decides four elements (two where `rate` is no multiple of 1/256), which
    costs a fraction of one float draw an element.

    Args:
      shape: `<int32>[rank]`.
      rate: share to drop; carried out to 1/65536.
      key: `<int32>[2]`.
    """
    bits, lane = (8, tf.uint8) if (rate * 256).is_integer() else (16, tf.uint16)
    lanes = 32 // bits
    size = tf.reduce_prod(shape)
    words = tf.random.stateless_uniform(
        [(size + lanes - 1) // lanes],
        key,
        minval=None,
        maxval=None,
        dtype=tf.uint32,
        alg="philox",
    )
    draws = tf.reshape(tf.bitcast(words, lane), [-1])[:size]
    threshold = tf.constant(min(round(rate * 2**bits), 2**bits - 1), lane)
    return tf.reshape(draws >= threshold, shape)


@keras.saving.register_keras_serializable("moe")
class Dropout(keras.layers.Layer):
    """Dropout (Srivastava et al. 2014) whose mask is a function of the step's key.

    Inside `moe.randomness.key_scope` the mask depends on seed, step, replica and position in the
    network only, so a continued run drops what an uninterrupted one would have dropped.
    """

    def __init__(self, rate: float, **kwargs) -> None:
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise ValueError(f"rate must be in [0, 1), got {rate}.")
        self.rate = float(rate)
        self.supports_masking = True

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """`[S, ...]` -> the same shape and dtype; scaled by `1 / (1 - rate)` where kept."""
        if not training or self.rate == 0:
            return inputs
        keep = keep_mask(tf.shape(inputs), self.rate, randomness.next_key())
        return inputs * (tf.cast(keep, inputs.dtype) * (1 / (1 - self.rate)))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple:
        """Unchanged."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """For serialisation."""
        return super().get_config() | {"rate": self.rate}


@keras.saving.register_keras_serializable("moe")
class MaxPool(keras.layers.MaxPooling2D):
    """Max pooling whose gradient is fast inside of a `tf.cond`, too.

    The gradient repeats the pooling, which costs next to nothing: oneDNN's kernel for it, some
    twenty times faster than the other one, is only chosen where both stand in the same graph, and
    those of an expert that may get no example do not.
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """`<float>[S, H, W, D]` -> `<float>[S, H', W', D]`."""
        window = {"ksize": self.pool_size, "strides": self.strides, "padding": self.padding.upper()}

        @tf.custom_gradient
        def pool(x: tf.Tensor):
            def gradient(dy: tf.Tensor) -> tf.Tensor:
                with tf.GradientTape() as tape:
                    tape.watch(x)
                    again = tf.nn.max_pool2d(x, **window)
                return tape.gradient(again, x, output_gradients=dy)

            return tf.nn.max_pool2d(x, **window), gradient

        return pool(inputs)


@keras.saving.register_keras_serializable("moe")
class Conv2D(keras.layers.Conv2D):
    """Convolution whose weight gradient is fast on small pictures in bfloat16, too.

    A CPU's own kernel for that gradient spends most of its time on the edges of pictures of a few
    pixels. One matrix product for each pixel of the window is up to ten times as fast there, the
    more the fewer pixels; elsewhere (larger pictures, few channels, float32, a GPU) the own kernel
    is, and is used.
    """

    _SIDE, _CHANNELS = 8, 128
    """The largest picture and the fewest channels for which products were faster."""

    def convolution_op(self, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """`[S, H, W, D]`, `[h, w, D, D']` -> `[S, H', W', D']`, called by Keras' layer."""
        if not self._by_products(inputs):
            return super().convolution_op(inputs, kernel)

        @tf.custom_gradient
        def convolve(x: tf.Tensor, filters: tf.Tensor):
            y = tf.nn.conv2d(x, filters, 1, "SAME")

            def gradient(dy: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
                dy = tf.ensure_shape(dy, y.shape)  # not every operation behind knows it
                dx = tf.nn.conv2d_transpose(dy, filters, tf.shape(x), 1, "SAME")
                return dx, weight_gradient(x, dy, self.kernel_size)

            return y, gradient

        return convolve(inputs, tf.convert_to_tensor(kernel, inputs.dtype))

    def _by_products(self, inputs: tf.Tensor) -> bool:
        same = (self.padding, self.data_format) == ("same", "channels_last")
        plain = same and max(*self.strides, *self.dilation_rate, self.groups) == 1
        return (
            plain
            and inputs.dtype == tf.bfloat16
            and max(side or math.inf for side in inputs.shape[1:3]) <= self._SIDE
            and min(inputs.shape[-1], self.filters) >= self._CHANNELS
            and not tf.config.list_logical_devices("GPU")
        )


def weight_gradient(x: tf.Tensor, dy: tf.Tensor, window: tuple[int, int]) -> tf.Tensor:
    """Gradient of a convolution's filters, of stride 1 and padded to the same size.

    `sum over s, a, b of x[s, a + i, b + j, d] dy[s, a, b, e]` at every place `i, j` of the window,
    outside of the picture `x = 0`: nothing is computed there.

    Args:
      x: what was convolved, `<float>[S, H, W, D]`, static but for S.
      dy: gradient of the result, `<float>[S, H, W, D']`.
      window: height and width of the filters.

    Returns:
      `<float>[*window, D, D']`, of x's dtype.
    """
    height, width = window
    # Pixels first: what a shift of rows leaves of them is then a view, not a copy.
    x, dy = (tf.transpose(v, [1, 2, 0, 3]) for v in (x, dy))
    columns = [
        (x[:, seen], dy[:, seeing])
        for seen, seeing in (_overlap(x.shape[1], j, width) for j in range(width))
    ]
    products = [
        tf.matmul(
            tf.reshape(shifted[seen], [-1, x.shape[-1]]),
            tf.reshape(kept[seeing], [-1, dy.shape[-1]]),
            transpose_a=True,
        )
        for seen, seeing in (_overlap(x.shape[0], i, height) for i in range(height))
        for shifted, kept in columns
    ]
    return tf.reshape(tf.stack(products), [height, width, x.shape[-1], dy.shape[-1]])


def _overlap(side: int, place: int, window: int) -> tuple[slice, slice]:
    """The pixels along one side that `place` of the window sees, and those it sees them from."""
    shift = place - (window - 1) // 2
    first = max(0, -shift)
    last = max(first, side - max(0, shift))
    return slice(first + shift, last + shift), slice(first, last)


@keras.saving.register_keras_serializable("moe")
class Standardize(keras.layers.Layer):
    """`(x - mean) / deviation` over the last axis, in float32, then the compute dtype.

    The two statistics are weights, so they travel with checkpoints and exports.
    """

    def __init__(self, **kwargs) -> None:
        # Keras would round raw inputs and statistics to the compute dtype before `call` sees them.
        super().__init__(**({"autocast": False} | kwargs))

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """One mean and one deviation a channel or column."""
        width = (int(input_shape[-1]),)
        make = {"shape": width, "trainable": False, "dtype": "float32", "autocast": False}
        self.mean = self.add_weight(name="mean", initializer="zeros", **make)
        self.deviation = self.add_weight(name="deviation", initializer="ones", **make)
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """`<uint8 or float>[S, ..., D]` -> `<compute dtype>[S, ..., D]`."""
        return tf.cast(self.exact(inputs), self.compute_dtype)

    def exact(self, inputs: tf.Tensor) -> tf.Tensor:
        """The same before it is rounded to the compute dtype: `<float32>[S, ..., D]`."""
        x = tf.cast(inputs, tf.float32)
        mean, deviation = (tf.cast(v.value, tf.float32) for v in (self.mean, self.deviation))
        return (x - mean) / deviation

    def fit(self, features: np.ndarray) -> None:
        """Takes the statistics of training examples, `[N, ..., D]`; constant columns become 0."""
        axes = tuple(range(features.ndim - 1))
        mean = features.mean(axis=axes, dtype=np.float64)
        # In chunks: a float64 copy of 50,000 images would take over a gigabyte.
        squares = sum(
            np.square(chunk - mean, dtype=np.float64).sum(axis=axes)
            for chunk in np.array_split(features, max(1, len(features) // 5_000))
        )
        deviation = np.sqrt(squares / (features.size / features.shape[-1]))
        self.mean.assign(mean.astype(np.float32))
        self.deviation.assign(np.where(deviation > 0, deviation, 1.0).astype(np.float32))
