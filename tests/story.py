"""A made-up evaluation of any size, for what draws and prints it."""

from __future__ import annotations

from typing import Any

import numpy as np

from moe.evaluate import attribution, gate, metrics
from moe.evaluate.extremes import extremes

NOTE = "Synthetic data <of a test>."


def make_evaluation(
    experts: int = 2, classes: int = 5, size: int = 60, long_names: bool = False, named: bool = True
) -> dict[str, Any]:
    """What `evaluation.json` would say; numbers are drawn, names are as nasty as allowed."""
    rng = np.random.default_rng(0)
    label, answer = rng.integers(classes, size=(2, size))
    answer = np.where(rng.random(size) < 0.6, label, answer)
    group = label % experts
    gates = rng.dirichlet(np.full(experts, 0.3), size)
    probabilities = rng.dirichlet(np.full(classes, 0.3), size)
    expert = gates.argmax(axis=1)
    right, baseline = answer == label, rng.random(size) < 0.5
    tail = " of a name that never ends" if long_names else ""
    names = [f"expert {e}{tail}" for e in range(experts)]
    class_names = [f"<b>${n}$</b>{tail}" for n in range(classes)]
    parts = [
        "baseline",
        "gate",
        *(f"{k}_{e}" for k in ("expert", "combiner") for e in range(experts)),
    ]
    under = {
        **metrics.answer_metrics(np.log(probabilities + 1e-9), answer, label),
        "confusion": metrics.confusion_matrix(answer, label, classes).tolist(),
        "calibration": metrics.calibration_bins(probabilities, label),
        "routing_metrics": metrics.routing_metrics(gates, expert, label, group),
        "expert_by_class": metrics.expert_by_class(expert, answer, label, experts, classes),
        "boost": attribution.boost_counts(right, baseline),
        "attribution": attribution.outcome_counts(
            mixture=right, expert=right, gate=expert == group if named else None, baseline=baseline
        ),
        "oracle_gap": {"oracle": 0.01, "oracle_best": 0.02} if named else {"oracle_best": 0.02},
        "ablation": [0.1] * experts if experts > 1 else None,
        "extremes": extremes(
            gate_probabilities=gates,
            expert_probabilities=gates,
            expert=expert,
            answer=answer,
            label=label,
        ),
    }
    return {
        "split": "test",
        "dataset": "toy" + tail,
        "note": NOTE,
        "mode": "joint",
        "routing": "hard",
        "seed": 3,
        "precision": "float32",
        "examples": size,
        "classes": class_names,
        "groups": names,
        "class_groups": [names[c % experts] for c in range(classes)] if named else None,
        "parts": {
            "baseline": {"accuracy": 0.5},
            "gate": {"accuracy": 0.75 if named else None},
            "experts": {name: {"accuracy": 0.25} for name in names},
        },
        "architecture": {
            "parts": {part: {"parameters": 1_234_567, "macs": 76_543_210} for part in parts},
            "blends": True,
            "experts_per_example": 1,
        },
        "gate": gate.gate_report(gates, gates.argmax(axis=1), group, names if named else ()),
        "routings": {"hard": under},
        "command": "python eval.py --workdir=run",
        "device": "CPU",
        "revision": None,
        "versions": {"tensorflow": "2.21"},
    }


def make_records(experts: int = 2, stages: tuple[str, ...] = ("joint",)) -> list[dict[str, Any]]:
    """What `metrics.jsonl` would say of three epochs a stage; the last stage routes."""
    records: list[dict[str, Any]] = []
    even = {"load": [1 / experts] * experts}
    for number, stage in enumerate(stages):
        for epoch in (1, 2, 3):
            done = 3 * number + epoch
            where = {"step": 10 * done, "epoch": epoch, "seconds": 150 * done, "stage": stage}
            train = {"split": "train", "loss": 1 / epoch, "accuracy": epoch / 4}
            validation = {"split": "validation", "nll": 1 / epoch, "accuracy": epoch / 5}
            if stage == "joint":
                train |= even | {"nll": 1 / epoch, "load_after_capacity": [0.1] * experts}
                validation |= even | {"entropy": 0.5, "confidence": 0.75}
                validation |= {"routing_flips": 0.1} if epoch > 1 else {}
            records += [where | train, where | validation]
        records.append({"event": "continued", "step": 10 * (3 * number + 2)})
    return records


RESULTS = {
    "command": "python train.py --mode=joint",
    "device": "CPU",
    "precision": "float32",
    "train_seconds": 12.5,
    "clock_seconds": 3_000.0,
    "test": {"accuracy": 0.625},
    "macs_spent": 3e12,
    "params": {"total": 7_000_000, "active": 5_000_000},
    "macs_per_example": {"total": 7_000_000, "active": 5_000},
    "health": [
        {
            "epoch": 2,
            "stage": "joint",
            "condition": "dead expert",
            "expert": "expert 1",
            "message": "dead expert: expert 1 has 0.00% of the say. Try less.",
        }
    ],
}
