"""Plain-text tables for terminals."""

from __future__ import annotations

from collections.abc import Sequence

Units = Sequence[tuple[float, str]]
"""Sizes and names of units, the largest first."""
COUNTS: Units = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1, ""))
TIMES: Units = ((60, "min"), (1, "s"))


def format_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table with aligned columns: text to the left, numbers to the right."""
    cells = [[_text(value) for value in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    numeric = [all(_is_number(row[c]) for row in cells[1:]) for c in range(len(header))]
    lines = [
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ).rstrip()
        for row in cells
    ]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def percent(value: float | None) -> str | None:
    """A fraction as per cent with two decimals."""
    return None if value is None else f"{100 * value:.2f}"


def shares(values: Sequence[float]) -> str:
    """Fractions with two decimals in a row."""
    return " ".join(f"{value:.2f}" for value in values)


def unit_of(value: float, units: Units) -> tuple[float, str]:
    """The largest of the units that a value reaches, or the smallest."""
    return next((unit for unit in units if abs(value) >= unit[0]), units[-1])


def count(value: float) -> str:
    """A count with four digits, as 26.58 M or 3.200 M; a small one as it is."""
    size, name = unit_of(value, COUNTS)
    if size == 1:
        return f"{value:,.4g}"
    digits = f"{value / size:#,.4g}".removesuffix(".")
    return f"{digits} {name}"


def _text(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4f}"
    return str(value)


def _is_number(cell: str) -> bool:
    return cell == "-" or cell.replace(",", "").replace(".", "", 1).lstrip("-").isdigit()
