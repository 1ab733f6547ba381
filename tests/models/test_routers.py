"""Every router of the table, in training and at evaluation, by the same tests."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from moe import randomness, routing
from moe.config import choices
from moe.config.sections import LossConfig
from moe.models import backbones
from moe.models.gate import BalancedGate, start_noise_even
from moe.models.mixture import MixtureOfExperts
from moe.models.routers import EVERYONE, ROUTERS, make_router, routed_way
from moe.train.objectives import JointObjective
from moe.types import Batch

S, E, L, COLUMNS = 12, 3, 5, 4
RNG = np.random.default_rng(0)
FEATURES = RNG.normal(0, 2, size=(S, COLUMNS)).astype(np.float32)
LABEL = (np.arange(S) % L).astype(np.int32)
KEY = tf.constant([1, 2])
BIAS = np.array([0.5, 0.0, -0.5], np.float32)

# name: routing, K, whether the gate keeps a balance bias; experts that run an example in training
# and at evaluation
CASES = {
    "soft": ("soft", 1, False, (E, E)),
    "hard": ("hard", 1, False, (1, 1)),
    "hard, balanced": ("hard", 1, True, (1, 1)),
    "top 1": ("topk", 1, False, (1, 1)),
    "top 2": ("topk", 2, False, (2, 2)),
    "top 2, balanced": ("topk", 2, True, (2, 2)),
    "noisy top 1": ("noisy_topk", 1, False, (1, 1)),
    "noisy top 2": ("noisy_topk", 2, False, (2, 2)),
    "expert choice": ("expert_choice", 1, False, (1.25, E)),
}
WEIGHTLESS = LossConfig(
    gate_supervision=0.0, baseline_loss=0.0, expert_loss=0.0, balance_loss=0.0, z_loss=0.0
)


def router(case, **options):
    name, top_k, balanced, _ = CASES[case]
    return make_router(name, top_k, balanced=balanced, **options)


def make_mixture(case):
    noisy, balanced = CASES[case][0] == "noisy_topk", CASES[case][2]
    keras.utils.set_random_seed(1)
    mixture = MixtureOfExperts(
        gate=backbones.mlp((COLUMNS,), E * (1 + noisy), [8]),
        experts=[backbones.mlp((COLUMNS,), L, [8]) for _ in range(E)],
        num_classes=L,
        gate_temperature=2.0,
        gate_noise=noisy,
        balanced=balanced,
    )
    mixture.build((None, COLUMNS))
    if balanced:
        mixture.balance_bias.assign(BIAS)
    return mixture


@pytest.fixture(scope="module")
def mixtures():
    """One mixture for each case; nobody may change them."""
    return {case: make_mixture(case) for case in CASES}


def forward(mixture, way, features=FEATURES, key=KEY):
    with randomness.key_scope(key):
        return mixture.forward(tf.convert_to_tensor(features), way)


def probabilities(log_probs):
    return np.exp(np.asarray(log_probs, np.float64))


def test_the_table_is_whole():
    assert tuple(ROUTERS) == choices.ROUTINGS
    assert {case[0] for case in CASES.values()} == set(ROUTERS)


@pytest.mark.parametrize("case", CASES)
def test_every_distribution_sums_to_1(mixtures, case):
    for way in (router(case).evaluate, router(case).train, router(case, fixed=True).train):
        output = forward(mixtures[case], way)
        np.testing.assert_allclose(probabilities(output.log_probs).sum(axis=1), 1, atol=1e-5)
        asking = routing.answered(output.routing)
        weights = probabilities(output.routing.log_weights).sum(axis=1)
        np.testing.assert_allclose(weights, tf.cast(asking, tf.float32), atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_an_evaluated_answer_depends_on_its_own_example_alone(mixtures, case):
    way = router(case).evaluate
    together = forward(mixtures[case], way)
    again = forward(mixtures[case], way, key=tf.constant([3, 4]))  # and draws nothing
    np.testing.assert_array_equal(again.log_probs, together.log_probs)
    for rows in ([4], [8, 4, 0], [4] * 5):
        some = forward(mixtures[case], way, FEATURES[rows])
        np.testing.assert_allclose(some.log_probs, tf.gather(together.log_probs, rows), atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_experts_that_run(mixtures, case):
    chosen = router(case)
    for way, running in zip((chosen.train, chosen.evaluate), CASES[case][3], strict=True):
        asked = routing.asks_somebody(forward(mixtures[case], way).routing)
        assert np.sum(asked) / S == pytest.approx(running)
        assert way.running(E) == running
    assert chosen.train.running(1) == 1


@pytest.mark.parametrize("case", CASES)
def test_training_in_fixed_shapes_with_room_for_all_is_training(mixtures, case):
    loose = forward(mixtures[case], router(case, capacity_factor=float(E)).train)
    fixed = forward(mixtures[case], router(case, capacity_factor=float(E), fixed=True).train)
    np.testing.assert_allclose(fixed.log_probs, loose.log_probs, atol=1e-5)
    np.testing.assert_array_equal(fixed.routing.expert_index, loose.routing.expert_index)


@pytest.mark.parametrize("case", ["noisy top 2", "expert choice", "hard, balanced"])
def test_xla_compiles_fixed_shapes(mixtures, case):
    way = router(case, fixed=True).train

    def run(features):
        return forward(mixtures[case], way, features).log_probs

    compiled = tf.function(run, jit_compile=True, autograph=False)(tf.constant(FEATURES))
    np.testing.assert_allclose(probabilities(compiled).sum(axis=1), 1, atol=1e-5)
    if case != "noisy top 2":  # XLA draws other numbers
        np.testing.assert_allclose(compiled, run(FEATURES), atol=1e-4)


def batch():
    ones = tf.ones([S])
    return Batch(
        tf.constant(FEATURES), tf.constant(LABEL), tf.fill([S], -1), ones, tf.range(S), ones
    )


def gate_gradients(mixture, case, **weights):
    """Metrics by name, and how long the gradient of each of the gate's weights is."""
    objective = JointObjective(
        mixture, router(case), dataclasses.replace(WEIGHTLESS, **weights), named=False
    )
    with randomness.key_scope(KEY), tf.GradientTape() as tape:
        outcome = objective.train(batch(), S)
    variables = [v.value for v in mixture.gate.trainable_variables]
    norms = [float(tf.norm(g)) for g in tape.gradient(outcome.loss, variables)]
    return dict(zip(objective.metric_names, outcome.sums.numpy(), strict=True)), norms


@pytest.mark.parametrize("case", CASES)
def test_the_gate_learns_from_the_mixture_loss_alone(mixtures, case):
    _, norms = gate_gradients(mixtures[case], case)
    assert all(1e-4 < norm < 1e4 for norm in norms)


@pytest.mark.parametrize("case", ["noisy top 1", "noisy top 2"])
def test_the_noise_learns_from_the_load_and_its_own_outcome(mixtures, case):
    def of_noise(**weights):
        mixture = mixtures[case]
        objective = JointObjective(
            mixture, router(case), dataclasses.replace(WEIGHTLESS, **weights), named=False
        )
        with randomness.key_scope(KEY), tf.GradientTape() as tape:
            outcome = objective.train(batch(), S)
        kernel = mixture.gate.layers[-1].kernel.value
        return float(tf.norm(tape.gradient(outcome.loss, kernel)[:, E:]))

    alone, with_load = of_noise(), of_noise(load_loss=1.0)
    assert with_load > 1e-4
    # The weight of one expert is 1 whatever the noise was.
    assert (alone > 1e-4) == (case == "noisy top 2")


@pytest.mark.parametrize("case", ["soft", "hard", "noisy top 2"])
def test_importance_and_load_are_those_of_the_batch(mixtures, case):
    metrics, _ = gate_gradients(mixtures[case], case, importance_loss=0.5)
    output = forward(mixtures[case], router(case).train)

    def variation(amounts):
        return np.var(amounts) / np.mean(amounts) ** 2

    importance = variation(probabilities(output.gate_log_probs).sum(axis=0))
    assert metrics["importance_loss"] / S == pytest.approx(importance, rel=1e-4)
    assert metrics["loss"] == pytest.approx(
        metrics["nll"] + 0.5 * metrics["importance_loss"], rel=1e-4
    )
    assert ("load_loss" in metrics) == (case == "noisy top 2")
    if case == "noisy top 2":
        load = variation(output.routing.chance.numpy().sum(axis=0))
        assert metrics["load_loss"] / S == pytest.approx(load, rel=1e-4)


# --- one by one -----------------------------------------------------------------------------------


def test_hard_routing_is_drawn_in_training_unless_a_bias_balances_it(mixtures):
    many = np.repeat(FEATURES[:1], 200, axis=0)

    def experts(case):
        return np.unique(forward(mixtures[case], router(case).train, many).routing.expert_index)

    assert len(experts("hard")) > 1
    assert len(experts("top 1")) > 1
    assert len(experts("hard, balanced")) == 1


@pytest.mark.parametrize("case", ["hard, balanced", "top 2, balanced"])
@pytest.mark.parametrize("when", ["train", "evaluate"])
def test_a_bias_says_who_answers_but_not_with_which_weight(mixtures, case, when):
    output = forward(mixtures[case], getattr(router(case), when))
    gate, k = probabilities(output.gate_log_probs), CASES[case][1]
    chosen = np.argsort(-(gate + BIAS), axis=1)[:, :k]
    np.testing.assert_array_equal(output.routing.expert_index, chosen)
    assert (chosen[:, 0] != gate.argmax(axis=1)).any()
    weights = np.take_along_axis(gate, chosen, axis=1)
    weights /= weights.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities(output.routing.log_weights), weights, atol=1e-5)


def test_a_bias_leaves_the_gate_and_soft_routing_alone(mixtures):
    plain, balanced = make_mixture("hard"), mixtures["hard, balanced"]
    one, other = (forward(m, EVERYONE) for m in (plain, balanced))
    np.testing.assert_array_equal(one.log_probs, other.log_probs)
    np.testing.assert_array_equal(one.gate_log_probs, other.gate_log_probs)


def test_a_bias_is_a_weight_of_the_gate_that_follows_the_load():
    gate = BalancedGate(backbones.mlp((COLUMNS,), E, []), E)
    assert len(gate.trainable_variables) == 2
    assert gate.variables[-1] is gate.bias or gate.variables[0] is gate.bias
    for load in ([4.0, 0.0, 2.0], [3.0, 3.0, 0.0]):  # mean 2
        gate.follow(tf.constant(load), rate=0.1)
    np.testing.assert_allclose(gate.bias, [-0.2, 0.0, 0.1], atol=1e-6)


def test_the_load_that_a_bias_follows_counts_what_was_dropped(mixtures):
    def outcome(**options):
        objective = JointObjective(
            mixtures["hard, balanced"],
            router("hard, balanced", **options),
            WEIGHTLESS,
            named=False,
        )
        return objective.train(batch(), S)

    loose, tight = outcome(), outcome(fixed=True, capacity_factor=0.5)
    np.testing.assert_array_equal(loose.load, loose.wanted)
    np.testing.assert_array_equal(tight.wanted, loose.wanted)
    np.testing.assert_array_equal(tight.load, np.minimum(loose.load, 2))  # .5 * 12 / 3
    assert (tight.load != loose.load).numpy().any()


def test_noise_starts_with_one_size_for_all_and_the_temperature_divides_it():
    mixture = make_mixture("noisy top 2")
    drawn = forward(mixture, EVERYONE).gate_logits
    start_noise_even(mixture.gate, E)
    seen = []

    def choose(gating):
        seen.append(gating.deviation)
        return routing.route_hard(gating.scores)

    output = forward(mixture, routed_way(choose))
    np.testing.assert_allclose(seen[0], np.full([S, E], (np.log(2) + 0.01) / 2), rtol=1e-5)
    np.testing.assert_array_equal(output.gate_logits, drawn)
    assert np.ptp(drawn) > 0.1


def test_noise_changes_who_answers_in_training_alone(mixtures):
    mixture, chosen = mixtures["noisy top 1"], router("noisy top 1")
    many = np.repeat(FEATURES[:1], 200, axis=0)
    first = forward(mixture, chosen.train, many).routing.expert_index
    assert len(np.unique(first)) > 1
    np.testing.assert_array_equal(first, forward(mixture, chosen.train, many).routing.expert_index)
    best = forward(mixture, chosen.evaluate, many)
    assert set(best.routing.expert_index.numpy().ravel()) == {best.gate_logits[0].numpy().argmax()}


def test_every_expert_is_taken_up_to_its_capacity_and_who_is_left_gets_the_fallback(mixtures):
    way = router("expert choice", capacity_factor=0.5).train
    output = forward(mixtures["expert choice"], way)
    taken = routing.asks_somebody(output.routing).numpy()
    assert taken.sum(axis=0).tolist() == [2] * E  # .5 * 12 / 3
    gate = probabilities(output.gate_log_probs)
    for e in range(E):
        assert set(np.flatnonzero(taken[:, e])) == set(np.argsort(-gate[:, e])[:2])
    left = ~taken.any(axis=1)
    assert left.any()
    np.testing.assert_allclose(probabilities(output.log_probs)[left], 1 / L, atol=1e-6)


@pytest.mark.parametrize(("factor", "share"), [(0.25, 0.75), (2.0, None), (3.0, 0.0)])
def test_examples_that_nobody_takes_are_counted_as_dropped(mixtures, factor, share):
    objective = JointObjective(
        mixtures["expert choice"],
        make_router("expert_choice", capacity_factor=factor),
        WEIGHTLESS,
        named=False,
    )
    outcome = objective.train(batch(), S)
    dropped = outcome.sums[objective.metric_names.index("dropped")] / S
    way = router("expert choice", capacity_factor=factor).train
    taken = routing.asks_somebody(forward(mixtures["expert choice"], way).routing).numpy()
    assert float(dropped) == pytest.approx((~taken.any(axis=1)).mean())
    if share is not None:
        assert dropped >= share  # 1 of 12 for each of 3 experts, or all for all
        assert (dropped == 0) == (share == 0)
