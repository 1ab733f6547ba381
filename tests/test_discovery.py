"""Groups of classes from a classifier's confusions, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from moe.discovery import agreement, as_members, cluster_classes, confusion_affinity
from moe.errors import UserError

CLASSES = ("ship", "cat", "plane", "dog", "deer")


def test_the_affinity_is_the_mean_of_both_directions():
    probabilities = np.array([[0.8, 0.2, 0.0], [0.6, 0.2, 0.2], [0.1, 0.9, 0.0], [0.0, 0.5, 0.5]])
    affinity = confusion_affinity(probabilities, np.array([0, 0, 1, 2]))
    # 0 is taken for 1 with (.2 + .2) / 2 and 1 for 0 with .1; 0 for 2 with .1 and 2 for 0 never.
    np.testing.assert_allclose(
        affinity, [[0, 0.15, 0.05], [0.15, 0, 0.25], [0.05, 0.25, 0]], atol=1e-12
    )


def blocks(*groups: tuple[int, ...]) -> np.ndarray:
    """Classes of one group are often taken for each other, others hardly ever."""
    affinity = np.full((len(CLASSES), len(CLASSES)), 0.001)
    for group in groups:
        affinity[np.ix_(group, group)] = 0.1
    np.fill_diagonal(affinity, 0.0)
    return affinity


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        (((0, 2), (1, 3, 4)), (0, 1, 0, 1, 1)),
        (((0,), (1, 2, 3, 4)), (0, 1, 1, 1, 1)),
        (((0, 4), (1, 3), (2,)), (0, 1, 2, 1, 0)),
        (((0,), (1,), (2,), (3,), (4,)), (0, 1, 2, 3, 4)),
    ],
)
def test_classes_that_are_confused_share_a_group(groups, expected):
    assert cluster_classes(blocks(*groups), len(groups)) == expected


def test_a_classifier_without_a_fault_still_has_groups():
    found = cluster_classes(np.zeros([5, 5]), 5)
    assert found == (0, 1, 2, 3, 4)


def test_more_groups_than_classes_are_refused():
    with pytest.raises(UserError, match="--groups=auto:6: there are only 5 classes"):
        cluster_classes(blocks(), 6)


def test_the_groups_are_what_a_groups_file_holds():
    members = as_members((0, 1, 0, 1, 1), CLASSES)
    assert members == {"group_0": ["ship", "plane"], "group_1": ["cat", "dog", "deer"]}


def test_agreement_is_1_whatever_the_names_and_0_by_chance():
    found = {"a": ["ship", "plane"], "b": ["cat", "dog"]}
    assert agreement(found, {"x": ["dog", "cat"], "y": ["plane", "ship"]}) == {
        "adjusted_rand_index": 1.0,
        "normalized_mutual_information": pytest.approx(1.0),
    }
    # Every pair of one partition is torn apart by the other: (0 - 2*2/6) / ((2+2)/2 - 2*2/6) = -.5
    crossed = agreement(found, {"x": ["ship", "cat"], "y": ["plane", "dog"]})
    assert crossed["adjusted_rand_index"] == pytest.approx(-0.5)
    assert crossed["normalized_mutual_information"] == pytest.approx(0.0, abs=1e-12)
