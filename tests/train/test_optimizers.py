"""Update rules against Keras' optimizers; parts that rest are left untouched."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from moe.config.choices import OPTIMIZERS
from moe.train.optimizers import RULES, PartOptimizer, apply_active
from moe.train.schedules import make_schedule

CONSTANT = make_schedule("constant", 1)
START = [
    np.random.default_rng(0).normal(size=(3, 2)).astype(np.float32),
    np.array([0.5, -0.5], np.float32),
]


def gradient_at(step):
    rng = np.random.default_rng(100 + step)
    return [rng.normal(size=v.shape).astype(np.float32) * 10.0 ** (step % 3 - 1) for v in START]


def variables():
    return [tf.Variable(v) for v in START]


def optimizer(rule, learning_rate=0.1, schedule=CONSTANT, weight_decay=0.0):
    mine = variables()
    return PartOptimizer(rule, mine, learning_rate, schedule, weight_decay)


def run(part_optimizer, steps, traced=True):
    def step_fn(gradients, step):
        part_optimizer.apply(tf.distribute.get_strategy(), gradients, step)

    step_fn = tf.function(step_fn, autograph=False) if traced else step_fn
    for step in range(steps):
        gradients = [tf.constant(g) for g in gradient_at(step)]
        step_fn(gradients, tf.constant(step, tf.int64))
    return [v.numpy() for v in part_optimizer.variables]


def run_keras(keras_optimizer, steps):
    theirs = [keras.Variable(v) for v in START]
    for step in range(steps):
        keras_optimizer.apply(gradient_at(step), theirs)
    return [v.numpy() for v in theirs]


def assert_close(results, expected):
    for result, value in zip(results, expected, strict=True):
        np.testing.assert_allclose(result, value, rtol=1e-5, atol=1e-5)


KERAS = {
    "sgd": lambda: keras.optimizers.SGD(0.1),
    "momentum": lambda: keras.optimizers.SGD(0.1, momentum=0.9),
    "nesterov": lambda: keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    "adam": lambda: keras.optimizers.Adam(0.1),
    "adamw": lambda: keras.optimizers.AdamW(0.1, weight_decay=0.0),
}


def test_every_rule_of_the_flag_exists_and_is_tested():
    # Muon is tested against NumPy, in test_muon.
    assert set(RULES) - {"muon_of_fixed_size"} == set(OPTIMIZERS) == set(KERAS) | {"muon"}


@pytest.mark.parametrize("rule", KERAS)
def test_a_rule_does_what_keras_does(rule):
    assert_close(run(optimizer(rule), 5), run_keras(KERAS[rule](), 5))


@pytest.mark.parametrize("rule", ["momentum", "nesterov"])
def test_momentum_may_be_another(rule):
    mine = PartOptimizer(rule, variables(), 0.1, CONSTANT, momentum=0.6)
    theirs = keras.optimizers.SGD(0.1, momentum=0.6, nesterov=rule == "nesterov")
    assert_close(run(mine, 4), run_keras(theirs, 4))


def test_a_step_of_sgd_with_momentum_by_hand():
    # slot: -.1 g, then .9 * (-.1 g) - .1 g = -.19 g; the weight moves by both
    mine = [tf.Variable([1.0])]
    momentum = PartOptimizer("momentum", mine, 0.1, CONSTANT)
    for _ in range(2):
        momentum.apply(tf.distribute.get_strategy(), [tf.constant([2.0])], tf.constant(0, tf.int64))
    np.testing.assert_allclose(mine[0], [1 - 0.2 - 0.38], rtol=1e-6)


def test_the_first_step_of_adam_has_the_size_of_the_learning_rate():
    # m = .1 g, v = .001 g^2, bias-corrected: g / |g|
    result = run(optimizer("adam"), 1)
    expected = [v - 0.1 * np.sign(g) for v, g in zip(START, gradient_at(0), strict=True)]
    for value, wanted in zip(result, expected, strict=True):
        np.testing.assert_allclose(value, wanted, atol=1e-4)


def test_decay_of_adamw_is_that_of_keras_on_matrices():
    theirs = keras.optimizers.AdamW(0.1, weight_decay=0.3)
    result = run(optimizer("adamw", weight_decay=0.3), 5)
    np.testing.assert_allclose(result[0], run_keras(theirs, 5)[0], rtol=1e-5, atol=1e-5)


def test_decay_spares_vectors():
    assert_close(run(optimizer("adamw", weight_decay=0.3), 5)[1:], run(optimizer("adam"), 5)[1:])


def test_decay_by_hand():
    # rate .1 * schedule .5 * decay .4 = .02 of the weight; then the gradient's .1 * .5 * g
    mine = [tf.Variable([[2.0]])]
    decayed = PartOptimizer("sgd", mine, 0.1, lambda step: tf.constant(0.5), weight_decay=0.4)
    decayed.apply(tf.distribute.get_strategy(), [tf.constant([[3.0]])], tf.constant(0, tf.int64))
    np.testing.assert_allclose(mine[0], [[2.0 * 0.98 - 0.05 * 3]], rtol=1e-6)


@pytest.mark.parametrize("rule", ["sgd", "adam"])
def test_the_schedule_of_the_step_sets_the_rate(rule):
    halving = optimizer(rule, schedule=lambda step: tf.pow(0.5, tf.cast(step, tf.float32)))
    theirs = KERAS[rule]()
    mine = [keras.Variable(v) for v in START]
    for step in range(4):
        theirs.learning_rate = 0.1 * 0.5**step
        theirs.apply(gradient_at(step), mine)
    assert_close(run(halving, 4), [v.numpy() for v in mine])


@pytest.mark.parametrize(("rule", "slots"), [("sgd", 0), ("momentum", 1), ("adam", 2)])
def test_the_state_holds_the_count_and_every_slot(rule, slots):
    part = optimizer(rule)
    assert len(part.state()) == 1 + 2 * slots
    run(part, 3)
    assert float(part.count) == 3
    assert all(np.any(s.numpy() != 0) for s in part.state())


@pytest.mark.parametrize("rule", ["momentum", "adam"])
def test_the_state_is_all_that_a_continued_run_needs(rule):
    straight, first, second = (optimizer(rule) for _ in range(3))
    expected = run(straight, 4)
    run(first, 2)
    for old, new in zip(
        [*first.state(), *first.variables], [*second.state(), *second.variables], strict=True
    ):
        new.assign(old)
    for step in (2, 3):
        gradients = [tf.constant(g) for g in gradient_at(step)]
        second.apply(tf.distribute.get_strategy(), gradients, tf.constant(step, tf.int64))
    assert_close([v.numpy() for v in second.variables], expected)


# --- parts that rest ----------------------------------------------------------------------------


def snapshot(part):
    return [v.numpy().copy() for v in (*part.variables, *part.state())]


@pytest.mark.parametrize("rule", KERAS)
def test_a_part_without_an_example_is_left_untouched(rule):
    parts = {name: optimizer(rule, weight_decay=0.3) for name in ("gate", "expert_0", "expert_1")}

    @tf.function(autograph=False)
    def step_fn(gradients, active, step):
        everyone = dict.fromkeys(parts, gradients)
        apply_active(parts, tf.distribute.get_strategy(), everyone, active, step)

    def step(number, first, second):
        active = {"expert_0": tf.constant(first), "expert_1": tf.constant(second)}
        gradients = [tf.constant(g) for g in gradient_at(number)]
        step_fn(gradients, active, tf.constant(number, tf.int64))

    step(0, True, True)
    before = {name: snapshot(part) for name, part in parts.items()}
    step(1, True, False)
    step(2, False, False)
    for value, old in zip(snapshot(parts["expert_1"]), before["expert_1"], strict=True):
        np.testing.assert_array_equal(value, old)
    assert {name: float(part.count) for name, part in parts.items()} == {
        "gate": 3, "expert_0": 2, "expert_1": 1,
    }  # fmt: skip
    # A part that no flag names always learns.
    assert (parts["gate"].variables[0].numpy() != before["gate"][0]).all()
    assert step_fn.experimental_get_tracing_count() == 1


def test_a_part_that_rested_goes_on_by_its_own_count():
    rested = optimizer("adam")

    @tf.function(autograph=False)
    def step_fn(gradients, active):
        apply_active(
            {"expert_0": rested},
            tf.distribute.get_strategy(),
            {"expert_0": gradients},
            {"expert_0": active},
            tf.constant(0, tf.int64),
        )

    for number, active in ((0, True), (9, False), (8, False), (1, True)):
        step_fn([tf.constant(g) for g in gradient_at(number)], tf.constant(active))
    assert_close([v.numpy() for v in rested.variables], run_keras(keras.optimizers.Adam(0.1), 2))
