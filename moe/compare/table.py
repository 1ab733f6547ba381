"""The rows of a comparison as a table for the terminal."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from moe.compare.arms import ARMS
from moe.compare.record import Record


def by_arm(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Records of each arm, arms in their order and seeds in theirs."""
    found: dict[str, list[Record]] = {}
    for name in ARMS:
        mine = [record for record in records if record["arm"] == name]
        if mine:
            found[name] = sorted(mine, key=lambda record: record["seed"])
    return found


def table(records: Sequence[Record]) -> str:
    """One line an arm: means over seeds."""
    lines = [
        f"{'arm':<14}{'seeds':>6}{'validation':>12}{'test':>16}{'NLL':>8}{'ECE':>8}"
        f"{'run MACs':>12}{'MACs spent':>12}{'minutes':>9}"
    ]
    for name, rows in by_arm(records).items():
        accuracy = [100 * row["test"]["accuracy"] for row in rows]
        spread = f" ± {statistics.stdev(accuracy):.2f}" if len(rows) > 1 else ""
        mean = {
            "validation": statistics.fmean(100 * row["validation"]["accuracy"] for row in rows),
            "nll": statistics.fmean(row["test"]["nll"] for row in rows),
            "ece": statistics.fmean(row["test"]["ece"] for row in rows),
            "run": statistics.fmean(row["macs_per_example"]["active"] for row in rows),
            "spent": statistics.fmean(row["macs_spent"] for row in rows),
            "minutes": statistics.fmean(row["train_seconds"] for row in rows) / 60,
        }
        lines.append(
            f"{name:<14}{len(rows):>6}{mean['validation']:>12.2f}"
            f"{f'{statistics.fmean(accuracy):.2f}{spread}':>16}{mean['nll']:>8.3f}"
            f"{mean['ece']:>8.3f}{mean['run'] / 1e6:>10.4g} M{mean['spent'] / 1e12:>10.4g} T"
            f"{mean['minutes']:>9.1f}"
        )
    return "\n".join(lines)
