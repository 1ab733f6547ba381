"""The table of a comparison: a column a run, a dash where a run has no such number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from moe.evaluate.present import confusion_table, experts_table
from moe.evaluate.tables import format_table, percent, shares

# Rows: title, place in the results, style.
_ANSWERS = (
    ("mode", ("mode",), str),
    ("routing", ("routing",), str),
    ("seed", ("seed",), str),
    ("precision", ("precision",), str),
    ("accuracy %", ("test", "accuracy"), percent),
    ("macro-F1", ("test", "macro_f1"), "{:.4f}".format),
    ("NLL", ("test", "nll"), "{:.4f}".format),
    ("ECE", ("test", "ece"), "{:.4f}".format),
    ("baseline %", ("parts", "baseline", "accuracy"), percent),
    ("gate %", ("parts", "gate", "accuracy"), percent),
)
_ROUTING = (
    ("load", ("routing_metrics", "load"), shares),
    ("entropy", ("routing_metrics", "entropy"), "{:.3f}".format),
    ("I(E;Y)", ("routing_metrics", "mutual_information"), "{:.3f}".format),
)
_COSTS = (
    ("training seconds", ("train_seconds",), "{:.0f}".format),
    ("run MACs an example", ("macs_per_example", "active"), "{:,}".format),
    ("MACs spent", ("macs_spent",), "{:.3g}".format),
    ("parameters", ("params", "total"), "{:,}".format),
)


def comparison_text(comparison: Mapping[str, Any]) -> str:
    """Runs side by side, from what `moe.evaluate.compare.compare` returns."""
    runs = {  # what routes nothing has no routing
        name: run if run["routing_metrics"] else run | {"routing": None}
        for name, run in comparison["runs"].items()
    }
    experts = dict.fromkeys(e for run in runs.values() for e in run["parts"].get("experts", {}))
    rows = []
    for title, path, style in (
        *_ANSWERS,
        *((f"expert {e} %", ("parts", "experts", e, "accuracy"), percent) for e in experts),
        *_ROUTING,
        *_COSTS,
    ):
        values = [_find(run, path) for run in runs.values()]
        if any(value is not None for value in values):
            rows.append((title, *(v if v is None else style(v) for v in values)))
    tests = [
        (f"{t['a']} against {t['b']}", t["only_a"], t["only_b"], f"{t['p_value']:.2g}")
        for t in comparison["mcnemar"]
    ]
    tables = [
        block
        for name, run in comparison["runs"].items()
        for block in (
            experts_table(name, run["expert_by_class"], run["groups"], run["classes"]),
            confusion_table(name, run["confusion"], run["classes"]),
        )
    ]
    notes = dict.fromkeys(run["note"] for run in comparison["runs"].values() if run["note"])
    return (
        f"test split of {comparison['dataset']}, {comparison['examples']:,} examples\n"
        + format_table(("", *runs), rows)
        + "\n\nMcNemar's exact test\n"
        + format_table(("runs", "only the first right", "only the second right", "p"), tests)
        + "".join(f"\n\n{block}" for block in (*tables, *notes))
    )


def _find(content: Any, path: Sequence[str]) -> Any:
    """What stands at `path`, or None."""
    for key in path:
        content = (content or {}).get(key)
    return content
