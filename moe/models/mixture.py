"""The mixture: a gate, experts, an optional baseline and the combiners that blend the two.

Thin over `moe.routing`; axes as in `moe.types`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from moe import randomness, routing
from moe.models.layers import Standardize
from moe.types import MixtureOutput, Routing

Choose = Callable[[tf.Tensor], Routing]
NOTHING: frozenset[str] = frozenset()


class Way(NamedTuple):
    """How a batch goes through the experts.

    Attributes:
      choose: from `<float32>[S, E]` gate log-probabilities to a `Routing`.
      execute: `routing.run_dense`, `run_routed` (only the chosen experts run) or `run_fixed`.
    """

    choose: Choose
    execute: Callable


class Router(NamedTuple):
    """How a mixture routes.

    Attributes:
      train, evaluate: the two ways.
      sampled: whether training draws the one expert at random from the gate.
    """

    train: Way
    evaluate: Way
    sampled: bool = False


def make_router(
    name: str,
    top_k: int = 1,
    *,
    capacity_factor: float | None = None,
    gate_threshold: float = 0.0,
) -> Router:
    """The router behind `--routing`; `topk` with one expert is `hard`.

    Args:
      name: `soft`, `hard` or `topk`.
      top_k: K of `topk`.
      capacity_factor: where given, training runs in fixed shapes and drops what exceeds them.
      gate_threshold: at evaluation, soft routing spares experts that the gate gives less.
    """
    if name == "soft":
        if not gate_threshold:
            return Router(EVERYONE, EVERYONE)

        def above(gate_log_probs: tf.Tensor) -> Routing:
            return routing.route_above(gate_log_probs, gate_threshold)

        return Router(EVERYONE, Way(above, routing.run_routed))
    if name == "hard" or top_k == 1:

        def sample(gate_log_probs: tf.Tensor) -> Routing:
            size, num_experts = tf.shape(gate_log_probs)[0], gate_log_probs.shape[1]
            uniform = randomness.example_uniform(size, num_experts)
            return routing.route_sampled(gate_log_probs, uniform)

        alone = Way(routing.route_hard, routing.run_routed)
        return Router(routed_way(sample, capacity_factor), alone, sampled=True)

    def best(gate_log_probs: tf.Tensor) -> Routing:
        return routing.route_top_k(gate_log_probs, top_k)

    return Router(routed_way(best, capacity_factor), Way(best, routing.run_routed))


def routed_way(choose: Choose, capacity_factor: float | None = None) -> Way:
    """Runs the chosen experts only: in shapes as they come, or fixed ones with a limit."""
    if capacity_factor is None:
        return Way(choose, routing.run_routed)

    def limited(gate_log_probs: tf.Tensor) -> Routing:
        chosen = choose(gate_log_probs)
        return routing.limit_capacity(chosen, gate_log_probs.shape[1], capacity_factor)

    return Way(limited, functools.partial(routing.run_fixed, factor=capacity_factor))


EVERYONE = Way(routing.route_soft, routing.run_dense)
"""Soft routing, the only one that needs no decision."""


@keras.saving.register_keras_serializable("moe")
class MixtureOfExperts(keras.Model):
    """A mixture of experts for classification.

    Every network is called with `training=True` only if its name is among `train_parts`, so that
    frozen parts run as they do at evaluation.

    Args:
      gate: features -> `[S, E]` logits.
      experts: E models, features -> `[S, L]` logits (or `[S, classes of the group]`).
      num_classes: L.
      baseline: features -> `[S, L]` logits, or None.
      combiners: E models, features -> `[S, 1]` or `[S, L]` logits of the boost `a`; empty: the
        experts answer alone and a baseline is only a reference.
      group_of_class: `[L]`, the expert of each class; given exactly where experts have group heads.
      gate_temperature: divides the gate's logits.

    The names of the parts are `gate`, `baseline`, `expert_0`, `combiner_0` and so on.
    """

    def __init__(
        self,
        *,
        gate: keras.Model,
        experts: Sequence[keras.Model],
        num_classes: int,
        baseline: keras.Model | None = None,
        combiners: Sequence[keras.Model] = (),
        group_of_class: Sequence[int] | None = None,
        gate_temperature: float = 1.0,
        **kwargs,
    ) -> None:
        super().__init__(**({"autocast": False} | kwargs))
        if combiners and (baseline is None or len(combiners) != len(experts)):
            raise ValueError("combiners blend each expert with a baseline: give both, or none.")
        self.num_classes = num_classes
        self.num_experts = len(experts)
        self.gate_temperature = gate_temperature
        self.standardize = Standardize(dtype=self.dtype_policy)
        self.gate = gate
        self.baseline = baseline
        # One attribute each: tf.train.Checkpoint does not see layers in a list.
        for e, expert in enumerate(experts):
            setattr(self, f"expert_{e}", expert)
        for e, combiner in enumerate(combiners):
            setattr(self, f"combiner_{e}", combiner)
        self.blends = bool(combiners)
        self.group_of_class = None
        if group_of_class is not None:
            self.group_of_class = tuple(int(g) for g in group_of_class)
            groups = np.asarray(self.group_of_class)
            self._class_mask = groups[None, :] == np.arange(self.num_experts)[:, None]  # [E, L]
            # Where in its group's head each class stands.
            self._position = (np.cumsum(self._class_mask, axis=1) - 1).clip(0)  # [E, L]

    def parts(self) -> dict[str, keras.Model]:
        """The networks by name, in a fixed order."""
        names = ["baseline"] if self.baseline is not None else []
        names.append("gate")
        kinds = ["expert", "combiner"] if self.blends else ["expert"]
        names += [f"{kind}_{e}" for kind in kinds for e in range(self.num_experts)]
        return {name: getattr(self, name) for name in names}

    def build(self, input_shape) -> None:
        """The networks come built; only the standardisation is left."""
        if not self.standardize.built:
            self.standardize.build(input_shape)
        self.built = True

    # --- single networks ------------------------------------------------------------------------

    def gate_logits(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        """`<float32>[S, E]`, divided by the temperature."""
        return tf.cast(self.gate(x, training=training), tf.float32) / self.gate_temperature

    def baseline_log_probs(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        """`<float32>[S, L]`."""
        return tf.nn.log_softmax(tf.cast(self.baseline(x, training=training), tf.float32))

    def expert_log_probs(self, e: int, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        """`<float32>[S, L]`, over all classes also where the head knows only its group's."""
        logits = tf.cast(getattr(self, f"expert_{e}")(x, training=training), tf.float32)
        if self.group_of_class is None:
            return tf.nn.log_softmax(logits)
        logits = tf.gather(logits, self._position[e], axis=1)
        return routing.masked_log_softmax(logits, tf.constant(self._class_mask[e]))

    def part_log_probs(self, part: str, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        """What the gate, the baseline or an expert says by itself, by the name of the part."""
        if part == "gate":
            return routing.gate_log_probabilities(self.gate_logits(x, training))
        if part == "baseline":
            return self.baseline_log_probs(x, training)
        return self.expert_log_probs(int(part.removeprefix("expert_")), x, training)

    # --- the whole ------------------------------------------------------------------------------

    def forward(
        self,
        features: tf.Tensor,
        way: Way = EVERYONE,
        train_parts: Collection[str] = NOTHING,
        reference: bool = True,
    ) -> MixtureOutput:
        """Runs the mixture.

        Args:
          features: `[S, ...]`, raw.
          way: who is asked, and how they are run.
          train_parts: names of the networks that run in training mode.
          reference: also run a baseline that no answer depends on (`--boost=none`).
        """
        x = self.standardize(features)
        gate_logits = self.gate_logits(x, "gate" in train_parts)
        gate_log_probs = routing.gate_log_probabilities(gate_logits)
        chosen = way.choose(gate_log_probs)
        baseline = None
        if self.baseline is not None and (self.blends or reference):
            baseline = self.baseline_log_probs(x, "baseline" in train_parts)
        branches = [self._branch(e, train_parts) for e in range(self.num_experts)]
        inputs = [x, baseline] if self.blends else [x]
        outputs = way.execute(chosen, inputs, branches, [self.num_classes] * (1 + self.blends))
        expert_log_probs, blend_log_probs = outputs[0], outputs[-1]
        best = routing.pool(chosen, blend_log_probs, self._fallback(gate_log_probs, baseline))
        log_probs = best
        if self.group_of_class is not None and not self.blends:
            log_probs = routing.pool_spread(
                chosen, gate_log_probs, expert_log_probs, tf.constant(self.group_of_class)
            )
        return MixtureOutput(
            log_probs=log_probs,
            answer=tf.argmax(best, axis=1, output_type=tf.int32),
            gate_logits=gate_logits,
            gate_log_probs=gate_log_probs,
            routing=chosen,
            expert_log_probs=expert_log_probs,
            blend_log_probs=blend_log_probs,
            baseline_log_probs=baseline,
        )

    def _fallback(self, gate_log_probs: tf.Tensor, baseline: tf.Tensor | None) -> tf.Tensor:
        """What answers where every chosen expert was full: the baseline, else a shrug."""
        if baseline is not None:
            return baseline
        shape = [tf.shape(gate_log_probs)[0], self.num_classes]
        return tf.fill(shape, -math.log(self.num_classes))

    def _branch(self, e: int, train_parts: Collection[str]) -> Callable:
        """What expert `e` does to the rows that it is given."""

        def alone(x: tf.Tensor) -> tuple[tf.Tensor]:
            return (self.expert_log_probs(e, x, f"expert_{e}" in train_parts),)

        def blended(x: tf.Tensor, baseline: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            (expert,) = alone(x)
            combiner = getattr(self, f"combiner_{e}")
            boost = combiner(x, training=f"combiner_{e}" in train_parts)
            return expert, routing.blend_log_probabilities(baseline, expert, boost)

        return blended if self.blends else alone

    def call(self, features, training: bool = False):
        """Soft class probabilities, `<float32>[S, L]`: the model inside any other Keras model."""
        train_parts = frozenset(self.parts()) if training else NOTHING
        return tf.exp(self.forward(features, train_parts=train_parts).log_probs)

    # --- serialisation --------------------------------------------------------------------------

    def get_config(self):
        """For serialisation: the networks, and how they are put together."""
        parts = self.parts()
        return super().get_config() | {
            "gate": keras.saving.serialize_keras_object(self.gate),
            "experts": [
                keras.saving.serialize_keras_object(parts[f"expert_{e}"])
                for e in range(self.num_experts)
            ],
            "num_classes": self.num_classes,
            "baseline": keras.saving.serialize_keras_object(self.baseline),
            "combiners": [
                keras.saving.serialize_keras_object(part)
                for name, part in parts.items()
                if name.startswith("combiner_")
            ],
            "group_of_class": self.group_of_class,
            "gate_temperature": self.gate_temperature,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """A mixture of the same networks with fresh weights."""

        def network(stored):
            return keras.saving.deserialize_keras_object(stored, custom_objects=custom_objects)

        return cls(
            **config
            | {"gate": network(config["gate"]), "baseline": network(config["baseline"])}
            | {name: [network(one) for one in config[name]] for name in ("experts", "combiners")}
        )
