"""Finished runs side by side, with a test whether they really differ."""

from __future__ import annotations

import itertools
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from moe.errors import UserError
from moe.evaluate.metrics import mcnemar
from moe.evaluate.predictions import RUN_FILE, read_answers
from moe.run_files import Results, read_results


def compare(workdirs: Sequence[str]) -> dict[str, Any]:
    """Compares the runs' own answers on the test split.

    Returns:
      `dataset`, number of `examples`, the results of each of the `runs`, and `mcnemar`, a test for
      every pair.

    Raises:
      UserError: a run is not finished, its mode has no answers, its files are damaged or not of one
        run, or it saw other test examples.
    """
    runs, labels, correct = {}, {}, {}
    for name in workdirs:
        runs[name] = _finished(name)
        answer, labels[name] = read_answers(pathlib.Path(name) / RUN_FILE)
        correct[name] = answer == labels[name]
        if correct[name].mean() != runs[name]["test"]["accuracy"]:
            raise UserError(f"--compare={name}: {RUN_FILE} is not of the run in results.json.")
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


def _finished(name: str) -> Results:
    workdir = pathlib.Path(name)
    if not (workdir / "results.json").exists():
        raise UserError(f"--compare={name}: no finished run there (results.json is missing).")
    results = read_results(workdir)
    if results["test"]["accuracy"] is None:
        raise UserError(
            f"--compare={name}: --mode={results['mode']} trains no network that answers; compare "
            "mixtures and baselines."
        )
    return results
