"""Paired timing on a machine whose speed drifts."""

from __future__ import annotations

import numpy as np
import pytest

from moe.benchmark.measure import (
    Arm,
    Ratio,
    Timing,
    flops_ratio,
    median_interval,
    row,
    speed_ratio,
    take_turns,
)


class Finished:
    """A result that need not be waited for."""

    def numpy(self) -> None:
        return None


class Machine:
    """A clock whose speed drifts: the same work takes longer and longer."""

    def __init__(self) -> None:
        self.now = 0.0
        self.order: list[str] = []

    def arm(self, name: str, seconds: float, steps: int = 1, examples: int = 32, **more) -> Arm:
        def run_loop() -> Finished:
            self.order.append(name)
            self.now += seconds * (1 + self.now / 500)
            return Finished()

        return Arm(name, run_loop, steps, examples, **more)

    def take_turns(self, *arms: Arm, rounds: int, window: float = 0.001) -> dict[str, Timing]:
        return take_turns(arms, rounds, window, clock=lambda: self.now)


def test_arms_take_turns_in_a_rotating_order():
    machine = Machine()
    arms = [machine.arm(name, 1) for name in "abc"]
    timings = machine.take_turns(*arms, rounds=2)
    # Each compiles, each warms up; then the rounds.
    assert "".join(machine.order) == "abcabc" + "abcbca"
    assert [len(timing.seconds) for timing in timings.values()] == [2, 2, 2]


def test_a_window_has_as_many_loops_as_fill_it_and_times_are_by_step():
    machine = Machine()
    timings = machine.take_turns(machine.arm("a", 1e-3, steps=4), rounds=3, window=10e-3)
    assert len(machine.order) == 2 + 3 * 10
    assert timings["a"].seconds[0] == pytest.approx(1e-3 / 4, rel=0.01)
    assert timings["a"].compile_seconds == pytest.approx(1e-3, rel=0.01)


def test_arms_need_names_of_their_own():
    machine = Machine()
    with pytest.raises(ValueError, match="distinct"):
        machine.take_turns(machine.arm("a", 1), machine.arm("a", 1), rounds=1)


def test_a_ratio_survives_a_drift_that_no_single_time_does():
    machine = Machine()
    double, single = machine.arm("double", 2), machine.arm("single", 1)
    timings = machine.take_turns(double, single, rounds=11)
    single_seconds = timings["single"].seconds
    assert single_seconds[-1] > 1.05 * single_seconds[0]
    ratio = speed_ratio(single, double, timings)
    assert ratio.median == pytest.approx(2, rel=0.02)
    assert ratio.low <= ratio.median <= ratio.high


def test_ratios_are_by_examples_and_by_operations():
    timings = {"a": Timing(0, [1.0] * 7), "b": Timing(0, [2.0] * 7)}
    a = Arm("a", lambda: None, 1, examples=10, flops=3.0)
    b = Arm("b", lambda: None, 1, examples=40, flops=3.0)
    assert speed_ratio(a, b, timings).median == pytest.approx(10 / 1 / (40 / 2))
    b = Arm("b", lambda: None, 1, examples=40, flops=0.5)
    assert flops_ratio(a, b, timings).median == pytest.approx(30 / 1 / (20 / 2))


@pytest.mark.parametrize(
    ("count", "dropped"),
    [
        (5, 0),  # P(0 of 5 below) = 3.1 % a side: even the whole range covers only 93.8 %
        (6, 0),  # 1.6 % a side
        (7, 0),  # 0.8 %; P(X <= 1) = 6.3 % is too much
        (9, 1),  # P(X <= 1) = 10 / 512 = 2.0 %
        (17, 4),  # P(X <= 4) = 2.5 % (0.02452)
    ],
)
def test_the_interval_of_a_median(count, dropped):
    values = list(range(count))
    found = median_interval(values)
    assert (found.low, found.high) == (dropped, count - 1 - dropped)
    assert found.median == np.median(values)


def test_the_interval_covers_what_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(2_000):
        found = median_interval(rng.lognormal(size=11))
        hits += found.low <= 1 <= found.high
    assert hits / 2_000 > 0.94


@pytest.mark.parametrize(
    ("ratio", "resolution", "resolved"),
    [
        (Ratio(1.1, 1.05, 1.2), 0.02, True),
        (Ratio(1.1, 0.99, 1.2), 0.02, False),  # its own interval covers 1
        (Ratio(1.1, 1.05, 1.2), 0.12, False),  # the same thing twice differed by more
        (Ratio(0.9, 0.85, 0.95), 0.02, True),
    ],
)
def test_what_counts_as_resolved(ratio, resolution, resolved):
    assert ratio.resolved(resolution) == resolved


def test_a_row_gives_speed_percentiles_and_the_share_of_the_peak():
    arm = Arm("a", lambda: None, 10, examples=32, facts={"batch_size": 32}, flops=1e6)
    product = Arm("product", lambda: None, 1, examples=1, flops=6.4e6)
    # The device is half as fast in the second half, for both alike.
    drift = [1.0] * 10 + [2.0] * 10
    seconds = [0.010 * d for d in drift]
    timings = {"a": Timing(1.5, seconds), "product": Timing(0, [0.001 * d for d in drift])}
    found = row(arm, product, timings)
    assert found["step_ms_p50"] == pytest.approx(15)
    assert found["step_ms_p95"] == pytest.approx(20)
    assert found["examples_per_second"] == pytest.approx(32 / 0.015)
    assert found["gflops"] == pytest.approx(32e6 / 0.015 / 1e9)
    assert found["fraction_of_matmul"] == pytest.approx(0.5)
    assert (found["batch_size"], found["compile_seconds"]) == (32, 1.5)


def test_the_share_of_the_peak_is_taken_round_by_round():
    arm = Arm("a", lambda: None, 1, examples=1, flops=1.0)
    product = Arm("product", lambda: None, 1, examples=1, flops=1.0)
    timings = {"a": Timing(0, [2.0, 8.0, 4.0]), "product": Timing(0, [1.2, 2.0, 3.0])}
    # .6, .25 and .75; the medians of the times, 4 and 2, were not taken in one round
    assert row(arm, product, timings)["fraction_of_matmul"] == pytest.approx(0.6)


def test_what_has_no_count_of_operations_has_no_share_of_the_peak():
    product = Arm("product", lambda: None, 1, 1, flops=1.0)
    timings = {"a": Timing(0, [1.0]), "product": Timing(0, [1.0])}
    found = row(Arm("a", lambda: None, 1, 1), product, timings)
    assert found["gflops"] is found["fraction_of_matmul"] is None
    assert row(Arm("a", lambda: None, 1, 1, flops=1.0), None, timings)["gflops"]
