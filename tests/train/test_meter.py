"""What the meter says about loops of known length."""

import itertools

import pytest

from moe.train import meter as meter_module
from moe.train.meter import Meter, matrix_products, measure_ceiling


def test_percentiles_are_over_steps_without_warm_ups():
    meter = Meter()
    meter.warm_up(5.0)
    meter.add(90, 0.90)
    meter.add(10, 0.20)
    assert meter.step_milliseconds(50) == pytest.approx(10)
    assert meter.step_milliseconds(95) == pytest.approx(20)


def test_a_warm_up_is_better_than_nothing():
    meter = Meter()
    assert meter.step_milliseconds(50) is None
    meter.warm_up(0.25)
    assert meter.step_milliseconds(50) == pytest.approx(250)


def test_start_up_ends_with_the_first_loop(monkeypatch):
    clock = itertools.count(100)
    monkeypatch.setattr(meter_module.time, "perf_counter", lambda: next(clock))
    meter = Meter()
    assert meter.startup_seconds() is None
    meter.warm_up(0.5)
    meter.add(1, 0.5)
    meter.warm_up(0.5)
    assert meter.startup_seconds() == 1


def test_preparing_adds_up(monkeypatch):
    clock = itertools.accumulate(itertools.count())  # 0, 1, 3, 6, 10: each look takes longer
    monkeypatch.setattr(meter_module.time, "perf_counter", lambda: next(clock))
    meter = Meter()
    for _ in range(2):
        with meter.preparing():
            pass
    assert meter.prepare_seconds == (3 - 1) + (10 - 6)


def test_the_share_of_the_input_is_that_of_the_stage_where_it_is_most(monkeypatch):
    clock = itertools.count(0, 10)  # two looks at it: 10 seconds for 20 batches
    monkeypatch.setattr(meter_module.time, "perf_counter", lambda: next(clock))
    meter = Meter()
    for step_seconds in (5.0, 1.0, 2.0):
        meter.probe_input(itertools.count(), step_seconds)
    assert meter.input_share == pytest.approx(0.5)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_matrix_products_stay_finite_and_have_a_speed(monkeypatch, policy):
    monkeypatch.setattr(meter_module, "_MATRIX", 64)
    assert abs(matrix_products(policy, 50)().numpy()) < 1e6
    assert measure_ceiling(policy) > 0
