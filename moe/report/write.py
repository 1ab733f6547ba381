"""From a run's folder to `WORKDIR/figures/*.png` and `WORKDIR/report.html`."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from moe.files import read_json, read_json_lines, write_whole
from moe.report.available import REPORT

if TYPE_CHECKING:
    from moe.report.drawing import Picture


def write_report(workdir: pathlib.Path, features: np.ndarray) -> pathlib.Path:
    """Draws what `evaluation.json`, `results.json` and `metrics.jsonl` of a run say.

    Args:
      workdir: of the run; `results.json` and `metrics.jsonl` may be missing.
      features: of the split that was evaluated, `[N, ...]`.

    Returns:
      Where the page is.

    Raises:
      UserError: a file is damaged, or the disk does not take the new ones.
    """
    # Only here: training and evaluation must not wait for matplotlib.
    from moe.report.drawing import png, style
    from moe.report.page import page

    evaluation = read_json(workdir / "evaluation.json")
    results, log = workdir / "results.json", workdir / "metrics.jsonl"
    outcome = read_json(results) if results.exists() else None
    records = read_json_lines(log) if log.exists() else []
    with style():
        drawn = [
            (picture, png(picture.figure))
            for picture in _pictures(evaluation, outcome, records, features)
        ]
    for old in (workdir / "figures").glob("*.png"):
        old.unlink()
    for picture, image in drawn:
        write_whole(workdir / "figures" / f"{picture.name}.png", image)
    write_whole(workdir / REPORT, page(evaluation, outcome, drawn).encode())
    return workdir / REPORT


def _pictures(
    evaluation: Mapping[str, Any],
    results: Mapping[str, Any] | None,
    records: Sequence[Mapping[str, Any]],
    features: np.ndarray,
) -> Iterator[Picture]:
    """Every figure that the run has something for; of several routings, about the first."""
    from moe.report import answer_figures, routing_figures
    from moe.report.architecture_figure import architecture
    from moe.report.clock_figure import accuracy_by_clock
    from moe.report.curves import learning_curves
    from moe.report.sheet import image_sheets

    pictures = [
        architecture(evaluation, results),
        learning_curves(evaluation, records),
        accuracy_by_clock(evaluation, results, records),
    ]
    routing = next(iter(evaluation["routings"]), None)
    if routing is not None:
        pictures += [
            routing_figures.expert_by_class(evaluation, routing),
            routing_figures.load(evaluation, routing, records),
            routing_figures.gate_confusion(evaluation),
            routing_figures.gate_histograms(evaluation),
            *image_sheets(evaluation, routing, features),
            answer_figures.attribution(evaluation, routing),
            answer_figures.calibration(evaluation, routing),
            answer_figures.confusion(evaluation, routing),
        ]
    yield from (picture for picture in pictures if picture is not None)
