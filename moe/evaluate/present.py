"""Results as text: what a terminal shows at the end of a run or an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from moe.config.choices import TOP_K_ROUTINGS
from moe.evaluate.tables import format_table, percent, shares


def results_text(results: Mapping[str, Any]) -> str:
    """The final table of a training run, from its `results.json`."""
    rows = part_rows(results["parts"])
    if results["routing_metrics"]:
        test = results["test"]
        rows += [
            (f"mixture, {results['routing']} routing", percent(test["accuracy"])),
            ("  its NLL", f"{test['nll']:.4f}"),
            ("  its ECE", f"{test['ece']:.4f}"),
        ]
    speed, clock = results["throughput"]["examples_per_second"], results.get("clock_seconds")
    cost = (
        f"{results['train_seconds']:.0f} s of training"
        + (f" ({clock:.0f} s from data to answers)" if clock else "")
        + (f", {speed:,.0f} examples/s" if speed else "")
        + f"; {results['device']}, {results['precision']}"
    )
    title = f"{results['mode']} on {results['dataset']}, seed {results['seed']}: test split"
    table = format_table(("", "accuracy %"), rows)
    health = _health_lines(results)
    return "\n".join(line for line in (title, table, results["note"], *health, cost) if line)


def _health_lines(results: Mapping[str, Any]) -> list[str]:
    """What went wrong while it trained, a line a finding; an older version did not note it down."""
    return [
        f"health, {found['stage']} epoch {found['epoch']}: {found['message']}"
        for found in results.get("health", ())
    ]


def part_rows(parts: Mapping[str, Any]) -> list[tuple[str, str | None]]:
    """One row a network, from the `parts` of `results.json`."""
    rows = [
        (name, percent(parts[name]["accuracy"]))
        for name in ("baseline", "gate")
        if parts.get(name, {}).get("accuracy") is not None
    ]
    # A gate that no group says the truth about has no accuracy.
    unnamed = "gate" in parts and parts["gate"]["accuracy"] is None
    where = "what it is sent" if unnamed else "own group"
    return rows + [
        (f"expert {name} ({where})", percent(part["accuracy"]))
        for name, part in parts.get("experts", {}).items()
    ]


def evaluation_text(evaluation: Mapping[str, Any]) -> str:
    """The tables of `eval.py`, from its `evaluation.json`."""
    title = (
        f"{evaluation['mode']} on {evaluation['dataset']}, seed {evaluation['seed']}: "
        f"{evaluation['examples']:,} examples of the {evaluation['split']} split, "
        f"{evaluation['precision']}"
    )
    blocks = [title, format_table(("", "accuracy %"), part_rows(evaluation["parts"]))]
    routings = evaluation["routings"]
    if routings:
        blocks.append(_routings_table(routings, evaluation["top_k"]))
        first = next(iter(routings))
        found, classes = routings[first], evaluation["classes"]
        blocks.append(f"{first}: {'; '.join(_worth(found))}")
        blocks.append(experts_table(first, found["expert_by_class"], evaluation["groups"], classes))
        blocks.append(confusion_table(first, found["confusion"], classes))
    if evaluation["gate_threshold"]:
        blocks.append(
            f"soft: experts that the gate gives less than {evaluation['gate_threshold']:g} are "
            f"spared; {evaluation['experts_per_example']:.2f} of {len(evaluation['groups'])} run "
            "for an example"
        )
    for name, difference in evaluation["routed_against_dense"].items():
        blocks.append(
            f"{name}: running only the chosen experts differs from running all by at most "
            f"{difference:.1e} in any probability"
        )
    if evaluation["note"]:
        blocks.append(evaluation["note"])
    return "\n\n".join(blocks)


def boost_sentence(boost: Mapping[str, int]) -> str:
    """What the experts do to the baseline's errors, in words."""
    gain = boost["mended"] - boost["made"]
    return (
        f"the experts mend {boost['mended']:,} of the baseline's {boost['baseline_errors']:,} "
        f"errors and make {boost['made']:,} new ones: {gain:+,} examples"
    )


def _worth(found: Mapping[str, Any]) -> list[str]:
    """What the experts give to the mixture, and what a better gate would."""
    said = [] if found["boost"] is None else [boost_sentence(found["boost"])]
    gaps = (f"{name} {100 * gap:+.2f}" for name, gap in found["oracle_gap"].items())
    return [*said, f"with the gate replaced, points of accuracy: {', '.join(gaps)}"]


def _routings_table(routings: Mapping[str, Any], top_k: int | None) -> str:
    rows = []
    for name, found in routings.items():
        spread = found["routing_metrics"]
        rows.append(
            (
                f"{name}, K={top_k}" if name in TOP_K_ROUTINGS else name,
                percent(found["accuracy"]),
                f"{found['nll']:.4f}",
                f"{found['ece']:.4f}",
                f"{found['macro_f1']:.4f}",
                shares(spread["load"]) if spread else None,
                f"{spread['entropy']:.3f}" if spread else None,
                f"{spread['mutual_information']:.3f}" if spread else None,
            )
        )
    header = ("routing", "accuracy %", "NLL", "ECE", "macro-F1", "load", "entropy", "I(E;Y)")
    return format_table(header, rows)


def experts_table(
    title: str,
    table: Mapping[str, Any] | None,
    experts: Sequence[str],
    classes: Sequence[str],
) -> str:
    """Share of each class that each expert gets, and how well it does there.

    Args:
      title: of whom.
      table: of `moe.evaluate.metrics.expert_by_class`, or None.
      experts, classes: E and L names.
    """
    if table is None:
        return f"{title}: no one expert answers"
    totals = [sum(column) for column in zip(*table["count"], strict=True)]
    rows = []
    for name, counts, accuracies in zip(experts, table["count"], table["accuracy"], strict=True):
        shares = (
            f"{count / total:.2f}" if total else None
            for count, total in zip(counts, totals, strict=True)
        )
        rows.append((f"{name}: share", *shares))
        rows.append((f"{name}: accuracy", *(a if a is None else f"{a:.2f}" for a in accuracies)))
    return f"expert by class, {title}\n" + format_table(("", *classes), rows)


def confusion_table(title: str, confusion: Sequence[Sequence[int]], classes: Sequence[str]) -> str:
    """Counts `[L, L]`: a row a true class, a column an answer."""
    rows = [(name, *counts) for name, counts in zip(classes, confusion, strict=True)]
    return f"confusion, {title}\n" + format_table(("true \\ answer", *classes), rows)
