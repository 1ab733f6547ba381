"""Accuracy against what it costs, and differences with their intervals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from matplotlib.axes import Axes

from moe.compare.summary import Summary, against_chosen
from moe.evaluate.tables import COUNTS, TIMES, Units, unit_of
from moe.report.differences import differences
from moe.report.drawing import BLUE, GREEN, GREY, ORANGE, Picture, new_figure

_LOOK = {
    "baseline": (GREY, "s"),
    "mixture": (BLUE, "o"),
    "wide": (ORANGE, "^"),
    "average": (GREEN, "D"),
}
"""Colour and marker by kind of arm."""
_NAME_WIDTH, _NAME_HEIGHT = 0.16, 0.04
"""Of an arm's name, as shares of the axes."""
_BINS = ("count", "accuracy", "confidence")
_FEW = 30
"""Of so few examples in a bin the share that is right says little."""
_COSTS = (
    ("training_time", "training time", "train_seconds", TIMES),
    ("run_macs", "run MACs", "macs_per_example", COUNTS),
    ("macs_spent", "MACs spent", "macs_spent", COUNTS),
)
"""Name of the picture, of the cost, where an arm says it, units."""


def figures(summary: Summary) -> Iterator[Picture]:
    """Every figure that there is something for."""
    for name, title, key, units in _COSTS:
        yield _accuracy_against(summary, name, title, key, units)
    if summary["controls"]:
        compared = {f"{c['a']} - {c['b']}": c for c in summary["controls"]}
        yield differences("differences", "Mixtures less their controls", _about(summary), compared)
    yield _reliability(summary)


def _about(summary: Summary) -> str:
    return f"{summary['dataset']} · budget {summary['budget']} · over seeds · test split"


def _accuracy_against(summary: Summary, name: str, title: str, key: str, units: Units) -> Picture:
    figure = new_figure(4.2, f"Accuracy against {title}", _about(summary))
    axes = figure.subplots()
    named: set[str] = set()
    places: dict[str, tuple[float, float]] = {}
    which = "active" if key == "macs_per_example" else "mean"
    # None: not timed on the device that the others were.
    costs = {n: arm[key][which] for n, arm in summary["arms"].items() if arm[key] is not None}
    unit, unit_name = unit_of(max(costs.values()), units)
    for arm_name, whole in costs.items():
        arm, cost = summary["arms"][arm_name], whole / unit
        accuracy = arm["test"]["accuracy"]
        colour, marker = _LOOK[arm["kind"]]
        axes.errorbar(
            cost,
            100 * accuracy["mean"],
            100 * (accuracy["deviation"] or 0),
            fmt=marker,
            color=colour,
            capsize=3,
            label="" if arm["kind"] in named else arm["kind"],
        )
        named.add(arm["kind"])
        places[arm_name] = (cost, 100 * accuracy["mean"])
    axes.set(xlabel=f"{title}, {unit_name}".rstrip(", "), ylabel="test accuracy %")
    axes.margins(x=0.18, y=0.12)
    _name(axes, places)
    axes.legend(fontsize=8)
    return Picture(
        f"accuracy_{name}",
        f"Accuracy against {title}",
        figure,
        f"Mean test accuracy of every arm against {title}; bars are one standard deviation over "
        "seeds.",
        "Up and to the left is better. A mixture that lies on the line of the controls is worth "
        "what it costs and no more." + (_whose_times(summary) if key == "train_seconds" else ""),
    )


def _whose_times(summary: Summary) -> str:
    told = f" Times are of {summary['timed_on']}, with whatever else ran on it."
    elsewhere = [name for name, arm in summary["arms"].items() if arm["train_seconds"] is None]
    return told + (f" Made elsewhere only: {', '.join(elsewhere)}." if elsewhere else "")


def _reliability(summary: Summary) -> Picture:
    """How far confidences are from being right: the chosen mixture's, and its controls'."""
    shown = [summary["chosen"], *(c["b"] for c in against_chosen(summary))]
    if summary["chosen"] is None:
        shown = list(summary["arms"])
    title = "Calibration"
    figure = new_figure(3.2, title, _about(summary))
    axes = figure.subplots()
    axes.axhline(0, color="k", lw=0.8)
    for name in shown:
        bins = summary["arms"][name]["calibration"]
        filled = [
            (sure, 100 * (right - sure))
            for n, right, sure in zip(*(bins[key] for key in _BINS), strict=True)
            if n >= _FEW
        ]
        x, y = ([point[axis] for point in filled] for axis in (0, 1))
        axes.plot(x, y, "o-", ms=3, lw=1, label=name)
    axes.set(xlabel="confidence", ylabel="accuracy less confidence, points")
    axes.legend(fontsize=8)
    return Picture(
        "calibration",
        title,
        figure,
        "By bins of the highest probability, how much more often an answer is right than it says; "
        "examples of all seeds together.",
        "On the line is calibrated; below it overconfident, above it too cautious. Bins of fewer "
        f"than {_FEW} examples are left out.",
    )


def _name(axes: Axes, places: Mapping[str, tuple[float, float]]) -> None:
    """Names to the right of their points; one that would cover another moves up."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    room_x, room_y = _NAME_WIDTH * (right - left), _NAME_HEIGHT * (top - bottom)
    done: list[tuple[float, float]] = []
    for name, (x, y) in sorted(places.items(), key=lambda item: item[1][1]):
        near = [other for at, other in done if abs(at - x) < room_x]
        height = max([y, *(other + room_y for other in near)])
        done.append((x, height))
        line = {"arrowstyle": "-", "color": GREY, "lw": 0.5} if height > y else None
        axes.annotate(
            name,
            (x, y),
            xytext=(x + 0.012 * (right - left), height),
            va="center",
            fontsize=8,
            arrowprops=line,
        )
