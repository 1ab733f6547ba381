"""`eval.py --compare`: finished runs side by side, with a test whether they really differ.

Without TensorFlow, which takes longer to load than all the rest.
"""

from __future__ import annotations

import itertools
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from moe.errors import UserError
from moe.evaluate.metrics import confusion_matrix, expert_by_class, mcnemar
from moe.evaluate.predictions import RUN_FILE, StoredAnswers, read_answers
from moe.evaluate.side_by_side import comparison_text
from moe.files import is_there, write_json
from moe.run_files import Results, read_results


def show(workdirs: Sequence[str]) -> int:
    """Prints the comparison and leaves it in the first run's folder; returns the exit code.

    Raises:
      UserError: as `compare`; or the folder takes no file.
    """
    comparison = compare(workdirs)
    print(comparison_text(comparison))
    write_json(pathlib.Path(workdirs[0]) / "comparison.json", comparison)
    return 0


def compare(workdirs: Sequence[str]) -> dict[str, Any]:
    """Compares the runs' own answers on the test split.

    Returns:
      `dataset`, number of `examples`, the results of each of the `runs` with its `confusion` and
      its `expert_by_class` (None where no one expert answers), and `mcnemar`, a test for every
      pair.

    Raises:
      UserError: a run is not finished, its mode has no answers, its files are damaged or not of one
        run, or it saw other test examples.
    """
    runs, labels, correct = {}, {}, {}
    for name in workdirs:
        runs[name] = _finished(name)
        answers = read_answers(pathlib.Path(name) / RUN_FILE)
        labels[name] = answers.label
        correct[name] = answers.answer == answers.label
        if correct[name].mean() != runs[name]["test"]["accuracy"]:
            raise UserError(f"--compare={name}: {RUN_FILE} is not of the run in results.json.")
        runs[name] |= _tables(runs[name], answers)
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


def _tables(results: Results, answers: StoredAnswers) -> dict[str, Any]:
    """Answers by class, and by expert and class."""
    answer, label, expert = answers
    classes, experts = len(results["classes"]), len(results["groups"])
    return {
        "confusion": confusion_matrix(answer, label, classes).tolist(),
        "expert_by_class": expert_by_class(expert, answer, label, experts, classes)
        if (expert >= 0).all()
        else None,
    }


def _finished(name: str) -> Results:
    workdir = pathlib.Path(name)
    if not is_there(workdir / "results.json"):
        raise UserError(f"--compare={name}: no finished run there (results.json is missing).")
    results = read_results(workdir)
    if results["test"]["accuracy"] is None:
        raise UserError(
            f"--compare={name}: --mode={results['mode']} trains no network that answers; compare "
            "mixtures and baselines."
        )
    return results
