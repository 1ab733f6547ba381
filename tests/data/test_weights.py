"""Weights of classes, by hand; every way a file of them can be wrong."""

import json

import numpy as np
import pytest

from moe.data.weights import class_weights, example_weights
from moe.errors import UserError

CLASSES = ("ant", "bee", "cat")
LABEL = np.array([0, 0, 0, 1, 1, 0])  # four, two, none


def write(folder, content):
    path = folder / "weights.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def test_balanced_weights_by_hand():
    # 6 / (2 classes that are there * 4) and 6 / (2 * 2)
    found = class_weights("balanced", CLASSES, LABEL)
    assert found == {"ant": 0.75, "bee": 1.5, "cat": 1.0}
    weight = example_weights(found, LABEL, None)
    assert weight.tolist() == [0.75, 0.75, 0.75, 1.5, 1.5, 0.75]
    assert weight.dtype == np.float32
    assert weight.mean() == 1


def test_a_file_leaves_a_class_alone_that_it_does_not_name(tmp_path):
    path = write(tmp_path, {"bee": 3, "ant": 0.5})
    found = class_weights(path, CLASSES, LABEL)
    assert list(found.items()) == [("ant", 0.5), ("bee", 3.0), ("cat", 1.0)]


def test_an_examples_own_weight_counts_as_well():
    own = np.array([1, 2, 0, 1, 4, 1], np.float32)
    by_class = {"ant": 0.5, "bee": 3.0, "cat": 1.0}
    assert example_weights(by_class, LABEL, own).tolist() == [0.5, 1, 0, 3, 12, 0.5]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"dog": 1}, r"'dog' is no class of the data set \(ant, bee, cat\)"),
        ('{"ant": 1%s}' % (400 * "0"), r"class 'ant' weighs 10{19}; must be from 0 to 1e"),
        ({"ant": -1}, r"class 'ant' weighs -1; must be from 0 to 1e"),
        ('{"ant": 1e999}', r"class 'ant' weighs inf"),
        ('{"ant": NaN}', r"cannot be read as JSON"),
        ('{"ant": 1, "ant": 2}', r"cannot be read as JSON \('ant' is there twice\)"),
        ({"ant": "heavy"}, r"must look like"),
        ({"ant": True}, r"must look like"),
        ([1, 2, 3], r"must look like"),
        ("", r"cannot be read as JSON"),
        ({"ant": 0, "bee": 0}, r"every class weighs 0"),
    ],
)
def test_a_wrong_file_is_refused_with_its_name_and_the_reason(tmp_path, content, message):
    path = write(tmp_path, content)
    with pytest.raises(UserError, match=message) as caught:
        class_weights(path, CLASSES, LABEL)
    assert str(caught.value).startswith(f"--class_weights={path}: ")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"--class_weights=.*none.json: cannot be read as JSON"):
        class_weights(str(tmp_path / "none.json"), CLASSES, LABEL)
