"""A table of one's own: `csv:PATH?label=COLUMN`."""

from __future__ import annotations

import csv
import dataclasses
import pathlib
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, NoReturn

import numpy as np

from moe.data.source import Examples, Source
from moe.data.splits import check_classes, hold_out, shortened
from moe.data.table import Numbers, Table, Words, is_missing, is_number
from moe.errors import UserError, warn

FORM = "csv:PATH?label=COLUMN"
_OPTIONS = ("label", "drop", "test", "weight")
_MOST_WORDS = 100
"""Distinct ones in a column; with more it is a name or a remark, and no category."""

Column = type[Numbers] | type[Words]


@dataclasses.dataclass(frozen=True)
class _Asked:
    """What stands behind `csv:`, taken apart as in a URL."""

    spec: str
    path: str
    label: str
    drop: tuple[str, ...] = ()
    test: str | None = None
    weight: str | None = None

    def refuse(self, why: str) -> NoReturn:
        """Raises an error about the value of the flag."""
        raise UserError(f"--dataset=csv:{self.spec}: {why}")


class _File(NamedTuple):
    """A file of comma-separated values.

    Attributes:
      path: where it is.
      names: of the columns, all different.
      rows: texts, one a column each.
      lines: the number of the line that each row ends in, from 1.
    """

    path: str
    names: tuple[str, ...]
    rows: list[list[str]]
    lines: list[int]

    def column(self, name: str) -> list[str]:
        """Its cells."""
        number = self.names.index(name)
        return [row[number].strip() for row in self.rows]

    def refuse(self, row: int, why: str) -> NoReturn:
        """Raises an error about a row."""
        raise UserError(f"{self.path}, line {self.lines[row]}: {why}")


def csv_source(spec: str) -> Source:
    """The table in a file of comma-separated values, the first line of which names the columns.

    What features need to know (medians, categories) is learned from the training split alone, and
    after `Source.fit` from the rows alone that are trained on.

    Args:
      spec: `PATH?label=COLUMN`, with any of `&drop=COLUMN,COLUMN`, `&test=PATH`, `&weight=COLUMN`;
        `%26` stands for `&` as in a URL, and so on.

    Raises:
      UserError: a file, a column or a cell is not as it must be.
    """
    asked = _parse(spec)
    file = _read(asked.path)
    features = _check_columns(asked, file)
    if not file.rows:
        raise UserError(f"{asked.path}: has no row below the line that names the columns.")
    kinds = {name: _kind_of(name, file) for name in features}
    texts = _labels(asked, file)
    classes = tuple(sorted(set(texts), key=_in_order(texts)))
    label = _numbered(texts, classes)
    columns = [_read_column(name, kind, file) for name, kind in kinds.items()]
    weight = None if asked.weight is None else _weights(asked.weight, file)
    if asked.test is None:
        train_rows, test_rows = hold_out(label, classes, asked.path)
        note = f"{asked.path} has no test split: the same 20 % of each class are kept for it."
    else:
        check_classes(label, classes, asked.path)
        # Its columns now, before hours of training; its rows when the test split may be opened.
        _check_test_columns(asked, _read(asked.test, rows=False), features)
        train_rows, test_rows, note = np.arange(len(label)), None, ""

    def examples(table: Table, rows: np.ndarray) -> Examples:
        found = table.features([column[rows] for column in columns])
        return Examples(found, label[rows], weight=None if weight is None else weight[rows])

    def test(table: Table) -> Examples:
        if test_rows is not None:
            return examples(table, test_rows)
        return _read_test(asked, table, kinds, classes)

    def fitted(rows: np.ndarray) -> Source:
        pairs = zip(kinds.items(), columns, strict=True)
        table = Table(tuple(kind.learn(name, column[rows]) for (name, kind), column in pairs))
        return Source(
            name=f"csv:{spec}",
            classes=classes,
            train=lambda: examples(table, train_rows),
            test=lambda: test(table),
            note=note,
            fit=lambda chosen: fitted(train_rows[chosen]),
            table=table.to_dict(),
        )

    return fitted(train_rows)


def _parse(spec: str) -> _Asked:
    path, _, query = spec.partition("?")
    given: dict[str, str] = {}
    for option in filter(None, query.split("&")):
        name, _, value = option.partition("=")
        if name not in _OPTIONS or not value or name in given:
            _Asked(spec, path, "").refuse(
                f"{option!r} is none of {', '.join(f'{n}=…' for n in _OPTIONS)}, each given once."
            )
        given[name] = value
    texts: dict[str, str] = {n: urllib.parse.unquote(v) for n, v in given.items() if n != "drop"}
    dropped = [urllib.parse.unquote(name) for name in given.get("drop", "").split(",") if name]
    asked = _Asked(
        spec,
        _at_home(urllib.parse.unquote(path)),
        texts.get("label", ""),
        tuple(dropped),
        _at_home(texts["test"]) if "test" in texts else None,
        texts.get("weight"),
    )
    if not asked.path:
        asked.refuse(f"name the file: {FORM}.")
    return asked


def _at_home(path: str) -> str:
    """With `~` spelled out, which a shell leaves as it is behind a colon."""
    return str(pathlib.Path(path).expanduser()) if path else ""


def _read(path: str, rows: bool = True) -> _File:
    """Reads a file, or only the names of its columns."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as text:
            reader = csv.reader(text, skipinitialspace=True, strict=True)
            names = tuple(cell.strip() for cell in next(reader, ()))
            if not names:
                raise UserError(f"{path}: is empty, or its first line is; that names the columns.")
            _check_names(path, names)
            file = _File(path, names, [], [])
            for row in reader if rows else ():
                if not row:
                    continue  # an empty line
                if len(row) != len(names):
                    raise UserError(
                        f"{path}, line {reader.line_num}: has {len(row)} cells, and the first line "
                        f"names {len(names)} columns."
                    )
                file.rows.append(row)
                file.lines.append(reader.line_num)
    except OSError as error:
        raise UserError(f"--dataset=csv:{path}: cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is no UTF-8 text ({error.reason}).") from error
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: {error}.") from error
    return file


def _check_names(path: str, names: Sequence[str]) -> None:
    for number, name in enumerate(names, start=1):
        if not name:
            raise UserError(
                f"{path}, line 1: column {number} has no name; give it one, and drop it if it only "
                "numbers the rows."
            )
        if names.count(name) > 1:
            raise UserError(f"{path}, line 1: two columns are called {name!r}.")


def _check_columns(asked: _Asked, file: _File) -> list[str]:
    """The names of the columns that features are made of.

    Raises:
      UserError: no label is named, a column is not there, has two uses, or none is left.
    """
    there = f"the columns of {asked.path} are {shortened(file.names, 50)}"
    if not asked.label:
        asked.refuse(f"name the column of the labels: {FORM}; {there}.")
    used = [asked.label, *asked.drop] + ([asked.weight] if asked.weight is not None else [])
    for name in used:
        if name not in file.names:
            asked.refuse(f"there is no column {name!r}; {there}.")
        if used.count(name) > 1:
            asked.refuse(f"column {name!r} is named twice.")
    features = [name for name in file.names if name not in used]
    if not features:
        asked.refuse("no column is left to learn from.")
    return features


def _kind_of(name: str, file: _File) -> Column:
    """What a column holds.

    Raises:
      UserError: nothing, numbers with stray words among them, or too many different words.
    """
    cells = file.column(name)
    leave_out = f"leave the column out with drop={urllib.parse.quote(name)}"
    present = [cell for cell in cells if not is_missing(cell)]
    if not present:
        raise UserError(f"{file.path}: column {name!r} is empty; {leave_out}.")
    strays = [row for row, cell in enumerate(cells) if not (is_missing(cell) or is_number(cell))]
    if not strays:
        return Numbers
    if len(strays) < len(present) / 2:
        file.refuse(
            strays[0],
            f"column {name!r} holds numbers, but here {cells[strays[0]]!r:.60}, which is none; "
            f"mend it, empty it, or {leave_out}.",
        )
    distinct = len(set(present))
    if distinct > min(_MOST_WORDS, len(cells) / 2):
        raise UserError(
            f"{file.path}: column {name!r} holds {distinct} different words in {len(cells)} rows, "
            f"too many for a category (at most {_MOST_WORDS}, and half of the rows); {leave_out}."
        )
    return Words


def _read_column(name: str, kind: Column, file: _File) -> np.ndarray:
    """The cells of a column of a known kind.

    Raises:
      UserError: one of them is no number, where it must be.
    """
    cells = file.column(name)
    if kind is Numbers:
        for row, cell in enumerate(cells):
            if not (is_missing(cell) or is_number(cell)):
                file.refuse(row, f"column {name!r}: {cell!r:.60} is no number.")
    return kind.read(cells)


def _labels(asked: _Asked, file: _File) -> list[str]:
    texts = file.column(asked.label)
    if "" in texts:
        file.refuse(texts.index(""), f"column {asked.label!r} is empty: which class is it?")
    for word in sorted(filter(is_missing, set(texts))):
        warn(
            f"{file.path}: {word!r} in column {asked.label!r} ({texts.count(word)} rows) is taken "
            "for a class; delete those rows if it says that the class is not known."
        )
    spelt: dict[float, str] = {}
    for word in filter(is_number, sorted(set(texts))):
        other = spelt.setdefault(float(word), word)
        if other != word:
            warn(
                f"{file.path}: {other!r} and {word!r} in column {asked.label!r} are taken for two "
                "classes; spell them alike if they are one."
            )
    return texts


def _in_order(texts: Sequence[str]) -> Callable:
    """The key by which class names are sorted: as numbers where all of them are."""
    if all(is_number(text) for text in texts):
        return lambda text: (float(text), text)
    return str


def _numbered(texts: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    number = {name: n for n, name in enumerate(classes)}
    return np.array([number[text] for text in texts], np.int32)


def _weights(name: str, file: _File) -> np.ndarray:
    cells = file.column(name)
    for row, cell in enumerate(cells):
        if not is_number(cell) or float(cell) < 0:
            file.refuse(row, f"column {name!r}: {cell!r:.60} is no weight, a number from 0.")
    weight = np.array(cells, np.float32)
    if not weight.any():
        raise UserError(f"{file.path}: column {name!r}: every weight is 0.")
    return weight


def _check_test_columns(asked: _Asked, file: _File, features: Sequence[str]) -> None:
    missing = [repr(name) for name in (*features, asked.label) if name not in file.names]
    if missing:
        raise UserError(f"{file.path}: has no column {', '.join(missing)}, unlike {asked.path}.")


def _read_test(
    asked: _Asked, table: Table, kinds: Mapping[str, Column], classes: Sequence[str]
) -> Examples:
    """The test split out of a file of its own; its columns may be in another order."""
    file = _read(asked.test)
    _check_test_columns(asked, file, list(kinds))
    if not file.rows:
        raise UserError(f"{asked.test}: has no row below the line that names the columns.")
    texts = _labels(asked, file)
    for row, text in enumerate(texts):
        if text not in classes:
            file.refuse(row, f"{text!r:.60} is no class of {asked.path}.")
    columns = [_read_column(name, kind, file) for name, kind in kinds.items()]
    return Examples(table.features(columns), _numbered(texts, classes))
