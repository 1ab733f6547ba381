"""Rows are written whole, small, and believed only where they fit together."""

from __future__ import annotations

import json

import numpy as np
import pytest
from rows import make_row

from moe.compare.record import (
    check_same_setting,
    pack,
    read_record,
    read_rows,
    unpack,
    write_record,
)
from moe.config.run import Config
from moe.config.sections import TrainConfig
from moe.errors import UserError


@pytest.mark.parametrize("count", [1, 8, 75, 10_000])
def test_bits_come_back(count):
    correct = np.random.default_rng(0).random(count) < 0.8
    stored = {"count": count, "bits": pack(correct), "labels": ""}
    np.testing.assert_array_equal(unpack(stored), correct)
    assert len(stored["bits"]) < count / 6 + 8


def test_a_row_comes_back(tmp_path):
    row = make_row("joint-hard", 1, 0.8)
    write_record(tmp_path / "joint-hard-seed1.json", row)
    assert read_record(tmp_path / "joint-hard-seed1.json") == json.loads(json.dumps(row))


@pytest.mark.parametrize(
    "damage",
    [
        {"format": 2},
        {"test": {"accuracy": 0.1, "nll": 0.5, "ece": 0.1}},
        {"correct": {"count": 90, "bits": "AAAA", "labels": ""}},
        {"correct": {"count": 90, "bits": "!", "labels": ""}},
        {"seed": "one"},
        {"parts": None},
        {"examples": {"train": 90}},
        {"stages": [{"name": "joint"}]},
        {"seed": 2},
        {"arm": "dense"},
        {"kind": "wide"},
    ],
    ids=lambda damage: " ".join(f"{key}={value!r:.9}" for key, value in damage.items()),
)
def test_a_damaged_row_is_refused(tmp_path, damage):
    path = tmp_path / "joint-hard-seed1.json"
    path.write_text(json.dumps(make_row("joint-hard", 1, 0.8) | damage))
    with pytest.raises(UserError, match=r"seed1.json: is damaged, or another .*made again"):
        read_record(path)


def test_a_row_of_other_flags_is_refused(tmp_path):
    row = make_row("joint-hard", 1, 0.8)
    check_same_setting(tmp_path, row, Config(), "any")
    with pytest.raises(UserError, match=r"--batch_size=7 \(was None\); use another --results"):
        check_same_setting(tmp_path, row, Config(train=TrainConfig(batch_size=7)), "any")


def test_a_row_of_another_version_is_told_with_its_place(tmp_path):
    row = make_row("joint-hard", 1, 0.8)
    row["config"]["model"]["nonsense"] = 1
    with pytest.raises(UserError, match=r"a.json: the stored configuration does not fit"):
        check_same_setting(tmp_path / "a.json", row, Config(), "any")


def _write(folder, rows):
    for row in rows:
        write_record(folder / f"{row['arm']}-seed{row['seed']}.json", row)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda row, value: row["config"]["train"].update(budget=value), "comparison: --budget"),
        (lambda row, value: row.update(data=value), "comparison: other examples"),
        (lambda row, value: row["correct"].update(labels=value), "tested on other .*seed0.json"),
        (lambda row, value: row["correct"].update(examples=value), "tested on other .*seed0.json"),
    ],
    ids=["flags", "data", "labels", "test examples"],
)
def test_rows_of_several_comparisons_are_not_read_as_one(tmp_path, change, message):
    rows = [make_row("baseline", seed, 0.8) for seed in range(3)]
    for row in rows:
        change(row, "epochs:1")
    _write(tmp_path, rows)
    assert len(read_rows(tmp_path)) == 3
    change(rows[1], "epochs:2")
    _write(tmp_path, rows)
    with pytest.raises(UserError, match=f"seed1.json: .*{message}"):
        read_rows(tmp_path)


def test_rows_that_do_not_say_so_much_stand_beside_those_that_do(tmp_path):
    rows = [make_row("baseline", seed, 0.8) for seed in range(3)]
    rows[1]["data"] = rows[1]["correct"]["examples"] = "noted"
    _write(tmp_path, rows)
    assert len(read_rows(tmp_path)) == 3
