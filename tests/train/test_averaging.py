"""Averages of the weights against NumPy; what is judged, and what training goes on with."""

import numpy as np
import pytest
import tensorflow as tf

from moe.config.sections import TrainConfig
from moe.train.averaging import Lookahead, MovingAverage, NoAverage, make_average

START = [np.array([1.0, -2.0], np.float32), np.array([[3.0]], np.float32)]


def weights():
    return {"gate": [tf.Variable(START[0])], "expert_0": [tf.Variable(START[1]), tf.Variable(7)]}


def run(average, learning, steps, first=0):
    """Every step adds its own number, from 1, to each weight."""

    @tf.function(autograph=False)
    def step_fn(step):
        for variables in learning.values():
            for variable in variables:
                variable.assign(variable + tf.cast(step + 1, variable.dtype))
        average.follow(tf.distribute.get_strategy(), step)

    for step in range(first, steps):
        step_fn(tf.constant(step, tf.int64))


def averages(average):
    return [v.numpy() for variables in average.state().values() for v in variables]


@pytest.mark.parametrize("decay", [0.5, 0.99])
def test_a_moving_average_lets_go_of_its_start_and_leaves_the_weights_alone(decay):
    learning = weights()
    average = MovingAverage(learning, decay)
    run(average, learning, 12)
    expected, now = [v.astype(np.float64) for v in START], list(START)
    for step in range(12):
        share = 1 - min(decay, (1 + step) / (10 + step))
        now = [v + step + 1 for v in now]
        expected = [a + share * (v - a) for a, v in zip(expected, now, strict=True)]
    for found, wanted in zip(averages(average), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-6)
    np.testing.assert_array_equal(learning["gate"][0], START[0] + 78)  # 1 + ... + 12


def test_lookahead_takes_the_weights_back_to_the_average():
    learning = weights()
    average = Lookahead(learning, every=3, total_steps=8)
    run(average, learning, 8)
    slow, fast = START[0].astype(np.float64), START[0].astype(np.float64)
    for done in range(1, 9):
        fast = fast + done
        if done in (3, 6, 8):  # the last step, too
            kept = 0.95**3 * (done / 8) ** 3
            slow = kept * slow + (1 - kept) * fast
            fast = slow
        elif done < 3:
            slow = fast
    np.testing.assert_allclose(averages(average)[0], slow, rtol=1e-6)
    np.testing.assert_allclose(learning["gate"][0], fast, rtol=1e-6)


@pytest.mark.parametrize(("every", "total_steps"), [(5, 4), (4, 4), (5, 9)])
def test_what_was_never_looked_at_is_judged_as_it_is(every, total_steps):
    """Not as it was before anything was learned, also where the stage ends before a look."""
    learning = weights()
    average = Lookahead(learning, every, total_steps)
    run(average, learning, 4)
    np.testing.assert_array_equal(averages(average)[0], START[0] + 1 + 2 + 3 + 4)


@pytest.mark.parametrize("kind", ["moving", "lookahead"])
def test_averages_are_judged_and_training_goes_on_with_the_weights(kind):
    learning = weights()
    average = {
        "moving": lambda: MovingAverage(learning, 0.9),
        "lookahead": lambda: Lookahead(learning, 4, 9),
    }[kind]()
    run(average, learning, 6)
    before = [v.numpy() for variables in learning.values() for v in variables]
    with average.evaluated():
        judged = [v.numpy() for variables in learning.values() for v in variables]
    after = [v.numpy() for variables in learning.values() for v in variables]
    for found, wanted in zip(judged[:2], averages(average), strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert judged[2] == before[2]  # an integer has no average
    assert (judged[0] != before[0]).all()
    for found, wanted in zip(after, before, strict=True):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("config", [{"ema_decay": 0.9}, {"lookahead": 4}])
def test_the_state_is_all_that_a_continued_run_needs(config):
    straight, cut, again = weights(), weights(), weights()
    one, two, three = (make_average(TrainConfig(**config), w, 9) for w in (straight, cut, again))
    run(one, straight, 9)
    run(two, cut, 6)
    for old, new in ((two.state(), three.state()), (cut, again)):
        for part, variables in new.items():
            for variable, value in zip(variables, old[part], strict=True):
                variable.assign(value)
    run(three, again, 9, first=6)
    for found, wanted in zip(averages(three), averages(one), strict=True):
        np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(again["gate"][0], straight["gate"][0])


def test_without_a_flag_nothing_is_averaged():
    average = make_average(TrainConfig(), weights(), 9)
    assert type(average) is NoAverage
    assert average.state() == {}
    with average.evaluated():
        pass
