"""Goldens by hand, and which way each loss pushes the gate."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from moe import losses, routing
from moe.types import IMPOSSIBLE, Routing

LN2 = np.log(2.0)


def log(*probabilities):
    return tf.math.log(tf.constant(probabilities, tf.float32))


def test_pick_takes_the_entry_of_the_label():
    table = tf.reshape(tf.range(6.0), [2, 3])
    np.testing.assert_array_equal(losses.pick(table, tf.constant([2, 0])), [2, 3])


def test_pick_takes_the_same_label_for_every_expert():
    table = tf.reshape(tf.range(12.0), [2, 2, 3])  # [S, K, L]
    # example 0, label 1: 1 and 4; example 1, label 2: 8 and 11
    np.testing.assert_array_equal(losses.pick(table, tf.constant([1, 2])), [[1, 4], [8, 11]])


def test_cross_entropy():
    result = losses.cross_entropy(log([0.5, 0.5], [0.75, 0.25]), tf.constant([0, 1]))
    np.testing.assert_allclose(result, [LN2, 2 * LN2], rtol=1e-6)


def test_expected_loss_pays_each_expert_for_its_own_answer():
    chosen = Routing(tf.constant([[0, 1]]), log([0.25, 0.75]))
    blends = log([[0.5, 0.5], [0.875, 0.125]])
    # label 1: .25 * -ln .5 + .75 * -ln .125 = .25 ln 2 + .75 * 3 ln 2 = 2.5 ln 2
    result = losses.expected_loss(chosen, blends, tf.constant([1]))
    np.testing.assert_allclose(result, [2.5 * LN2], rtol=1e-6)


def stand_in(gate, ran, says, fallback):
    """The loss of examples whose experts `ran` (`[S, K]`, -1: nobody) say `says` of the label."""
    asked = tf.constant(ran) >= 0
    chosen = Routing(tf.maximum(ran, 0), tf.where(asked, 0.0, IMPOSSIBLE))
    says, fallback = says[..., tf.newaxis], fallback[..., tf.newaxis]
    return -losses.stand_in_log_probs(chosen, gate, says, fallback)[:, 0]


def test_the_fallback_stands_in_for_experts_that_did_not_run():
    gate = log([0.25, 0.75], [0.5, 0.5], [0.9, 0.1])
    says, fallback = log([0.8], [0.3], [0.7]), log(0.4, 0.2, 0.5)
    # .25 * .8 + .75 * .4 = .5;  .5 * .2 + .5 * .3 = .25;  nobody ran: .5
    result = stand_in(gate, [[0], [1], [-1]], says, fallback)
    np.testing.assert_allclose(result, [LN2, 2 * LN2, LN2], rtol=1e-5)


def test_the_fallback_stands_in_for_one_expert_of_three():
    gate, says = log([0.5, 0.3, 0.2]), log([0.1, 0.6])
    # experts 2 and 0 ran: .2 * .1 + .5 * .6 + .3 * .4 = .44; both and 1: no fallback
    result = stand_in(gate, [[2, 0]], says, log(0.4))
    np.testing.assert_allclose(result, [-np.log(0.44)], rtol=1e-5)
    result = stand_in(gate, [[2, 0, 1]], log([0.1, 0.6, 0.5]), log(0.4))
    np.testing.assert_allclose(result, [-np.log(0.02 + 0.3 + 0.15)], rtol=1e-5)


@pytest.mark.parametrize(("expert", "direction"), [(0.8, -1), (0.4, 0), (0.1, 1)])
def test_the_gate_insists_where_the_expert_beats_the_fallback(expert, direction):
    logits = log([0.3, 0.7])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = stand_in(tf.nn.log_softmax(logits), [[0]], log([expert]), log(0.4))
    gradient = tape.gradient(loss, logits).numpy()[0]
    # d/d(logit_0) of -ln(g q + (1 - g) r) = -g (1 - g) (q - r) / (g q + (1 - g) r)
    expected = -0.3 * 0.7 * (expert - 0.4) / (0.3 * expert + 0.7 * 0.4)
    np.testing.assert_allclose(gradient, [expected, -expected], atol=1e-5)
    assert np.sign(np.round(gradient[0], 4)) == direction


def test_a_stand_in_and_its_gradients_are_finite_at_the_ends():
    gates = [1e4, 90.0, 20.0, 0.5, 0.0, -20.0, -1e4]
    experts, fallbacks = [0.0, -1.0, -1e4, IMPOSSIBLE], [-1e-7, -2.3, -1e4]
    cases = np.array(list(itertools.product(gates, experts, fallbacks)), np.float32)
    gate, expert, fallback = (tf.constant(column) for column in cases.T)
    with tf.GradientTape() as tape:
        values = [tf.stack([gate, tf.zeros_like(gate)], axis=1), expert[:, tf.newaxis], fallback]
        tape.watch(values)
        ran = tf.zeros([len(cases), 1], tf.int32)
        loss = stand_in(tf.nn.log_softmax(values[0]), ran, *values[1:])
    assert np.isfinite(loss).all()
    assert all(np.isfinite(g).all() for g in tape.gradient(loss, values))


def test_expert_cross_entropy_counts_the_examples_own_expert_only():
    # example 0 belongs to expert 1, which says .25 of its label; example 1 belongs to expert 2,
    # which did not run; example 2 belongs to nobody.
    chosen = Routing(tf.constant([[0, 1], [0, 1], [1, 0]]), tf.zeros([3, 2]))
    answers = tf.stack([log([0.9, 0.1], [0.75, 0.25])] * 3)
    result = losses.expert_cross_entropy(
        chosen, answers, tf.constant([1, 1, 0]), tf.constant([1, 2, -1])
    )
    np.testing.assert_allclose(result, [2 * LN2, 0.0, 0.0], rtol=1e-6)


def test_expert_cross_entropy_is_not_spoiled_by_an_expert_that_cannot_name_the_label():
    answers = tf.constant([[[0.0, IMPOSSIBLE], [IMPOSSIBLE, -1.0]]])
    with tf.GradientTape() as tape:
        tape.watch(answers)
        chosen = Routing(tf.constant([[0, 1]]), tf.zeros([1, 2]))
        result = losses.expert_cross_entropy(chosen, answers, tf.constant([1]), tf.constant([1]))
    np.testing.assert_allclose(result, [1.0])
    gradient = tf.convert_to_tensor(tape.gradient(result, answers))
    np.testing.assert_array_equal(gradient, [[[0, 0], [0, -1]]])


# --- smoothed labels ----------------------------------------------------------------------------


def smoothed(probabilities, label, smoothing):
    """`-sum_c t_c log p_c` with the target written out."""
    log_probs = np.log(probabilities)
    target = np.full(log_probs.shape, smoothing / log_probs.shape[-1])
    target[..., label] += 1 - smoothing
    return -(target * log_probs).sum(axis=-1)


@pytest.mark.parametrize("smoothing", [0.0, 0.2, 0.9])
def test_every_class_has_its_share_of_a_smoothed_label(smoothing):
    p = [0.5, 0.3, 0.2]
    expected = [smoothed(p, label, smoothing) for label in (0, 2)]
    result = losses.cross_entropy(log(p, p), tf.constant([0, 2]), smoothing)
    np.testing.assert_allclose(result, expected, rtol=1e-6)
    # Least where the answer is the target itself.
    target = [1 - 2 * smoothing / 3, smoothing / 3, smoothing / 3]
    best = losses.cross_entropy(
        tf.math.log([target]) if smoothing else log([1, 1e-9, 1e-9]), tf.constant([0]), smoothing
    )
    assert float(best[0]) < expected[0]


def test_experts_are_paid_by_smoothed_labels():
    answers, label = [[[0.5, 0.3, 0.2], [0.1, 0.6, 0.3]]], tf.constant([1])
    each = [smoothed(p, 1, 0.3) for p in answers[0]]
    chosen = Routing(tf.constant([[0, 1]]), log([0.25, 0.75]))
    result = losses.expected_loss(chosen, log(*answers), label, 0.3)
    np.testing.assert_allclose(result, [0.25 * each[0] + 0.75 * each[1]], rtol=1e-6)
    own = losses.expert_cross_entropy(chosen, log(*answers), label, tf.constant([1]), 0.3)
    np.testing.assert_allclose(own, each[1:], rtol=1e-6)


def test_smoothing_asks_no_group_head_for_foreign_classes():
    inside = np.log(np.float32([0.7, 0.3]))
    head = tf.constant([[inside[0], inside[1], IMPOSSIBLE]])
    with tf.GradientTape() as tape:
        tape.watch(head)
        result = losses.cross_entropy(head, tf.constant([1]), 0.2)
    np.testing.assert_allclose(result, [smoothed([0.7, 0.3], 1, 0.2)], rtol=1e-6)
    gradient = tf.convert_to_tensor(tape.gradient(result, head))
    np.testing.assert_allclose(gradient, [[-0.1, -0.9, 0]], rtol=1e-6)


@pytest.mark.parametrize(
    ("counts", "importance", "expected"),
    [
        ([2, 2, 2], [2, 2, 2], 1.0),  # even: 3 * 3 * (1/3 * 1/3)
        ([6, 0, 0], [6, 0, 0], 3.0),  # collapse: 3 * (1 * 1)
        ([3, 1], [2.4, 1.6], 1.1),  # 2 * (3/4 * .6 + 1/4 * .4)
        ([0, 0], [0, 0], 0.0),  # no example at all
    ],
)
def test_load_balancing_loss(counts, importance, expected):
    result = losses.load_balancing_loss(
        tf.constant(counts, tf.float32), tf.constant(importance, tf.float32)
    )
    assert result.shape == []
    np.testing.assert_allclose(result, expected, rtol=1e-6)


def test_load_balancing_loss_moves_the_gate_away_from_the_busy_expert():
    counts, importance = tf.constant([3.0, 1.0]), tf.constant([2.4, 1.6])
    with tf.GradientTape() as tape:
        tape.watch(importance)
        loss = losses.load_balancing_loss(counts, importance)
    # d/dP_i of 2 (.75 P_0 + .25 P_1) / (P_0 + P_1) at (2.4, 1.6): 2 (f_i - .55) / 4
    np.testing.assert_allclose(tape.gradient(loss, importance), [0.1, -0.15], rtol=1e-5)


@pytest.mark.parametrize(
    ("amounts", "expected"),
    [
        ([2, 2, 2], 0.0),
        ([6, 0, 0], 2.0),  # mean 2, variance (16 + 4 + 4) / 3 = 8: E - 1
        ([3, 1], 0.25),  # mean 2, variance 1
        ([0, 0], 0.0),
    ],
)
def test_variation_loss(amounts, expected):
    result = losses.variation_loss(tf.constant(amounts, tf.float32))
    assert result.shape == []
    np.testing.assert_allclose(result, expected, rtol=1e-6)


def test_variation_loss_moves_mass_away_from_the_busy_expert():
    amounts = tf.constant([3.0, 1.0])
    with tf.GradientTape() as tape:
        tape.watch(amounts)
        loss = losses.variation_loss(amounts)
    # of two: d^2 with d = (a - b) / (a + b); 2 d * 2 b / (a + b)^2 and 2 d * -2 a / (a + b)^2
    np.testing.assert_allclose(tape.gradient(loss, amounts), [0.125, -0.375], rtol=1e-5)


def test_z_loss():
    # logsumexp(0, 0) = ln 2; logsumexp(1, 1, with -inf-like) = 1
    result = losses.z_loss(tf.constant([[0.0, 0.0], [1.0, -1e4]]))
    np.testing.assert_allclose(result, [LN2**2, 1.0], rtol=1e-6)
    assert losses.z_loss(tf.zeros([1, 2], tf.bfloat16)).dtype == tf.float32


def likelihood(gate_log_probs, blends, label):
    return losses.cross_entropy(routing.pool(routing.route_soft(gate_log_probs), blends), label)


def expected(gate_log_probs, blends, label):
    return losses.expected_loss(routing.route_soft(gate_log_probs), blends, label)


def top_2(gate_log_probs, blends, label):
    chosen = routing.route_top_k(gate_log_probs, 2)
    picked = tf.gather(blends, chosen.expert_index, axis=1, batch_dims=1)
    return losses.cross_entropy(routing.pool(chosen, picked), label)


def one_ran(gate_log_probs, blends, label):
    fallback = tf.fill(tf.shape(label), -tf.math.log(2.0))
    return stand_in(gate_log_probs, [[0]], losses.pick(blends[:, :1], label), fallback)


@pytest.mark.parametrize("mixture_loss", [likelihood, expected, top_2, one_ran])
def test_every_mixture_loss_moves_the_gate_towards_the_better_expert(mixture_loss):
    logits = tf.constant([[0.3, 0.1, -5.0]])
    # Expert 0 says .8 of the label, the others .2.
    blends = log([[0.8, 0.2], [0.2, 0.8], [0.2, 0.8]])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        gate_log_probs = routing.gate_log_probabilities(logits)
        loss = mixture_loss(gate_log_probs, blends, tf.constant([0]))
    gradient = tape.gradient(loss, logits).numpy()[0]
    assert gradient[0] < -1e-3
    assert gradient[1] > 1e-3
