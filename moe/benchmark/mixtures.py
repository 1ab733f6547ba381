"""Ways to run a mixture: all experts or the chosen one only, in training and at evaluation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from moe import losses, routing
from moe.benchmark.cases import (
    INPUT_SHAPE,
    NUM_CLASSES,
    Case,
    assignment,
    in_compute_dtype,
    load_in_capacity,
    load_of,
    one_batch,
    two_batches,
)
from moe.benchmark.measure import Arm
from moe.benchmark.training import loop_arm
from moe.config.sections import LossConfig
from moe.models import backbones, cost
from moe.models.build import dtype_policy
from moe.models.mixture import MixtureOfExperts
from moe.models.routers import EVERYONE, Choose, Way, Ways, routed_way
from moe.train.objectives import JointObjective
from moe.train.optimizers import PartOptimizer
from moe.train.schedules import make_schedule
from moe.types import Gating, Routing

_CAPACITY_FACTOR = 1.25


def mixture_arm(name: str, case: Case) -> Arm:
    """The case as an arm: gate, experts, and with a baseline its `per_class` blend."""
    mixture = _mixture(case)
    expert = assignment(case.load, case.batch_size, case.num_experts)
    soft = case.dispatch == "soft"
    load = load_of(expert, case.num_experts)
    if case.dispatch == "fixed":
        load = load_in_capacity(expert, case.num_experts, _CAPACITY_FACTOR)
    dropped = 1 - math.fsum(load) if case.dispatch == "fixed" else 0.0
    way = _way(case.dispatch, expert)
    facts = {
        "phase": case.phase,
        "batch_size": case.batch_size,
        "precision": case.precision,
        "num_experts": case.num_experts,
        "expert": case.expert,
        "routing": "soft" if soft else "hard",
        "dispatch": case.dispatch,
        "expert_macs": cost.macs(mixture.parts()["expert_0"]),
        "load": [1.0] * case.num_experts if soft else load,
        "load_kind": "all" if soft else case.load,
        "dropped": dropped,
        "steps_per_loop": case.steps_per_loop,
        "jit_compile": case.jit_compile,
    }
    # Only useful work counts: neither room that nobody fills nor an example that is dropped.
    chosen_alone = case.dispatch in ("routed", "fixed")
    running = 1 - dropped if chosen_alone else case.num_experts
    if case.phase == "train":
        router = Ways(way, way, stands_in=not soft)
        weights = LossConfig(
            gate_supervision=0.0, baseline_loss=0.5, expert_loss=0.5, balance_loss=0.01
        )
        return loop_arm(
            name,
            mixture,
            JointObjective(mixture, router, weights, named=False),
            policy=case.precision,
            batch_size=case.batch_size,
            steps=case.steps_per_loop,
            jit_compile=case.jit_compile,
            facts=facts,
            flops=cost.stage_flops(mixture, "joint", list(mixture.parts()), running),
        )
    images = two_batches(case.batch_size)

    @tf.function(jit_compile=case.jit_compile)
    def run(images: tf.Tensor) -> tf.Tensor:
        total = tf.zeros([])
        for step in tf.range(case.steps_per_loop):
            # Another batch each step: XLA takes out of a loop what is the same every time. The
            # gate's answer is part of the result, for what nobody asks for is not computed.
            output = mixture.forward(images[step % 2], way)
            total += tf.reduce_sum(output.log_probs) + tf.reduce_sum(output.gate_log_probs)
        return total

    flops = 2 * cost.active_cost(mixture, running).macs
    return Arm(name, lambda: run(images), case.steps_per_loop, case.batch_size, facts, flops)


def _mixture(case: Case) -> MixtureOfExperts:
    experts = range(case.num_experts)
    with dtype_policy(case.precision):
        mixture = MixtureOfExperts(
            gate=backbones.build(case.gate, INPUT_SHAPE, case.num_experts),
            experts=[backbones.build(case.expert, INPUT_SHAPE, NUM_CLASSES) for _ in experts],
            num_classes=NUM_CLASSES,
            baseline=backbones.build(case.baseline, INPUT_SHAPE, NUM_CLASSES)
            if case.baseline
            else None,
            combiners=[backbones.combiner(INPUT_SHAPE, NUM_CLASSES) for _ in experts]
            if case.baseline
            else [],
        )
        mixture.build((None, *INPUT_SHAPE))
    return mixture


def _way(dispatch: str, expert: Sequence[int]) -> Way:
    if dispatch == "soft":
        return EVERYONE
    if dispatch == "dense":
        return Way(_forced(expert), routing.run_dense)
    fixed = _CAPACITY_FACTOR if dispatch == "fixed" else None
    return routed_way(_forced(expert), capacity_factor=fixed)


def _forced(expert: Sequence[int]) -> Choose:
    """Routes to `expert` whatever the gate says, but not before the gate has been computed.

    Being waited for keeps nothing in the graph: the gate's answer has to be of use elsewhere.
    """
    forced = tf.constant(expert, tf.int32)

    def choose(gating: Gating) -> Routing:
        with tf.control_dependencies([gating.log_probs]):
            return routing.route_to(tf.identity(forced))

    return choose


def routed_step_arm(
    name: str,
    network: str | None,
    *,
    num_experts: int,
    policy: str,
    batch_size: int,
    steps: int,
) -> Arm:
    """Forward, backward and SGD of a top-1 step whose assignment is given: no gate, no baseline.

    Args:
      name: of the arm.
      network: backbone of the experts; None: `HandOn`, so that dispatch and combine are what is
        left of the step.
      num_experts: E, with as many examples each; 1: a single network, without dispatch.
      policy: Keras dtype policy.
      batch_size: S.
      steps: in one loop.
    """
    with dtype_policy(policy):
        experts = [
            backbones.build(network, INPUT_SHAPE, NUM_CLASSES) if network else HandOn()
            for _ in range(num_experts)
        ]
    batch = one_batch(batch_size)
    inputs = in_compute_dtype(batch.features, policy)
    chosen = routing.route_to(tf.constant(assignment("balanced", batch_size, num_experts)))
    branches = [_branch(expert) for expert in experts]
    for branch in branches:
        branch(inputs[:1])  # builds what is not built yet
    weights = [[v.value for v in expert.trainable_variables] for expert in experts]
    schedule = make_schedule("constant", 1)
    optimizers = [PartOptimizer("sgd", group, 1e-3, schedule) for group in weights]
    strategy = tf.distribute.get_strategy()

    def answer(inputs: tf.Tensor) -> tf.Tensor:
        if num_experts == 1:
            return branches[0](inputs)[0]
        return routing.run_routed(chosen, [inputs], branches, [NUM_CLASSES])[0][:, 0]

    @tf.function
    def run(inputs: tf.Tensor) -> tf.Tensor:
        total = tf.zeros([])
        for step in tf.range(tf.constant(steps, tf.int64)):
            with tf.GradientTape() as tape:
                log_probs = tf.nn.log_softmax(answer(inputs))
                loss = tf.reduce_mean(losses.cross_entropy(log_probs, batch.label))
            for optimizer, gradients in zip(optimizers, tape.gradient(loss, weights), strict=True):
                optimizer.apply(strategy, gradients, step)
            total += loss
        return total

    facts = {"batch_size": batch_size, "precision": policy, "num_experts": num_experts}
    return Arm(name, lambda: run(inputs), steps, batch_size, facts)


def _branch(expert: keras.layers.Layer) -> Callable:
    return lambda x: (tf.cast(expert(x, training=True), tf.float32),)


class HandOn(keras.layers.Layer):
    """In the place of an expert: the first few numbers of each row, times one weight."""

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """One weight, so that there is something to learn."""
        del input_shape
        self.factor = self.add_weight(name="factor", shape=(), initializer="ones")

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        """`[S, ...]` -> `[S, L]`."""
        del training
        return tf.reshape(x, [tf.shape(x)[0], -1])[:, :NUM_CLASSES] * self.factor
