"""Batch normalisation in one fused pass over the data, the same on any number of replicas."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from moe.errors import UserError
from moe.replicas import sum_over_replicas


@keras.saving.register_keras_serializable("moe")
class BatchNorm(keras.layers.Layer):
    """Batch normalisation (Ioffe & Szegedy 2015, 1502.03167) over all axes but the last.

    The formula, the defaults and the weights of `keras.layers.BatchNormalization`, which walks
    over the data many times in float32; here one fused operation reads the compute dtype and keeps
    its sums in float32. On several replicas the statistics are those of the global batch.

    Args:
      momentum: share of the old moving statistics that a training step keeps.
      epsilon: added to the variance.
      center: learn an offset a channel.
      scale: learn a factor a channel.
    """

    def __init__(
        self,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.momentum = momentum
        self.epsilon = epsilon
        self.center = center
        self.scale = scale
        self.supports_masking = True

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Four numbers a channel, two of them learned."""
        make = {"shape": (int(input_shape[-1]),), "dtype": "float32", "autocast": False}
        moving = {**make, "trainable": False, "aggregation": "only_first_replica"}
        self.gamma = self.add_weight(name="gamma", initializer="ones", trainable=self.scale, **make)
        self.beta = self.add_weight(name="beta", initializer="zeros", trainable=self.center, **make)
        self.moving_mean = self.add_weight(name="moving_mean", initializer="zeros", **moving)
        self.moving_variance = self.add_weight(name="moving_variance", initializer="ones", **moving)
        super().build(input_shape)

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """`<float>[S, ..., D]` -> the same shape and dtype.

        In training the batch's own statistics normalise, and the moving ones follow them.
        """
        if not (training and self.trainable):
            moving = self.moving_mean.value, self.moving_variance.value
            return self._fused(inputs, *moving, is_training=False)[0]
        context = tf.distribute.get_replica_context()
        if context is not None and context.num_replicas_in_sync > 1:
            outputs, mean, variance = self._over_replicas(inputs)
        else:
            nothing = tf.zeros([0])
            outputs, mean, variance = self._fused(inputs, nothing, nothing, is_training=True)
        for moving, new in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving.value * self.momentum + new * (1 - self.momentum))
        return outputs

    def _fused(self, inputs, mean, variance, is_training: bool):
        """The one operation: outputs, and mean and biased variance of the batch if training."""
        shape = tf.shape(inputs)
        images = tf.reshape(inputs, [shape[0], 1, -1, inputs.shape[-1]])  # the rank that it takes
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=images,
            scale=self.gamma.value,
            offset=self.beta.value,
            mean=mean,
            variance=variance,
            epsilon=self.epsilon,
            is_training=is_training,
        )
        # It normalises by the biased variance, but reports the unbiased one.
        count = tf.cast(tf.size(images) / images.shape[-1], tf.float32)
        return tf.reshape(outputs, shape), mean, variance * tf.maximum(count - 1, 1) / count

    def _over_replicas(self, inputs):
        """The same by the statistics of the global batch, in plain operations and float32."""
        x = tf.cast(inputs, tf.float32)
        axes = list(range(x.shape.rank - 1))
        count = tf.cast(tf.size(x) / x.shape[-1], tf.float32)
        total, count = sum_over_replicas([tf.reduce_sum(x, axes), count])
        mean = total / count
        # Centred before it is squared: E x^2 - (E x)^2 loses what matters where the mean is large.
        centred = x - mean
        variance = sum_over_replicas(tf.reduce_sum(tf.square(centred), axes)) / count
        factor = tf.math.rsqrt(variance + self.epsilon) * self.gamma.value
        return tf.cast(centred * factor + self.beta.value, inputs.dtype), mean, variance

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple:
        """Unchanged."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """For serialisation."""
        names = ("momentum", "epsilon", "center", "scale")
        return super().get_config() | {name: getattr(self, name) for name in names}


def check_fixed_shapes(parts: Mapping[str, keras.Model]) -> None:
    """Refuses batch statistics in networks that see filled-up batches.

    In fixed shapes (`moe.routing.run_fixed`) room that nobody asked for is filled with copies of
    an example, which no loss sees but every mean does.

    Args:
      parts: the networks that learn that way, by the name of the part.

    Raises:
      UserError: one of them has such a layer.
    """
    kinds = (BatchNorm, keras.layers.BatchNormalization)
    for part, model in parts.items():
        if any(isinstance(x, kinds) and x.trainable for x in model._flatten_layers()):
            raise UserError(
                f"{part}: --jit_compile fills the batches of routed networks up to a fixed size, "
                "which would count in their batch statistics; use --nojit_compile, --routing=soft, "
                "or networks without batch normalisation."
            )


def check_replicas(parts: Mapping[str, keras.Model], routed: bool) -> None:
    """Refuses batch statistics that several replicas cannot share.

    Args:
      parts: the networks by the name of the part.
      routed: whether experts learn on those rows only that the gate gives them.

    Raises:
      UserError: Keras' own layer, whose statistics would be each replica's; or an expert that one
        replica may run while another has no row for it.
    """
    for part, model in parts.items():
        layers = [layer for layer in model._flatten_layers() if layer.trainable]
        if any(isinstance(layer, keras.layers.BatchNormalization) for layer in layers):
            raise UserError(
                f"{part}: keras.layers.BatchNormalization does not work on several replicas; use "
                "moe.models.normalization.BatchNorm."
            )
        if routed and part.startswith("expert_") and any(isinstance(x, BatchNorm) for x in layers):
            raise UserError(
                f"{part}: batch statistics of routed experts cannot be shared by several replicas; "
                "use one device, --routing=soft, or networks without batch normalisation."
            )
