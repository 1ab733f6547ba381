"""Whether two arms really differ: over seeds and over test examples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.stats

SAMPLES = 10_000
LEVEL = 0.95


class Difference(NamedTuple):
    """How far one arm is ahead of another, in shares of the test examples.

    Attributes:
      mean: over seeds.
      low, high: bounds of its 95 % bootstrap interval.
      p_value: two-sided, by the same samples.
    """

    mean: float
    low: float
    high: float
    p_value: float


def bootstrap_difference(
    correct_a: np.ndarray, correct_b: np.ndarray, samples: int = SAMPLES, copies: int = 1
) -> Difference:
    """The difference in accuracy, with an interval for other seeds and other test examples.

    Every sample draws test examples with replacement, the same for both arms and all seeds, and
    independently of them what other seeds would have given: the mean of S differences is off by
    `t s / sqrt(S)`, `s` being their deviation and `t` drawn from Student's distribution with S - 1
    degrees of freedom. Drawing from two or three seeds themselves would give intervals that are
    much too narrow (Hesterberg 2015, 1411.5279). That an example is answered otherwise at another
    seed adds to `s` already, so what it adds to the sample of examples is taken off there, see
    `_share_of_examples`. Of the `t`, one comes from every slice of the distribution: drawn freely,
    those far out, which few seeds have many of, would move the bounds by tenths of a point; so they
    still move by some hundredths. A single seed says nothing of other seeds: then the interval is
    over examples only.

    Args:
      correct_a, correct_b: `<bool>[S, N]`, which examples each seed has right.
      samples: how many are drawn; always the same ones.
      copies: how many times an example is there, all of them once before any comes again; its
        copies are drawn together.
    """
    seeds, examples = correct_a.shape
    differences = correct_a.astype(np.int64) - correct_b
    by_seed = differences.mean(axis=1)
    together = differences.reshape(seeds, copies, -1).sum(axis=1)
    # Examples of the same sum are the same to a sample: it draws how many of each kind.
    kinds, count = np.unique(together.sum(axis=0), return_counts=True)
    # The old generator: its numbers are promised to be the same in every version of NumPy.
    random = np.random.RandomState(0)
    drawn = random.multinomial(count.sum(), count / count.sum(), samples)
    sample = drawn @ kinds / (seeds * examples)
    if seeds > 1:
        sample = by_seed.mean() + _share_of_examples(together) * (sample - by_seed.mean())
        error = by_seed.std(ddof=1) / math.sqrt(seeds)
        slices = (random.permutation(samples) + 0.5) / samples
        sample += error * scipy.stats.t.ppf(slices, seeds - 1)
    low, high = np.quantile(sample, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    # Sums of floats: what should be 0 may be a hair beside it.
    beyond = min((sample <= 1e-12).sum(), (sample >= -1e-12).sum())
    p_value = min(1.0, 2 * (1 + int(beyond)) / (1 + samples))
    return Difference(float(by_seed.mean()), float(low), float(high), p_value)


def _share_of_examples(differences: np.ndarray) -> float:
    """Of the deviation that resampled examples give a mean over seeds, the share that is the
    examples' own: what they have in common at all seeds.

    The rest is the interaction of two crossed random effects (Searle, Casella & McCulloch 1992,
    *Variance Components*): mean squares of the examples are `V + I`, of the residuals `I`.

    Args:
      differences: `<int64>[S, N]`, of at least two seeds.
    """
    seeds, examples = differences.shape
    of_examples = differences.mean(axis=0)
    of_seeds = differences.mean(axis=1, keepdims=True)
    residual = differences - of_examples - of_seeds + differences.mean()
    freedom = max(1, examples - 1)
    interaction = np.square(residual).sum() / ((seeds - 1) * freedom)
    both = seeds * np.square(of_examples - of_examples.mean()).sum() / freedom
    return math.sqrt(max(0.0, 1 - interaction / both)) if both else 0.0


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
