"""What holds for routing and losses whatever the numbers: any sizes, any assignment."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from moe import losses, routing
from moe.types import IMPOSSIBLE, Routing

# The same cases in every run, no time limit for a single one, nothing written to disk.
repeated = settings(deadline=None, max_examples=15, derandomize=True, database=None)
L = 4
GATES = st.tuples(st.integers(1, 12), st.integers(1, 5), st.integers(0, 10_000))
"""Examples, experts, seed."""


def gate_of(size: int, experts: int, seed: int) -> np.ndarray:
    """A gate's distribution, from undecided to sure."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(size, experts)) * 10.0 ** rng.uniform(-2, 3)
    return tf.nn.log_softmax(tf.constant(logits, tf.float32)).numpy()


@st.composite
def routings(draw) -> tuple[Routing, int]:
    """Any assignment, no expert twice in a row, some slots asking nobody; and E."""
    size, experts, seed = draw(GATES)
    chosen = draw(st.integers(1, experts))
    rng = np.random.default_rng(seed)
    index = np.argsort(rng.random((size, experts)), axis=1)[:, :chosen].astype(np.int32)
    asks = rng.random((size, chosen)) < draw(st.sampled_from([0.0, 0.5, 0.9, 1.0]))
    weights = routing.masked_log_softmax(
        tf.constant(rng.normal(size=(size, chosen)), tf.float32), tf.constant(asks)
    )
    return Routing(tf.constant(index), weights), experts


def answers_of(size: int, slots: int, seed: int) -> tf.Tensor:
    """What the experts in the slots say: `[S, K, L]`, normalised."""
    rng = np.random.default_rng(seed + 1)
    return tf.nn.log_softmax(tf.constant(5 * rng.normal(size=(size, slots, L)), tf.float32))


def labels_of(size: int) -> tf.Tensor:
    return tf.range(size) % L


def shares(chosen: Routing) -> np.ndarray:
    """The sum of an example's weights."""
    return np.exp(chosen.log_weights.numpy().astype(np.float64)).sum(axis=1)


@repeated
@given(routings())
def test_rows_go_to_their_experts_and_come_back(case):
    chosen, experts = case
    size = chosen.expert_index.shape[0]
    inputs = tf.reshape(tf.range(2.0 * size), [size, 2])
    seen = []

    def expert(number: int):
        def run(rows):
            seen.append(len(rows))
            return (rows * (number + 1.0),)

        return run

    branches = [expert(e) for e in range(experts)]
    (found,) = routing.run_routed(chosen, [inputs], branches, [2])
    asked = routing.asks_somebody(chosen).numpy()
    assert sum(seen) == asked.sum() == routing.expert_counts(chosen, experts).numpy().sum()
    expected = inputs[:, tf.newaxis] * (tf.cast(chosen.expert_index, tf.float32) + 1)[..., None]
    np.testing.assert_array_equal(found, np.where(asked[..., None], expected, 0))


@repeated
@given(routings(), st.sampled_from([0.3, 1.0, 1.25, 10.0]))
def test_no_expert_gets_more_than_it_has_room_for_and_the_first_come_first(case, factor):
    chosen, experts = case
    size, slots = chosen.expert_index.shape
    kept = routing.limit_capacity(chosen, experts, factor)
    capacity = routing.expert_capacity(size, slots, experts, factor)
    before, after = (routing.asks_somebody(r).numpy() for r in (chosen, kept))
    assert not (after & ~before).any()
    index = chosen.expert_index.numpy()
    for e in range(experts):
        # First choices before second ones, and within them the order of the batch.
        mine = after.T[before.T & np.equal(index.T, e)].tolist()
        assert mine == [True] * min(capacity, len(mine)) + [False] * max(0, len(mine) - capacity)
    np.testing.assert_allclose(shares(kept), after.any(axis=1), atol=1e-5)


@repeated
@given(GATES, st.floats(0, 1), st.data())
def test_weights_are_shares_whoever_chooses(case, threshold, data):
    size, experts, seed = case
    gate = tf.constant(gate_of(*case))
    k = data.draw(st.integers(1, experts))
    noise = np.random.default_rng(seed).normal(size=(size, experts)).astype(np.float32)
    ways = {
        "soft": routing.route_soft(gate),
        "hard": routing.route_hard(gate),
        "top k": routing.route_top_k(gate, k),
        "by other scores": routing.route_top_k(gate, k, tf.constant(noise)),
        "above": routing.route_above(gate, threshold),
        "uniform": routing.route_uniform(gate),
    }
    if k < experts:
        deviation = tf.fill([size, experts], 0.5)
        ways["noisy"] = routing.route_noisy_top_k(gate, deviation, tf.constant(noise), k)
        chance = ways["noisy"].chance.numpy()
        assert ((chance >= 0) & (chance <= 1)).all()
    for name, chosen in ways.items():
        np.testing.assert_allclose(shares(chosen), 1, atol=1e-5, err_msg=name)
        distinct = [len(set(row)) for row in chosen.expert_index.numpy().tolist()]
        assert set(distinct) == {chosen.expert_index.shape[1]}, name
    taken = routing.asks_somebody(routing.route_expert_choice(gate, 1.25)).numpy()
    capacity = min(size, routing.expert_capacity(size, 1, experts, 1.25))
    assert (taken.sum(axis=0) == capacity).all()


@repeated
@given(GATES)
def test_the_order_of_a_batch_is_of_no_account(case):
    size, experts, seed = case
    gate, said = tf.constant(gate_of(*case)), answers_of(size, experts, seed)
    order = np.random.default_rng(seed).permutation(size)

    def answer(rows) -> np.ndarray:
        chosen = routing.route_above(tf.gather(gate, rows), 0.2)
        return routing.pool(chosen, tf.gather(said, rows)).numpy()

    np.testing.assert_array_equal(answer(order), answer(np.arange(size))[order])


@repeated
@given(GATES)
def test_losses_of_the_same_answers_stand_in_order(case):
    size, experts, seed = case
    chosen = routing.route_soft(tf.constant(gate_of(*case)))
    said, label = answers_of(size, experts, seed), labels_of(size)
    likelihood = losses.cross_entropy(routing.pool(chosen, said), label).numpy()
    expected = losses.expected_loss(chosen, said, label).numpy()
    assert (likelihood >= -1e-5).all()
    assert (expected >= likelihood - 1e-4 * (1 + abs(likelihood))).all()  # Jensen
    nobody_stands_in = losses.stand_in_log_probs(
        chosen, chosen.log_weights, said, tf.fill([size, said.shape[-1]], IMPOSSIBLE)
    )
    found = losses.cross_entropy(nobody_stands_in, label)
    np.testing.assert_allclose(found, likelihood, rtol=1e-4, atol=1e-4)


@repeated
@given(routings(), st.floats(-30, 0))
def test_a_stand_in_is_no_better_than_the_best_and_no_worse_than_the_worst(case, fallback):
    chosen, experts = case
    size, slots = chosen.expert_index.shape
    gate = tf.constant(gate_of(size, experts, 3))
    said, label = answers_of(size, slots, 4), labels_of(size)
    with tf.GradientTape() as tape:
        tape.watch([gate, said])
        stand_in = losses.stand_in_log_probs(
            chosen, gate, said, tf.fill([size, said.shape[-1]], tf.constant(fallback, tf.float32))
        )
        found = losses.cross_entropy(stand_in, label)
    of_label = losses.pick(said, label).numpy()
    asked = routing.asks_somebody(chosen).numpy()
    everything = np.where(asked, of_label, fallback)
    low = -np.maximum(everything.max(axis=1), fallback)
    high = -np.minimum(everything.min(axis=1), fallback)
    assert (found.numpy() >= low - 1e-3).all()
    assert (found.numpy() <= high + 1e-3).all()
    for gradient in tape.gradient(found, [gate, said]):
        assert np.isfinite(gradient).all()


@repeated
@given(st.lists(st.floats(0, 1e6, width=32), min_size=1, max_size=9))
def test_balance_losses_have_their_ends(amounts):
    amounts = np.array(amounts, np.float32)
    experts = len(amounts)
    even = tf.ones([experts])
    variation = float(losses.variation_loss(tf.constant(amounts)))
    assert -1e-5 <= variation <= (experts - 1) * (1 + 1e-4) + 1e-5
    balance = float(losses.load_balancing_loss(tf.constant(amounts), tf.constant(amounts)))
    if amounts.sum() > 0:
        assert 1 - 1e-4 <= balance <= experts * (1 + 1e-4)  # load and gate agree
        level = float(losses.load_balancing_loss(tf.constant(amounts), even))
        np.testing.assert_allclose(level, 1, rtol=1e-4)
    assert float(losses.variation_loss(even)) == 0


@repeated
@given(GATES)
def test_a_bias_makes_up_for_an_uneven_load(case):
    """It never pays to be busy: who has more than the mean sinks, who has less rises."""
    size, experts, _ = case
    load = routing.expert_counts(routing.route_hard(tf.constant(gate_of(*case))), experts).numpy()
    step = routing.bias_step(tf.constant(load), 0.01).numpy()
    assert load.sum() == size
    np.testing.assert_array_equal(np.sign(step), np.sign(load.mean() - load))
