"""Learning-rate schedules by hand."""

import numpy as np
import pytest
import tensorflow as tf

from moe.config.choices import SCHEDULES
from moe.train.schedules import make_schedule


def factors(name, total, steps):
    schedule = make_schedule(name, total)
    return [float(schedule(tf.constant(step, tf.int64))) for step in steps]


def test_constant():
    assert factors("constant", 10, [0, 5, 9, 100]) == [1.0] * 4


def test_cosine_is_half_a_wave():
    # (1 + cos(pi t)) / 2 at t = 0, 1/4, 1/2, 3/4, 1 and beyond
    expected = [1, (1 + np.sqrt(0.5)) / 2, 0.5, (1 - np.sqrt(0.5)) / 2, 0, 0]
    np.testing.assert_allclose(factors("cosine", 8, [0, 2, 4, 6, 8, 20]), expected, atol=1e-6)


def test_triangular_rises_over_a_fifth_and_falls_in_a_straight_line():
    # 20 steps: rises by 1/4 over the first four, then (20 - step) / 16
    expected = [0.25, 0.5, 0.75, 1, 1, 15 / 16, 0.5, 1 / 16, 0, 0]
    steps = [0, 1, 2, 3, 4, 5, 12, 19, 20, 30]
    np.testing.assert_allclose(factors("triangular", 20, steps), expected, atol=1e-6)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("total", [1, 2, 7, 1000])
def test_every_step_of_a_run_learns_and_none_above_the_peak(name, total):
    values = np.array(factors(name, total, sorted({0, total // 3, total // 2, total - 1})))
    assert (values > 0).all()
    assert (values <= 1).all()


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_run_inside_a_graph(name):
    schedule = make_schedule(name, 10)
    traced = tf.function(schedule)
    for step in (0, 3, 9):
        result = traced(tf.constant(step, tf.int64))
        assert (result.dtype, result.shape) == (tf.float32, [])
        np.testing.assert_allclose(result, schedule(tf.constant(step, tf.int64)), atol=1e-6)
    assert traced.experimental_get_tracing_count() == 1
