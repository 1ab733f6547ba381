"""Hand-computed goldens, a NumPy reference for dispatch, and properties of every distribution."""

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from moe import losses, routing
from moe.types import IMPOSSIBLE, Routing


def log(*probabilities):
    return tf.math.log(tf.constant(probabilities, tf.float32))


# --- choosing ---------------------------------------------------------------------------------


def test_gate_log_probabilities_are_a_softmax():
    # exp(0) : exp(ln 3) = 1 : 3
    result = routing.gate_log_probabilities(tf.constant([[0.0, np.log(3.0)]]))
    np.testing.assert_allclose(tf.exp(result), [[0.25, 0.75]], rtol=1e-6)


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16])
def test_gate_log_probabilities_are_float32_whatever_comes_in(dtype):
    result = routing.gate_log_probabilities(tf.constant([[0.0, 1.0]], dtype))
    assert result.dtype == tf.float32
    # A half-precision softmax would be off by about 1e-3.
    np.testing.assert_allclose(tf.exp(result), [[1 / (1 + np.e), np.e / (1 + np.e)]], rtol=1e-6)


def test_soft_routing_asks_every_expert_with_the_gates_weight():
    gate = log([0.5, 0.3, 0.2], [0.1, 0.1, 0.8])
    result = routing.route_soft(gate)
    np.testing.assert_array_equal(result.expert_index, [[0, 1, 2], [0, 1, 2]])
    assert result.expert_index.dtype == tf.int32
    np.testing.assert_array_equal(result.log_weights, gate)


def test_hard_routing_asks_the_favourite_alone_and_the_first_of_equals():
    result = routing.route_hard(log([0.2, 0.5, 0.3], [0.4, 0.2, 0.4], [0.1, 0.1, 0.8]))
    np.testing.assert_array_equal(result.expert_index, [[1], [0], [2]])
    np.testing.assert_array_equal(result.log_weights, [[0.0], [0.0], [0.0]])


def test_top_k_renormalises_the_weights_of_the_favourites():
    result = routing.route_top_k(log([0.3, 0.2, 0.5]), k=2)
    np.testing.assert_array_equal(result.expert_index, [[2, 0]])
    # .5 / (.5 + .3) and .3 / (.5 + .3)
    np.testing.assert_allclose(tf.exp(result.log_weights), [[0.625, 0.375]], rtol=1e-6)


def test_top_1_is_hard_and_top_e_is_soft():
    gate = routing.gate_log_probabilities(tf.random.stateless_normal([20, 4], seed=[1, 2]))
    one, hard = routing.route_top_k(gate, k=1), routing.route_hard(gate)
    np.testing.assert_array_equal(one.expert_index, hard.expert_index)
    np.testing.assert_allclose(one.log_weights, hard.log_weights, atol=1e-6)
    everyone = routing.route_top_k(gate, k=4)
    in_order = tf.argsort(everyone.expert_index, axis=1)
    np.testing.assert_allclose(
        tf.gather(everyone.log_weights, in_order, batch_dims=1), gate, atol=1e-5
    )


def test_uniform_routing_ignores_the_gate():
    result = routing.route_uniform(log([0.97, 0.01, 0.01, 0.01]))
    np.testing.assert_array_equal(result.expert_index, [[0, 1, 2, 3]])
    np.testing.assert_allclose(tf.exp(result.log_weights), [[0.25] * 4], rtol=1e-6)


def test_routing_to_a_named_expert():
    result = routing.route_to(tf.constant([2, 0], tf.int64))
    np.testing.assert_array_equal(result.expert_index, [[2], [0]])
    np.testing.assert_array_equal(result.log_weights, [[0.0], [0.0]])


def test_sampled_routing_draws_from_the_gate():
    size = 4000
    gate = tf.repeat(log([0.2, 0.0, 0.8]), size, axis=0)
    result = routing.route_sampled(gate, tf.random.stateless_uniform([size, 3], [3, 4]))
    share = np.bincount(result.expert_index[:, 0], minlength=3) / size
    # Deviation of a share: sqrt(.2 * .8 / 4000) = .0063.
    np.testing.assert_allclose(share, [0.2, 0.0, 0.8], atol=5 * 0.0063)
    assert share[1] == 0
    np.testing.assert_array_equal(result.log_weights, np.zeros([size, 1]))


def test_sampled_routing_by_hand():
    # -log(-log u) is .3665 for u = .5 and 2.2504 for u = .9; a draw of 0 loses to everything.
    gate = log([0.8, 0.2], [0.9, 0.1], [0.5, 0.5])
    uniform = tf.constant([[0.5, 0.9], [0.5, 0.9], [0.0, 1e-6]])
    # log .8 + .3665 = .1433 < log .2 + 2.2504 = .6410; log .9 + .3665 = .2611 > -.0522
    np.testing.assert_array_equal(
        routing.route_sampled(gate, uniform).expert_index, [[1], [0], [1]]
    )


def test_top_k_by_scores_keeps_the_weights_of_the_gate():
    result = routing.route_top_k(log([0.3, 0.2, 0.5]), 2, tf.constant([[0.1, 0.4, 0.2]]))
    np.testing.assert_array_equal(result.expert_index, [[1, 2]])
    np.testing.assert_allclose(tf.exp(result.log_weights), [[2 / 7, 5 / 7]], rtol=1e-6)


def test_a_balance_bias_is_added_to_probabilities():
    gate = log([0.5, 0.3, 0.2])
    plain, balanced = routing.gating(gate), routing.gating(gate, tf.constant([0.0, 0.25, -0.1]))
    np.testing.assert_array_equal(plain.scores, gate)
    np.testing.assert_allclose(balanced.scores, [[0.5, 0.55, 0.1]], rtol=1e-6)
    np.testing.assert_array_equal(balanced.log_probs, gate)


def test_the_bias_rises_where_the_load_is_below_its_mean():
    # mean 4
    np.testing.assert_allclose(
        routing.bias_step(tf.constant([6.0, 2.0, 4.0]), 0.1), [-0.1, 0.1, 0.0], rtol=1e-6
    )


@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16])
def test_the_deviation_of_the_noise_is_a_softplus(dtype):
    result = routing.noise_deviation(tf.constant([0.0, -100.0], dtype))
    assert result.dtype == tf.float32
    np.testing.assert_allclose(result, [np.log(2) + 0.01, 0.01], rtol=1e-6)


NOISY = (
    log([0.5, 0.3, 0.2]),
    tf.constant([[0.5, 1.0, 2.0]]),  # deviations
    tf.constant([[0.0, 1.0, 0.5]]),  # draws
)


def test_noisy_top_k_chooses_and_weighs_by_the_noisy_gate():
    result = routing.route_noisy_top_k(*NOISY, k=2)
    # H = log(.5), log(.3 e), log(.2 e) = log of .5, .815, .544
    np.testing.assert_array_equal(result.expert_index, [[1, 2]])
    np.testing.assert_allclose(tf.exp(result.log_weights), [[0.6, 0.4]], rtol=1e-6)


@pytest.mark.parametrize(
    ("k", "distances"),
    [
        # Expert 0 is out and would have to beat .2 e; the others, to stay in, .5.
        (2, [np.log(0.5 / (0.2 * np.e)) / 0.5, np.log(0.3 / 0.5), np.log(0.2 / 0.5) / 2]),
        # Expert 1 is in and has to stay above .2 e; the others have to beat .3 e.
        (
            1,
            [
                np.log(0.5 / (0.3 * np.e)) / 0.5,
                np.log(0.3 / (0.2 * np.e)),
                np.log(2 / 3 / np.e) / 2,
            ],
        ),
    ],
)
def test_the_chance_of_being_chosen_under_noise(k, distances):
    result = routing.route_noisy_top_k(*NOISY, k=k)
    np.testing.assert_allclose(result.chance, [scipy.stats.norm.cdf(distances)], rtol=1e-5)


def test_the_chance_is_how_often_an_expert_is_chosen_when_its_own_noise_is_drawn_again():
    gate, deviation, normal = NOISY
    draws = 4000
    for expert in range(3):
        again = tf.random.stateless_normal([draws, 1], [expert, 5])
        mine = tf.one_hot([expert], 3) > 0
        chosen = routing.route_noisy_top_k(gate, deviation, tf.where(mine, again, normal), k=2)
        share = (chosen.expert_index.numpy() == expert).any(axis=1).mean()
        chance = routing.route_noisy_top_k(*NOISY, k=2).chance[0, expert]
        assert abs(share - chance) < 5 * 0.5 / np.sqrt(draws)


def test_the_chance_and_its_gradients_are_finite_whatever_the_logits():
    values = [tf.constant(logits(1, 50, 4)), tf.constant(logits(2, 50, 4))]
    with tf.GradientTape() as tape:
        tape.watch(values)
        gate = routing.gate_log_probabilities(values[0])
        deviation = routing.noise_deviation(values[1])
        normal = tf.random.stateless_normal([50, 4], [1, 2])
        chance = routing.route_noisy_top_k(gate, deviation, normal, k=2).chance
    assert ((chance >= 0) & (chance <= 1)).numpy().all()
    assert all(np.isfinite(g).all() for g in tape.gradient(chance, values))


@pytest.mark.parametrize(
    ("factor", "weights"),
    [
        # 2 of 4 examples each: the first two and the last two
        (1.0, [[1, 0], [1, 0], [0, 1], [0, 1]]),
        # 3 each: those in the middle are taken twice
        (1.5, [[1, 0], [0.8, 0.2], [0.6, 0.4], [0, 1]]),
        # 1 each: nobody takes those in the middle
        (0.5, [[1, 0], [0, 0], [0, 0], [0, 1]]),
        # never more than there are
        (9.0, [[0.9, 0.1], [0.8, 0.2], [0.6, 0.4], [0.3, 0.7]]),
    ],
)
def test_experts_choose_their_best_examples(factor, weights):
    gate = log([0.9, 0.1], [0.8, 0.2], [0.6, 0.4], [0.3, 0.7])
    result = routing.route_expert_choice(gate, factor)
    np.testing.assert_array_equal(result.expert_index, [[0, 1]] * 4)
    np.testing.assert_allclose(tf.exp(result.log_weights), weights, rtol=1e-6)
    np.testing.assert_array_equal(routing.answered(result), np.sum(weights, axis=1) > 0)


# --- dispatch and combine: one set of scenarios for every implementation ------------------------

NUM_EXPERTS = 3
SCENARIOS = {
    "balanced": [[0], [1], [2], [0], [1], [2]],
    "interleaved": [[2], [0], [1], [0], [2], [1]],
    "skewed": [[0], [0], [1], [0], [0], [2]],
    "empty expert": [[2], [0], [0], [2], [0], [2]],
    "one-example expert": [[0], [0], [2], [2], [1], [0]],
    "all to the last": [[2], [2], [2]],
    "single example": [[1]],
    "two experts": [[0, 1], [1, 2], [2, 0], [0, 2]],
    "two experts, one empty": [[0, 2], [2, 0], [0, 2]],
    "every expert": [[0, 1, 2], [2, 1, 0], [1, 0, 2]],
}
WIDTHS = [4, 1]


def scenario(name):
    """The assignment, two inputs and the weights of three linear experts."""
    assignment = np.array(SCENARIOS[name], np.int32)
    rng = np.random.default_rng(7)
    x = rng.normal(size=(len(assignment), 5)).astype(np.float32)
    y = rng.normal(size=(len(assignment), 2, 2)).astype(np.float32)
    weights = rng.normal(size=(NUM_EXPERTS, 5, WIDTHS[0])).astype(np.float32)
    return assignment, x, y, weights


def as_routing(assignment):
    share = tf.fill(assignment.shape, np.float32(-np.log(assignment.shape[1])))
    return Routing(tf.constant(assignment), share)


def make_branches(weights, on_call=lambda e, rows: None):
    """Expert e: `x @ W_e`, and e + the sum of y, so that a swapped row or expert shows."""

    def branch(e):
        def run(x, y):
            on_call(e, tf.shape(x)[0])
            return x @ weights[e], e + tf.reduce_sum(y, axis=[1, 2])[:, tf.newaxis]

        return run

    return [branch(e) for e in range(NUM_EXPERTS)]


def reference(assignment, x, y, weights):
    linear = [[x[s] @ weights[e] for e in row] for s, row in enumerate(assignment)]
    sums = [[[e + y[s].sum()] for e in row] for s, row in enumerate(assignment)]
    return np.array(linear), np.array(sums)


@pytest.mark.parametrize("execute", [routing.run_routed, routing.run_dense])
@pytest.mark.parametrize("name", SCENARIOS)
def test_every_execution_gives_each_row_its_own_experts_answer(name, execute):
    assignment, x, y, weights = scenario(name)
    results = execute(
        as_routing(assignment), [tf.constant(x), tf.constant(y)], make_branches(weights), WIDTHS
    )
    for result, expected in zip(results, reference(assignment, x, y, weights), strict=True):
        assert result.shape == expected.shape
        np.testing.assert_allclose(result, expected, atol=1e-5)


@pytest.mark.parametrize("execute", [routing.run_routed, routing.run_dense])
def test_every_execution_takes_any_batch_in_one_trace(execute):
    weights = scenario("skewed")[3]

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, 1], tf.int32),
            tf.TensorSpec([None, 5]),
            tf.TensorSpec([None, 2, 2]),
        ]
    )
    def traced(index, x, y):
        chosen = Routing(index, tf.zeros(tf.shape(index)))
        return execute(chosen, [x, y], make_branches(weights), WIDTHS)

    for name in ("balanced", "empty expert", "single example"):
        assignment, x, y, _ = scenario(name)
        results = traced(assignment, x, y)
        for result, expected in zip(results, reference(assignment, x, y, weights), strict=True):
            np.testing.assert_allclose(result, expected, atol=1e-5)
    assert traced.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("name", ["skewed", "empty expert", "two experts", "every expert"])
def test_routed_and_dense_execution_have_the_same_gradients(name):
    assignment, x, y, weights = scenario(name)

    def gradients(execute):
        inputs, variable = tf.constant(x), tf.constant(weights)
        with tf.GradientTape() as tape:
            tape.watch([inputs, variable])
            results = execute(as_routing(assignment), [inputs, y], make_branches(variable), WIDTHS)
            loss = tf.reduce_sum(tf.square(results[0])) + tf.reduce_sum(results[1])
        return tape.gradient(loss, [inputs, variable])

    for routed, dense in zip(
        gradients(routing.run_routed), gradients(routing.run_dense), strict=True
    ):
        np.testing.assert_allclose(tf.convert_to_tensor(routed), dense, rtol=1e-4, atol=1e-5)
        assert tf.reduce_any(dense != 0)


@pytest.mark.parametrize(
    ("name", "compiled"),
    [(name, False) for name in SCENARIOS] + [("empty expert", True), ("two experts", True)],
)
def test_experts_process_exactly_the_rows_that_are_routed_to_them(name, compiled):
    assignment, x, y, weights = scenario(name)
    calls = tf.Variable(tf.zeros([NUM_EXPERTS], tf.int32))
    rows = tf.Variable(tf.zeros([NUM_EXPERTS], tf.int32))

    def count(e, size):
        calls.scatter_nd_add([[e]], [1])
        rows.scatter_nd_add([[e]], [size])

    def run(index):
        chosen = Routing(index, tf.zeros(tf.shape(index)))
        return routing.run_routed(chosen, [x, y], make_branches(weights, count), WIDTHS)

    run = tf.function(run, autograph=False) if compiled else run
    run(tf.constant(assignment))
    assert rows.numpy().sum() == assignment.size  # S * K
    np.testing.assert_array_equal(rows, np.bincount(assignment.ravel(), minlength=NUM_EXPERTS))
    np.testing.assert_array_equal(calls, rows.numpy() > 0)  # an expert without a row never runs


def test_dense_execution_runs_every_expert_on_every_row():
    assignment, x, y, weights = scenario("skewed")
    rows = []
    branches = make_branches(weights, lambda e, size: rows.append(int(size)))
    routing.run_dense(as_routing(assignment), [x, y], branches, WIDTHS)
    assert rows == [len(assignment)] * NUM_EXPERTS


def test_expert_counts():
    log_weights = tf.constant([[0, 0], [0, IMPOSSIBLE], [0, 0]], tf.float32)
    chosen = Routing(tf.constant([[0, 2], [2, 3], [2, 0]]), log_weights)
    counts = routing.expert_counts(chosen, num_experts=5)
    np.testing.assert_array_equal(counts, [2, 0, 3, 0, 0])  # the slot that asks 3 asks nobody
    assert counts.dtype == tf.float32
    np.testing.assert_array_equal(routing.named_counts(chosen, num_experts=5), [2, 0, 3, 1, 0])


def _shares(routing_, favourite, num_experts, experts):
    found = routing.load_shares(routing_, tf.constant(favourite), num_experts, experts)
    asked, left = (share.numpy() for share in found)
    assert asked.dtype == left.dtype == np.float32
    return asked.tolist(), left.tolist()


def test_load_before_and_after_capacity_by_hand():
    log_weights = tf.constant([[0, 0], [0, IMPOSSIBLE], [IMPOSSIBLE] * 2], tf.float32)
    chosen = Routing(tf.constant([[0, 2], [2, 3], [2, 0]]), log_weights)
    asked, left = _shares(chosen, [0, 2, 2], num_experts=4, experts=2)
    assert asked == [[0.5, 0, 0.5, 0], [0, 0, 0.5, 0.5], [0.5, 0, 0.5, 0]]
    assert left == [[0.5, 0, 0.5, 0], [0, 0, 0.5, 0], [0, 0, 0, 0]]


def test_where_everybody_is_asked_the_load_is_that_of_the_favourites():
    gate = tf.math.log([[0.2, 0.5, 0.3], [0.6, 0.2, 0.2]])
    asked, left = _shares(routing.route_soft(gate), [1, 0], num_experts=3, experts=3)
    assert asked == left == [[0, 1, 0], [1, 0, 0]]


def test_where_experts_choose_the_load_is_the_gates_and_what_is_left_is_taken():
    """Everybody likes expert 0, but the two take one of two examples each: C = .8 * 2 / 2."""
    gate = tf.math.log([[0.9, 0.1], [0.6, 0.4]])
    asked, left = _shares(routing.route_expert_choice(gate, 0.8), [0, 0], num_experts=2, experts=1)
    assert asked == [[1, 0], [1, 0]]
    assert left == [[1, 0], [0, 1]]
    # Two slots an example on average, of four experts who take two of four examples each.
    gate = tf.math.log(tf.constant([[4, 3, 2, 1], [4, 3, 2, 1], [1, 2, 3, 4], [1, 2, 3, 4]]) / 10)
    chosen = routing.route_expert_choice(tf.cast(gate, tf.float32), 2.0)
    asked, left = _shares(chosen, [0, 0, 3, 3], num_experts=4, experts=2.0)
    assert np.sum(asked, axis=0).tolist() == [2, 0, 0, 2]
    assert np.sum(left, axis=0).tolist() == [1, 1, 1, 1]


def test_dropped_by_hand():
    half = Routing(tf.constant([[0, 2], [2, 3], [2, 0]]), silent_slots([[0, 0], [0, 1], [1, 1]]))
    assert routing.dropped_shares(half, experts=2).numpy().tolist() == [0, 0.5, 1]
    # Two an example on average; the first example is taken by one, the last one by nobody.
    chosen = Routing(tf.constant([[0, 1, 2]] * 3), silent_slots([[1, 1, 0], [0, 0, 0], [1, 1, 1]]))
    assert routing.dropped_shares(chosen, experts=2.0).numpy().tolist() == [0, 0, 1]


def silent_slots(silence):
    return tf.where(tf.constant(silence) > 0, IMPOSSIBLE, 0.0)


# --- slots that ask nobody ------------------------------------------------------------------------


def silent(assignment, silence):
    """The assignment as a `Routing` in which the slots of `silence` ask nobody."""
    chosen = as_routing(assignment)
    return chosen._replace(log_weights=tf.where(silence, IMPOSSIBLE, chosen.log_weights))


def run_in_room(chosen, *rest):
    """`run_fixed` with room for everybody."""
    return routing.run_fixed(chosen, *rest, factor=float(NUM_EXPERTS))


@pytest.mark.parametrize("execute", [routing.run_routed, run_in_room])
@pytest.mark.parametrize("name", SCENARIOS)
def test_slots_that_ask_nobody_cost_nothing_and_answer_zeros(name, execute):
    assignment, x, y, weights = scenario(name)
    silence = np.random.default_rng(1).random(assignment.shape) < 0.4
    rows = []
    branches = make_branches(weights, lambda e, size: rows.append(int(size)))
    results = execute(
        silent(assignment, silence), [tf.constant(x), tf.constant(y)], branches, WIDTHS
    )
    for result, expected in zip(results, reference(assignment, x, y, weights), strict=True):
        np.testing.assert_allclose(result, np.where(silence[..., None], 0, expected), atol=1e-5)
    if execute is routing.run_routed:
        assert sum(rows) == (~silence).sum()


def test_soft_routing_above_a_threshold():
    gate = log([0.5, 0.3, 0.2], [0.26, 0.37, 0.37], [0.1, 0.1, 0.8])
    result = routing.route_above(gate, 0.25)
    np.testing.assert_array_equal(result.expert_index, [[0, 1, 2]] * 3)
    # .5 and .3 of .8; everyone; the last alone
    expected = [[0.625, 0.375, 0], [0.26, 0.37, 0.37], [0, 0, 1]]
    np.testing.assert_allclose(tf.exp(result.log_weights), expected, atol=1e-6)


def test_the_favourite_answers_whatever_the_threshold():
    result = routing.route_above(log([0.4, 0.4, 0.2]), 0.9)
    np.testing.assert_allclose(tf.exp(result.log_weights), [[1, 0, 0]], atol=1e-6)


def test_no_threshold_is_soft_routing():
    gate = routing.gate_log_probabilities(tf.random.stateless_normal([20, 4], seed=[1, 2]))
    np.testing.assert_allclose(routing.route_above(gate, 0.0).log_weights, gate, atol=1e-6)


# --- fixed capacity -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "num_chosen", "num_experts", "factor", "capacity"),
    [(128, 1, 4, 1.25, 40), (10, 2, 3, 1.0, 7), (4, 1, 16, 1.0, 1), (3, 1, 64, 0.5, 1)],
)
def test_expert_capacity(size, num_chosen, num_experts, factor, capacity):
    assert routing.expert_capacity(size, num_chosen, num_experts, factor) == capacity


def test_what_is_over_capacity_asks_nobody_the_later_in_the_batch_the_sooner():
    # Room for 2: six rows, three experts, factor 1.
    chosen = as_routing(np.array([[0], [0], [1], [0], [0], [2]], np.int32))
    limited = routing.limit_capacity(chosen, NUM_EXPERTS, 1.0)
    asks = routing.asks_somebody(limited)[:, 0]
    np.testing.assert_array_equal(asks, [True, True, True, False, False, True])
    np.testing.assert_array_equal(routing.answered(limited), asks)
    np.testing.assert_array_equal(limited.log_weights[:3, 0], [0, 0, 0])


def test_first_choices_come_before_second_ones_and_weights_are_renormalised():
    # Room for 2 = ceil(.9 * 3 * 2 / 3). Expert 0 is the first choice of rows 1 and 2, the second
    # of row 0; expert 1 the other way round.
    chosen = Routing(
        tf.constant([[1, 0], [0, 1], [0, 1]]), log([0.75, 0.25], [0.5, 0.5], [0.9, 0.1])
    )
    limited = routing.limit_capacity(chosen, NUM_EXPERTS, 0.9)
    np.testing.assert_allclose(tf.exp(limited.log_weights), [[1, 0], [0.5, 0.5], [1, 0]], atol=1e-6)


@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_fixed_shapes_give_the_same_answers_and_gradients(name, factor):
    assignment, x, y, weights = scenario(name)
    limited = routing.limit_capacity(as_routing(assignment), NUM_EXPERTS, factor)

    def fixed(*arguments):
        return routing.run_fixed(*arguments, factor=factor)

    def run(execute):
        variable = tf.constant(weights)
        with tf.GradientTape() as tape:
            tape.watch(variable)
            results = execute(limited, [tf.constant(x), y], make_branches(variable), WIDTHS)
            loss = tf.reduce_sum(tf.square(results[0])) + tf.reduce_sum(results[1])
        return *results, tape.gradient(loss, variable)

    for found, expected in zip(run(fixed), run(routing.run_routed), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_every_expert_processes_its_capacity_and_drops_the_rest_under_xla_too():
    assignment, x, y, weights = scenario("skewed")
    rows = []

    def run(chosen, on_call=lambda e, size: None):
        limited = routing.limit_capacity(chosen, NUM_EXPERTS, 1.0)
        branches = make_branches(weights, on_call)
        return routing.run_fixed(limited, [x, y], branches, WIDTHS, factor=1.0)

    eager = run(as_routing(assignment), lambda e, size: rows.append(int(size)))
    assert rows == [2, 2, 2]
    expected = reference(assignment, x, y, weights)[0]
    expected[3:5] = 0  # the third and the fourth for expert 0
    compiled = tf.function(run, jit_compile=True, autograph=False)(as_routing(assignment))
    for result in (eager, compiled):
        np.testing.assert_allclose(result[0], expected, atol=1e-5)


# --- pooling ----------------------------------------------------------------------------------


def test_masked_log_softmax_spreads_over_allowed_entries_only():
    logits = tf.constant([[0.0, np.log(2.0), 5.0]])
    result = routing.masked_log_softmax(logits, tf.constant([True, True, False]))
    # 1 : 2 over what is allowed
    np.testing.assert_allclose(tf.exp(result), [[1 / 3, 2 / 3, 0.0]], rtol=1e-6)
    assert result[0, 2] == IMPOSSIBLE
    assert np.isfinite(result).all()


@pytest.mark.parametrize("value", [0.0, 5.0, 1e4, -1e4])
def test_masked_entries_get_no_gradient(value):
    logits = tf.constant([[0.5, 1.0, value]])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        result = routing.masked_log_softmax(logits, tf.constant([True, True, False]))
        loss = -result[0, 0]
    gradient = tape.gradient(loss, logits)
    # d(-log p_0) = p - onehot_0; p_0 = 1 / (1 + e^.5)
    p = 1 / (1 + np.exp(0.5))
    np.testing.assert_allclose(gradient, [[p - 1, 1 - p, 0.0]], atol=1e-6)


def test_blend_with_one_share_an_example():
    # a = 1/4: .75 * .5 + .25 * .9 = .6 and .75 * .5 + .25 * .1 = .4
    boost = tf.constant([[np.log(1 / 3)]], tf.float32)  # sigmoid = 1/4
    result = routing.blend_log_probabilities(log([0.5, 0.5]), log([0.9, 0.1]), boost)
    np.testing.assert_allclose(tf.exp(result), [[0.6, 0.4]], rtol=1e-6)


def test_blend_with_one_share_a_class_is_renormalised():
    # a = (3/4, 1/4): .25 * .5 + .75 * .9 = .8 and .75 * .5 + .25 * .1 = .4; sum 1.2
    boost = tf.constant([[np.log(3.0), -np.log(3.0)]], tf.float32)
    result = routing.blend_log_probabilities(log([0.5, 0.5]), log([0.9, 0.1]), boost)
    np.testing.assert_allclose(tf.exp(result), [[2 / 3, 1 / 3]], rtol=1e-6)


@pytest.mark.parametrize(("boost", "expected"), [(1e4, [0.9, 0.1]), (-1e4, [0.3, 0.7])])
def test_blend_at_the_ends_is_the_expert_or_the_baseline(boost, expected):
    result = routing.blend_log_probabilities(
        log([0.3, 0.7]), log([0.9, 0.1]), tf.constant([[boost]])
    )
    np.testing.assert_allclose(tf.exp(result), [expected], rtol=1e-5)


def test_pool_is_the_weighted_sum_of_probabilities():
    chosen = Routing(tf.constant([[0, 1]]), log([0.25, 0.75]))
    # .25 * .2 + .75 * .6 = .5 and .25 * .8 + .75 * .4 = .5
    result = routing.pool(chosen, log([[0.2, 0.8], [0.6, 0.4]]))
    np.testing.assert_allclose(tf.exp(result), [[0.5, 0.5]], rtol=1e-6)


def test_who_asks_nobody_gets_the_fallback():
    chosen = Routing(tf.constant([[0], [1]]), tf.constant([[0.0], [IMPOSSIBLE]]))
    answers = log([[0.2, 0.8]], [[0.9, 0.1]])
    result = routing.pool(chosen, answers, log([0.5, 0.5], [0.3, 0.7]))
    np.testing.assert_allclose(tf.exp(result), [[0.2, 0.8], [0.3, 0.7]], rtol=1e-6)


GROUP_OF_CLASS = tf.constant([0, 1, 0, 1, 1])


def group_experts():
    """`[1, 2, 5]`: f_0 = (.75, -, .25, -, -), f_1 = (-, .5, -, .3, .2)."""
    return tf.maximum(log([[0.75, 0, 0.25, 0, 0], [0, 0.5, 0, 0.3, 0.2]]), IMPOSSIBLE)


def test_spread_pooling_leaves_the_mass_of_other_groups_evenly_to_their_classes():
    gate = log([0.6, 0.4])
    chosen = routing.route_hard(gate)
    result = routing.pool_spread(chosen, gate, group_experts()[:, :1], GROUP_OF_CLASS)
    # expert 0 ran: .6 * (.75, .25); .4 over the three classes of the other group
    np.testing.assert_allclose(tf.exp(result), [[0.45, 0.4 / 3, 0.15, 0.4 / 3, 0.4 / 3]], rtol=1e-6)


def test_spread_pooling_when_the_second_expert_ran():
    gate = log([0.4, 0.6])
    chosen = routing.route_hard(gate)
    result = routing.pool_spread(chosen, gate, group_experts()[:, 1:], GROUP_OF_CLASS)
    np.testing.assert_allclose(tf.exp(result), [[0.2, 0.3, 0.2, 0.18, 0.12]], rtol=1e-6)


def test_spread_pooling_with_every_expert_is_soft_pooling():
    gate = log([0.6, 0.4])
    chosen = routing.route_soft(gate)
    experts = group_experts()
    spread = routing.pool_spread(chosen, gate, experts, GROUP_OF_CLASS)
    np.testing.assert_allclose(tf.exp(spread), [[0.45, 0.2, 0.15, 0.12, 0.08]], rtol=1e-6)
    np.testing.assert_allclose(tf.exp(spread), tf.exp(routing.pool(chosen, experts)), rtol=1e-6)


# --- properties: normalised and differentiable whatever the logits ------------------------------

S, E, L = 200, 2, 5
SEEDS = st.integers(0, 10_000)
# The same cases in every run, no time limit for a single one, nothing written to disk.
repeated = settings(deadline=None, max_examples=6, derandomize=True, database=None)


def logits(seed, *shape):
    """Rows of one scale each, from almost nothing to 1e4, every tenth logit +-1e4 or exactly 0."""
    rng = np.random.default_rng(seed)
    scale = 10.0 ** rng.uniform(-3, 4, size=(shape[0], *[1] * (len(shape) - 1)))
    values = scale * rng.normal(size=shape).clip(-1, 1)
    extreme = rng.choice([-1e4, 0.0, 1e4], size=shape)
    return np.where(rng.random(shape) < 0.1, extreme, values).astype(np.float32)


ROUTES = {
    "soft": routing.route_soft,
    "hard": routing.route_hard,
    "top 2": lambda gate: routing.route_top_k(gate, 2),
    "uniform": routing.route_uniform,
}


def check_distribution_and_gradients(variables, distribution):
    """Sums to 1 within 1e-5 on every row; the NLL of any label and its gradients are finite."""
    label = tf.range(S) % L
    variables = [tf.constant(v) for v in variables]
    with tf.GradientTape() as tape:
        tape.watch(variables)
        log_probs = distribution(*variables)
        loss = losses.cross_entropy(log_probs, label)
    assert log_probs.dtype == tf.float32
    np.testing.assert_allclose(
        np.exp(log_probs.numpy().astype(np.float64)).sum(axis=1), 1, atol=1e-5
    )
    assert np.isfinite(loss).all()
    for gradient in tape.gradient(loss, variables, unconnected_gradients="zero"):
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize("route", ROUTES)
@repeated
@given(seed=SEEDS)
def test_pool_is_a_distribution_with_finite_gradients(route, seed):
    def distribution(gate, experts):
        chosen = ROUTES[route](routing.gate_log_probabilities(gate))
        every = tf.nn.log_softmax(experts)
        return routing.pool(chosen, tf.gather(every, chosen.expert_index, axis=1, batch_dims=1))

    gate, experts = logits(seed, S, E), logits(seed + 1, S, E, L)
    check_distribution_and_gradients([gate, experts], distribution)


@pytest.mark.parametrize("width", [1, L], ids=["scalar", "per_class"])
@repeated
@given(seed=SEEDS)
def test_blend_is_a_distribution_with_finite_gradients(width, seed):
    def distribution(baseline, expert, boost):
        return routing.blend_log_probabilities(
            tf.nn.log_softmax(baseline), tf.nn.log_softmax(expert), boost[:, :width]
        )

    three = [logits(seed + n, S, L) for n in range(3)]
    check_distribution_and_gradients(three, distribution)


@repeated
@given(seed=SEEDS)
def test_blend_with_a_group_head_is_a_distribution_with_finite_gradients(seed):
    def distribution(baseline, expert, boost):
        mask = GROUP_OF_CLASS == 1
        return routing.blend_log_probabilities(
            tf.nn.log_softmax(baseline), routing.masked_log_softmax(expert, mask), boost
        )

    three = [logits(seed + n, S, L) for n in range(3)]
    check_distribution_and_gradients(three, distribution)


@pytest.mark.parametrize("route", ["soft", "hard", "top 2"])
@repeated
@given(seed=SEEDS)
def test_spread_pool_is_a_distribution_with_finite_gradients(route, seed):
    def distribution(gate, experts):
        gate = routing.gate_log_probabilities(gate)
        chosen = ROUTES[route](gate)
        mask = tf.range(E)[:, tf.newaxis] == GROUP_OF_CLASS  # [E, L]
        every = routing.masked_log_softmax(experts, mask)
        picked = tf.gather(every, chosen.expert_index, axis=1, batch_dims=1)
        return routing.pool_spread(chosen, gate, picked, GROUP_OF_CLASS)

    gate, experts = logits(seed, S, E), logits(seed + 1, S, E, L)
    check_distribution_and_gradients([gate, experts], distribution)
