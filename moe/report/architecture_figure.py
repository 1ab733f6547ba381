"""A drawing of the mixture: its networks, what they weigh, and which of them run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

from moe.evaluate.tables import count
from moe.report.drawing import WIDTH, Picture, new_figure, short, subject

_SHOWN = 4
"""Experts that are drawn; the others are counted."""
_ALWAYS, _SOME, _REFERENCE = "#cfe3f3", "#fdebc8", "#eeeeee"


def architecture(
    evaluation: Mapping[str, Any], results: Mapping[str, Any] | None
) -> Picture | None:
    """Gate, experts, combiners and baseline with parameters and MACs, from left to right.

    Args:
      evaluation: `evaluation.json`.
      results: `results.json`, for what runs for one example; None: it is not there.
    """
    if not {"gate", "expert_0"} <= set(evaluation["architecture"]["parts"]):
        return None  # a single network needs no drawing
    parts, experts = evaluation["architecture"]["parts"], evaluation["groups"]
    drawn = len(experts) if len(experts) <= _SHOWN else _SHOWN - 1
    lines = drawn + (drawn < len(experts))
    rows = lines + 1 + ("baseline" in parts)
    title = "The mixture"
    figure = new_figure(0.78 * rows + 0.55, title, subject(evaluation))
    axes = figure.subplots()
    axes.set(xlim=(0, WIDTH), ylim=(rows + 0.7, 0))
    axes.axis("off")
    _draw(axes, evaluation, drawn, lines)
    sentences = _sentences(evaluation, results)
    text = f"{sentences[0]}\n{' '.join(sentences[1:])}"
    axes.text(WIDTH / 2, rows + 0.35, text, ha="center", va="center", fontsize=9)
    return Picture(
        "architecture",
        title,
        figure,
        " ".join((f"Networks: {', '.join(parts)}.", *sentences, *_blending(evaluation))),
        "MACs (multiply-accumulates) are those of one example. A gain over the baseline that "
        "costs many times its MACs should be compared with a larger baseline.",
    )


def _draw(axes: Axes, evaluation: Mapping[str, Any], drawn: int, lines: int) -> None:
    """Boxes and lines; `drawn` experts stand for themselves, of `lines` lines in all."""
    parts, blends = evaluation["architecture"]["parts"], evaluation["architecture"]["blends"]
    experts = evaluation["groups"]
    start, network, combiner, pool, answer = (
        (0.5, 2.05, 3.95, 5.75, 6.95) if blends else (0.5, 2.6, None, 5.3, 6.95)
    )
    middle, below = 1 + lines / 2, lines + 1.5
    heights = [n + 1.5 for n in range(lines)]
    asked = [0.5, *heights, *([below] if "baseline" in parts else [])]
    _line(axes, (start, middle), (start + 0.65, middle))
    _bus(axes, start + 0.65, middle, asked, network)
    _bus(axes, pool - 0.75, middle, [0.5, *heights], network)
    _line(axes, (pool - 0.75, middle), (answer, middle))
    if blends:  # the baseline comes in a little lower than the expert
        _line(axes, (network, below), (combiner - 0.95, below))
        _bus(axes, combiner - 0.95, below, [height + 0.2 for height in heights], combiner)
        # How much to boost is told by the example itself: around the baseline, and in higher up.
        around = below + 0.47
        _line(axes, (start + 0.65, middle), (start + 0.65, around))
        _line(axes, (start + 0.65, around), (combiner - 0.85, around))
        _bus(axes, combiner - 0.85, around, [height - 0.2 for height in heights], combiner)
    colour = _ALWAYS if _number_of_runs(evaluation) == len(experts) else _SOME
    for n, height in enumerate(heights):
        for kind, x in (("expert", network), ("combiner", combiner)):
            if kind == "combiner" and not blends:
                continue
            name, cost = f"and {len(experts) - drawn} more", "of the same kind"
            if n < drawn:
                name = short(f"{kind} {experts[n].removeprefix('expert_')}", 20)
                cost = _cost(parts[f"{kind}_{n}"])
            _box(axes, (x, height), name, cost, colour)
    _box(axes, (network, 0.5), "gate", _cost(parts["gate"]), _ALWAYS)
    if blends:
        _box(axes, (network, below), "baseline", _cost(parts["baseline"]), _ALWAYS)
    elif "baseline" in parts:
        text = _cost(parts["baseline"])
        _box(axes, (network, below), "baseline, a reference", text, _REFERENCE)
    classes = f"{len(evaluation['classes'])} classes"
    trunk = f"trunk\n{count(parts['trunk']['macs'])} MACs" if "trunk" in parts else ""
    _box(axes, (start, middle), "example", trunk, _ALWAYS, 0.9 if trunk else 0.8)
    _box(axes, (pool, middle), "pooling", f"{evaluation['routing']} routing", _ALWAYS, 1.05)
    _box(axes, (answer, middle), "answer", classes, _ALWAYS, 0.85)


def _sentences(evaluation: Mapping[str, Any], results: Mapping[str, Any] | None) -> list[str]:
    """What runs, and what it weighs."""
    parts, there = evaluation["architecture"]["parts"], len(evaluation["groups"])
    chosen = _number_of_runs(evaluation)
    said = ["Every expert runs for every example."]
    if chosen < there:
        run = "runs" if chosen == 1 else "run"
        said = [f"Of the experts (yellow), {chosen} of {there} {run} for an example."]
    parameters, macs = (
        count(sum(part[key] for part in parts.values())) for key in ("parameters", "macs")
    )
    said.append(f"All networks: {parameters} parameters, {macs} MACs.")
    alike = results is not None and results.get("tta", "none") == evaluation.get("tta", "none")
    if alike:
        parameters, macs = (count(results[key]["active"]) for key in ("params", "macs_per_example"))
        said.append(f"For one example run {parameters} parameters, {macs} MACs.")
    return said


def _blending(evaluation: Mapping[str, Any]) -> list[str]:
    if not evaluation["architecture"]["blends"]:
        return []
    return [
        "Each combiner looks at the example and blends its expert's answer with the baseline's."
    ]


def _number_of_runs(evaluation: Mapping[str, Any]) -> int:
    return evaluation["architecture"]["experts_per_example"]


def _cost(part: Mapping[str, int]) -> str:
    return f"{count(part['parameters'])} parameters\n{count(part['macs'])} MACs"


def _box(
    axes: Axes,
    centre: tuple[float, float],
    name: str,
    text: str,
    colour: str,
    width: float = 1.5,
) -> None:
    x, y = centre
    patch = FancyBboxPatch(
        (x - width / 2, y - 0.34),
        width,
        0.68,
        boxstyle="round,pad=0,rounding_size=0.06",
        facecolor=colour,
        edgecolor="#666666",
        zorder=2,
    )
    axes.add_patch(patch)
    label = f"{name}\n{text}" if text else name
    axes.text(x, y, label, ha="center", va="center", fontsize=8.5, zorder=3)


def _line(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    """From box to box; the boxes are drawn over its ends."""
    axes.plot(*zip(start, end, strict=True), color="#999999", lw=1, zorder=1)


def _bus(axes: Axes, x: float, trunk: float, heights: list[float], box: float) -> None:
    """An upright line at `x` with a branch at each of `heights` to the box at `box`."""
    _line(axes, (x, min(trunk, *heights)), (x, max(trunk, *heights)))
    for height in heights:
        _line(axes, (x, height), (box, height))
