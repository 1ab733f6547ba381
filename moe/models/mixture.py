"""The mixture: a gate, experts, an optional baseline and the combiners that blend the two.

Thin over `moe.routing`; axes as in `moe.types`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence

import keras
import numpy as np
import tensorflow as tf

from moe import losses, routing
from moe.models.gate import BalancedGate
from moe.models.layers import Standardize
from moe.models.router_layer import Router
from moe.models.routers import EVERYONE, Way
from moe.models.starts import Whitening, sample
from moe.types import MixtureOutput

NOTHING: frozenset[str] = frozenset()


@keras.saving.register_keras_serializable("moe")
class MixtureOfExperts(keras.Model):
    """A mixture of experts for classification.

    Every network is called with `training=True` only if its name is among `train_parts`, so that
    frozen parts run as they do at evaluation.

    Args:
      gate: features -> `[S, E]` logits; with `gate_noise` `[S, 2E]`, see there.
      experts: E models, features -> `[S, L]` logits (or `[S, classes of the group]`).
      num_classes: L.
      baseline: features -> `[S, L]` logits, or None.
      trunk: raw features, standardised, -> what all other networks take for features; None: they
        see the examples themselves.
      combiners: E models, features -> `[S, 1]` or `[S, L]` logits of the boost `a`; empty: the
        experts answer alone and a baseline is only a reference.
      group_of_class: `[L]`, the expert of each class; given exactly where experts have group heads.
      gate_temperature: divides the gate's logits, and the deviation of their noise.
      gate_noise: the gate's last E outputs say how much noise training adds to the first E, see
        `routing.noise_deviation`.
      balanced: keep a balance bias with the gate, see `BalancedGate`.
      router: how it routes when it is called as a Keras layer, in training and otherwise; has a
        balance bias of its own, and with `noisy_topk` implies `gate_noise`. None: softly.
      whitens: networks that begin with a convolution whiten their inputs by it, see `Whitening`;
        the filters come from `fit_inputs` and stay.

    The names of the parts are `trunk`, `gate`, `baseline`, `expert_0`, `combiner_0` and so on.

    Attributes:
      mirrors: whether every network looks at an image and at its mirror image, and answers with
        the mean of its logits: test-time augmentation, for finished networks alone. Functions that
        were traced before it is set do not notice.
    """

    def __init__(
        self,
        *,
        gate: keras.Model,
        experts: Sequence[keras.Model],
        num_classes: int,
        baseline: keras.Model | None = None,
        trunk: keras.Model | None = None,
        combiners: Sequence[keras.Model] = (),
        group_of_class: Sequence[int] | None = None,
        gate_temperature: float = 1.0,
        gate_noise: bool = False,
        balanced: bool = False,
        whitens: bool = False,
        router: Router | None = None,
        **kwargs,
    ) -> None:
        super().__init__(**({"autocast": False} | kwargs))
        if router is not None and balanced:
            raise ValueError("a router keeps its own balance bias: give router or balanced.")
        if combiners and (baseline is None or len(combiners) != len(experts)):
            raise ValueError("combiners blend each expert with a baseline: give both, or none.")
        self.num_classes = num_classes
        self.num_experts = len(experts)
        self.gate_temperature = gate_temperature
        self.router = router
        self.gate_noise = gate_noise or (router is not None and router.noisy)
        if router is not None and not router.built:
            router.build((None, self.num_experts * (1 + router.noisy)))
        self.balanced = balanced
        self.mirrors = False
        self.standardize = Standardize(dtype=self.dtype_policy)
        self.gate = BalancedGate(gate, self.num_experts) if balanced else gate
        self.baseline = baseline
        self.trunk = trunk
        # One attribute each: tf.train.Checkpoint does not see layers in a list.
        for e, expert in enumerate(experts):
            setattr(self, f"expert_{e}", expert)
        for e, combiner in enumerate(combiners):
            setattr(self, f"combiner_{e}", combiner)
        self.blends = bool(combiners)
        self.whitens = whitens
        seeing = [network for part, network in self.parts().items() if self.sees_examples(part)]
        self._whitening = Whitening(seeing) if whitens else None
        self.group_of_class = None
        if group_of_class is not None:
            self.group_of_class = tuple(int(g) for g in group_of_class)
            groups = np.asarray(self.group_of_class)
            self._class_mask = groups[None, :] == np.arange(self.num_experts)[:, None]  # [E, L]
            # Where in its group's head each class stands.
            self._position = (np.cumsum(self._class_mask, axis=1) - 1).clip(0)  # [E, L]

    def parts(self) -> dict[str, keras.Model]:
        """The networks by name, in a fixed order."""
        names = [n for n in ("trunk", "baseline") if getattr(self, n) is not None] + ["gate"]
        kinds = ["expert", "combiner"] if self.blends else ["expert"]
        names += [f"{kind}_{e}" for kind in kinds for e in range(self.num_experts)]
        return {name: getattr(self, name) for name in names}

    def sees_examples(self, part: str) -> bool:
        """Whether a network sees the examples themselves, not what a trunk made of them."""
        return part == "trunk" or self.trunk is None

    def learning_parts(self) -> frozenset[str]:
        """The names of those that have something to learn: a frozen network has no training mode,
        and runs as it does at evaluation, without dropout.
        """
        return frozenset(name for name, part in self.parts().items() if part.trainable_variables)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """The networks come built; only the standardisation is left."""
        if not self.standardize.built:
            self.standardize.build(input_shape)
        self.built = True

    def fit_inputs(self, features: np.ndarray) -> None:
        """Takes over what is known of training examples before the training: `[N, ...]`, raw.

        The standardisation, and the whitening filters if there are any.
        """
        if not self.standardize.built:
            self.standardize.build((None, *features.shape[1:]))
        self.standardize.fit(features)
        if self._whitening is not None:
            self._whitening.fit(self.standardize.exact(sample(features)).numpy())

    # --- single networks ------------------------------------------------------------------------
    #
    # They take `x`, what `encode` makes of features.

    def encode(self, features: tf.Tensor, training: bool = False) -> tf.Tensor:
        """What the networks see: raw `[S, ...]` -> standardised, and through the trunk.

        `[S, ...]`, or with `mirrors` `[S, 2, ...]`, the image and its mirror image.
        """
        x = self.standardize(features)
        if self.mirrors:
            x = tf.stack([x, tf.reverse(x, axis=[2])], axis=1)
        return x if self.trunk is None else self._on_views(self.trunk, x, training)

    @property
    def views(self) -> int:
        """How often every network looks at an example."""
        return 1 + self.mirrors

    def _on_views(self, network: keras.Model, x: tf.Tensor, training: bool) -> tf.Tensor:
        if not self.mirrors:
            return network(x, training=training)
        outputs = network(tf.reshape(x, [-1, *x.shape[2:]]), training=training)
        return tf.reshape(outputs, [-1, self.views, *outputs.shape[1:]])

    def _logits(self, network: keras.Model, x: tf.Tensor, training: bool) -> tf.Tensor:
        """`<float32>[S, outputs]`, the mean over the views."""
        outputs = tf.cast(self._on_views(network, x, training), tf.float32)
        return tf.reduce_mean(outputs, axis=1) if self.mirrors else outputs

    @property
    def balance_bias(self) -> tf.Variable | None:
        """`<float32>[E]`, of the gate or of the router, or None if neither keeps one."""
        keeper = self.gate if self.balanced else self.router
        bias = None if keeper is None else keeper.bias
        return None if bias is None else bias.value

    def gate_logits(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        """`<float32>[S, E]`, divided by the temperature."""
        return self._logits_and_deviation(x, training)[0]

    def _logits_and_deviation(self, x: tf.Tensor, training: bool):
        outputs = self._logits(self.gate, x, training)
        return routing.logits_and_deviation(
            outputs, self.num_experts, self.gate_temperature, self.gate_noise
        )

    def baseline_log_probs(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        """`<float32>[S, L]`."""
        return tf.nn.log_softmax(self._logits(self.baseline, x, training))

    def expert_log_probs(self, e: int, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        """`<float32>[S, L]`, over all classes also where the head knows only its group's."""
        logits = self._logits(getattr(self, f"expert_{e}"), x, training)
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
        x = self.encode(features, "trunk" in train_parts)
        gate_logits, deviation = self._logits_and_deviation(x, "gate" in train_parts)
        gate_log_probs = routing.gate_log_probabilities(gate_logits)
        gating = routing.gating(gate_log_probs, self.balance_bias, deviation)
        chosen = way.choose(gating)
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
            gate_scores=gating.scores,
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
            combiner = f"combiner_{e}"
            boost = self._logits(getattr(self, combiner), x, combiner in train_parts)
            return expert, routing.blend_log_probabilities(baseline, expert, boost)

        return blended if self.blends else alone

    def call(self, features: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Class probabilities, `<float32>[S, L]`: the model inside any other Keras model.

        Under its `router`, or softly. Where a choice of one expert leaves the gate nothing to learn
        from, the probabilities of training are those of `losses.stand_in_log_probs`.
        """
        train_parts = self.learning_parts() if training else NOTHING
        if self.router is None:
            return tf.exp(self.forward(features, train_parts=train_parts).log_probs)
        output = self.forward(features, self.router.way(training), train_parts, reference=training)
        if not training:
            return tf.exp(output.log_probs)
        self.router.learn(output.gate_logits, output.gate_log_probs, output.routing)
        stands_in = self.router.ways.stands_in and self.router.trainable
        return tf.exp(losses.stood_in_log_probs(output) if stands_in else output.log_probs)

    # --- serialisation --------------------------------------------------------------------------

    def get_config(self):
        """For serialisation: the networks, and how they are put together."""
        parts = self.parts()
        gate = self.gate.network if self.balanced else self.gate
        return super().get_config() | {
            "gate": keras.saving.serialize_keras_object(gate),
            "experts": [
                keras.saving.serialize_keras_object(parts[f"expert_{e}"])
                for e in range(self.num_experts)
            ],
            "num_classes": self.num_classes,
            "baseline": keras.saving.serialize_keras_object(self.baseline),
            "trunk": keras.saving.serialize_keras_object(self.trunk),
            "combiners": [
                keras.saving.serialize_keras_object(part)
                for name, part in parts.items()
                if name.startswith("combiner_")
            ],
            "group_of_class": self.group_of_class,
            "gate_temperature": self.gate_temperature,
            "gate_noise": self.gate_noise,
            "balanced": self.balanced,
            "whitens": self.whitens,
            "router": keras.saving.serialize_keras_object(self.router),
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """A mixture of the same networks with fresh weights."""

        def network(stored):
            return keras.saving.deserialize_keras_object(stored, custom_objects=custom_objects)

        return cls(
            **config
            | {name: network(config.get(name)) for name in ("gate", "baseline", "trunk", "router")}
            | {name: [network(one) for one in config[name]] for name in ("experts", "combiners")}
        )
