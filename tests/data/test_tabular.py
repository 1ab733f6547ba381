"""scikit-learn's sets: complete, split once and for all."""

import numpy as np
import pytest

from moe.data.tabular import SKLEARN_SETS, sklearn_source

SHAPES = {"digits": (1797, 64, 10), "iris": (150, 4, 3), "wine": (178, 13, 3)}
SHAPES["breast_cancer"] = (569, 30, 2)


@pytest.mark.parametrize("name", SKLEARN_SETS)
def test_a_set_is_complete_and_typed(name):
    size, width, num_classes = SHAPES[name]
    source = sklearn_source(name)
    assert source.name == name
    assert len(source.classes) == num_classes
    assert all(type(c) is str for c in source.classes)
    parts = [source.train(), source.test()]
    assert sum(len(p.label) for p in parts) == size
    for part in parts:
        assert part.features.dtype == np.float32
        assert part.label.dtype == np.int32
        assert part.features.shape == (len(part.label), width)
        assert part.group is None
        assert set(part.label) == set(range(num_classes))


@pytest.mark.parametrize("name", SKLEARN_SETS)
def test_a_fifth_of_each_class_is_the_test_split(name):
    source = sklearn_source(name)
    train, test = (np.bincount(part.label) for part in (source.train(), source.test()))
    assert (np.abs(test - (train + test) / 5) <= 1).all()


def test_the_split_is_the_same_every_time():
    one, other = sklearn_source("wine"), sklearn_source("wine")
    np.testing.assert_array_equal(one.test().features, other.test().features)
    np.testing.assert_array_equal(one.train().label, other.train().label)


def test_no_example_is_on_both_sides():
    import sklearn.datasets

    source = sklearn_source("digits")
    rows = np.concatenate([source.train().features, source.test().features])
    everything = sklearn.datasets.load_digits().data.astype(np.float32)
    np.testing.assert_array_equal(rows[np.lexsort(rows.T)], everything[np.lexsort(everything.T)])
