"""Learning curves: everything that `metrics.jsonl` has logged, stage after stage."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from moe.report.drawing import BLUE, CYCLE, GREY, ORANGE, Picture, new_figure, short, subject

Record = Mapping[str, Any]
_TOP = 8
"""Experts that get a colour and a name."""


def learning_curves(evaluation: Mapping[str, Any], records: Sequence[Record]) -> Picture | None:
    """Accuracy and loss of every stage; wherever a gate has a say also how it routes."""
    logged = [record for record in records if "split" in record and "stage" in record]
    if not logged:
        return None
    stages = _stretches(logged)
    routed = [r for r in logged if r["split"] == "validation" and "load" in r]
    draw, flips = [_accuracy, _loss], ""
    if routed and len(evaluation["groups"]) > 1:
        draw += [_gate, _load]
        flips = (
            " Flips that do not go down: the gate keeps moving examples between experts, which "
            "then unlearn them."
        )
    title = "Learning curves"
    figure = new_figure(
        1.75 * len(draw) + 0.5, title, subject(evaluation, split="training and validation")
    )
    panels = figure.subplots(len(draw), 1, sharex=True, squeeze=False)[:, 0]
    for axes, function in zip(panels, draw, strict=True):
        function(axes, logged, evaluation["groups"])
        _mark(axes, stages, records)
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8, borderaxespad=0.3)
    _name(panels[0], stages)
    panels[-1].set(xlabel="training step", xlim=(0, 1.02 * max(1, logged[-1]["step"])))
    last = {r["stage"]: r["accuracy"] for r in logged if r["split"] == "validation"}
    return Picture(
        "learning_curves",
        title,
        figure,
        "Curves over the training steps. Last validation accuracy by stage: "
        + ", ".join(f"{stage} {value:.1%}" for stage, value in last.items())
        + ".",
        "Training and validation that part for good: overfitting; but with --label_smoothing the "
        "NLL of training is that of smoothed labels, and lies apart by itself. Shaded stretches "
        "are the stages of the run; a dotted line is where it was continued after an "
        "interruption. Each stage ends with its best weights by validation, not with its last "
        f"ones.{flips}",
    )


def _stretches(records: Sequence[Record]) -> dict[str, tuple[int, int]]:
    """First and last step of each stage, in order."""
    found: dict[str, tuple[int, int]] = {}
    end = 0
    for record in records:
        start = found.get(record["stage"], (end, end))[0]
        end = record["step"]
        found[record["stage"]] = (start, end)
    return found


def _accuracy(axes: Axes, records: Sequence[Record], experts: Sequence[str]) -> None:
    _lines(axes, records, "train", "accuracy", "training", ORANGE)
    _lines(axes, records, "validation", "accuracy", "validation", BLUE)
    axes.set_ylabel("accuracy")


def _loss(axes: Axes, records: Sequence[Record], experts: Sequence[str]) -> None:
    # The whole loss of joint training has terms that validation has not.
    alike = [r | {"nll": r.get("nll", r.get("loss"))} for r in records]
    _lines(axes, alike, "train", "nll", "training", ORANGE)
    _lines(axes, alike, "validation", "nll", "validation", BLUE)
    axes.set_ylabel("NLL")


def _gate(axes: Axes, records: Sequence[Record], experts: Sequence[str]) -> None:
    most = math.log(len(experts))
    scaled = [r | {"entropy": r["entropy"] / most} if "entropy" in r else r for r in records]
    _lines(axes, scaled, "validation", "confidence", "confidence", BLUE)
    _lines(axes, scaled, "validation", "entropy", "entropy /\nlog E", ORANGE)
    _lines(axes, scaled, "validation", "routing_flips", "flips", GREY)
    axes.set(ylabel="gate", ylim=(-0.03, 1.03))


def _load(axes: Axes, records: Sequence[Record], experts: Sequence[str]) -> None:
    alike = [
        r | {f"load {e}": value for e, value in enumerate(r["load"])} if "load" in r else r
        for r in records
    ]
    for e, expert in enumerate(experts):
        colour = CYCLE[e] if len(experts) <= _TOP else GREY
        name = short(expert, 12) if len(experts) <= _TOP else ("experts" if e == 0 else "")
        _lines(axes, alike, "validation", f"load {e}", name, colour)
    axes.set_ylabel("load")


def _lines(
    axes: Axes, records: Sequence[Record], split: str, key: str, name: str, colour: str
) -> None:
    """One line a stage."""
    mine = [r for r in records if r["split"] == split and r.get(key) is not None]
    for stage in dict.fromkeys(r["stage"] for r in mine):
        points = [(r["step"], r[key]) for r in mine if r["stage"] == stage]
        style = "o-" if len(points) <= 20 else "-"
        axes.plot(*zip(*points, strict=True), style, ms=3, lw=1.3, color=colour, label=name)
        name = ""  # one entry in the legend


def _mark(axes: Axes, stages: Mapping[str, tuple[int, int]], records: Sequence[Record]) -> None:
    for n, (start, end) in enumerate(stages.values()):
        if n % 2:
            axes.axvspan(start, end, color="k", alpha=0.06, lw=0)
    for n, record in enumerate(r for r in records if r.get("event") == "continued"):
        axes.axvline(record["step"], color="k", ls=":", lw=1, label="" if n else "continued")


def _name(axes: Axes, stages: Mapping[str, tuple[int, int]]) -> None:
    """The stages' names above their stretches, upright where they are narrow."""
    whole = max(end for _, end in stages.values()) or 1
    narrow = len(stages) > 1 and any(
        (end - start) / whole < 0.012 * len(short(name, 14))
        for name, (start, end) in stages.items()
    )
    for name, (start, end) in stages.items():
        axes.annotate(
            short(name, 14),
            ((start + end) / 2, 1.02),
            xycoords=("data", "axes fraction"),
            ha="center",
            va="bottom",
            fontsize=8,
            rotation=90 if narrow else 0,
        )
