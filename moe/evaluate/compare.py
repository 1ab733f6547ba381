"""Finished runs side by side, with a test whether they really differ."""

from __future__ import annotations

import itertools
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from moe.errors import UserError
from moe.evaluate.metrics import mcnemar
from moe.files import read_json

_COLUMNS = (
    "mode",
    "routing",
    "seed",
    "precision",
    "test",
    "train_seconds",
    "macs_per_example",
    "macs_spent",
    "params",
)


def compare(workdirs: Sequence[str]) -> dict[str, Any]:
    """Compares the runs' own answers on the test split.

    Raises:
      UserError: a run is not finished, has no mixture, or saw other test examples.
    """
    runs, labels, correct = {}, {}, {}
    for name in workdirs:
        workdir = pathlib.Path(name)
        if not (workdir / "results.json").exists():
            raise UserError(f"--compare={name}: no finished run there (results.json is missing).")
        results = read_json(workdir / "results.json")
        try:
            with np.load(workdir / "predictions.npz", allow_pickle=False) as predictions:
                labels[name] = predictions["label"]
                correct[name] = predictions["answer"] == predictions["label"]
            runs[name] = {key: results[key] for key in _COLUMNS} | {"dataset": results["dataset"]}
        except (OSError, ValueError, KeyError) as error:
            raise UserError(
                f"--compare={name}: its mode trains no mixture, or predictions.npz is damaged "
                f"({error})."
            ) from error
    first = workdirs[0]
    for name in workdirs[1:]:
        same = runs[name]["dataset"] == runs[first]["dataset"]
        if not same or not np.array_equal(labels[name], labels[first]):
            raise UserError(f"--compare: {first} and {name} were tested on different examples.")
    return {
        "dataset": runs[first]["dataset"],
        "examples": len(labels[first]),
        "runs": runs,
        "mcnemar": [
            {"a": a, "b": b, **mcnemar(correct[a], correct[b])}
            for a, b in itertools.combinations(workdirs, 2)
        ],
    }
