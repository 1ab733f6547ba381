"""Who is to blame, counted by hand."""

import numpy as np
import pytest

from moe.evaluate.attribution import boost_counts, outcome_counts, without_expert
from moe.types import IMPOSSIBLE

BASELINE = np.array([True, True, False, False, False])
GATE = np.array([True, True, True, False, False])
EXPERT = np.array([True, False, True, False, False])
MIXTURE = np.array([True, False, True, True, False])


def _counts(rows) -> dict[tuple, int]:
    keys = ("baseline", "gate", "expert", "mixture")
    return {tuple(row[key] for key in keys): row["count"] for row in rows}


def test_every_combination_is_counted_once():
    rows = outcome_counts(mixture=MIXTURE, expert=EXPERT, gate=GATE, baseline=BASELINE)
    counts = _counts(rows)
    assert len(rows) == len(counts) == 16
    assert {key: n for key, n in counts.items() if n} == {
        (True, True, True, True): 1,
        (True, True, False, False): 1,
        (False, True, True, True): 1,
        (False, False, False, True): 1,
        (False, False, False, False): 1,
    }
    first, *_, last = counts
    assert (first, last) == ((True,) * 4, (False,) * 4)


def test_parts_that_are_not_there_are_left_open():
    counts = _counts(outcome_counts(mixture=MIXTURE, expert=EXPERT))
    assert counts == {
        (None, None, True, True): 2,
        (None, None, True, False): 0,
        (None, None, False, True): 1,
        (None, None, False, False): 2,
    }


def test_errors_mended_and_made():
    assert boost_counts(MIXTURE, BASELINE) == {"baseline_errors": 3, "mended": 2, "made": 1}


def test_the_share_of_a_lost_expert_goes_to_the_others_in_proportion():
    gate = np.log(np.array([[0.5, 0.3, 0.2], [0.1, 0.6, 0.3]])).astype(np.float32)
    left = without_expert(gate, 1)
    assert left.dtype == np.float32
    # .5 / .7, .2 / .7; .1 / .4, .3 / .4
    np.testing.assert_allclose(np.exp(left), [[5 / 7, 0, 2 / 7], [0.25, 0, 0.75]], atol=1e-6)
    np.testing.assert_array_equal(left[:, 1], np.float32(IMPOSSIBLE))


def test_an_expert_that_had_everything_can_be_lost():
    gate = np.array([[0.0, -500.0, -501.0]], np.float32)
    left = np.exp(without_expert(gate, 0))
    assert left.sum() == pytest.approx(1)
    assert left[0, 1] == pytest.approx(1 / (1 + np.exp(-1)), abs=1e-4)
