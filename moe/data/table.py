"""From table rows as they stand in a file to numbers: learned once, stored as plain values."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from moe.errors import UserError
from moe.typed import check

MISSING = frozenset({"", "?", "na", "n/a", "#n/a", "<na>", "nan", "null", "none"})
"""Cells that say nothing, in lower case."""

_LARGEST = 1e37
"""Differences of such numbers are still finite in float32."""


def is_missing(cell: str) -> bool:
    """Whether a cell says nothing: empty, or one of the usual words for that."""
    return cell.strip().lower() in MISSING


def is_number(cell: str) -> bool:
    """Whether a cell holds a finite number of a sensible size."""
    try:
        return "_" not in cell and abs(float(cell)) < _LARGEST
    except ValueError:
        return False


@dataclasses.dataclass(frozen=True)
class Numbers:
    """A column of numbers: how far each is from the median, which also stands in for missing ones.

    Differences, so that large numbers close to each other (times, identifiers) survive float32.

    Attributes:
      name: of the column.
      median: of the numbers that it was learned from.
    """

    name: str
    median: float

    @classmethod
    def learn(cls, name: str, cells: np.ndarray) -> Numbers:
        """From cells as `read` gives them."""
        present = cells[~np.isnan(cells)]
        return cls(name, float(np.median(present)) if len(present) else 0.0)

    @staticmethod
    def read(cells: Sequence[str]) -> np.ndarray:
        """`<float64>[N]`, NaN where a number is missing."""
        return np.array([math.nan if is_missing(cell) else float(cell) for cell in cells])

    def features(self, cells: np.ndarray) -> np.ndarray:
        """`<float32>[N, 1]`."""
        return np.nan_to_num(cells - self.median).astype(np.float32)[:, np.newaxis]


@dataclasses.dataclass(frozen=True)
class Words:
    """A column of words, one-hot: a new or missing one has all zeros.

    Attributes:
      name: of the column.
      words: those that it was learned from, sorted.
    """

    name: str
    words: tuple[str, ...]

    @classmethod
    def learn(cls, name: str, cells: np.ndarray) -> Words:
        """From cells as `read` gives them."""
        return cls(name, tuple(sorted(set(cells) - {""})))

    @staticmethod
    def read(cells: Sequence[str]) -> np.ndarray:
        """`<object>[N]`, the empty string where a word is missing."""
        return np.array(["" if is_missing(cell) else cell.strip() for cell in cells], object)

    def features(self, cells: np.ndarray) -> np.ndarray:
        """`<float32>[N, words]`."""
        return (cells[:, np.newaxis] == np.array(self.words, object)).astype(np.float32)


_KINDS = {
    "numbers": (Numbers, {"name": str, "median": float}),
    "words": (Words, {"name": str, "words": list[str]}),
}
"""As a column is stored: the class and its fields."""


@dataclasses.dataclass(frozen=True)
class Table:
    """Makes features of raw table rows.

    Attributes:
      columns: in the order in which a raw row has its cells.
    """

    columns: tuple[Numbers | Words, ...]

    def features(self, columns: Sequence[np.ndarray]) -> np.ndarray:
        """`<float32>[N, F]` from columns of `N` cells, as each one's `read` gives them."""
        pairs = zip(self.columns, columns, strict=True)
        return np.concatenate([column.features(cells) for column, cells in pairs], axis=1)

    def apply(
        self, rows: Sequence[Sequence[Any]], places: Sequence[str] | None = None
    ) -> np.ndarray:
        """Features of raw rows: `N` rows of one cell a column -> `<float32>[N, F]`.

        Args:
          rows: of texts, numbers or None, in the order of `columns`.
          places: what messages call the rows; their numbers if None.

        Raises:
          UserError: a row has another number of cells, or a word where a number belongs.
        """
        texts = [["" if cell is None else str(cell) for cell in row] for row in rows]
        places = places or [f"row {number}" for number in range(len(texts))]
        for place, row in zip(places, texts, strict=True):
            if len(row) != len(self.columns):
                raise UserError(f"{place} has {len(row)} cells; needs {len(self.columns)}.")
            for column, cell in zip(self.columns, row, strict=True):
                if isinstance(column, Numbers) and not (is_missing(cell) or is_number(cell)):
                    raise UserError(f"{place}, column {column.name!r}: {cell!r:.60} is no number.")
        cells = zip(*texts, strict=True) if texts else [()] * len(self.columns)
        pairs = zip(self.columns, cells, strict=True)
        return self.features([column.read(column_cells) for column, column_cells in pairs])

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        names = {kind: name for name, (kind, _) in _KINDS.items()}
        return {
            "columns": [
                {"kind": names[type(column)]}
                | {k: list(v) if isinstance(v, tuple) else v for k, v in vars(column).items()}
                for column in self.columns
            ]
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Table:
        """The inverse of `to_dict`.

        Raises:
          UserError: the values are damaged.
        """
        try:
            columns = []
            for stored in values["columns"]:
                kind, hints = _KINDS[stored["kind"]]
                for name, hint in hints.items():
                    check(stored[name], hint, name)
                fields = {name: stored[name] for name in hints}
                columns.append(
                    kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()})
                )
            return cls(tuple(columns))
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"the stored columns of the table are damaged ({error}).") from error
