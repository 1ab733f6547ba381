"""Published comparisons, and what the parts of a recipe bring.

Every folder `docs/results/compare/NAME` holds the rows of a comparison, see `moe.compare.record`,
and in `about.txt` what it is about; `docs/results/ablations/NAME/whole` those of one arm, and the
folders beside it those of the same arm without a part of its recipe.
"""

from __future__ import annotations

import collections
import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from moe.compare.ablations import WHOLE, ablation
from moe.compare.present import HOW, Grid, grids
from moe.compare.record import Record
from moe.compare.rows import read_rows
from moe.compare.summary import Summary, summarize
from moe.compare.words import verdict
from moe.report.markdown import origin, table

_COMPARISONS = """\
## Comparisons

Mixtures, and controls without experts, trained under one budget, see [compare.md](compare.md).
Selected on validation, evaluated once on the test split; means ± standard deviations over seeds.
"""

_ABLATIONS = """\
## Parts left out

One arm with its whole recipe, and again without each of its parts, see [recipes.md](recipes.md):
what the whole is ahead by, in points of test accuracy, with intervals and corrections as above.
"""


class Comparison(NamedTuple):
    """One of `--mode=compare`.

    Attributes:
      about: what it is about, in its first line, and what else is to know in others; or "".
      rows: at least one.
      summary: of the rows.
    """

    about: str
    rows: Sequence[Record]
    summary: Summary


def load_comparisons(folder: pathlib.Path) -> dict[str, Comparison]:
    """All that have a row, by name; first those with most rows."""
    found = {}
    loaded = _load_rows(folder / "compare")
    for name, rows in sorted(loaded.items(), key=lambda item: -len(item[1])):
        about = folder / "compare" / name / "about.txt"
        text = about.read_text(encoding="utf-8").strip() if about.exists() else ""
        found[name] = Comparison(text, rows, summarize(rows))
    return found


def load_ablations(folder: pathlib.Path) -> dict[str, dict[str, list[Record]]]:
    """Rows by ablation and recipe; of ablations whose whole recipe has a row."""
    found = {path.name: _load_rows(path) for path in sorted((folder / "ablations").glob("*/"))}
    return {name: recipes for name, recipes in found.items() if WHOLE in recipes}


def _load_rows(folder: pathlib.Path) -> dict[str, list[Record]]:
    """The rows in every folder of `folder` that has one, by its name."""
    found = {path.name: read_rows(path) for path in sorted(folder.glob("*/"))}
    return {name: rows for name, rows in found.items() if rows}


def comparisons_section(comparisons: Mapping[str, Comparison]) -> str:
    """What `--mode=compare` found: for each comparison the finding in words, and its tables."""
    blocks = [f"{_COMPARISONS}\n{HOW}\n"]
    for name, (about, rows, summary) in comparisons.items():
        sizes = ", ".join(f"{count:,} {split}" for split, count in summary["examples"].items())
        blocks += [
            f"### {name}\n",
            *([f"{about}\n"] if about else []),
            f"{summary['dataset']}, budget {summary['budget']}; {sizes} examples; "
            f"{', '.join(summary['precisions'])}.\n",
            "".join(f"- {sentence}\n" for sentence in verdict(summary)),
        ]
        blocks += [_grid(grid) for grid in grids(summary)]
        blocks.append(_origins_of(rows))
    return "\n".join(blocks)


def ablations_section(ablations: Mapping[str, Mapping[str, Sequence[Record]]]) -> str:
    """What each part of a recipe brings; rows by ablation and recipe."""
    blocks = [_ABLATIONS]
    for name, recipes in ablations.items():
        rows = [row for found in recipes.values() for row in found]
        blocks.append(
            f"### {name}\n\n{rows[0]['arm']} on {rows[0]['dataset']}, budget "
            f"{rows[0]['budget']}; {rows[0]['precision']}.\n"
        )
        told = ablation(recipes)
        blocks.append("".join(f"- {sentence}\n" for sentence in told.said))
        blocks += [_grid(grid) for grid in told.grids]
        blocks.append(_origins_of(rows))
    return "\n".join(blocks)


def _grid(grid: Grid) -> str:
    cells = [[cell or "-" for cell in line] for line in grid.rows]
    note = f"\n{grid.note}\n" if grid.note not in ("", HOW) else ""
    return f"**{grid.title}**\n\n{table(grid.header, cells)}{note}"


def _origins_of(rows: Sequence[Record]) -> str:
    """Where rows come from, a line for those of one origin."""
    origins = collections.Counter(origin(row) + _trained_before(row) for row in rows)
    return "".join(
        f"- {count} row{'s' * (count > 1)}: {line}\n" for line, count in sorted(origins.items())
    )


def _trained_before(row: Record) -> str:
    """The revisions of its runs that are not that of the row: of such as were there already."""
    revisions = {str(run["revision"]) for run in row["runs"].values()} - {str(row["revision"])}
    return f", trained at {', '.join(sorted(revisions))}" if revisions else ""
