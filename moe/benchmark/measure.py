"""Comparing ways on a noisy machine: windows of steps, taken in turns, compared round by round.

The speed of a shared machine drifts by more than the differences of interest, but it drifts for
all ways alike: within a round every way runs one window right after the other, and only ratios
within a round are compared.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.stats

_CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True)
class Arm:
    """One way of doing a piece of work.

    Attributes:
      name: as it stands in the table.
      run_loop: starts `steps` steps and returns something whose `numpy()` waits for their end.
      steps: in one loop.
      examples: in one step.
      facts: what else belongs into the row (batch size, precision, number of experts, …).
      flops: floating-point operations of one example; 0: not counted.
    """

    name: str
    run_loop: Callable[[], Any]
    steps: int
    examples: int
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    flops: float = 0.0


class Timing(NamedTuple):
    """What was measured of one arm.

    Attributes:
      compile_seconds: the first loop: tracing, compiling, and running once.
      seconds: of an average step, one value a round.
    """

    compile_seconds: float
    seconds: list[float]


class Ratio(NamedTuple):
    """A median of ratios, round by round, with its confidence interval."""

    median: float
    low: float
    high: float

    def resolved(self, resolution: float) -> bool:
        """Whether it is another number than 1.

        Args:
          resolution: how far two runs of the very same thing were told apart.
        """
        return not self.low <= 1 <= self.high and abs(self.median - 1) > resolution


def take_turns(
    arms: Sequence[Arm],
    rounds: int,
    window_seconds: float,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Timing]:
    """Times every arm once a round, in an order that rotates.

    A window is as many loops as fill `window_seconds`, with one synchronisation at its end.

    Args:
      arms: with distinct names.
      rounds: windows of each arm.
      window_seconds: rough length of a window.
      clock: seconds.
    """
    if len({arm.name for arm in arms}) < len(arms):
        raise ValueError("arms need distinct names")
    compile_seconds = {arm.name: _window(arm, 1, clock) for arm in arms}
    loops = {arm.name: max(1, round(window_seconds / _window(arm, 1, clock))) for arm in arms}
    seconds: dict[str, list[float]] = {arm.name: [] for arm in arms}
    for number in range(rounds):
        shift = number % len(arms)
        for arm in (*arms[shift:], *arms[:shift]):
            count = loops[arm.name]
            seconds[arm.name].append(_window(arm, count, clock) / (count * arm.steps))
    return {name: Timing(compile_seconds[name], seconds[name]) for name in seconds}


def _window(arm: Arm, loops: int, clock: Callable[[], float]) -> float:
    started = clock()
    for _ in range(loops):
        last = arm.run_loop()
    last.numpy()
    return clock() - started


def median_interval(values: Sequence[float], confidence: float = _CONFIDENCE) -> Ratio:
    """Median of `values` with a distribution-free interval between two of their order statistics.

    The number of values below the true median is binomial(n, 1/2); the interval drops as many
    values from either end as keeps its coverage at `confidence`. With fewer than six values even
    the whole range covers less.
    """
    ordered = sorted(values)
    chances = scipy.stats.binom.cdf(range(len(ordered) // 2), len(ordered), 0.5)
    # The median lies below ordered[k] if at most k values lie below the median.
    drop = max(0, int((chances <= (1 - confidence) / 2).sum()) - 1)
    return Ratio(statistics.median(ordered), ordered[drop], ordered[-1 - drop])


def speed_ratio(arm: Arm, peer: Arm, timings: Mapping[str, Timing]) -> Ratio:
    """How many times as many examples a second `arm` does as `peer`."""
    return _ratio(timings[arm.name], timings[peer.name], arm.examples, peer.examples)


def flops_ratio(arm: Arm, peer: Arm, timings: Mapping[str, Timing]) -> Ratio:
    """How many times as many floating-point operations a second `arm` does as `peer`."""
    work = (one.examples * one.flops for one in (arm, peer))
    return _ratio(timings[arm.name], timings[peer.name], *work)


def _ratio(mine: Timing, theirs: Timing, my_work: float, their_work: float) -> Ratio:
    rounds = zip(mine.seconds, theirs.seconds, strict=True)
    return median_interval([(my_work / m) / (their_work / t) for m, t in rounds])


def row(arm: Arm, product: Arm | None, timings: Mapping[str, Timing]) -> dict[str, Any]:
    """The arm's line of `benchmark.json`.

    Args:
      arm: of the line.
      product: a large matrix product in the same precision and the same rounds, if there is one.
      timings: of both.
    """
    timing = timings[arm.name]
    milliseconds = 1e3 * np.asarray(timing.seconds)
    middle = float(np.median(milliseconds))
    per_second = arm.examples * 1e3 / middle
    flops = per_second * arm.flops
    fraction = flops_ratio(arm, product, timings).median if flops and product else None
    return {
        "name": arm.name,
        **arm.facts,
        "examples_per_second": per_second,
        "step_ms_p50": middle,
        "step_ms_p95": float(np.percentile(milliseconds, 95)),
        "compile_seconds": timing.compile_seconds,
        "gflops": flops / 1e9 if flops else None,
        "fraction_of_matmul": fraction,
    }
