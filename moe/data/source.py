"""What a data set is: two splits of NumPy arrays, opened only when asked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np


class Examples(NamedTuple):
    """`N` examples in memory; `F` stands for the shape of one example's features.

    Attributes:
      features: `<uint8>[N, H, W, D]` images or `<float32>[N, F]` table rows.
      label: `<int32>[N]`, the class, `0 .. L-1`.
      group: `<int32>[N]`, a group that the data set itself names (a known cluster), or None.
    """

    features: np.ndarray
    label: np.ndarray
    group: np.ndarray | None = None

    def take(self, rows: np.ndarray) -> Examples:
        """The examples at `rows` (`<int>[M]`), in that order."""
        group = None if self.group is None else self.group[rows]
        return Examples(self.features[rows], self.label[rows], group)


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
    """

    name: str
    classes: tuple[str, ...]
    train: Callable[[], Examples]
    test: Callable[[], Examples]
    partition: Mapping[str, tuple[str, ...]] | None = None
    example_groups: tuple[str, ...] = ()
    note: str = ""
