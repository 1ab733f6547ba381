"""Against hand-made examples, scipy and plain resampling."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from moe.compare.statistics import bootstrap_difference, holm


def drawn(seeds, examples, accuracy, stream=0):
    return np.random.default_rng(stream).random((seeds, examples)) < accuracy


def test_the_difference_is_the_mean_over_seeds_and_examples():
    a = np.array([[1, 1, 0, 1], [1, 0, 0, 1]], bool)
    b = np.array([[1, 0, 0, 0], [0, 1, 0, 1]], bool)
    found = bootstrap_difference(a, b)
    assert found.mean == pytest.approx((3 + 2 - 1 - 2) / 8)
    assert found.low <= found.mean <= found.high
    turned = bootstrap_difference(b, a)
    assert (turned.mean, turned.low, turned.high) == pytest.approx(
        (-found.mean, -found.high, -found.low), abs=0.05
    )


def test_equal_answers_differ_in_nothing():
    a = drawn(3, 500, 0.8)
    assert bootstrap_difference(a, a) == (0.0, 0.0, 0.0, 1.0)


def test_one_seed_gives_the_interval_over_examples():
    """A paired difference d has the standard error sqrt(mean d^2 - mean(d)^2) / sqrt(N)."""
    a, b = drawn(1, 4000, 0.83), drawn(1, 4000, 0.80, stream=1)
    found = bootstrap_difference(a, b)
    difference = a.astype(float) - b
    error = difference.std() / np.sqrt(4000)
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.05)
    assert found.mean == pytest.approx(difference.mean())


def test_seeds_count_as_students_distribution_has_it():
    """Every example alike at a seed: only the seeds vary."""
    wins = np.array([0, 0, 1, 1, 1])
    a = np.repeat(wins[:, None], 1000, axis=1).astype(bool)
    found = bootstrap_difference(a, np.zeros_like(a))
    assert found.mean == pytest.approx(0.6)
    test = scipy.stats.ttest_1samp(wins, 0)
    expected = test.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.03)
    assert found.p_value == pytest.approx(test.pvalue, abs=0.01)


def test_bounds_are_settled_to_the_digits_that_are_shown(monkeypatch):
    """Another generator's numbers move them by less than a tenth of a point."""
    a, b = drawn(3, 4000, 0.82), drawn(3, 4000, 0.80, stream=1)
    old = np.random.RandomState
    found = []
    for stream in range(8):
        monkeypatch.setattr(np.random, "RandomState", lambda _, stream=stream: old(stream))
        found.append(bootstrap_difference(a, b))
    for bound in ("low", "high"):
        assert np.ptp([getattr(one, bound) for one in found]) < 0.001


@pytest.mark.parametrize("copies", [1, 4])
def test_the_same_as_plain_resampling(copies):
    """Example by example, without the short cut over kinds of examples; their own part of the
    variance by a sum over pairs of seeds, which share nothing else.
    """
    hard, odd = (np.tile(np.random.default_rng(n).random(500) < 0.15, copies) for n in (2, 3))
    a, b = drawn(3, 500 * copies, 0.85) & ~hard, drawn(3, 500 * copies, 0.85, stream=1) & ~odd
    found = bootstrap_difference(a, b, copies=copies)
    difference = (a.astype(float) - b).reshape(3, copies, 500).mean(axis=1)
    covariance = np.cov(difference)
    own = covariance[~np.eye(3, dtype=bool)].mean()
    share = np.sqrt(own / covariance.mean())
    assert share < 0.97
    rng = np.random.default_rng(0)
    mean, error = difference.mean(), difference.mean(axis=1).std(ddof=1) / np.sqrt(3)
    seeds = error * scipy.stats.t.ppf((rng.permutation(10_000) + 0.5) / 10_000, 2)
    plain = [
        mean + share * (difference[:, rng.integers(500, size=500)].mean() - mean) + other_seeds
        for other_seeds in seeds
    ]
    close = 0.025 * (found.high - found.low)
    assert (found.low, found.high) == pytest.approx(np.quantile(plain, [0.025, 0.975]), abs=close)
    below = 2 * np.mean(np.array(plain) <= 0)
    assert found.p_value == pytest.approx(below, abs=0.05)


def test_copies_of_an_example_are_no_further_examples():
    a, b = drawn(1, 500, 0.83), drawn(1, 500, 0.80, stream=1)
    once = bootstrap_difference(a, b)
    four = bootstrap_difference(np.tile(a, 4), np.tile(b, 4), copies=4)
    assert four == pytest.approx(once)
    taken_for_more = bootstrap_difference(np.tile(a, 4), np.tile(b, 4))
    width = once.high - once.low
    assert taken_for_more.high - taken_for_more.low == pytest.approx(width / 2, rel=0.05)


def test_it_says_the_same_every_time():
    a, b = drawn(3, 300, 0.8), drawn(3, 300, 0.8, stream=1)
    assert bootstrap_difference(a, b) == bootstrap_difference(a, b)


def test_holm_multiplies_by_what_is_left_and_never_falls():
    # Sorted: .01 * 4 = .04, .02 * 3 = .06, .03 * 2 = .06, .5 * 1 = .5
    assert holm([0.5, 0.01, 0.03, 0.02]) == pytest.approx([0.5, 0.04, 0.06, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([0.04]) == [0.04]
    assert holm([]) == []


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("spread", [0.004, 0.02])
def test_intervals_cover_the_truth_about_as_often_as_they_say(seeds, spread):
    """Where seeds differ little, and where they are most of what varies. Other seeds and other
    examples would have had a difference of 0.
    """
    rng, hits, trials = np.random.default_rng(0), 0, 600
    for _ in range(trials):
        ease = rng.random(2000)
        a, b = (
            ease + rng.normal(0, 0.1, (seeds, 2000)) > 0.2 - rng.normal(0, spread, (seeds, 1))
            for _ in range(2)
        )
        found = bootstrap_difference(a, b, samples=1000)
        hits += found.low <= 0 <= found.high
    assert 0.93 <= hits / trials <= 0.98
