"""Made-up rows of a comparison, for what reads them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from moe.compare.arms import ARMS
from moe.compare.record import FORMAT, Record, pack, portable
from moe.config.run import Config
from moe.evaluate.metrics import ECE_BINS

EXAMPLES = 4_000
MEANS = {
    "baseline": 0.80,
    "separate-hard": 0.83,
    "separate-soft": 0.83,
    "joint-hard": 0.82,
    "wide-hard": 0.80,
    "joint-soft": 0.86,
    "wide-soft": 0.82,
    "staged-hard": 0.82,
    "staged-soft": 0.82,
    "tuned-hard": 0.81,
    "tuned-soft": 0.81,
    "average-hard": 0.81,
    "average-soft": 0.81,
    "wide-params": 0.82,
}
_COST = {"baseline": 27e6, "average": 100e6, "wide": 105e6, "mixture": 104e6}


def make_bins(count: int) -> dict[str, list]:
    """All examples in the last bin."""
    empty = [None] * (ECE_BINS - 1)
    of_bins = {"accuracy": [*empty, 0.5], "confidence": [*empty, 0.9]}
    return {"count": [0] * len(empty) + [count], **of_bins}


def make_row(arm: str, seed: int, accuracy: float, validation: float | None = None) -> Record:
    """A row that has about this share of the examples right, those that are easy more often."""
    what = ARMS[arm]
    random = np.random.default_rng([seed, list(ARMS).index(arm)])
    ease = np.random.default_rng(0).random(EXAMPLES)
    correct = ease + random.normal(0, 0.1, EXAMPLES) > 1 - accuracy
    mixture = what.kind == "mixture"
    run = {"macs_spent": 1e12, "train_seconds": 60.0}
    cost = round(_COST[what.kind] * (1.5 if what.routing == "soft" else 1))
    record = {
        "format": FORMAT,
        "arm": arm,
        **what._asdict(),
        "seed": seed,
        "dataset": "toy",
        "note": "",
        "groups": ["sharp", "soft"],
        "budget": "epochs:3",
        "networks": 3 if what.kind == "average" else 1,
        "examples": {"train": 90, "validation": 10, "test": EXAMPLES},
        "validation": {"accuracy": validation or accuracy, "nll": 0.5, "ece": 0.02},
        "test": {"accuracy": float(correct.mean()), "nll": 0.6, "ece": 0.03},
        "correct": {
            "count": EXAMPLES,
            "bits": pack(correct),
            "labels": hashlib.sha256(b"toy").hexdigest()[:16],
        },
        "calibration": make_bins(EXAMPLES),
        "params": {"total": 10_000_000, "active": 5_000_000},
        "macs_per_example": {"total": 2 * cost, "active": cost},
        "macs_spent": 1e12,
        "train_seconds": 60.0 + seed,
        "runs": {f"{arm}-seed{seed}": run | {"revision": "abc"}},
        "stages": [
            {"run": f"{arm}-seed{seed}", "name": "joint", "epochs": 3.0, "best_epoch": 2}
            | {"steps": 9, "seconds": 60.0, "macs": 1e12}
        ],
        "parts": _parts(mixture),
        "routing_metrics": {"load": [0.4, 0.6], "load_cv": 0.2, "confidence": 0.9}
        if mixture
        else {},
        "precision": "float32",
        "device": "CPU",
        "command": "python train.py --mode=compare",
        "versions": {"tensorflow": "2"},
        "revision": "abc",
        "config": portable(Config()),
    }
    if not mixture:
        record["backbone"] = "mlp-16*2"
    return record


def _parts(mixture: bool) -> dict:
    parts: dict = {"baseline": {"accuracy": 0.8}}
    if mixture:
        parts |= {"gate": {"accuracy": 0.9}, "experts": {"sharp": {"accuracy": 0.7}}}
    return parts


def make_rows(seeds: int = 3, means: Mapping[str, float] = MEANS) -> list[Record]:
    """Rows of several arms."""
    return [make_row(arm, seed, mean) for seed in range(seeds) for arm, mean in means.items()]
