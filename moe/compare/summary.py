"""All rows of a comparison together: means, differences, and the choice of validation."""

from __future__ import annotations

import collections
import itertools
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from moe.compare.arms import ARMS, controls_of, in_parts, mixture_pairs, possible_arms
from moe.compare.record import Record, unpack
from moe.compare.statistics import bootstrap_difference, holm
from moe.config.run import Config
from moe.evaluate.metrics import mcnemar
from moe.typed import dig

SIGNIFICANT = 0.05
OUTCOMES = ("ahead", "no", "behind", "one seed")
"""Of a comparison: its first arm is told to be ahead or behind, or that cannot be said."""
_ENOUGH = 3
"""Seeds that a candidate needs where another one has as many or more."""
_NEAR_THE_END = 0.85
"""Share of a training."""
Summary = Mapping[str, Any]
Spread = dict[str, float | None]


def summarize(records: Sequence[Record]) -> dict[str, Any]:
    """What `compare.json` says.

    Args:
      records: of one comparison, at least one; some rows may still be missing.

    Returns:
      Facts of the comparison; `arms` by name, with their means and deviations over seeds;
      `possible`, names of the arms that there are with these flags;
      `timed_on`, the device that most rows were made on: training times are of its rows alone,
      made at so many `timed_revisions` of the code;
      `still_improving` and `tuned`, see there; `controls`, each mixture against each of its
      controls; `mixtures`, modes and routings against each other; `chosen`, the mixture that
      validation chooses, or None, and `chosen_by`: the names it was chosen `among`, the `seeds`
      that all of them have, the mean `validation` accuracy that it has at them, and the mixtures
      `left_out` that have too few seeds yet.
    """
    arms = by_arm(records)
    first, *_ = next(iter(arms.values()))
    names = [name for name in arms if ARMS[name].kind == "mixture"]
    against = {name: [c for c in controls_of(name) if c in arms] for name in names}
    pairs = [pair for pair in mixture_pairs() if set(pair) <= set(names)]
    device = _most_common(row["device"] for row in records)
    # Rows of one comparison have one schedule.
    constant = Config.from_dict(first["config"]).train.schedule == "constant"
    return {
        **{key: first[key] for key in ("dataset", "groups", "budget", "examples")},
        "possible": _possible(records),
        # An older version may have had other words for the same data, or none.
        "note": _most_common(row["note"] for row in records if row["note"]) or "",
        **machines(records),
        "timed_on": device,
        "timed_revisions": len(_revisions(row for row in records if row["device"] == device)),
        "still_improving": constant and _still_improving(records),
        "tuned": _tuned(arms) if constant else [],
        "arms": {name: means(rows, device) for name, rows in arms.items()},
        "controls": [
            found
            for name, others in against.items()
            for found in family([(name, other) for other in others], arms)
        ],
        "mixtures": family(pairs, arms),
        **_choice({name: arms[name] for name in names}),
    }


def _possible(rows: Sequence[Record]) -> list[str]:
    """The arms that there are with the flags of these rows, all that one of them notes."""
    told = {name for row in rows for name in row.get("possible", ())}
    if told:
        return [name for name in ARMS if name in told]
    config = Config.from_dict(rows[0]["config"])
    named = not (config.data.groups or "").startswith("none:")
    return possible_arms(in_parts(config.model, named), any_width=True)


def against_chosen(summary: Summary) -> list[Mapping[str, Any]]:
    """The chosen mixture against its controls."""
    return [c for c in summary["controls"] if c["a"] == summary["chosen"]]


def machines(records: Sequence[Record]) -> dict[str, list[str]]:
    """The `precisions` and `devices` that rows were made with."""
    return {
        "precisions": sorted({record["precision"] for record in records}),
        "devices": sorted({record["device"] for record in records}),
    }


def by_arm(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Records of each arm, arms in their order and seeds in theirs."""
    found: dict[str, list[Record]] = {}
    for name in ARMS:
        mine = [record for record in records if record["arm"] == name]
        if mine:
            found[name] = sorted(mine, key=lambda record: record["seed"])
    return found


def _most_common(values: Iterable[str]) -> str | None:
    """The value that is there most often, of equals the first by name; None if there is none."""
    found = collections.Counter(values)
    return min(found, key=lambda value: (-found[value], value), default=None)


def _revisions(rows: Iterable[Record]) -> set[str | None]:
    """That runs of these rows were made at."""
    return {run["revision"] for row in rows for run in row["runs"].values()}


def spread_over(values: Sequence[float | None]) -> Spread | None:
    """Their `mean` and standard `deviation`, None of a single value; None where one is missing."""
    if any(value is None for value in values):
        return None
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "deviation": deviation}


def means(rows: Sequence[Record], device: str | None = None) -> dict[str, Any]:
    """An arm's rows together: means and deviations over their seeds.

    Args:
      rows: of one arm.
      device: whose rows training times are of; None: of all.
    """

    def spread(value: Callable[[Record], float | None]) -> Spread | None:
        return spread_over([value(row) for row in rows])

    def answers(split: str) -> dict[str, Any]:
        return {k: spread(lambda row, k=k: row[split][k]) for k in ("accuracy", "nll", "ece")}

    first = rows[0]
    times = [row["train_seconds"] for row in rows if device in (None, row["device"])]
    numbers = [
        key for key, value in first["routing_metrics"].items() if isinstance(value, int | float)
    ]
    return {
        **{key: first[key] for key in ("kind", "mode", "routing", "networks")},
        "backbone": first.get("backbone"),
        "seeds": [row["seed"] for row in rows],
        "validation": answers("validation"),
        "test": answers("test"),
        "parts": {
            name: spread(lambda row, path=path: dig(row["parts"], *path, "accuracy"))
            for name, path in _part_paths(first)
        },
        "calibration": _calibration(rows),
        "routing_metrics": {
            key: spread(lambda row, key=key: row["routing_metrics"].get(key)) for key in numbers
        },
        "params": first["params"],
        "macs_per_example": first["macs_per_example"],
        "macs_spent": spread(lambda row: row["macs_spent"]),
        "train_seconds": spread_over(times) if times else None,
        "plain_blend": _blends_plainly(rows),
    }


def _calibration(rows: Sequence[Record]) -> dict[str, list]:
    """The bins of all seeds together, see `moe.evaluate.metrics.calibration_bins`."""
    bins = [row["calibration"] for row in rows]
    count = [sum(counts) for counts in zip(*(found["count"] for found in bins), strict=True)]

    def mean(key: str) -> list[float | None]:
        sums = [
            sum(n * value for n, value in of_bin if n)
            for of_bin in zip(*(zip(b["count"], b[key], strict=True) for b in bins), strict=True)
        ]
        return [total / n if n else None for total, n in zip(sums, count, strict=True)]

    return {"count": count, "accuracy": mean("accuracy"), "confidence": mean("confidence")}


def _blends_plainly(rows: Sequence[Record]) -> bool:
    """Whether a blend of experts and baseline was trained, and was best at its even start at every
    seed, as whatever came after it was: a plain average.
    """
    trained = [
        list(itertools.dropwhile(lambda stage: stage["name"] != "blend", row["stages"]))
        for row in rows
    ]
    return all(trained) and not any(stage["best_epoch"] for found in trained for stage in found)


def _still_improving(records: Sequence[Record]) -> bool:
    """Whether most networks were best on validation at the end of their training, or close to it,
    at a constant rate: a schedule that ends there would have it so, and so would the lower rate of
    the last stage of `staged`.
    """
    stages = [
        stage
        for row in records
        for stage in row["stages"][: -1 if row["mode"] == "staged" else None]
    ]
    reached = [s["best_epoch"] / s["epochs"] for s in stages if s["name"] != "blend"]
    return bool(reached) and statistics.median(reached) > _NEAR_THE_END


def _tuned(arms: Mapping[str, Sequence[Record]]) -> list[str]:
    """The arms that learn at a lower rate in the end while others do not, where no schedule lowers
    the rate of all.
    """
    names = [name for name in arms if ARMS[name].mode == "staged"]
    return names if len(names) < len(arms) else []


def _part_paths(record: Record) -> list[tuple[str, tuple[str, ...]]]:
    """The networks of a mixture, by what they are called."""
    if record["kind"] != "mixture":
        return []
    found = [(name, (name,)) for name in ("baseline", "gate") if name in record["parts"]]
    experts = record["parts"].get("experts", {})
    return [*found, *((f"expert {name}", ("experts", name)) for name in experts)]


def family(
    pairs: Sequence[tuple[str, str]], arms: Mapping[str, Sequence[Record]]
) -> list[dict[str, Any]]:
    """Comparisons whose p-values are adjusted for each other.

    One seed says nothing of others: how far they differ would pass for a difference of the arms.
    So it tells nothing apart, whatever its interval over examples is.

    Args:
      pairs: names of those to compare, the first less the second.
      arms: rows by name.

    Returns:
      Of each pair with a common seed the difference `a` less `b`, its 95 % interval and `p_value`;
      `p_holm`, both None at one seed; `outcome`, one of `OUTCOMES`; `mcnemar` by seed.
    """
    found = [c for pair in pairs if (c := _compare(*pair, arms)) is not None]
    repeated = [c for c in found if len(c["seeds"]) > 1]
    for comparison, adjusted in zip(repeated, holm([c["p_value"] for c in repeated]), strict=True):
        comparison["p_holm"] = adjusted
        comparison["outcome"] = "no"
        if adjusted < SIGNIFICANT:
            comparison["outcome"] = "ahead" if comparison["difference"] > 0 else "behind"
    for seed in sorted({test["seed"] for comparison in found for test in comparison["mcnemar"]}):
        tests = [t for comparison in found for t in comparison["mcnemar"] if t["seed"] == seed]
        for test, adjusted in zip(tests, holm([t["p_value"] for t in tests]), strict=True):
            test["p_holm"] = adjusted
    return found


def by_outcome(found: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Comparisons by their outcome, in the order of `OUTCOMES`; none where none ended so."""
    sides = {what: [one for one in found if one["outcome"] == what] for what in OUTCOMES}
    return {what: side for what, side in sides.items() if side}


def _compare(a: str, b: str, arms: Mapping[str, Sequence[Record]]) -> dict[str, Any] | None:
    """`a` against `b` at the seeds that both have; None where there is none."""
    rows_a, rows_b = ({row["seed"]: row for row in arms[name]} for name in (a, b))
    seeds = sorted(set(rows_a) & set(rows_b))
    if not seeds:
        return None
    correct_a, correct_b = (
        np.stack([unpack(rows[seed]["correct"]) for seed in seeds]) for rows in (rows_a, rows_b)
    )
    copies = rows_a[seeds[0]]["correct"].get("copies", 1)
    difference = bootstrap_difference(correct_a, correct_b, copies=copies)
    return {
        "a": a,
        "b": b,
        "seeds": seeds,
        "test": {
            name: spread_over([rows[seed]["test"]["accuracy"] for seed in seeds])
            for name, rows in ((a, rows_a), (b, rows_b))
        },
        "difference": difference.mean,
        "low": difference.low,
        "high": difference.high,
        "p_value": difference.p_value if len(seeds) > 1 else None,
        "p_holm": None,
        "outcome": "one seed",
        # It takes every example for another one.
        "mcnemar": [
            {"seed": seed, **mcnemar(right_a, right_b)}
            for seed, right_a, right_b in zip(seeds, correct_a, correct_b, strict=True)
            if copies == 1
        ],
    }


def _choice(mixtures: Mapping[str, Sequence[Record]]) -> dict[str, Any]:
    """The mixture of the highest mean validation accuracy, over the seeds that all candidates have;
    the cheaper one of equals. The test split has no say.

    A candidate has three seeds, or as many as the mixture with most of them: one that has just
    begun does not reduce the choice between the others to its own first seeds.
    """
    nothing = {"chosen": None, "chosen_by": None}
    most = max(map(len, mixtures.values()), default=0)
    enough = min(_ENOUGH, most)
    candidates = {name: rows for name, rows in mixtures.items() if len(rows) >= enough}
    if not candidates:
        return nothing
    common = set.intersection(*({row["seed"] for row in rows} for rows in candidates.values()))
    if not common:
        return nothing

    def worth(name: str) -> tuple[float, float]:
        rows = [row for row in candidates[name] if row["seed"] in common]
        accuracy = statistics.fmean(row["validation"]["accuracy"] for row in rows)
        return accuracy, -rows[0]["macs_per_example"]["active"]

    best = max(candidates, key=worth)
    by = {"among": list(candidates), "seeds": sorted(common), "validation": worth(best)[0]}
    left_out = [name for name in mixtures if name not in candidates]
    return {"chosen": best, "chosen_by": {**by, "left_out": left_out}}
