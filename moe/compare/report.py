"""`compare.json`, `compare.csv`, `figures/` and `report.html` of a comparison."""

from __future__ import annotations

import csv
import io
import pathlib
from collections.abc import Sequence

from moe.compare.present import grids
from moe.compare.record import Record
from moe.compare.summary import Summary, by_arm
from moe.compare.words import verdict
from moe.files import write_json, write_whole
from moe.report.available import REPORT
from moe.typed import dig

_COLUMNS = {
    "arm": ("arm",),
    "kind": ("kind",),
    "mode": ("mode",),
    "routing": ("routing",),
    "seed": ("seed",),
    "backbone": ("backbone",),
    "networks": ("networks",),
    "validation_accuracy": ("validation", "accuracy"),
    "test_accuracy": ("test", "accuracy"),
    "test_nll": ("test", "nll"),
    "test_ece": ("test", "ece"),
    "parameters": ("params", "total"),
    "run_macs_per_example": ("macs_per_example", "active"),
    "macs_per_example": ("macs_per_example", "total"),
    "macs_spent": ("macs_spent",),
    "train_seconds": ("train_seconds",),
    "precision": ("precision",),
    "device": ("device",),
    "revision": ("revision",),
}


def write_files(workdir: pathlib.Path, records: Sequence[Record], summary: Summary) -> None:
    """The numbers: all of them, and a line a row for a spreadsheet.

    Raises:
      UserError: the disk does not take them.
    """
    write_json(workdir / "compare.json", summary)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(_COLUMNS)
    for rows in by_arm(records).values():
        table.writerows([dig(row, *path) for path in _COLUMNS.values()] for row in rows)
    write_whole(workdir / "compare.csv", text.getvalue().encode())


def write_report(workdir: pathlib.Path, summary: Summary, command: str) -> pathlib.Path:
    """The page and its figures; returns where the page is.

    Raises:
      UserError: the disk does not take them.
    """
    # Only here: a queue must not wait for matplotlib.
    from moe.compare.figures import figures
    from moe.report.drawing import png, style
    from moe.report.page import Table, render

    with style():
        drawn = [(picture, png(picture.figure)) for picture in figures(summary)]
    for picture, image in drawn:
        write_whole(workdir / "figures" / f"{picture.name}.png", image)
    tables = [Table(*grid) for grid in grids(summary)]
    examples = summary["examples"]
    facts = [
        ("data set", summary["dataset"]),
        ("budget", summary["budget"]),
        ("examples", ", ".join(f"{count:,} {split}" for split, count in examples.items())),
        ("precision", ", ".join(summary["precisions"])),
        ("device", ", ".join(summary["devices"])),
        ("command", command),
    ]
    text = render(
        f"Mixtures and controls on {summary['dataset']}",
        summary["note"],
        facts,
        tables,
        drawn,
        findings=verdict(summary),
    )
    write_whole(workdir / REPORT, text.encode())
    return workdir / REPORT
