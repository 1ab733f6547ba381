"""Rows are written whole, small, and believed only where they fit together."""

from __future__ import annotations

import json

import numpy as np
import pytest
from rows import EXAMPLES, make_bins, make_row

from moe.compare.reading import read_record
from moe.compare.record import pack, unpack, write_record
from moe.errors import UserError
from moe.evaluate.metrics import ECE_BINS


@pytest.mark.parametrize("count", [1, 8, 75, 10_000])
def test_bits_come_back(count):
    correct = np.random.default_rng(0).random(count) < 0.8
    stored = {"count": count, "bits": pack(correct), "labels": ""}
    np.testing.assert_array_equal(unpack(stored), correct)
    assert len(stored["bits"]) < count / 6 + 8


def test_a_row_comes_back(tmp_path):
    """With what a later version may say beside."""
    row = make_row("joint-hard", 1, 0.8)
    row["calibration"]["scheme"] = 2
    write_record(tmp_path / "joint-hard-seed1.json", row)
    assert read_record(tmp_path / "joint-hard-seed1.json") == json.loads(json.dumps(row))


@pytest.mark.parametrize(
    "damage",
    [
        {"format": 2},
        {"test": {"accuracy": 0.1, "nll": 0.5, "ece": 0.1}},
        {"correct": {"count": 90, "bits": "AAAA", "labels": ""}},
        {"correct": {"count": 90, "bits": "!", "labels": ""}},
        {"calibration": {}},
        {"calibration": {"count": [EXAMPLES], "accuracy": [0.5], "confidence": [0.5]}},
        {"calibration": make_bins(EXAMPLES - 1)},
        {"calibration": make_bins(EXAMPLES) | {"accuracy": [0.5] * ECE_BINS}},
        {"calibration": make_bins(EXAMPLES) | {"confidence": [None] * ECE_BINS}},
        {"routing_metrics": {"load_cv": "high"}},
        {"routing_metrics": {"load_cv": []}},
        {"stages": []},
        {"stages": [make_row("joint-hard", 1, 0.8)["stages"][0] | {"epochs": 0.0}]},
        {"stages": [make_row("joint-hard", 1, 0.8)["stages"][0] | {"best_epoch": -1}]},
        {"stages": [make_row("joint-hard", 1, 0.8)["stages"][0] | {"best_epoch": 4}]},
        {"runs": {"joint-hard-seed1": {"macs_spent": 1e12, "train_seconds": 60.0}}},
        {"routing_metrics": {"load": 0.5}},
        {"parts": {"baseline": {"accuracy": 9.0}}},
        {"parts": {"experts": {"sharp": {"accuracy": -1.0}}}},
        {"validation": {"accuracy": 0.5, "nll": 0.5, "ece": 7.0}},
        {"validation": {"accuracy": 0.5, "nll": None, "ece": 0.1}},
        {"calibration": make_bins(EXAMPLES) | {"confidence": [None] * (ECE_BINS - 1) + [7.0]}},
        {"params": {"total": -1, "active": 1}},
        {"macs_spent": -1},
        {"train_seconds": -1.0},
        {"correct": make_row("joint-hard", 1, 0.8)["correct"] | {"copies": 3}},
        {"correct": make_row("joint-hard", 1, 0.8)["correct"] | {"copies": 0}},
        {"correct": make_row("joint-hard", 1, 0.8)["correct"] | {"copies": -1}},
        {"test": {"accuracy": None, "nll": 0.5, "ece": 0.1}},
        {"validation": {"accuracy": None, "nll": 0.5, "ece": 0.1}},
        {"validation": {"accuracy": 7.0, "nll": 0.5, "ece": 0.1}},
        {"validation": {"accuracy": 0.7, "nll": -0.5, "ece": 0.1}},
        {"examples": {"train": 0, "validation": 10, "test": 4_000}},
        {"backbone": "mlp-16"},
        {"budget": "epochs:many"},
        {"possible": ["baseline", "dense"]},
        {"seed": "one"},
        {"parts": None},
        {"examples": {"train": 90}},
        {"stages": [{"name": "joint"}]},
        {"seed": 2},
        {"arm": "dense"},
        {"kind": "wide"},
    ],
    ids=lambda damage: " ".join(f"{key}={value!r:.60}" for key, value in damage.items()),
)
def test_a_damaged_row_is_refused(tmp_path, damage):
    path = tmp_path / "joint-hard-seed1.json"
    path.write_text(json.dumps(make_row("joint-hard", 1, 0.8) | damage))
    with pytest.raises(UserError, match=r"seed1.json: is damaged, or another .*made again"):
        read_record(path)


@pytest.mark.parametrize("number", ["1e999", "-1e999", "9" * 400])
def test_a_number_that_is_none_is_refused(tmp_path, number):
    path = tmp_path / "joint-hard-seed1.json"
    path.write_text(
        json.dumps(make_row("joint-hard", 1, 0.8) | {"macs_spent": "?"}).replace('"?"', number)
    )
    with pytest.raises(UserError, match=r"no JSON \(.* is too large\). Without the file the row"):
        read_record(path)


@pytest.mark.parametrize("content", ["", '{"format": 1, "arm": "joint-'])
def test_a_row_that_was_cut_off_is_told_with_the_way_out(tmp_path, content):
    path = tmp_path / "joint-hard-seed1.json"
    path.write_text(content)
    with pytest.raises(UserError, match=r"is damaged, no JSON .* Without the file the row is made"):
        read_record(path)


@pytest.mark.parametrize("content", [[], {"mode": "joint", "seed": 0}])
def test_the_result_of_a_run_is_no_damaged_row(tmp_path, content):
    """Which one would be told to delete."""
    (tmp_path / "joint.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"joint.json: is no row of a comparison; --results needs"):
        read_record(tmp_path / "joint.json")
