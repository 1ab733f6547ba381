"""What a data set is: two splits of NumPy arrays, opened only when asked for."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np


class Examples(NamedTuple):
    """`N` examples in memory; `F` stands for the shape of one example's features.

    Attributes:
      features: `<uint8>[N, H, W, D]` images or `<float32>[N, F]` table rows.
      label: `<int32>[N]`, the class, `0 .. L-1`.
      group: `<int32>[N]`, a group that the data set itself names (a known cluster), or None.
      weight: `<float32>[N]`, how much each example counts in the losses of training, or None where
        all count the same.
    """

    features: np.ndarray
    label: np.ndarray
    group: np.ndarray | None = None
    weight: np.ndarray | None = None

    def take(self, rows: np.ndarray) -> Examples:
        """The examples at `rows` (`<int>[M]`), in that order."""
        return Examples(*(None if column is None else column[rows] for column in self))

    def digest(self) -> str:
        """SHA-256 of all columns, their dtypes and shapes, in hex; 50,000 images take 0.1 s."""
        found = hashlib.sha256()
        for name, column in self._asdict().items():
            if column is not None:
                found.update(f"{name} {column.dtype} {column.shape}".encode())
                found.update(np.ascontiguousarray(column))
        return found.hexdigest()


@dataclasses.dataclass(frozen=True)
class Source:
    """A data set by name; nothing is read before `train()` or `test()` is called.

    Attributes:
      name: as it stands in every table, file and plot.
      classes: the `L` class names, in label order.
      train, test: read one split. Only the final evaluation may call `test`.
      partition: the built-in partition of the classes, `{group: classes}`, or None.
      example_groups: names of the groups in `Examples.group`, empty where there are none.
      note: a sentence that is printed with every result (what a reader must know), or "".
      fit: where features are made with numbers learned from the data: the same set with those
        learned from the given rows (`<int>[M]`) of its training split alone. None: nothing is.
      arrange: what is done to each part (training, validation, test) when it is settled which
        examples are in it, with numbers drawn for it by `--data_seed`; it may give examples their
        groups. None: nothing.
      copies: how many times each example of a part is there after `arrange`: all of them once, then
        all of them again.
      mirrors: whether an example that is mirrored left to right keeps its group and its label.
      table: how raw table rows become features (`moe.data.table.Table.to_dict`), or None.
    """

    name: str
    classes: tuple[str, ...]
    train: Callable[[], Examples]
    test: Callable[[], Examples]
    partition: Mapping[str, tuple[str, ...]] | None = None
    example_groups: tuple[str, ...] = ()
    note: str = ""
    fit: Callable[[np.ndarray], Source] | None = None
    arrange: Callable[[Examples, np.random.Generator], Examples] | None = None
    copies: int = 1
    mirrors: bool = True
    table: Mapping[str, Any] | None = None
