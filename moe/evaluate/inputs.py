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
import tensorflow as tf

from moe.errors import UserError

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


def read_inputs(pattern: str, shape: Sequence[int]) -> Inputs:
    """Reads every file that `pattern` names, in alphabetical order.

    Args:
      pattern: a path; `*`, `?`, `[…]` and `**` stand for what they do in a shell.
      shape: of one example's features: `[H, W, D]`, files are images, or `[F]`, they are tables.

    Raises:
      UserError: no file matches, or one cannot be read or does not fit.
    """
    pattern = os.path.expanduser(pattern)
    found = [pattern] if os.path.isfile(pattern) else glob.glob(pattern, recursive=True)
    paths = sorted(path for path in found if os.path.isfile(path))
    if not paths:
        raise UserError(f"--predict={pattern}: no file matches.")
    return _read_images(paths, shape) if len(shape) == 3 else _read_tables(paths, shape[0])


# --- images -------------------------------------------------------------------------------------


def _read_images(paths: Sequence[str], shape: Sequence[int]) -> Inputs:
    height, width, depth = shape
    if depth not in (1, 3):
        raise UserError(
            f"--predict: the run's images have {depth} channels, those in image files 1 or 3."
        )
    features = np.zeros([len(paths), *shape], np.uint8)
    resized = 0
    for row, path in enumerate(paths):
        image = _with_depth(_decode(path), depth)
        if image.shape[:2] != (height, width):
            smooth = tf.image.resize(image, [height, width], antialias=True).numpy()
            image = np.clip(np.rint(smooth), 0, 255)
            resized += 1
        features[row] = image
    note = f"{resized} of {len(paths)} images were resized to {height} x {width}" if resized else ""
    return Inputs(list(paths), features, note)


def _decode(path: str) -> np.ndarray:
    """`<uint8>[height, width, channels]`; the first picture of an animation."""
    try:
        content = pathlib.Path(path).read_bytes()
        return tf.io.decode_image(content, expand_animations=False).numpy()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from error
    except tf.errors.OpError as error:
        raise UserError(f"{path}: is no PNG, JPEG, GIF or BMP image that can be read.") from error


def _with_depth(image: np.ndarray, depth: int) -> np.ndarray:
    """The same picture in grey (1) or colour (3); how opaque it is is left out."""
    colours = image[..., : 1 if image.shape[-1] < 3 else 3]
    if colours.shape[-1] == depth:
        return colours
    convert = tf.image.rgb_to_grayscale if depth == 1 else tf.image.grayscale_to_rgb
    return convert(tf.constant(colours)).numpy()


# --- tables -------------------------------------------------------------------------------------


def _read_tables(paths: Sequence[str], columns: int) -> Inputs:
    names, rows = [], []
    for path in paths:
        for line, row in _read_table(path, columns):
            names.append(f"{path}:{line}")
            rows.append(row)
    if not rows:
        raise UserError(f"{paths[0]}: has no row of numbers.")
    return Inputs(names, np.asarray(rows, np.float32))


def _read_table(path: str, columns: int) -> list[tuple[int, list[float]]]:
    """The rows of a CSV file with their line numbers; a first row without a number is a header."""
    try:
        text = pathlib.Path(path).read_text(encoding="utf-8-sig")
        reader = csv.reader(io.StringIO(text, newline=""))
        lines = [(reader.line_num, cells) for cells in reader if "".join(cells).strip()]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as a CSV table ({error}).") from error
    if lines and all(_number(cell) is None for cell in lines[0][1]):
        del lines[0]
    return [(line, _row(cells, columns, f"{path}, line {line}")) for line, cells in lines]


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
