"""Columns in a graph: the same features, and names that a signature takes."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from moe.data.table import Numbers, Table, Words
from moe.data.table_graph import TableGraph, input_names

TABLE = Table((Numbers("a", 2.5), Words("b", ("x", "y")), Words("c", ()), Numbers("d", 1e9)))


def test_features_are_those_of_the_table():
    nan = float("nan")
    cells = {"a": [1.0, nan, 4.0], "b": ["y", "", " x"], "c": ["x"] * 3, "d": [1e9, 1e9 + 64, nan]}
    graph = TableGraph(TABLE)
    found = tf.function(graph.features, input_signature=[graph.specs])(
        {name: tf.constant(column) for name, column in cells.items()}
    )
    rows = [[None if x != x else x for x in row] for row in zip(*cells.values(), strict=True)]
    np.testing.assert_array_equal(found, TABLE.apply(rows))
    np.testing.assert_array_equal(found, [[-1.5, 0, 1, 0], [0, 0, 0, 64], [1.5, 1, 0, 0]])


def test_what_is_no_finite_number_is_missing():
    cells = {"a": tf.constant([np.inf, -np.inf])} | {
        name: tf.constant([word] * 2) for name, word in (("b", "z"), ("c", ""), ("d", 1e9))
    }
    np.testing.assert_array_equal(TableGraph(TABLE).features(cells), np.zeros([2, 4]))


def test_inputs_have_names_that_a_signature_takes():
    columns = ["age", "Age", "a b", "a_b", "a-b_2", "_x", "0", "größe", "??", "self"]
    assert list(input_names(columns).values()) == [
        *("age", "Age_2", "a_b", "a_b_2", "a_b_2_2", "column_x", "column_0", "gr__e", "column_"),
        "self_2",
    ]
    assert list(input_names(columns)) == columns
