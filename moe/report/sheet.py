"""A sheet of images: what the gate gives each expert most and least confidently."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from moe.report.drawing import GREEN, RED, WIDTH, Picture, new_figure, short, subject

_EXPERTS = 6
"""Of one sheet: two rows each still fit on a screen and a half."""
_MARGIN, _CAPTION = 0.7, 0.48
"""Inches beside the images and under each."""
_SHARE = 0.93
"""Of a column that an image fills."""


def image_sheets(
    evaluation: Mapping[str, Any], routing: str, features: np.ndarray
) -> list[Picture]:
    """Two rows of images an expert, on as many sheets as it takes for all who answer anything.

    Args:
      evaluation: `evaluation.json`.
      routing: under which.
      features: of the split, `<uint8>[N, H, W, D]`; nothing is drawn of anything else.
    """
    extremes = evaluation["routings"][routing]["extremes"]
    if extremes is None or features.ndim != 4 or features.dtype != np.uint8:
        return []
    shown = [e for e, found in enumerate(extremes) if found["most"]]
    pages = [shown[start : start + _EXPERTS] for start in range(0, len(shown), _EXPERTS)]
    return [
        _sheet(evaluation, routing, features, page, (number, len(pages)))
        for number, page in enumerate(pages, start=1)
    ]


def _sheet(
    evaluation: Mapping[str, Any],
    routing: str,
    features: np.ndarray,
    shown: Sequence[int],
    number: tuple[int, int],
) -> Picture:
    """One of them: the experts `shown`, sheet `number` of so many."""
    extremes = evaluation["routings"][routing]["extremes"]
    experts, classes = evaluation["groups"], evaluation["classes"]
    rows = [(e, kind) for e in shown for kind in ("most", "least") if extremes[e][kind]]
    columns = max(len(extremes[e]["most"]) for e in shown)
    title = "Most and least confident images"
    if number[1] > 1:
        title += f", sheet {number[0]} of {number[1]}"
    tall = features.shape[1] / features.shape[2]
    width = (WIDTH - _MARGIN) / max(columns, 4)  # inches of a column
    line = width * _SHARE * tall + _CAPTION
    figure = new_figure(len(rows) * line, title, subject(evaluation, routing))
    axes = figure.subplots()  # in inches: one for all images is drawn far sooner than one each
    for r, (e, kind) in enumerate(rows):
        top = r * line
        name = f"{short(experts[e], 14)}:\n{kind} confident"
        axes.text(-0.1, top + line / 2 - 0.2, name, rotation=90, ha="right", va="center", size=8)
        for c, example in enumerate(extremes[e][kind]):
            left, right = c * width, (c + _SHARE) * width
            axes.imshow(
                _pixels(features[example["index"]]),
                cmap="gray",
                vmin=0,
                vmax=255,
                extent=(left, right, top + line - _CAPTION, top),
            )
            axes.text(
                (left + right) / 2,
                top + line - _CAPTION + 0.04,
                _caption(example, classes),
                ha="center",
                va="top",
                size=7,
                color=GREEN if example["label"] == example["answer"] else RED,
            )
    axes.set(xlim=(-0.45, WIDTH - _MARGIN), ylim=(len(rows) * line, 0), aspect="equal")
    axes.axis("off")
    return Picture(
        "images" if number[0] == 1 else f"images_{number[0]}",
        title,
        figure,
        f"Images by expert ({', '.join(experts[e] for e in shown)}): those that the gate sends "
        "there with the highest and with the lowest probability, with their class, the answer, "
        f"and both probabilities.{_left_out(extremes, experts)}",
        "The upper row is what the expert is for, by the gate's own account; the lower row is the "
        "border of its region. Under each image its class (and the answer, if that is another: "
        "red), the gate's probability for the expert, and the expert's for its own answer.",
    )


def _left_out(extremes: Sequence[Mapping[str, Any]], experts: Sequence[str]) -> str:
    """Who has no image to show."""
    idle = [name for name, found in zip(experts, extremes, strict=True) if not found["most"]]
    return f" Nothing is sent to {', '.join(idle)}." if idle else ""


def _caption(example: Mapping[str, Any], classes: Sequence[str]) -> str:
    label, answer = (short(classes[example[key]], 12) for key in ("label", "answer"))
    said = label if example["label"] == example["answer"] else f"{label}\n→ {answer}"
    return f"{said}\ngate {example['gate']:.2f} exp. {example['expert']:.2f}"


def _pixels(image: np.ndarray) -> np.ndarray:
    """`<uint8>[H, W, D]` as grey or colour."""
    depth = image.shape[2]
    return image[..., :3] if depth >= 3 else image[..., 0]
