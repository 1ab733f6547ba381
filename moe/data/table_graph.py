"""Raw table rows to features in a graph: `moe.data.table` for where there is TensorFlow alone."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import tensorflow as tf

from moe.data.table import Numbers, Table, Words


def input_names(columns: Sequence[str]) -> dict[str, str]:
    """What the columns are called as inputs of a signature, by their names.

    What is no letter of the alphabet, digit or underscore becomes an underscore; names are then
    told apart, whatever their case, by numbers.
    """
    names: dict[str, str] = {}
    taken = {"self"}
    for column in columns:
        plain = re.sub(r"[^A-Za-z0-9_]", "_", column)
        plain = name = plain if plain[0].isalpha() else f"column_{plain.lstrip('_')}"
        number = 1
        while name.lower() in taken:
            number += 1
            name = f"{plain}_{number}"
        taken.add(name.lower())
        names[column] = name
    return names


class TableGraph(tf.Module):
    """What `Table.features` does, in operations that a SavedModel can hold.

    Args:
      table: what was learned of the columns.

    Attributes:
      inputs: `input_names` of the columns.
    """

    def __init__(self, table: Table) -> None:
        super().__init__()
        self.inputs = input_names([column.name for column in table.columns])
        self._columns = [
            _NumbersGraph(column) if isinstance(column, Numbers) else _WordsGraph(column)
            for column in table.columns
        ]

    @property
    def specs(self) -> dict[str, tf.TensorSpec]:
        """A batch of raw rows by the input: numbers `<float32>[S]`, words `<string>[S]`."""
        pairs = zip(self.inputs.values(), self._columns, strict=True)
        return {name: tf.TensorSpec([None], column.dtype, name) for name, column in pairs}

    def features(self, cells: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """`<float32>[S, F]` from the cells of each input, as `specs` says.

        NaN (and what else is no finite number) stands for a missing number, the empty string for a
        missing word.
        """
        pairs = zip(self.inputs.values(), self._columns, strict=True)
        return tf.concat([column(cells[name]) for name, column in pairs], axis=1)


class _NumbersGraph(tf.Module):
    """`moe.data.table.Numbers`."""

    dtype = tf.float32

    def __init__(self, column: Numbers) -> None:
        super().__init__()
        self._median = column.median

    def __call__(self, cells: tf.Tensor) -> tf.Tensor:
        # In float64, as it was learned: a large number's distance from the median may be small.
        distance = tf.cast(cells, tf.float64) - self._median
        distance = tf.where(tf.math.is_finite(distance), distance, 0.0)
        return tf.cast(distance, tf.float32)[:, tf.newaxis]


class _WordsGraph(tf.Module):
    """`moe.data.table.Words`."""

    dtype = tf.string

    def __init__(self, column: Words) -> None:
        super().__init__()
        self._count = len(column.words)
        # A missing word is among the keys: a table without any cannot be made.
        known = tf.lookup.KeyValueTensorInitializer(
            tf.constant(("", *column.words)), tf.range(-1, self._count)
        )
        self._number = tf.lookup.StaticHashTable(known, default_value=-1)

    def __call__(self, cells: tf.Tensor) -> tf.Tensor:
        # What is in no row of one_hot is all zeros: a new word, and one that is missing.
        return tf.one_hot(self._number.lookup(tf.strings.strip(cells)), self._count)
