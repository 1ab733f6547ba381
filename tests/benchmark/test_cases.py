"""Forced assignments and counts of operations."""

import numpy as np
import pytest

from moe.benchmark.cases import assignment, load_of


def test_a_balanced_assignment():
    expert = assignment("balanced", 10, 4)
    assert sorted(np.bincount(expert)) == [2, 2, 3, 3]
    assert (np.diff(expert) < 0).any()  # in no order


def test_a_skewed_assignment():
    expert = assignment("zipf", 1_200, 3)
    # 1 : 1/2 : 1/3 is 6 : 3 : 2 of 11
    assert load_of(expert, 3) == pytest.approx([6 / 11, 3 / 11, 2 / 11], abs=1e-3)


def test_an_assignment_is_the_same_every_time():
    np.testing.assert_array_equal(assignment("zipf", 50, 4), assignment("zipf", 50, 4))


def test_an_expert_too_many_gets_nothing():
    assert load_of(assignment("balanced", 2, 3), 3).count(0) == 1
