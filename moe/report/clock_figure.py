"""How accuracy grew with the seconds that the training took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from moe.report.drawing import CYCLE, ORANGE, Picture, new_figure, short, subject

_MINUTES = 600.0
"""Seconds from which on minutes are easier to read."""


def accuracy_by_clock(
    evaluation: Mapping[str, Any],
    results: Mapping[str, Any] | None,
    records: Sequence[Mapping[str, Any]],
) -> Picture | None:
    """Validation accuracy after every epoch, and the test accuracy at the end.

    Args:
      evaluation: `evaluation.json`.
      results: `results.json`; None: it is not there.
      records: `metrics.jsonl`.
    """
    logged = [r for r in records if r.get("split") == "validation" and "seconds" in r]
    if not logged:
        return None
    tested, whole = _end(results)
    last = max(logged[-1]["seconds"], whole or 0.0)
    unit, size = _unit(last)
    title = "Accuracy by the clock"
    figure = new_figure(2.8, title, subject(evaluation, split="validation"))
    axes = figure.subplots()
    stages = list(dict.fromkeys(r["stage"] for r in logged))
    for n, stage in enumerate(stages):
        points = [(r["seconds"] / size, r["accuracy"]) for r in logged if r["stage"] == stage]
        colour = CYCLE[n % len(CYCLE)]
        axes.plot(*zip(*points, strict=True), "o-", ms=3, lw=1.3, color=colour, label=short(stage))
    if whole is not None:
        axes.plot([whole / size], [tested], "*", ms=11, color=ORANGE, label="test")
    axes.set(xlabel=f"{unit} of reading, fitting and training", ylabel="accuracy")
    axes.set_xlim(0, 1.04 * last / size or 1)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8, borderaxespad=0.3)
    return Picture(
        "clock",
        title,
        figure,
        described(logged, results),
        "From the first touch of the data; compilation, validation and checkpoints do not count, "
        "the pass over the test split at the end does. Stages of separate training judge "
        "different tasks, so their curves are not one curve.",
    )


def described(logged: Sequence[Mapping[str, Any]], results: Mapping[str, Any] | None) -> str:
    """What the figure shows, in words.

    Args:
      logged: the records of the validation split, one at least.
      results: as for `accuracy_by_clock`.
    """
    tested, whole = _end(results)
    unit, size = _unit(max(logged[-1]["seconds"], whole or 0.0))
    said = (
        f"Validation accuracy by training time: {logged[-1]['accuracy']:.1%} on validation after "
        f"{logged[-1]['seconds'] / size:,.1f} {unit}"
    )
    return f"{said}, {tested:.1%} on the test split." if whole is not None else f"{said}."


def _end(results: Mapping[str, Any] | None) -> tuple[float | None, float | None]:
    """Accuracy on the test split, and the clock when it was known."""
    tested = (results or {}).get("test", {}).get("accuracy")
    return tested, (results or {}).get("clock_seconds") if tested is not None else None


def _unit(last: float) -> tuple[str, float]:
    return ("minutes", 60.0) if last >= _MINUTES else ("seconds", 1.0)
