"""What some routers keep in or beside the gate's network."""

from __future__ import annotations

import keras
import tensorflow as tf

from moe import routing


@keras.saving.register_keras_serializable("moe")
class BalancedGate(keras.Model):
    """A gate with the bias of loss-free balancing (Wang et al. 2024, 2408.15664) beside it.

    The bias is a weight of the gate, so it travels with checkpoints and best weights, but no
    gradient reaches it: `follow` moves it after each training step.

    Args:
      network: features -> `[S, ...]` logits, which are handed on as they are.
      num_experts: E.
    """

    def __init__(self, network: keras.Model, num_experts: int, **kwargs) -> None:
        super().__init__(**({"autocast": False} | kwargs))
        self.network = network
        self.bias = add_balance_bias(self, num_experts)
        self.built = True

    def call(self, features, training: bool = False):
        """The network's."""
        return self.network(features, training=training)

    def follow(self, load: tf.Tensor, rate: float) -> None:
        """Moves the bias towards experts with little load, see `routing.bias_step`.

        In cross-replica context.
        """
        self.bias.value.assign_add(routing.bias_step(load, rate))

    def get_config(self):
        """For serialisation."""
        return super().get_config() | {
            "network": keras.saving.serialize_keras_object(self.network),
            "num_experts": self.bias.shape[0],
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """A gate of the same network with fresh weights."""
        network = keras.saving.deserialize_keras_object(
            config["network"], custom_objects=custom_objects
        )
        return cls(**config | {"network": network})


def add_balance_bias(layer: keras.layers.Layer, num_experts: int) -> keras.Variable:
    """Gives a layer a bias that no gradient reaches, `<float32>[E]`: 0, the same for all."""
    return layer.add_weight(
        name="balance_bias",
        shape=(num_experts,),
        initializer="zeros",
        dtype="float32",
        autocast=False,
        trainable=False,
        aggregation="only_first_replica",
    )


def start_noise_even(gate: keras.Model, num_experts: int) -> None:
    """Sets what makes the last E outputs of a gate to zero: noise of one size for all experts.

    So it starts in Shazeer et al. 2017, 1701.06538. A network whose last layer has no weights of
    that width stays as it is.
    """
    for weight in gate.layers[-1].weights:
        if weight.shape[-1] == 2 * num_experts:
            quiet = tf.concat([tf.ones([num_experts]), tf.zeros([num_experts])], axis=0)
            weight.assign(weight.value * quiet)
