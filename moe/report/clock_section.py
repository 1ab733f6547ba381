"""Published runs by the clock.

`docs/results/clock/RUN.jsonl` is the `metrics.jsonl` of the run whose `results.json` is
`docs/results/RUN.json`.
"""

from __future__ import annotations

import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from moe.config.choices import PART_MODES
from moe.files import read_json, read_json_lines
from moe.report.clock_figure import accuracy_by_clock, described
from moe.report.drawing import Picture
from moe.report.markdown import table

_HEAD = """\
## By the clock

Validation accuracy after every epoch of a run's last stage, by the minutes since the first touch of
the data, see [recipes.md](recipes.md#the-clock). The points look at each validation image once;
the star is the test split at the end, under the views of `--tta`.
"""


class Logged(NamedTuple):
    """A run whose log is published: its `results.json` and `metrics.jsonl`."""

    results: Mapping[str, Any]
    log: Sequence[Mapping[str, Any]]


def load_logged(folder: pathlib.Path) -> dict[str, Logged]:
    """The runs whose logs are published, by name."""
    return {
        path.stem: Logged(read_json(folder / f"{path.stem}.json"), read_json_lines(path))
        for path in sorted((folder / "clock").glob("*.jsonl"))
    }


def clock_section(runs: Mapping[str, Logged]) -> str:
    """A table a run, and its figure."""
    blocks = [_HEAD]
    for name, (results, log) in runs.items():
        judged = [record for record in log if record.get("split") == "validation"]
        last = [record for record in judged if record["stage"] == judged[-1]["stage"]]
        rows = [
            ["minutes", *(f"{record['seconds'] / 60:.1f}" for record in last)],
            ["accuracy", *(f"{100 * record['accuracy']:.1f}" for record in last)],
        ]
        header = [f"{last[0]['stage']}, epoch", *(str(record["epoch"]) for record in last)]
        blocks += [
            f"**{name}**\n",
            table(header, rows),
            f"![{described(judged, results)}](clock/{name}.png)\n",
        ]
    return "\n".join(blocks)


def clock_pictures(folder: pathlib.Path) -> Iterator[tuple[str, Picture]]:
    """Name and figure of every run that has a log."""
    for name, (results, log) in load_logged(folder).items():
        alone = results["mode"] in PART_MODES  # one network, which routes nothing
        evaluation = results | {"routings": {} if alone else {results["routing"]: results["test"]}}
        picture = accuracy_by_clock(evaluation, results, log)
        if picture is not None:
            yield name, picture
