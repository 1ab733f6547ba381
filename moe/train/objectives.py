"""What a stage minimises. One object a kind of stage; none of them knows about the others.

`train` is called inside a replica with that replica's share of the batch; sums are divided by the
global batch size, so that gradients add up over replicas. `evaluate` is called on one device.

An example's losses are multiplied by its `loss_weight`; what is counted (right answers, dropped
rows, the load of experts) is not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

import tensorflow as tf

from moe import losses, routing
from moe.config import Config, LossConfig
from moe.models.mixture import MixtureOfExperts, Router, make_router, routed_way
from moe.taxonomy import Groups
from moe.train.stages import Stage
from moe.types import Batch, MixtureOutput


class Outcome(NamedTuple):
    """What an objective says about a training batch.

    Attributes:
      loss: `<float32>[]`, to be summed over replicas.
      sums: `<float32>[M]`, one a metric name: sums over the replica's examples. The last one is
        the number of examples.
      load: `<float32>[E]`, assignments of each expert; `[0]` where every part always learns.
    """

    loss: tf.Tensor
    sums: tf.Tensor
    load: tf.Tensor


class Judgement(NamedTuple):
    """How well each example of a batch was answered: `<bool>[S]` and `<float32>[S]`."""

    correct: tf.Tensor
    nll: tf.Tensor


class Objective(Protocol):
    """The interface that the training step and the validation use."""

    metric_names: tuple[str, ...]

    def train(self, batch: Batch, global_batch_size: int) -> Outcome:
        """Loss and metrics of a training batch."""

    def evaluate(self, batch: Batch) -> Judgement:
        """Answers at evaluation: no noise, nothing dropped."""


class PartObjective:
    """Cross-entropy of one network by itself: a gate names the group, the others the class."""

    metric_names = ("loss", "accuracy", "examples")

    def __init__(self, mixture: MixtureOfExperts, part: str) -> None:
        self._mixture = mixture
        self._part = part

    def train(self, batch: Batch, global_batch_size: int) -> Outcome:
        sums = _judged_sums(self._judge(batch, training=True), batch)
        return Outcome(loss=sums[0] / global_batch_size, sums=sums, load=tf.zeros([0]))

    def evaluate(self, batch: Batch) -> Judgement:
        return self._judge(batch, training=False)

    def _judge(self, batch: Batch, training: bool) -> Judgement:
        x = self._mixture.standardize(batch.features)
        log_probs = self._mixture.part_log_probs(self._part, x, training)
        return _judge(log_probs, batch.group if self._part == "gate" else batch.label)


class BlendObjective:
    """The combiners behind the frozen gate's argmax: NLL of the one blend that answers."""

    metric_names = ("loss", "accuracy", "examples")

    def __init__(self, mixture: MixtureOfExperts, capacity_factor: float | None) -> None:
        self._mixture = mixture
        self._train_way = routed_way(routing.route_hard, capacity_factor)
        self._parts = frozenset(f"combiner_{e}" for e in range(mixture.num_experts))

    def train(self, batch: Batch, global_batch_size: int) -> Outcome:
        output = self._mixture.forward(batch.features, self._train_way, self._parts)
        sums = _judged_sums(_judge(output.log_probs, batch.label), batch)
        load = routing.expert_counts(output.routing, self._mixture.num_experts)
        return Outcome(loss=sums[0] / global_batch_size, sums=sums, load=load)

    def evaluate(self, batch: Batch) -> Judgement:
        output = self._mixture.forward(batch.features, routed_way(routing.route_hard))
        return _judge(output.log_probs, batch.label)


_JOINT_METRICS = (
    *("loss", "nll", "baseline_loss", "expert_loss", "z_loss", "balance_loss"),
    *("accuracy", "dropped"),
)
_NAMED_METRICS = ("gate_loss", "gate_accuracy")


class JointObjective:
    """Everything at once, end to end.

    Args:
      mixture: the model.
      router: soft, hard or top-k.
      weights: of the single terms; each term is also logged by its own name.
      named: whether `Batch.group` names each example's expert; else an expert's own examples are
        those that the gate would give it.
    """

    def __init__(
        self, mixture: MixtureOfExperts, router: Router, weights: LossConfig, named: bool
    ) -> None:
        self._mixture = mixture
        self._router = router
        self._weights = weights
        self._named = named
        # A frozen network runs as it does at evaluation, without dropout.
        parts = mixture.parts().items()
        self._parts = frozenset(name for name, part in parts if part.trainable_variables)
        self._mixture_loss = _mixture_loss(router, weights.mixture_loss, mixture.num_classes)
        self.metric_names = (*_JOINT_METRICS, *(_NAMED_METRICS if named else ()), "examples")

    def train(self, batch: Batch, global_batch_size: int) -> Outcome:
        output = self._mixture.forward(batch.features, self._router.train, self._parts)
        favourite = tf.argmax(output.gate_log_probs, axis=1, output_type=tf.int32)
        own = batch.group if self._named else favourite
        zeros = tf.zeros_like(batch.weight)
        gate = losses.cross_entropy(output.gate_log_probs, batch.group) if self._named else zeros
        baseline = zeros
        if output.baseline_log_probs is not None:
            baseline = losses.cross_entropy(output.baseline_log_probs, batch.label)
        expert = losses.expert_cross_entropy(
            output.routing, output.expert_log_probs, batch.label, own
        )
        nll = self._mixture_loss(output, batch.label)
        z = losses.z_loss(output.gate_logits)
        nll, gate, baseline, expert, z = (
            term * batch.loss_weight for term in (nll, gate, baseline, expert, z)
        )
        # Of the whole batch, but spread over its examples, so that it adds up over replicas.
        balance = zeros + self._balance(output, favourite, batch.weight)
        weights = self._weights
        total = tf.add_n(
            [nll]
            + [
                factor * term
                for factor, term in (
                    (weights.gate_supervision, gate),
                    (weights.baseline_loss, baseline),
                    (weights.expert_loss, expert),
                    (weights.z_loss, z),
                    (weights.balance_loss, balance),
                )
                if factor
            ]
        )
        correct = tf.cast(output.answer == batch.label, tf.float32)
        asked = tf.cast(routing.asks_somebody(output.routing), tf.float32)
        columns = [total, nll, baseline, expert, z, balance, correct]
        columns.append(1 - tf.reduce_mean(asked, axis=1))
        if self._named:
            columns += [gate, tf.cast(favourite == batch.group, tf.float32)]
        sums = _sums(columns, batch.weight)
        return Outcome(
            loss=sums[0] / global_batch_size,
            sums=sums,
            load=routing.expert_counts(output.routing, self._mixture.num_experts),
        )

    def evaluate(self, batch: Batch) -> Judgement:
        output = self._mixture.forward(batch.features, self._router.evaluate)
        return Judgement(
            correct=output.answer == batch.label,
            nll=losses.cross_entropy(output.log_probs, batch.label),
        )

    def _balance(self, output: MixtureOutput, favourite: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
        """The load-balancing loss of the global batch: sums first, over replicas, then product."""
        counts = routing.expert_counts(routing.route_to(favourite), self._mixture.num_experts)
        importance = tf.reduce_sum(tf.exp(output.gate_log_probs) * weight[:, tf.newaxis], axis=0)
        replica = tf.distribute.get_replica_context()
        counts, importance = replica.all_reduce(tf.distribute.ReduceOp.SUM, [counts, importance])
        return losses.load_balancing_loss(counts, importance)


def _mixture_loss(router: Router, name: str, num_classes: int) -> Callable:
    """The function `(output, label) -> <float32>[S]` for a kind of routing."""
    if router.sampled:

        def sampled(output: MixtureOutput, label: tf.Tensor) -> tf.Tensor:
            chosen = output.routing.expert_index[:, 0]
            if output.baseline_log_probs is None:
                fallback = tf.fill(tf.shape(label), -tf.math.log(float(num_classes)))
            else:
                fallback = losses.pick(output.baseline_log_probs, label)
            expert = losses.pick(output.blend_log_probs[:, 0], label)
            return losses.sampled_likelihood_loss(
                losses.pick(output.gate_log_probs, chosen),
                tf.where(routing.answered(output.routing), expert, fallback),
                fallback,
            )

        return sampled
    if name == "expected":
        return lambda output, label: losses.expected_loss(
            output.routing, output.blend_log_probs, label
        )
    return lambda output, label: losses.cross_entropy(output.log_probs, label)


def _judge(log_probs: tf.Tensor, target: tf.Tensor) -> Judgement:
    answer = tf.argmax(log_probs, axis=1, output_type=tf.int32)
    return Judgement(answer == target, losses.cross_entropy(log_probs, target))


def _judged_sums(judged: Judgement, batch: Batch) -> tf.Tensor:
    """Sums of loss, right answers and examples: `<float32>[3]`."""
    loss = judged.nll * batch.loss_weight
    return _sums([loss, tf.cast(judged.correct, tf.float32)], batch.weight)


def _sums(columns: list[tf.Tensor], weight: tf.Tensor) -> tf.Tensor:
    """Weighted sums of `<float32>[S]` columns and, last, of the weights themselves: `[M]`."""
    return tf.stack([tf.reduce_sum(c * weight) for c in (*columns, tf.ones_like(weight))])


def active_parts(load: tf.Tensor, parts: Mapping[str, object]) -> dict[str, tf.Tensor]:
    """For every expert and combiner, whether it got an example in this step: `<bool>[]`.

    Args:
      load: as in `Outcome`.
      parts: by name.
    """
    if load.shape[0] == 0:
        return {}
    return {
        part: load[int(part.rpartition("_")[2])] > 0
        for part in parts
        if part.startswith(("expert_", "combiner_"))
    }


def make_objective(
    stage: Stage, mixture: MixtureOfExperts, config: Config, groups: Groups
) -> Objective:
    """The objective of a stage's kind."""
    # Only XLA needs shapes that are known beforehand.
    capacity_factor = config.train.capacity_factor if config.runtime.jit_compile else None
    if stage.kind == "joint":
        router = make_router(
            config.model.routing, config.model.top_k, capacity_factor=capacity_factor
        )
        return JointObjective(mixture, router, config.loss, groups.named)
    if stage.kind == "blend":
        return BlendObjective(mixture, capacity_factor)
    (part,) = stage.parts
    return PartObjective(mixture, part)
