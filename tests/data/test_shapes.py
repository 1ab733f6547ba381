"""The generated set "shapes": what the rest of the project assumes about its images."""

import dataclasses

import numpy as np
import pytest

from moe.data import shapes as module
from moe.data.shapes import CLASSES, LOOK_ALIKES, PARTITION, shapes


@pytest.fixture(scope="module")
def source():
    return shapes(train_examples=1_000, test_examples=300, seed=3)


@pytest.fixture(scope="module")
def train(source):
    return source.train()


def test_shapes_and_dtypes(source, train):
    assert train.features.shape == (1_000, 32, 32, 3)
    assert train.features.dtype == np.uint8
    assert train.label.shape == (1_000,)
    assert train.label.dtype == np.int32
    assert train.group is None
    assert len(source.test().label) == 300


def test_partition_holds_every_class_once(source):
    assert source.classes == CLASSES
    assert sorted(sum(source.partition.values(), ())) == sorted(source.classes)
    assert {group: len(names) for group, names in source.partition.items()} == {
        "artificial": 4,
        "natural": 6,
    }
    assert "favour" in source.note


def test_look_alikes_lie_across_the_groups():
    assert set(LOOK_ALIKES) == set(PARTITION["artificial"])
    assert set(LOOK_ALIKES.values()) < set(PARTITION["natural"])


def test_classes_are_balanced_and_shuffled(train):
    counts = np.bincount(train.label, minlength=10)
    assert counts.min() >= 90
    # Sorted labels would change nine times; shuffled ones change in nine of ten places.
    assert np.count_nonzero(np.diff(train.label)) > 800


def test_same_seed_same_images_other_seed_others(source, train):
    again = shapes(train_examples=1_000, test_examples=300, seed=3).train()
    np.testing.assert_array_equal(again.features, train.features)
    np.testing.assert_array_equal(again.label, train.label)
    other = shapes(train_examples=1_000, test_examples=300, seed=4).train()
    assert not np.array_equal(other.features, train.features)


def test_test_split_does_not_depend_on_the_train_split(source, train):
    fresh = shapes(train_examples=7, test_examples=300, seed=3).test()
    np.testing.assert_array_equal(fresh.features, source.test().features)
    equal_sizes = shapes(train_examples=300, test_examples=300, seed=3)
    assert not np.array_equal(equal_sizes.train().features, equal_sizes.test().features)


def test_images_use_the_range_of_brightness(train):
    """A broken renderer would give flat or saturated images."""
    pixels = train.features.astype(np.float32)
    assert pixels.std(axis=(1, 2, 3)).min() > 5
    assert np.mean((pixels == 0) | (pixels == 255)) < 0.1


@pytest.mark.parametrize("name", CLASSES)
def test_every_outline_has_an_inside_and_an_outside(name):
    axis = np.linspace(-1.3, 1.3, 32, dtype=np.float32)
    u, v = np.meshgrid(axis, axis)
    for organic in (0.0, 1.0):
        distance = module.OUTLINES[name](u[None], v[None], np.full((1, 1, 1), organic, np.float32))
        assert distance.shape == (1, 32, 32)
        assert 0.05 < np.mean(distance < 0) < 0.8


def test_sources_are_immutable(source):
    with pytest.raises(dataclasses.FrozenInstanceError):
        source.name = "other"
