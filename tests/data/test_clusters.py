"""The generated set "clusters": known clusters that no linear probe finds, in conflict."""

import itertools

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from moe.data.clusters import GLYPHS, clusters, draw_readings


@pytest.fixture(scope="module")
def source():
    return clusters(train_examples=1_500, test_examples=600, seed=3)


@pytest.fixture(scope="module")
def train(source):
    return source.train()


@pytest.fixture(scope="module")
def test(source):
    return source.test()


def test_shapes_and_dtypes(source, train, test):
    assert train.features.shape == (1_500, 32, 32, 3)
    assert train.features.dtype == np.uint8
    assert train.label.dtype == train.group.dtype == np.int32
    assert train.label.shape == train.group.shape == (1_500,)
    assert len(test.label) == 600
    assert source.partition is None
    assert source.example_groups == ("cluster_0", "cluster_1", "cluster_2", "cluster_3")
    assert len(source.classes) == 8
    assert source.note


def test_labels_and_clusters_are_balanced_and_independent(train):
    pairs = np.bincount(8 * train.group + train.label, minlength=32)
    assert pairs.max() - pairs.min() <= 1
    assert np.count_nonzero(np.diff(train.group)) > 900


@pytest.mark.parametrize(("num_clusters", "num_classes"), [(4, 8), (2, 2), (3, 7), (4, 4)])
def test_the_same_glyphs_have_another_label_in_every_cluster(num_clusters, num_classes):
    rng = np.random.default_rng(0)
    cluster = rng.integers(0, num_clusters, 500, np.int32)
    label = rng.integers(0, num_classes, 500, np.int32)
    readings = draw_readings(rng, cluster, label, num_clusters, num_classes)
    assert readings.shape == (500, num_clusters)
    assert readings.min() >= 0
    assert readings.max() < num_classes
    assert all(len(set(row)) == num_clusters for row in readings.tolist())
    np.testing.assert_array_equal(readings[np.arange(500), cluster], label)


def test_same_seed_same_images_other_seed_others(train):
    again = clusters(train_examples=1_500, test_examples=1, seed=3).train()
    for one, other in zip(train, again, strict=True):
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(clusters(1_500, seed=4).train().features, train.features)


def test_test_split_does_not_depend_on_the_train_split(test):
    fresh = clusters(train_examples=7, test_examples=600, seed=3).test()
    np.testing.assert_array_equal(fresh.features, test.features)
    equal_sizes = clusters(train_examples=600, test_examples=600, seed=3)
    assert not np.array_equal(equal_sizes.train().features, equal_sizes.test().features)


def test_impossible_sizes_are_refused():
    with pytest.raises(ValueError, match="num_clusters must be from 2 to 4"):
        clusters(num_clusters=5)
    with pytest.raises(ValueError, match="num_classes must be from num_clusters to 8"):
        clusters(num_clusters=4, num_classes=3)


def _probe(train_features, train_target, test_features, test_target) -> float:
    """Test accuracy of logistic regression on standardised flattened pixels."""
    train_rows = train_features.reshape(len(train_features), -1).astype(np.float32)
    test_rows = test_features.reshape(len(test_features), -1).astype(np.float32)
    mean, deviation = train_rows.mean(axis=0), train_rows.std(axis=0) + 1e-6
    model = LogisticRegression(max_iter=10, C=1e-4)
    model.fit((train_rows - mean) / deviation, train_target)
    return model.score((test_rows - mean) / deviation, test_target)


@pytest.mark.parametrize(("target", "chance"), [("group", 1 / 4), ("label", 1 / 8)])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_linear_probe_of_the_pixels_stays_near_chance(train, test, target, chance):
    accuracy = _probe(train.features, getattr(train, target), test.features, getattr(test, target))
    assert accuracy < chance + 0.15


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_probe_finds_what_is_linear(train, test):
    """Checks the check: a lighter stripe of the image, at a place that tells the cluster."""

    def lit(examples):
        features = examples.features.astype(np.float32)
        for cluster in range(4):
            features[examples.group == cluster, :, 8 * cluster : 8 * cluster + 8] += 10
        return features

    assert _probe(lit(train), train.group, lit(test), test.group) > 0.9


def test_the_stripes_of_a_mirrored_glyph_run_as_those_of_another(source):
    def steps(glyph):
        rows = [tuple(row) for row in glyph]
        return set(itertools.pairwise(rows))

    one, other = GLYPHS[2], GLYPHS[3]
    assert steps(one[:, ::-1]) == steps(other) != steps(one)
    assert not source.mirrors
