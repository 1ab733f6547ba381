"""Table rows become numbers as computed by hand; what was learned survives JSON."""

import json

import numpy as np
import pytest

from moe.data.table import Numbers, Table, Words, is_missing, is_number
from moe.errors import UserError

# Medians of 1, 2, 4 and of 10, 30; words of the first three rows.
ROWS = [["1", "red", "10"], ["4", "blue", "?"], ["2", "NA", "30"]]
COLUMNS = list(zip(*ROWS, strict=True))
TABLE = Table(
    (
        Numbers.learn("a", Numbers.read(COLUMNS[0])),
        Words.learn("b", Words.read(COLUMNS[1])),
        Numbers.learn("c", Numbers.read(COLUMNS[2])),
    )
)
#            a - 2, blue, red, c - 20
FEATURES = [[-1, 0, 1, -10], [2, 1, 0, 0], [0, 0, 0, 10]]


def test_rows_become_what_one_computes_by_hand():
    assert TABLE.columns == (Numbers("a", 2.0), Words("b", ("blue", "red")), Numbers("c", 20.0))
    features = TABLE.apply(ROWS)
    assert features.dtype == np.float32
    np.testing.assert_array_equal(features, FEATURES)


def test_new_words_and_what_is_missing_say_nothing():
    rows = [["", "green", None], [3, "blue", 21.5], ["nan", None, " 20 "]]
    np.testing.assert_array_equal(TABLE.apply(rows), [[0] * 4, [1, 1, 0, 1.5], [0] * 4])


def test_no_row_is_no_feature():
    assert TABLE.apply([]).shape == (0, 4)


def test_what_was_learned_survives_json():
    again = Table.from_dict(json.loads(json.dumps(TABLE.to_dict())))
    assert again == TABLE
    np.testing.assert_array_equal(again.apply(ROWS), FEATURES)


def test_large_numbers_close_to_each_other_stay_apart():
    times = np.array([1.7e12, 1.7e12 + 1, 1.7e12 + 2])
    column = Numbers.learn("time", times)
    np.testing.assert_array_equal(column.features(times)[:, 0], [-1, 0, 1])


def test_a_column_that_says_nothing_to_learn_from_is_zero():
    nothing = Numbers.read(["", "NA"])
    column = Numbers.learn("a", nothing)
    np.testing.assert_array_equal(column.features(nothing), [[0], [0]])


@pytest.mark.parametrize("cell", ["", " ", "NA", "n/a", "NaN", "null", "None", "?"])
def test_the_usual_words_for_nothing(cell):
    assert is_missing(cell)


@pytest.mark.parametrize("cell", ["1", "-1.5e3", " 2 "])
def test_what_is_a_number(cell):
    assert is_number(cell)


@pytest.mark.parametrize("cell", ["inf", "nan", "1e38", "1_000", "1,5", "red", ""])
def test_what_is_no_number(cell):
    assert not is_number(cell)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([["1", "red", "10"], ["1", "red"]], r"row 1 has 2 cells; needs 3"),
        ([["much", "red", "10"]], r"row 0, column 'a': 'much' is no number"),
        ([["1", "red", "inf"]], r"row 0, column 'c': 'inf' is no number"),
    ],
)
def test_a_wrong_row_is_refused_by_its_number(rows, message):
    with pytest.raises(UserError, match=message):
        TABLE.apply(rows)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"columns": 3},
        {"columns": [{"kind": "numbers", "name": "a"}]},
        {"columns": [{"kind": "numbers", "name": "a", "median": "2"}]},
        {"columns": [{"kind": "words", "name": "a", "words": [1]}]},
        {"columns": [{"kind": "dates", "name": "a"}]},
    ],
)
def test_damaged_columns_are_refused(values):
    with pytest.raises(UserError, match="the stored columns of the table are damaged"):
        Table.from_dict(values)
