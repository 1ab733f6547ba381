"""What a stage minimises. One object a kind of stage; none of them knows about the others.

`train` is called inside a replica with that replica's share of the batch; sums are divided by the
global batch size, so that gradients add up over replicas. `evaluate` is called on one device.

An example's losses are multiplied by its `loss_weight`; what is counted (right answers, dropped
rows, the load of experts) is not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

import tensorflow as tf

from moe import losses, routing
from moe.config.run import Config
from moe.config.sections import LossConfig
from moe.evaluate.predict import favourite
from moe.models.mixture import MixtureOfExperts
from moe.models.routers import Ways, favourite_alone, make_router, routed_way
from moe.taxonomy import Groups
from moe.train.routing_watch import Routed
from moe.train.stages import Stage
from moe.types import Batch, Gating, MixtureOutput, Routing


class Outcome(NamedTuple):
    """What an objective says about a training batch.

    Attributes:
      loss: `<float32>[]`, to be summed over replicas.
      sums: `<float32>[M]`, one a metric name: sums over the replica's examples. The last one is
        the number of examples.
      load: `<float32>[E]`, assignments of each expert; `[0]` where every part always learns.
      wanted: the same before any was dropped.
    """

    loss: tf.Tensor
    sums: tf.Tensor
    load: tf.Tensor
    wanted: tf.Tensor


class Judgement(NamedTuple):
    """How well each example of a batch was answered.

    Attributes:
      correct: `<bool>[S]`.
      nll: `<float32>[S]`.
      routed: how examples were routed, where the objective `routes`; else None.
      baseline_correct: `<bool>[S]`, what the baseline that is blended in says; else None.
    """

    correct: tf.Tensor
    nll: tf.Tensor
    routed: Routed | None = None
    baseline_correct: tf.Tensor | None = None


class Objective(Protocol):
    """The interface that the training step and the validation use."""

    metric_names: tuple[str, ...]
    """`NAME/e` is number e of the list NAME."""
    routes: bool
    """Whether a gate has a say in what is trained."""

    def train(self, batch: Batch, global_batch_size: int) -> Outcome:
        """Loss and metrics of a training batch."""

    def evaluate(self, batch: Batch) -> Judgement:
        """Answers at evaluation: no noise, nothing dropped."""

    def follow(self, wanted: tf.Tensor) -> None:
        """Changes what no gradient changes, after each step; in cross-replica context.

        Args:
          wanted: as in `Outcome`, summed over replicas.
        """


class _ByGradient:
    """What learns by gradients alone."""

    def follow(self, wanted: tf.Tensor) -> None:
        """Nothing to do."""


class PartObjective(_ByGradient):
    """Cross-entropy of one network by itself: a gate names the group, the others the class.

    Args:
      mixture: the model.
      part: the network.
      smoothing: of the classes' labels, see `losses.pick_smoothed`.
      with_trunk: the trunk learns with it.
    """

    metric_names = ("loss", "accuracy", "examples")

    def __init__(
        self,
        mixture: MixtureOfExperts,
        part: str,
        smoothing: float = 0.0,
        with_trunk: bool = False,
    ) -> None:
        self._mixture = mixture
        self._part = part
        self._with_trunk = with_trunk
        self.routes = part == "gate"
        self._smoothing = 0.0 if self.routes else smoothing

    def train(self, batch: Batch, global_batch_size: int) -> Outcome:
        log_probs, target = self._says(batch, training=True)
        judged = _judge(log_probs, target, self._smoothing)
        sums = _judged_sums(judged, batch)
        nobody = tf.zeros([0])
        return Outcome(sums[0] / global_batch_size, sums, load=nobody, wanted=nobody)

    def evaluate(self, batch: Batch) -> Judgement:
        log_probs, target = self._says(batch, training=False)
        judged = _judge(log_probs, target)
        if not self.routes:
            return judged
        chosen = favourite_alone(Gating(log_probs, log_probs))
        return judged._replace(routed=_routed(chosen, log_probs, experts=1))

    def _says(self, batch: Batch, training: bool) -> tuple[tf.Tensor, tf.Tensor]:
        """The network's log-probabilities, and what it should have named."""
        x = self._mixture.encode(batch.features, training and self._with_trunk)
        log_probs = self._mixture.part_log_probs(self._part, x, training)
        return log_probs, batch.group if self.routes else batch.label


class BlendObjective(_ByGradient):
    """The combiners behind the frozen gate's argmax: NLL of the one blend that answers.

    `dropped` counts the examples for which fixed shapes left no room: there the baseline answers.
    """

    metric_names = ("loss", "accuracy", "dropped", "examples")
    routes = True

    def __init__(
        self, mixture: MixtureOfExperts, capacity_factor: float | None, smoothing: float = 0.0
    ) -> None:
        self._mixture = mixture
        self._smoothing = smoothing
        self._train_way = routed_way(favourite_alone, capacity_factor=capacity_factor)
        self._way = routed_way(favourite_alone)
        self._parts = frozenset(f"combiner_{e}" for e in range(mixture.num_experts))

    def train(self, batch: Batch, global_batch_size: int) -> Outcome:
        output = self._mixture.forward(batch.features, self._train_way, self._parts)
        judged = _judge(output.log_probs, batch.label, self._smoothing)
        dropped = 1 - tf.cast(routing.answered(output.routing), tf.float32)
        sums = _judged_sums(judged, batch, dropped)
        return Outcome(sums[0] / global_batch_size, sums, **_loads(output))

    def evaluate(self, batch: Batch) -> Judgement:
        output = self._mixture.forward(batch.features, self._way)
        return _judge(output.log_probs, batch.label)._replace(
            routed=_routed(output.routing, output.gate_log_probs, experts=1),
            baseline_correct=_judge(output.baseline_log_probs, batch.label).correct,
        )


_WEIGHTED = ("nll", "baseline_loss", "expert_loss", "z_loss", "gate_loss")
"""What an example's `loss_weight` multiplies; losses of the gate's statistics are none of one's."""
_LOADS = ("load", "load_after_capacity")


class JointObjective:
    """Everything at once, end to end.

    What is counted of the gate (load, accuracy) is its choice as it is carried out: a balance bias
    has its say. The losses of its statistics are about what it says itself.

    Args:
      mixture: the model.
      router: how it routes.
      weights: of the single terms; each term is also logged by its own name.
      named: whether `Batch.group` names each example's expert; else an expert's own examples are
        those that the gate would give it.
      balance_rate: of the mixture's balance bias, see `moe.models.gate.BalancedGate`.
      smoothing: of the classes' labels, see `losses.pick_smoothed`; groups are taken at their word.
    """

    routes = True

    def __init__(
        self,
        mixture: MixtureOfExperts,
        router: Ways,
        weights: LossConfig,
        named: bool,
        balance_rate: float = 0.0,
        smoothing: float = 0.0,
    ) -> None:
        self._mixture = mixture
        self._router = router
        self._named = named
        self._balance_rate = balance_rate
        self._smoothing = smoothing
        self._parts = mixture.learning_parts()
        self._mixture_loss = _mixture_loss(router, weights.mixture_loss, smoothing)
        self._experts = router.train.running(mixture.num_experts)
        self._factors = {
            "nll": 1.0,
            "baseline_loss": weights.baseline_loss,
            "expert_loss": weights.expert_loss,
            "z_loss": weights.z_loss,
            "balance_loss": weights.balance_loss,
            "importance_loss": weights.importance_loss,
        }
        others = ["accuracy", "dropped"]
        if router.noisy:
            self._factors["load_loss"] = weights.load_loss
        if named:
            self._factors["gate_loss"] = weights.gate_supervision
            others.append("gate_accuracy")
        self._columns = (*self._factors, *others)
        loads = (f"{load}/{e}" for load in _LOADS for e in range(mixture.num_experts))
        self.metric_names = ("loss", *self._columns, *loads, "examples")

    def train(self, batch: Batch, global_batch_size: int) -> Outcome:
        output = self._mixture.forward(batch.features, self._router.train, self._parts)
        zeros = tf.zeros_like(batch.weight)
        own = preferred = tf.argmax(output.gate_scores, axis=1, output_type=tf.int32)
        columns = {
            "nll": self._mixture_loss(output, batch.label),
            "baseline_loss": zeros,
            "z_loss": losses.z_loss(output.gate_logits),
            "accuracy": tf.cast(output.answer == batch.label, tf.float32),
            "dropped": routing.dropped_shares(output.routing, self._experts),
        }
        if output.baseline_log_probs is not None:
            columns["baseline_loss"] = losses.cross_entropy(
                output.baseline_log_probs, batch.label, self._smoothing
            )
        if self._named:
            own = batch.group
            columns["gate_loss"] = losses.cross_entropy(output.gate_log_probs, own)
            columns["gate_accuracy"] = tf.cast(preferred == own, tf.float32)
        columns["expert_loss"] = losses.expert_cross_entropy(
            output.routing, output.expert_log_probs, batch.label, own, self._smoothing
        )
        for name in _WEIGHTED:
            if name in columns:
                columns[name] *= batch.loss_weight
        statistics = losses.statistic_losses(
            output.gate_log_probs, batch.weight, output.routing.chance
        )
        # They are formed of all that the gate says, whatever weight they have in the loss.
        for name, value in statistics.items():
            # Of the whole batch, but spread over its examples, so that it adds up over replicas.
            columns[name] = zeros + value
        total = tf.add_n([f * columns[name] for name, f in self._factors.items() if f])
        loads = routing.load_shares(
            output.routing, preferred, self._mixture.num_experts, self._experts
        )
        sums = _sums([total, *(columns[name] for name in self._columns)], batch.weight, loads)
        return Outcome(sums[0] / global_batch_size, sums, **_loads(output))

    def follow(self, wanted: tf.Tensor) -> None:
        if self._balance_rate:
            self._mixture.gate.follow(wanted, self._balance_rate)

    def evaluate(self, batch: Batch) -> Judgement:
        output = self._mixture.forward(batch.features, self._router.evaluate)
        baseline = output.baseline_log_probs
        experts = self._router.evaluate.running(self._mixture.num_experts)
        return Judgement(
            correct=output.answer == batch.label,
            nll=losses.cross_entropy(output.log_probs, batch.label),
            routed=_routed(output.routing, output.gate_log_probs, experts),
            baseline_correct=_judge(baseline, batch.label).correct
            if self._mixture.blends
            else None,
        )


def _loads(output: MixtureOutput) -> dict[str, tf.Tensor]:
    """`load` and `wanted` of an `Outcome`."""
    num_experts = output.gate_logits.shape[1]
    return {
        "load": routing.expert_counts(output.routing, num_experts),
        "wanted": routing.named_counts(output.routing, num_experts),
    }


def _mixture_loss(router: Ways, name: str, smoothing: float) -> Callable:
    """The function `(output, label) -> <float32>[S]` for a kind of routing."""
    if router.stands_in:

        def stand_in(output: MixtureOutput, label: tf.Tensor) -> tf.Tensor:
            return losses.cross_entropy(losses.stood_in_log_probs(output), label, smoothing)

        return stand_in
    if name == "expected":
        return lambda output, label: losses.expected_loss(
            output.routing, output.blend_log_probs, label, smoothing
        )
    return lambda output, label: losses.cross_entropy(output.log_probs, label, smoothing)


def _routed(chosen: Routing, gate_log_probs: tf.Tensor, experts: float) -> Routed:
    """What evaluation did with examples of which nothing is dropped.

    Args:
      chosen: `[S, K]`.
      gate_log_probs: `<float32>[S, E]`.
      experts: how many answer an example.
    """
    num_experts = gate_log_probs.shape[1]
    first = favourite(chosen)
    weight = tf.exp(chosen.log_weights)[:, :, tf.newaxis]
    asked = tf.cast(routing.slots_by_expert(chosen, num_experts), tf.float32)
    return Routed(
        gate_log_probs=gate_log_probs,
        favourite=first,
        load=routing.load_shares(chosen, first, num_experts, experts)[0],
        importance=tf.reduce_sum(weight * asked, axis=1),
    )


def _judge(log_probs: tf.Tensor, target: tf.Tensor, smoothing: float = 0.0) -> Judgement:
    answer = tf.argmax(log_probs, axis=1, output_type=tf.int32)
    return Judgement(answer == target, losses.cross_entropy(log_probs, target, smoothing))


def _judged_sums(judged: Judgement, batch: Batch, *others: tf.Tensor) -> tf.Tensor:
    """Sums of loss, right answers, `<float32>[S]` columns besides, and examples."""
    loss = judged.nll * batch.loss_weight
    return _sums([loss, tf.cast(judged.correct, tf.float32), *others], batch.weight)


def _sums(
    columns: list[tf.Tensor], weight: tf.Tensor, tables: Sequence[tf.Tensor] = ()
) -> tf.Tensor:
    """Weighted sums of `<float32>[S]` columns, of those of `[S, E]` tables and, last, of the
    weights themselves: `[M]`.
    """
    single = tf.stack([tf.reduce_sum(c * weight) for c in columns])
    several = [tf.reduce_sum(table * weight[:, tf.newaxis], axis=0) for table in tables]
    return tf.concat([single, *several, tf.reduce_sum(weight)[tf.newaxis]], axis=0)


def per_example(names: Sequence[str], sums: Sequence[float]) -> dict[str, float | list[float]]:
    """Means by metric name; those called `NAME/e` become one list NAME.

    Args:
      names: the `metric_names` of an objective, M of them.
      sums: as many, the last one the number of examples.
    """
    means: dict[str, float | list[float]] = {}
    for name, total in zip(names[:-1], sums[:-1], strict=True):
        mean = total / max(sums[-1], 1.0)  # no example where float16 skipped every step
        name, _, number = name.partition("/")
        if number:
            means.setdefault(name, []).append(mean)
        else:
            means[name] = mean
    return means


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
    fixed, factor = bool(config.runtime.jit_compile), config.train.capacity_factor
    smoothing = config.train.label_smoothing
    if stage.kind == "joint":
        model = config.model
        router = make_router(
            model.routing,
            model.top_k,
            balanced=mixture.balanced,
            capacity_factor=factor,
            fixed=fixed,
        )
        return JointObjective(
            mixture, router, config.loss, groups.named, model.balance_bias, smoothing
        )
    if stage.kind == "blend":
        return BlendObjective(mixture, factor if fixed else None, smoothing)
    *trunk, part = stage.parts
    return PartObjective(mixture, part, smoothing, with_trunk=bool(trunk))
