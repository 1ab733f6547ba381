"""The built-in partitions against the numbers that the data sets themselves carry."""

import numpy as np
import pytest

from moe.data.partitions import PARTITIONS
from moe.data.source import Source
from moe.taxonomy import resolve_groups

# Coarse label of every fine label, in the order of CIFAR-100's fine labels, which is alphabetical;
# coarse labels are in alphabetical order, too (`coarse_label_names.txt`, `fine_label_names.txt`).
COARSE_OF_FINE = """
4 1 14 8 0 6 7 7 18 3 3 14 9 18 7 11 3 9 7 11 6 11 5 10 7 6 13 15 3 15 0 11 1 10 12 14 16 9 11 5
5 19 8 8 15 13 14 17 18 10 16 4 17 4 2 0 17 4 18 17 10 3 2 12 12 16 12 1 9 19 2 10 0 1 16 12 9 13
15 13 16 19 2 4 6 19 5 5 8 19 18 1 2 15 6 0 17 8 14 13
"""


@pytest.mark.parametrize("name", PARTITIONS)
def test_no_class_stands_in_two_groups(name):
    members = [member for group in PARTITIONS[name].values() for member in group]
    assert len(members) == len(set(members)) == int(name.removeprefix("cifar"))


def test_the_super_classes_of_cifar100_are_its_coarse_labels():
    partition = PARTITIONS["cifar100"]
    assert list(partition) == sorted(partition)
    assert {len(members) for members in partition.values()} == {5}
    fine = tuple(sorted(sum(partition.values(), ())))
    source = Source("cifar100", fine, train=None, test=None, partition=partition)
    groups = resolve_groups("semantic", source)
    assert groups.names == tuple(partition)
    np.testing.assert_array_equal(groups.group_of_class, np.array(COARSE_OF_FINE.split(), int))
