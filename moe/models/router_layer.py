"""Routing as a Keras layer: what `Model.fit` and other Keras models know of it."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from moe import losses, randomness, routing
from moe.config.run import Config
from moe.config.sections import LossConfig, ModelConfig, TrainConfig
from moe.models.gate import add_balance_bias
from moe.models.routers import Way, make_router
from moe.types import Gating, Routing

_LOSSES = ("balance_loss", "importance_loss", "load_loss", "z_loss")


@keras.saving.register_keras_serializable("moe")
class Router(keras.layers.Layer):
    """Chooses experts by what a gate says, and in training sees to it that all of them are chosen.

    By itself it makes a choice of a gate's outputs; `MixtureOfExperts(router=...)` carries the
    choice out. The arguments are `train.py`'s flags of the same names, with the same rules. A
    frozen router (`trainable = False`) routes in training as it does at evaluation.

    Args:
      routing: `soft`, `hard`, `topk`, `noisy_topk` or `expert_choice`.
      top_k: K of `topk` and `noisy_topk`.
      balance_bias: how far a training step moves the bias of loss-free balancing, a weight that no
        gradient reaches, see `routing.bias_step`; 0: there is none.
      balance_loss, importance_loss, load_loss, z_loss: weights of what training adds to the losses
        of the model, see `moe.losses`.
      capacity_factor: experts an example that `expert_choice` runs in training, on average.
      seed: of all that is drawn in training; None: another one for every router.

    Raises:
      UserError: an argument is wrong, or does not go with the routing.
    """

    def __init__(
        self,
        routing: str = "soft",
        top_k: int = 1,
        *,
        balance_bias: float = 0.0,
        balance_loss: float = 0.0,
        importance_loss: float = 0.0,
        load_loss: float = 0.0,
        z_loss: float = 0.0,
        capacity_factor: float = TrainConfig.capacity_factor,
        seed: int | None = None,
        **kwargs,
    ) -> None:
        super().__init__(**({"autocast": False} | kwargs))
        self._asked = {
            "routing": routing,
            "top_k": top_k,
            "balance_bias": balance_bias,
            "balance_loss": balance_loss,
            "importance_loss": importance_loss,
            "load_loss": load_loss,
            "z_loss": z_loss,
            "capacity_factor": capacity_factor,
            "seed": seed,
        }
        weights = {name: self._asked[name] for name in _LOSSES}
        Config(  # knows what goes together
            model=ModelConfig(routing=routing, top_k=top_k, balance_bias=balance_bias),
            loss=LossConfig(**weights),
            train=TrainConfig(capacity_factor=capacity_factor),
        )
        self.ways = make_router(
            routing, top_k, balanced=balance_bias > 0, capacity_factor=capacity_factor
        )
        self._weights_of_losses = {name: weight for name, weight in weights.items() if weight}
        self._balance_rate = balance_bias
        self._seeds = keras.random.SeedGenerator(seed)
        self.num_experts: int | None = None
        self.bias = None
        # XLA needs shapes that are known beforehand; how many rows an expert gets is not.
        self.supports_jit = routing == "soft"

    @property
    def noisy(self) -> bool:
        """Whether training adds learned noise: the gate then has two outputs an expert."""
        return self.ways.noisy

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Learns how many experts there are, and starts an even bias.

        Raises:
          ValueError: they are too few to choose from.
        """
        self.num_experts = int(input_shape[-1]) // (1 + self.noisy)
        top_k = self._asked["top_k"]
        if top_k + self.noisy > self.num_experts:
            raise ValueError(f"top_k={top_k}: there are {self.num_experts} experts to choose from.")
        if self._balance_rate:
            self.bias = add_balance_bias(self, self.num_experts)
        super().build(input_shape)

    def call(self, gate_outputs: tf.Tensor, training: bool = False):
        """Makes the choice, and in training learns of it what `learn` does.

        Args:
          gate_outputs: `<float>[S, E]` logits; with `noisy_topk` `[S, 2E]`, the last E of which are
            sizes of the noise.
          training: as everywhere in Keras.

        Returns:
          `expert_index`, `<int32>[S, K]`, and `log_weights`, `<float32>[S, K]`, of a
          `moe.types.Routing`.
        """
        logits, deviation = routing.logits_and_deviation(
            tf.cast(gate_outputs, tf.float32), self.num_experts, noisy=self.noisy
        )
        log_probs = routing.gate_log_probabilities(logits)
        bias = None if self.bias is None else self.bias.value
        gating = routing.gating(log_probs, bias, deviation)
        chosen = self.way(training).choose(gating)
        if training:
            self.learn(logits, log_probs, chosen)
        return chosen.expert_index, chosen.log_weights

    def way(self, training: bool) -> Way:
        """How a batch goes through the experts; in training with draws of the router's own."""
        if not (training and self.trainable):
            return self.ways.evaluate
        way = self.ways.train

        def choose(gating: Gating) -> Routing:
            replica = tf.distribute.get_replica_context()
            number, replicas = replica.replica_id_in_sync_group, replica.num_replicas_in_sync
            with randomness.key_scope(self._seeds.next(), number, replicas):
                return way.choose(gating)

        return way._replace(choose=choose)

    def learn(self, gate_logits: tf.Tensor, gate_log_probs: tf.Tensor, chosen: Routing) -> None:
        """Adds the losses of a batch of training and moves the bias; a frozen router does nothing.

        Args:
          gate_logits, gate_log_probs: `<float32>[S, E]`.
          chosen: what `way(training=True)` chose.

        Raises:
          ValueError: there is something to learn, and several replicas share the batch: Keras keeps
            what `add_loss` is given for one of them at a time.
        """
        if not self.trainable or not (self._weights_of_losses or self._balance_rate):
            return
        if tf.distribute.get_replica_context().num_replicas_in_sync > 1:
            raise ValueError("a router's losses and balance bias are for one device under fit.")
        if self._weights_of_losses:
            found = losses.statistic_losses(gate_log_probs, chance=chosen.chance)
            found["z_loss"] = tf.reduce_mean(losses.z_loss(gate_logits))
            for name, weight in self._weights_of_losses.items():
                self.add_loss(weight * found[name])
        if self.bias is not None:
            load = routing.named_counts(chosen, self.num_experts)
            self.bias.assign_add(routing.bias_step(load, self._balance_rate))

    def get_config(self) -> dict[str, Any]:
        """For serialisation."""
        return super().get_config() | self._asked
