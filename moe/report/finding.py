"""What the comparisons come to, for the head of the README: sentences, a table, a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from moe.compare.present import outcome, points, spread
from moe.compare.record import Record
from moe.compare.summary import Summary, against_chosen, summarize
from moe.compare.words import headline
from moe.evaluate.tables import count
from moe.report.markdown import replace_marked, table

BEGIN, END = "<!-- finding -->\n", "<!-- end of finding -->\n"
_HEADER = (
    "comparison",
    "mixture",
    "test %",
    "run MACs",
    "control",
    "test %",
    "run MACs",
    "seeds",
    "points [95 %]",
    "told apart",
)


def summarized(comparisons: Mapping[str, Sequence[Record]]) -> dict[str, Summary]:
    """Summaries by name of the comparisons that have a row."""
    return {name: summarize(rows) for name, rows in comparisons.items() if rows}


def finding(summaries: Mapping[str, Summary], about: Mapping[str, str]) -> str:
    """Each comparison's headline, and its chosen mixture against its controls, as Markdown.

    Args:
      summaries: of comparisons, by name.
      about: what a comparison is about, by its name, where somebody has written it down.
    """
    lines = []
    for name, found in summaries.items():
        told = [about[name]] if name in about else []
        told += headline(found)
        lines.append(f"- **{name}** (`{found['dataset']}`, {found['budget']}): {' '.join(told)}\n")
    rows = [
        [
            name,
            *_arm(found, comparison, "a"),
            *_arm(found, comparison, "b"),
            str(len(comparison["seeds"])),
            points(comparison),
            outcome(comparison),
        ]
        for name, found in summaries.items()
        for comparison in against_chosen(found)
    ]
    return f"{''.join(lines)}\n{table(_HEADER, rows)}"


def compared(summaries: Mapping[str, Summary]) -> dict[str, Mapping[str, Any]]:
    """The comparisons of the table, by the label that they have in the figure."""
    return {
        f"{name}: {comparison['a']} - {comparison['b']}": comparison
        for name, found in summaries.items()
        for comparison in against_chosen(found)
    }


def put_between(text: str, block: str) -> str:
    """The text with `block` between its two marks.

    Raises:
      ValueError: a mark is not there.
    """
    return replace_marked(text, BEGIN, END, f"{BEGIN}\n{block}\n{END}")


def _arm(summary: Summary, comparison: Mapping[str, Any], side: str) -> tuple[str, str, str]:
    """One side of a difference, at the seeds that both sides have."""
    name = comparison[side]
    macs = summary["arms"][name]["macs_per_example"]["active"]
    return name, spread(comparison["test"][name], 100, 2), count(macs)
