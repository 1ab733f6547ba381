"""What the comparisons come to, for the head of the README: sentences, a table, a figure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from moe.compare.present import points, spread
from moe.compare.summary import Summary, against_chosen
from moe.compare.words import gist, headline
from moe.evaluate.tables import count
from moe.report.comparisons import Comparison
from moe.report.markdown import replace_marked, table
from moe.report.questions import in_short, questions

BEGIN, END = "<!-- finding -->\n", "<!-- end of finding -->\n"
_HEADER = (
    "comparison",
    *("mixture", "test %", "run MACs", "MACs spent"),
    *("control", "test %", "run MACs", "MACs spent"),
    "seeds",
    "points [95 %]",
    "told apart",
)
_FIGURE = "![Mixtures less their controls, with intervals](docs/finding.png)"
_QUESTIONS = "Question by question:"
_COMPARISONS = "The comparisons by themselves:"
_NOTE = (
    "± is the standard deviation over seeds. Run MACs: for an example; MACs spent: on training. "
    "*told apart* is p < .05 after Holm's correction. With fewer than five seeds it is known only "
    "roughly how far seeds differ; with one, an interval is over test examples only and nothing is "
    "told apart. In the figure blue is ahead, orange behind, grey not told apart."
)


def finding(comparisons: Mapping[str, Comparison]) -> str:
    """What they come to, in Markdown: a line a comparison, the figure, the chosen mixtures against
    their controls as a table; then answers question by question, and each comparison's headline.
    """
    begin = [in_short(comparisons)]
    details = []
    for name, comparison in comparisons.items():
        summary = comparison.summary
        title = f"**{name}** (`{summary['dataset']}`, {summary['budget']})"
        topic, _, more = comparison.about.partition("\n")
        begin.append(_joined(f"{title}:", topic, gist(summary)))
        details.append(_joined(f"**{name}**:", *more.splitlines(), *headline(summary)))
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
    blocks = [_items(begin), f"{_FIGURE}\n", table(_HEADER, rows), f"{_NOTE}\n"]
    blocks += [f"{_QUESTIONS}\n", _items(questions(comparisons))]
    blocks += [f"{_COMPARISONS}\n", _items(details)]
    return "\n".join(blocks)


def _joined(*sentences: str) -> str:
    return " ".join(filter(None, sentences))


def _items(lines: Sequence[str]) -> str:
    return "".join(f"- {line}\n" for line in lines)


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
      UserError: a mark is not there.
    """
    return replace_marked(text, BEGIN, END, f"{BEGIN}\n{block}\n{END}")


def _arm(summary: Summary, comparison: Mapping[str, Any], side: str) -> tuple[str, ...]:
    """One side of a difference, at the seeds that both sides have, and what it costs."""
    name = comparison[side]
    arm = summary["arms"][name]
    costs = (arm["macs_per_example"]["active"], arm["macs_spent"]["mean"])
    return name, spread(comparison["test"][name], 100, 2), *map(count, costs)
