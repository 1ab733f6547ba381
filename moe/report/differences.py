"""Differences in accuracy with their intervals, one under the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from moe.report.drawing import BLUE, GREY, RED, Picture, new_figure

_COLOURS = {"ahead": BLUE, "behind": RED}
"""By outcome."""


def differences(
    name: str, title: str, about: str, compared: Mapping[str, Mapping[str, Any]]
) -> Picture:
    """A forest plot.

    Args:
      name: of the picture.
      title: of it.
      about: what it is about.
      compared: comparisons of `compare.json` by label, from above.
    """
    figure = new_figure(0.6 + 0.21 * len(compared), title, about)
    axes = figure.subplots()
    for line, comparison in enumerate(compared.values()):
        middle, low, high = (100 * comparison[key] for key in ("difference", "low", "high"))
        colour = _COLOURS.get(comparison["outcome"], GREY)
        axes.plot([low, high], [line, line], color=colour, lw=1.6)
        axes.plot(middle, line, "o", color=colour, ms=4)
    axes.axvline(0, color="k", lw=0.8)
    axes.set_yticks(range(len(compared)), list(compared), fontsize=8)
    axes.set_ylim(len(compared) - 0.5, -0.5)
    axes.set_xlabel("points of test accuracy, 95 % interval")
    return Picture(
        name,
        title,
        figure,
        "For every mixture and control the difference in test accuracy with its interval.",
        "Blue: significantly ahead; orange: significantly behind; grey: not told apart. Intervals "
        "are over seeds and test examples; of a single seed over examples only.",
    )
