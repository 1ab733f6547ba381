"""Published runs: how good, at what cost, how they were made.

Every file `docs/results/NAME-seedN.json` is the `results.json` that a run wrote; files that differ
in the seed only become one row.
"""

from __future__ import annotations

import pathlib
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from moe.compare.present import in_unit, spread
from moe.compare.summary import spread_over
from moe.evaluate.tables import COUNTS, TIMES, Units
from moe.report.markdown import made_with, origin_line, table
from moe.run_files import read_results_file
from moe.typed import dig

_AGREEMENT = "group_normalized_mutual_information"
Results = Mapping[str, Any]
_EACH_RUN = ("--seed=", "--workdir=")
"""What the commands of one experiment's runs differ in."""


def load_results(folder: pathlib.Path) -> dict[str, list[Results]]:
    """All results by name, the seeds of one name together and in order.

    Raises:
      UserError: a file is damaged.
    """
    found: dict[str, list[Results]] = {}
    for path in sorted(folder.glob("*.json")):
        found.setdefault(re.sub(r"-seed\d+$", "", path.stem), []).append(read_results_file(path))
    return {name: sorted(runs, key=lambda run: run["seed"]) for name, runs in sorted(found.items())}


def runs_section(results: Mapping[str, Sequence[Results]]) -> str:
    """For each data set its runs, as Markdown."""
    blocks = []
    datasets = dict.fromkeys(runs[0]["dataset"] for runs in results.values())
    for dataset in datasets:
        chosen = {n: runs for n, runs in results.items() if runs[0]["dataset"] == dataset}
        blocks.append(f"## {dataset}\n")
        note = next(iter(chosen.values()))[0]["note"]
        if note:
            blocks.append(f"{note}\n")
        blocks += [_accuracy_table(chosen), _cost_table(chosen), _origin_list(chosen)]
    return "\n".join(blocks)


def _accuracy_table(results: Mapping[str, Sequence[Results]]) -> str:
    named = [runs for runs in results.values() if runs[0]["parts"].get("gate", {}).get("accuracy")]
    experts = list(dict.fromkeys(name for runs in named for name in runs[0]["groups"]))
    header = ["run", "mode", "routing", "seeds", "mixture", "NLL", "ECE", "baseline", "gate"]
    header += [f"expert {name}" for name in experts]
    header += ["NMI of expert and group", "dead experts, %"]

    def row(name: str, runs: Sequence[Results]) -> list[str]:
        def part(*keys: str) -> str:
            return _spread(runs, lambda run: dig(run["parts"], *keys, "accuracy"), 100, 2)

        return [
            name,
            runs[0]["mode"],
            runs[0]["routing"],
            str(len(runs)),
            _spread(runs, lambda run: run["test"]["accuracy"], 100, 2),
            _spread(runs, lambda run: run["test"]["nll"], 1, 3),
            _spread(runs, lambda run: run["test"]["ece"], 1, 3),
            part("baseline"),
            part("gate"),
            *(part("experts", expert) for expert in experts),
            _spread(runs, lambda run: run["routing_metrics"].get(_AGREEMENT), 1, 3),
            _spread(runs, lambda run: run["routing_metrics"].get("dead_experts"), 100, 0),
        ]

    return table(header, [row(name, runs) for name, runs in results.items()])


def _cost_table(results: Mapping[str, Sequence[Results]]) -> str:
    header = [
        "run",
        "parameters",
        "run MACs an example",
        "MACs spent",
        "first step after, s",
        "training time",
        "clock",
        "examples/s",
        "precision",
    ]
    rows = [
        [
            name,
            f"{runs[0]['params']['total']:,}",
            f"{runs[0]['macs_per_example']['active']:,}",
            _in_unit(runs, "macs_spent", COUNTS),
            _spread(runs, lambda run: run.get("startup_seconds"), 1, 1),
            _in_unit(runs, "train_seconds", TIMES),
            _in_unit(runs, "clock_seconds", TIMES),
            _spread(runs, lambda run: run["throughput"]["examples_per_second"], 1, 0),
            runs[0]["precision"],
        ]
        for name, runs in results.items()
    ]
    return table(header, rows)


def _origin_list(results: Mapping[str, Sequence[Results]]) -> str:
    lines = []
    for name, runs in results.items():
        lines += [origin_line(f"**{name}**, {_seeds(like)}", like[0]) for like in _by_origin(runs)]
        lines.append(f"  - {_stages(runs)}")
        lines += [
            f"  - seed {run['seed']}, health: {told}" for run in runs if (told := _health(run))
        ]
    return "\n".join(lines) + "\n"


def _by_origin(runs: Sequence[Results]) -> list[list[Results]]:
    """Runs of one name, those of one command, machine, software and revision together."""
    found: dict[tuple[str, ...], list[Results]] = {}
    for run in runs:
        what = [flag for flag in shlex.split(run["command"]) if not flag.startswith(_EACH_RUN)]
        found.setdefault((made_with(run), *what), []).append(run)
    return list(found.values())


def _seeds(runs: Sequence[Results]) -> str:
    return f"seed{'s' * (len(runs) > 1)} {', '.join(str(run['seed']) for run in runs)}"


def _health(run: Results) -> str:
    """What went wrong while it trained, and after which epochs; nothing in an older version."""
    told: dict[str, dict[str, None]] = {}
    for found in run.get("health", ()):
        told.setdefault(f"{found['condition']}, {found['stage']}", {})[str(found["epoch"])] = None
    return "; ".join(f"{what} epoch {', '.join(epochs)}" for what, epochs in told.items())


def _stages(runs: Sequence[Results]) -> str:
    """How long every stage went on, and after which epoch it was best on validation."""
    told = []
    for stages in zip(*(run["stages"] for run in runs), strict=True):
        best = [stage["best_epoch"] for stage in stages]
        epochs = ", ".join(
            f"{b} of {stage['epochs']:g}" for b, stage in zip(best, stages, strict=True)
        )
        told.append(f"{stages[0]['name']} {epochs}")
        if stages[0]["kind"] == "blend" and not any(best):
            told[-1] += " (the even blend that it starts from: a plain average, nothing learned)"
    return f"best epochs on validation: {'; '.join(told)}"


def _spread(
    runs: Sequence[Results], value: Callable[[Results], float | None], scale: float, digits: int
) -> str:
    """Mean ± standard deviation over the runs; a dash where a run has no such number."""
    return spread(spread_over([value(run) for run in runs]), scale, digits) or "-"


def _in_unit(runs: Sequence[Results], key: str, units: Units) -> str:
    """The spread in its unit; a dash where an older version did not note it down."""
    if any(key not in run for run in runs):
        return "-"
    return in_unit(spread_over([run[key] for run in runs]), units)
