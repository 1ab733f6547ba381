"""Training and validation rows: disjoint, stratified, dependent on the data seed only."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe.data.splits import split_rows
from moe.errors import UserError

# 600, 300 and 100 examples of three classes, in no order.
LABEL = np.random.default_rng(5).permutation(np.repeat([0, 1, 2], [600, 300, 100]))


def test_every_row_is_on_exactly_one_side():
    train, validation = split_rows(LABEL, 0.1, None, 0)
    np.testing.assert_array_equal(np.sort(np.concatenate([train, validation])), np.arange(1000))
    assert (np.diff(train) > 0).all()
    assert (np.diff(validation) > 0).all()


def test_every_class_gives_the_same_share():
    train, validation = split_rows(LABEL, 0.1, None, 0)
    np.testing.assert_array_equal(np.bincount(LABEL[validation]), [60, 30, 10])
    np.testing.assert_array_equal(np.bincount(LABEL[train]), [540, 270, 90])


@settings(deadline=None, max_examples=50, derandomize=True, database=None)
@given(
    counts=st.lists(st.integers(2, 60), min_size=1, max_size=5),
    fraction=st.floats(0.26, 0.74),
    seed=st.integers(0, 100),
)
def test_no_class_is_off_by_a_whole_example(counts, fraction, seed):
    label = np.repeat(np.arange(len(counts)), counts)
    train, validation = split_rows(label, fraction, None, seed)
    assert len(train) + len(validation) == len(label)
    share = np.bincount(label[validation], minlength=len(counts))
    assert (np.abs(share - np.array(counts) * fraction) <= 0.5 + 1e-6).all()


def test_it_depends_on_the_data_seed():
    first, again, other = (split_rows(LABEL, 0.1, None, seed)[1] for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    # Two random tenths have about 10 of 100 rows in common.
    assert len(np.intersect1d(first, other)) < 40


def test_it_does_not_depend_on_the_global_generator():
    np.random.seed(1)
    first = split_rows(LABEL, 0.1, None, 0)[1]
    np.random.seed(2)
    np.testing.assert_array_equal(first, split_rows(LABEL, 0.1, None, 0)[1])


def test_validation_does_not_take_the_first_rows():
    validation = split_rows(LABEL, 0.1, None, 0)[1]
    assert 350 < validation.mean() < 650


def test_fewer_examples_have_the_right_size_and_are_a_random_part():
    train, validation = split_rows(LABEL, 0.2, 250, 0)
    assert len(train) + len(validation) == 250
    assert abs(len(validation) - 50) <= 1  # a half example a class at most
    assert len(np.intersect1d(train, validation)) == 0
    assert 400 < np.concatenate([train, validation]).mean() < 600


def test_fewer_examples_are_a_part_of_more():
    small = np.concatenate(split_rows(LABEL, 0.2, 100, 0))
    large = np.concatenate(split_rows(LABEL, 0.2, 300, 0))
    assert np.isin(small, large).all()


def test_all_examples_may_be_asked_for_by_number():
    for one, other in zip(
        split_rows(LABEL, 0.1, 1000, 0), split_rows(LABEL, 0.1, None, 0), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_too_many_examples_are_refused():
    with pytest.raises(UserError, match=r"--train_examples=1001: the training split has 1000"):
        split_rows(LABEL, 0.1, 1001, 0)


@pytest.mark.parametrize(("fraction", "count"), [(0.001, 0), (0.9999, 10)])
def test_an_empty_side_is_refused(fraction, count):
    message = rf"--validation_fraction={fraction} leaves {count} of 10 examples"
    with pytest.raises(UserError, match=message):
        split_rows(np.zeros(10, int), fraction, None, 0)
