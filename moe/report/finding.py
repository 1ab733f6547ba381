"""What the comparisons come to, for the head of the README: sentences, a table, a figure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from moe.compare.present import points, spread
from moe.compare.summary import Summary, against_chosen
from moe.compare.words import headline
from moe.evaluate.tables import count
from moe.report.comparisons import Comparison
from moe.report.markdown import replace_marked, table
from moe.report.questions import questions

BEGIN, END = "<!-- finding -->\n", "<!-- end of finding -->\n"
_HEADER = (
    "comparison",
    *("mixture", "test %", "run MACs", "MACs spent"),
    *("control", "test %", "run MACs", "MACs spent"),
    "seeds",
    "points [95 %]",
    "told apart",
)
_COMPARISONS = "The comparisons:"
_NOTE = (
    "± is the standard deviation over seeds. Run MACs: for an example; MACs spent: on training. "
    "*told apart* is p < .05 after Holm's correction. With fewer than five seeds it is known only "
    "roughly how far seeds differ; with one, an interval is over test examples only and nothing is "
    "told apart. In the figure blue is ahead, red behind, grey not told apart."
)


def finding(comparisons: Mapping[str, Comparison]) -> str:
    """What they answer together, each one's headline, and its chosen mixture against its controls,
    as Markdown.
    """
    lines = [f"- {line}\n" for line in questions(comparisons)]
    lines.append(f"\n{_COMPARISONS}\n\n")
    for name, (about, _, summary) in comparisons.items():
        told = " ".join([about, *headline(summary)]).strip()
        lines.append(f"- **{name}** (`{summary['dataset']}`, {summary['budget']}): {told}\n")
    rows = [
        [
            name,
            *_arm(summary, comparison, "a"),
            *_arm(summary, comparison, "b"),
            str(len(comparison["seeds"])),
            points(comparison),
            comparison["outcome"],
        ]
        for name, (_, _, summary) in comparisons.items()
        for comparison in against_chosen(summary)
    ]
    return f"{''.join(lines)}\n{table(_HEADER, rows)}\n{_NOTE}\n"


def compared(comparisons: Mapping[str, Comparison]) -> dict[str, Mapping[str, Any]]:
    """The lines of the table, by the label that they have in the figure."""
    return {
        f"{name}: {one['a']} - {one['b']}": one
        for name, comparison in comparisons.items()
        for one in against_chosen(comparison.summary)
    }


def digest(comparisons: Mapping[str, Comparison]) -> str:
    """Of what the figure shows: it stands in the figure's file, so that an old one is noticed."""
    shown = [
        [label, one["outcome"], *(f"{one[key]:.6f}" for key in ("difference", "low", "high"))]
        for label, one in compared(comparisons).items()
    ]
    return hashlib.sha256(json.dumps(shown).encode()).hexdigest()[:16]


def put_between(text: str, block: str) -> str:
    """The text with `block` between its two marks.

    Raises:
      ValueError: a mark is not there.
    """
    return replace_marked(text, BEGIN, END, f"{BEGIN}\n{block}\n{END}")


def _arm(summary: Summary, comparison: Mapping[str, Any], side: str) -> tuple[str, ...]:
    """One side of a difference, at the seeds that both sides have, and what it costs."""
    name = comparison[side]
    arm = summary["arms"][name]
    costs = (arm["macs_per_example"]["active"], arm["macs_spent"]["mean"])
    return name, spread(comparison["test"][name], 100, 2), *map(count, costs)
