"""Finished runs side by side, from files made by hand."""

import json

import numpy as np
import pytest

from moe.errors import UserError
from moe.evaluate.compare import compare
from moe.evaluate.side_by_side import comparison_text

LABEL = np.array([0, 1, 1, 0])
MIXTURE = {
    "dataset": "toy", "classes": ["cat", "dog"], "groups": ["left", "right"],
    "note": "made up by hand", "mode": "joint", "routing": "hard", "precision": "float32",
    "device": "CPU", "seed": 3,
    "test": {"accuracy": 0.75, "nll": 0.5, "ece": 0.125, "macro_f1": 0.7333},
    "parts": {
        "baseline": {"accuracy": 0.5},
        "gate": {"accuracy": 0.9},
        "experts": {"left": {"accuracy": 1.0}, "right": {"accuracy": None}},
    },
    "routing_metrics": {"load": [0.25, 0.75], "entropy": 0.3, "mutual_information": 0.2},
    "params": {"total": 1000, "active": 600}, "macs_per_example": {"total": 3000, "active": 2000},
    "macs_spent": 5e6, "train_seconds": 12.3, "throughput": {"examples_per_second": None},
}  # fmt: skip
BASELINE = MIXTURE | {
    "mode": "baseline",
    "routing": "soft",
    "test": {"accuracy": 0.25, "nll": 1.5, "ece": 0.5},
    "parts": {"baseline": {"accuracy": 0.25}},
    "routing_metrics": {},
}
UNNAMED = MIXTURE | {
    "parts": {
        "baseline": {"accuracy": 0.5},
        "gate": {"accuracy": None},
        "experts": {"expert_0": {"accuracy": 0.6}},
    },
}
RIGHT, WRONG = [0, 1, 1, 1], [0, 0, 0, 1]


@pytest.fixture
def run(tmp_path):
    """Makes a run's folder and returns its name."""

    def make(name, results, answer=RIGHT, label=LABEL, expert=(0, 0, 1, 1)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "results.json").write_text(json.dumps(results))
        columns = {"answer": answer, "label": label, "expert": expert}
        np.savez(folder / "predictions.npz", **{k: np.array(v) for k, v in columns.items()})
        return str(folder)

    return make


def table(text: str) -> dict[str, list[str]]:
    """The rows of the first table by their titles; columns are two blanks apart."""
    lines = text.split("\n\n")[0].splitlines()[3:]
    cells = [[cell.strip() for cell in line.split("  ") if cell] for line in lines]
    return {title: values for title, *values in cells}


def test_a_mixture_beside_a_baseline(run):
    names = [run("a", MIXTURE), run("b", BASELINE, WRONG, expert=[-1] * 4)]
    comparison = compare(names)
    assert comparison["examples"] == 4
    (test,) = comparison["mcnemar"]
    # The second and third example: 2 * 1/4
    assert test == {"a": names[0], "b": names[1], "only_a": 2, "only_b": 0, "p_value": 0.5}
    text = comparison_text(comparison)
    assert table(text) == {
        "mode": ["joint", "baseline"],
        "routing": ["hard", "-"],
        "seed": ["3", "3"],
        "precision": ["float32", "float32"],
        "accuracy %": ["75.00", "25.00"],
        "macro-F1": ["0.7333", "-"],
        "NLL": ["0.5000", "1.5000"],
        "ECE": ["0.1250", "0.5000"],
        "baseline %": ["50.00", "25.00"],
        "gate %": ["90.00", "-"],
        "expert left %": ["100.00", "-"],
        "load": ["0.25 0.75", "-"],
        "entropy": ["0.300", "-"],
        "I(E;Y)": ["0.200", "-"],
        "training seconds": ["12", "12"],
        "run MACs an example": ["2,000", "2,000"],
        "MACs spent": ["5e+06", "5e+06"],
        "parameters": ["1,000", "1,000"],
    }
    assert "McNemar's exact test" in text
    # What the two say about every class, and who says it: left has a cat and a dog, right too.
    assert comparison["runs"][names[0]]["confusion"] == [[1, 1], [0, 2]]
    assert comparison["runs"][names[1]]["confusion"] == [[1, 1], [2, 0]]
    assert text.count("confusion, ") == 2
    assert comparison["runs"][names[0]]["expert_by_class"] == {
        "count": [[1, 1], [1, 1]],
        "accuracy": [[1.0, 1.0], [0.0, 1.0]],
    }
    assert f"expert by class, {names[0]}" in text
    assert f"{names[1]}: no one expert answers" in text
    assert text.endswith("made up by hand")


def test_experts_of_other_names_get_rows_of_their_own(run):
    text = comparison_text(compare([run("a", MIXTURE), run("b", UNNAMED)]))
    assert table(text)["expert left %"] == ["100.00", "-"]
    assert table(text)["expert expert_0 %"] == ["-", "60.00"]


def test_what_cannot_be_compared_is_refused(run, tmp_path):
    good = run("good", MIXTURE)
    part = run("part", MIXTURE | {"mode": "gate", "test": {**MIXTURE["test"], "accuracy": None}})
    for other, message in [
        (str(tmp_path / "nowhere"), r"nowhere: no finished run there \(results.json is missing\)"),
        (part, r"part: --mode=gate trains no network that answers"),
        (run("data", MIXTURE | {"dataset": "other"}), "were tested on different examples"),
        (run("order", MIXTURE, [1, 0, 0, 0], [1, 0, 0, 1]), "were tested on different examples"),
        (run("stale", MIXTURE, WRONG), r"stale: predictions.npz is not of the run in results.json"),
        (run("damaged", MIXTURE | {"seed": "x"}), r"damaged/results.json: is damaged, .*seed"),
    ]:
        for pair in ([good, other], [other, good]):
            with pytest.raises(UserError, match=message):
                compare(pair)
