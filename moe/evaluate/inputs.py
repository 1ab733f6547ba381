"""Examples that a user hands in: image files, or tables of numbers."""

from __future__ import annotations

import csv
import glob
import io
import os
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from moe.data.folder_source import MOST_NAMED
from moe.data.images import UnreadableError, read_image, resized
from moe.data.splits import shortened
from moe.data.table import Table
from moe.errors import UserError, warn

_LARGEST = float(np.finfo(np.float32).max)


class Inputs(NamedTuple):
    """N examples without labels.

    Attributes:
      names: where each one comes from: `FILE`, or `FILE:LINE` of a table.
      features: `<uint8>[N, H, W, D]` or `<float32>[N, F]`.
      note: what was done to them, or "".
    """

    names: list[str]
    features: np.ndarray
    note: str = ""


def read_inputs(
    pattern: str, shape: Sequence[int], table: Table | None = None, skip_unreadable: bool = False
) -> Inputs:
    """Reads every file that `pattern` names, in alphabetical order.

    Args:
      pattern: a path; `*`, `?`, `[…]` and `**` stand for what they do in a shell.
      shape: of one example's features: `[H, W, D]`, files are images, or `[F]`, they are tables.
      table: makes features of rows as they stand in a file; None: these are numbers already.
      skip_unreadable: leave out files that are no images, and name them in a warning.

    Raises:
      UserError: no file matches, or one cannot be read or does not fit.
    """
    if skip_unreadable and len(shape) != 3:
        raise UserError("--skip_unreadable: is for images, and this run is on table rows.")
    pattern = os.path.expanduser(pattern)
    found = [pattern] if os.path.isfile(pattern) else glob.glob(pattern, recursive=True)
    paths = sorted(path for path in found if os.path.isfile(path))
    if not paths:
        raise UserError(f"--predict={pattern}: no file matches.")
    if len(shape) == 3:
        return _read_images(paths, shape, skip_unreadable)
    return _read_numbers(paths, shape[0]) if table is None else _read_raw(paths, table)


# --- images -------------------------------------------------------------------------------------


def _read_images(paths: Sequence[str], shape: Sequence[int], skip_unreadable: bool) -> Inputs:
    height, width, depth = shape
    if depth not in (1, 3):
        raise UserError(
            f"--predict: the run's images have {depth} channels, those in image files 1 or 3."
        )
    features = np.zeros([len(paths), *shape], np.uint8)
    stretched = 0
    names: list[str] = []
    skipped: list[str] = []
    for path in paths:
        try:
            image = read_image(pathlib.Path(path), depth)
        except UnreadableError as error:
            if skip_unreadable:
                skipped.append(path)
                continue
            raise UserError(
                f"{path}: is no image that can be read ({error}); leave it out, or use "
                "--skip_unreadable."
            ) from error
        if image.shape[:2] != (height, width):
            image = resized(image, height, width)
            stretched += 1
        features[len(names)] = image
        names.append(path)
    if not names:
        raise UserError(f"--predict: none of {shortened(skipped)} is an image that can be read.")
    if skipped:
        warn(
            f"--predict: {len(skipped)} of {len(paths)} files are skipped, no images: "
            f"{shortened(skipped, MOST_NAMED)}."
        )
    note = ""
    if stretched:
        note = f"{stretched} of {len(names)} images were resized to {height} x {width}"
    return Inputs(names, features[: len(names)], note)


# --- tables -------------------------------------------------------------------------------------


def _read_numbers(paths: Sequence[str], columns: int) -> Inputs:
    """Tables of numbers; a first row without a number is a header."""
    names, rows = [], []
    for path in paths:
        lines = [(line, cells) for line, cells in _read_lines(path) if "".join(cells).strip()]
        if lines and all(_number(cell) is None for cell in lines[0][1]):
            del lines[0]
        for line, cells in lines:
            names.append(f"{path}:{line}")
            rows.append(_row(cells, columns, f"{path}, line {line}"))
    if not rows:
        raise UserError(f"{paths[0]}: has no row of numbers.")
    return Inputs(names, np.asarray(rows, np.float32))


def _read_raw(paths: Sequence[str], table: Table) -> Inputs:
    """Tables like the one that the run learned from: their first rows name the columns."""
    names, places, rows = [], [], []
    for path in paths:
        (_, header), *lines = _read_lines(path) or [(0, [])]
        columns = _find_columns(path, header, [column.name for column in table.columns])
        for line, cells in lines:
            place = f"{path}, line {line}"
            if len(cells) != len(header):
                raise UserError(f"{place}: has {len(cells)} cells, its header {len(header)}.")
            names.append(f"{path}:{line}")
            places.append(place)
            rows.append([cells[column] for column in columns])
    if not rows:
        raise UserError(f"{paths[0]}: has no row below the line that names the columns.")
    return Inputs(names, table.apply(rows, places))


def _find_columns(path: str, header: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """Where the columns that features are made of stand; others do not count."""
    there = [name.strip() for name in header]
    for name in wanted:
        if there.count(name) != 1:
            many = "no column" if name not in there else "more than one column"
            raise UserError(f"{path}: its first line must name the columns; {many} {name!r}.")
    return [there.index(name) for name in wanted]


def _read_lines(path: str) -> list[tuple[int, list[str]]]:
    """The cells of each row of a CSV file, with the number of the line that it ends in."""
    try:
        text = pathlib.Path(path).read_text(encoding="utf-8-sig")
        reader = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True)
        return [(reader.line_num, cells) for cells in reader if cells]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as a CSV table ({error}).") from error


def _row(cells: Sequence[str], columns: int, where: str) -> list[float]:
    if len(cells) != columns:
        raise UserError(f"{where}: has {len(cells)} columns, the run's rows have {columns}.")
    values = [_number(cell) for cell in cells]
    for column, (value, cell) in enumerate(zip(values, cells, strict=True), start=1):
        if value is None or not abs(value) <= _LARGEST:
            raise UserError(f"{where}, column {column}: {cell.strip()!r} is no finite number.")
    return values


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None
