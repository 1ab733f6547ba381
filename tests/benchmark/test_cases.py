"""Forced assignments and counts of operations."""

import numpy as np
import pytest

from moe.benchmark.cases import INPUT_SHAPE, NUM_CLASSES, assignment, load_of, training_flops
from moe.models import backbones


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


def test_operations_of_a_training_step():
    model = backbones.build("mlp-5", INPUT_SHAPE, NUM_CLASSES)
    first, second = 3_072 * 5, 5 * 10
    # forward and both gradients, 2 each; no gradient by the images
    assert training_flops(model) == 4 * first + 6 * second
