"""Whether two arms really differ: over seeds and over test examples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

SAMPLES = 10_000
LEVEL = 0.95
_AT_ONCE = 500


class Difference(NamedTuple):
    """How far one arm is ahead of another, in shares of the test examples.

    Attributes:
      mean: over seeds.
      low, high: bounds of its 95 % bootstrap interval.
      p_value: two-sided, by the same bootstrap.
    """

    mean: float
    low: float
    high: float
    p_value: float


def bootstrap_difference(
    correct_a: np.ndarray, correct_b: np.ndarray, samples: int = SAMPLES
) -> Difference:
    """The difference in accuracy, with an interval for other seeds and other test examples.

    Every sample draws seeds with replacement and, independently, test examples with replacement;
    both arms are taken at the same seeds and examples. The deviations of the seeds from their mean
    are stretched by `sqrt(S / (S - 1))`, without which a bootstrap of few seeds is too narrow
    (Hesterberg 2015, 1411.5279). A single seed says nothing of other seeds: then the
    interval is over examples only.

    Args:
      correct_a, correct_b: `<bool>[S, N]`, which examples each seed has right.
      samples: how many are drawn; always the same ones.
    """
    seeds, examples = correct_a.shape
    # Examples on which all seeds agree are the same to a sample: it draws how many of each kind.
    kinds, count = np.unique(
        correct_a.astype(np.int8) - correct_b.astype(np.int8), axis=1, return_counts=True
    )
    middle = kinds.mean(axis=0)
    stretch = math.sqrt(seeds / (seeds - 1)) if seeds > 1 else 1.0
    kinds = middle + stretch * (kinds - middle)
    # The old generator: its numbers are promised to be the same in every version of NumPy.
    random = np.random.RandomState(0)
    drawn = []
    for start in range(0, samples, _AT_ONCE):
        size = min(_AT_ONCE, samples - start)
        by_seed = random.multinomial(seeds, np.full(seeds, 1 / seeds), size) / seeds
        by_kind = random.multinomial(examples, count / examples, size) / examples
        drawn.append(((by_seed @ kinds) * by_kind).sum(axis=1))
    sample = np.concatenate(drawn)
    low, high = np.quantile(sample, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    # Sums of floats: what should be 0 may be a hair beside it.
    beyond = min((sample <= 1e-12).sum(), (sample >= -1e-12).sum())
    p_value = min(1.0, 2 * (1 + int(beyond)) / (1 + samples))
    return Difference(float(middle @ count / examples), float(low), float(high), p_value)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values, each adjusted for all of them being looked at (Holm 1979): in order of size
    times the number of those not yet passed, never falling, at most 1.
    """
    order = np.argsort(p_values, kind="stable")
    adjusted, worst = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        worst = max(worst, (len(p_values) - rank) * p_values[place])
        adjusted[place] = min(1.0, worst)
    return adjusted
