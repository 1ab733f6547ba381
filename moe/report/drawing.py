"""What every figure has in common: size, title, colours, and how it becomes a PNG.

Figures are plain `matplotlib.figure.Figure` objects: no pyplot, no window, no global state.
"""

from __future__ import annotations

import contextlib
import io
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure

WIDTH = 7.5
"""Inches; at `_DPI` as wide as the page, and readable on half of it."""
_DPI = 130
BLUE, ORANGE, GREEN, RED, GREY = "#0072b2", "#e69f00", "#009e73", "#d55e00", "#8a8a8a"
"""Okabe and Ito's colours, which the colour-blind can tell apart."""
CYCLE = (BLUE, ORANGE, GREEN, RED, "#cc79a7", "#56b4e9", "#b8a900", "#000000")
_STYLE = {
    "text.parse_math": False,  # a class may be called "$5"
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.size": 10,
    "axes.titlesize": 10,
    "legend.frameon": False,
    "axes.grid": False,
}
_MOST_NUMBERS = 260
"""Cells of a heat map that still have room for a number each."""
_MOST_LABELS = 50
_MOST_ROWS = 120
"""That have a label each: as many as are still apart at 0.15 inches."""


class Picture(NamedTuple):
    """A figure and what is said about it.

    Attributes:
      name: of the file, without `.png`.
      title: of the figure, and of its section in the report.
      figure: the drawing.
      alt: what it shows, for those who cannot see it.
      reading: what to look for.
    """

    name: str
    title: str
    figure: Figure
    alt: str
    reading: str


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Figures must be made and saved inside of this."""
    with matplotlib.rc_context(_STYLE):
        yield


def subject(
    evaluation: Mapping[str, Any], routing: str | None = None, split: str | None = None
) -> str:
    """What a figure is about: data set, mode, routing, seed and split.

    Args:
      evaluation: `evaluation.json`.
      routing: the run's own by default.
      split: the one that was evaluated by default.
    """
    parts = [evaluation["dataset"], evaluation["mode"]]
    if evaluation["routings"]:  # a network by itself routes nothing
        parts.append(f"{routing or evaluation['routing']} routing")
    parts += [f"seed {evaluation['seed']}", f"{split or evaluation['split']} split"]
    return " · ".join(parts)


def new_figure(height: float, title: str, about: str) -> Figure:
    """An empty figure of the common width, titled.

    Args:
      height: in inches, without the title.
      title: what is shown.
      about: of what, see `subject`.
    """
    lines = textwrap.wrap(about, 88) or [""]
    figure = Figure(figsize=(WIDTH, height + 0.45 + 0.16 * len(lines)), layout="constrained")
    # One text, so that the layout makes room for both.
    figure.suptitle("\n".join([title, *lines]), fontsize=10.5)
    return figure


def png(figure: Figure, description: str = "") -> bytes:
    """The figure as a PNG, with a description in its metadata."""
    content = io.BytesIO()
    about = {"Description": description} if description else {}
    figure.savefig(content, format="png", dpi=_DPI, metadata=about)
    return content.getvalue()


def short(name: str, length: int = 18) -> str:
    """A name that fits beside an axis."""
    return name if len(name) <= length else f"{name[: length - 1]}…"


def heat_map(
    axes: Axes,
    values: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    colours: str = "Blues",
    texts: Sequence[Sequence[str]] | None = None,
    row_groups: Sequence[str] | None = None,
    column_groups: Sequence[str] | None = None,
) -> None:
    """A table of fractions as colours, with numbers in the cells where there is room.

    Args:
      axes: where.
      values: `<float>[R, C]` from 0 to 1; NaN (grey) where nothing is known.
      rows, columns: R and C names.
      row_groups, column_groups: the group of each, those of a group side by side: lines part them,
        and where there are too many columns for a label each, the groups have the labels.
      colours: a matplotlib colour map, light for 0.
      texts: `[R][C]`, what stands in the cells; by default the fractions.
    """
    shades = matplotlib.colormaps[colours].with_extremes(bad="#e4e4e4")
    axes.imshow(np.ma.masked_invalid(values), cmap=shades, vmin=0, vmax=1, aspect="auto")
    long = max(map(len, columns)) * len(columns) > 30
    if column_groups and len(columns) > _MOST_LABELS:
        _label_groups(axes.xaxis, column_groups)
    else:
        _label(axes.xaxis, columns, rotation=90 if long and len(columns) > 10 else 45 * long)
    _label(axes.yaxis, rows, most=_MOST_ROWS)
    for groups, line in ((row_groups, axes.axhline), (column_groups, axes.axvline)):
        for start in _starts(groups or ())[1:]:
            line(start - 0.5, color=GREY, lw=0.5)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    if values.size > _MOST_NUMBERS:
        return
    size = 9 if len(columns) <= 8 else 7
    for (r, c), value in np.ndenumerate(values):
        text = texts[r][c] if texts else ("" if np.isnan(value) else f"{value:.2f}")
        dark = not np.isnan(value) and value > 0.55
        axes.text(c, r, text, ha="center", va="center", size=size, color="w" if dark else "k")


def row_height(num_rows: int) -> float:
    """Inches that a table of colours needs: a line a row, less where there are very many."""
    return max(1.4, num_rows * (0.3 if num_rows <= 30 else 0.15))


def class_order(evaluation: Mapping[str, Any]) -> tuple[list[int], list[str] | None]:
    """Classes in an order in which those of a group are side by side, and the group of each.

    Args:
      evaluation: `evaluation.json`; without groups of classes their order is the data set's, and
        None is said of groups.
    """
    groups = evaluation.get("class_groups")
    if groups is None:
        return list(range(len(evaluation["classes"]))), None
    names = list(dict.fromkeys(groups))
    order = sorted(range(len(groups)), key=lambda n: names.index(groups[n]))
    return order, [groups[n] for n in order]


def _starts(groups: Sequence[str]) -> list[int]:
    """Where another group begins."""
    return [n for n, group in enumerate(groups) if n == 0 or group != groups[n - 1]]


def _label_groups(axis: Axis, groups: Sequence[str]) -> None:
    starts = _starts(groups)
    ends = [*starts[1:], len(groups)]
    every = -(-len(starts) // _MOST_LABELS)
    shown = list(zip(starts, ends, strict=True))[::every]
    slant = {"rotation": 90, "rotation_mode": "anchor", "ha": "right", "va": "center"}
    places = [(start + end - 1) / 2 for start, end in shown]
    axis.set_ticks(places, [short(groups[start]) for start, _ in shown], fontsize=8, **slant)


def _label(axis: Axis, names: Sequence[str], rotation: int = 0, most: int = _MOST_LABELS) -> None:
    many = len(names) > (30 if rotation == 0 else 10)
    every = -(-len(names) // most)
    places = range(0, len(names), every)
    slant = {"rotation": rotation, "rotation_mode": "anchor", "ha": "right"} if rotation else {}
    if rotation == 90:
        slant["va"] = "center"
    axis.set_ticks(places, [short(names[n]) for n in places], fontsize=6 if many else 9, **slant)
