"""What the comparisons come to, for the head of the README: sentences, a table, a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from moe.compare.present import against_chosen, headline, outcome, points, spread
from moe.compare.record import Record
from moe.compare.summary import Summary, summarize
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


def chosen(comparisons: Mapping[str, Sequence[Record]]) -> dict[str, Summary]:
    """Summaries, by name, of those comparisons in which validation has a mixture to choose."""
    summaries = {name: summarize(rows) for name, rows in comparisons.items() if rows}
    return {name: found for name, found in summaries.items() if found["chosen"]}


def finding(summaries: Mapping[str, Summary]) -> str:
    """Each comparison's headline, and its chosen mixture against its controls, as Markdown.

    Args:
      summaries: of comparisons with a chosen mixture, by name.
    """
    lines = [
        f"- **{name}** (`{found['dataset']}`, {found['budget']}): {' '.join(headline(found))}\n"
        for name, found in summaries.items()
    ]
    rows = [
        [
            name,
            *_arm(found, comparison["a"]),
            *_arm(found, comparison["b"]),
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


def _arm(summary: Summary, name: str) -> tuple[str, str, str]:
    arm = summary["arms"][name]
    macs = arm["macs_per_example"]["active"] / 1e6
    return name, spread(arm["test"]["accuracy"], 100, 2), f"{macs:,.4g} M"
