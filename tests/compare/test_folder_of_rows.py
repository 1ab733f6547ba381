"""Rows of one folder are of one comparison, and were tested on the same examples."""

from __future__ import annotations

import functools

import pytest
from rows import make_row

from moe.compare.record import write_record
from moe.compare.rows import check_same_setting, read_rows
from moe.config.run import Config
from moe.config.sections import TrainConfig
from moe.errors import UserError


def test_a_row_of_other_flags_is_refused(tmp_path):
    row = make_row("joint-hard", 1, 0.8)
    check_same_setting(tmp_path, row, Config(), "any")
    with pytest.raises(UserError, match=r"--batch_size=7 \(was None\); use another --results"):
        check_same_setting(tmp_path, row, Config(train=TrainConfig(batch_size=7)), "any")


def test_a_row_of_another_version_is_told_with_its_place(tmp_path):
    row = make_row("joint-hard", 1, 0.8)
    row["config"]["model"]["nonsense"] = 1
    with pytest.raises(UserError, match=r"a.json: is a row of another version; use that "):
        check_same_setting(tmp_path / "a.json", row, Config(), "any")


def _give(row, budget):
    row["budget"] = row["config"]["train"]["budget"] = budget


def test_a_row_of_another_budget_than_its_own_is_refused(tmp_path):
    row = make_row("joint-hard", 1, 0.8)
    _give(row, row["budget"])
    base = Config(train=TrainConfig(budget=row["budget"]))
    check_same_setting(tmp_path, row, base, "any")
    row["budget"] = "epochs:99"
    with pytest.raises(UserError, match="budget is epochs:99, in its config epochs:3; use another"):
        check_same_setting(tmp_path, row, base, "any")


def _write(folder, rows):
    for row in rows:
        write_record(folder / f"{row['arm']}-seed{row['seed']}.json", row)


OTHERS = {
    "flags": (("config", "train", "batch_size"), 16, 32, "comparison: --batch_size"),
    "data": (("data",), "one", "two", "comparison: other examples"),
    "labels": (("correct", "labels"), "one", "two", "tested on other .*seed0.json"),
    "test examples": (("correct", "examples"), "one", "two", "tested on other .*seed0.json"),
    "copies": (("correct", "copies"), 1, 2, "tested on other .*seed0.json"),
    "weights": (("params", "total"), 7, 8, "seed0.json, a row of the same arm, in params: 8 total"),
    "MACs": (("macs_per_example", "active"), 7, 8, "in macs_per_example: .*, 8 active; there"),
    "number": (("networks",), 3, 4, "in networks: 4; there 3"),
    "backbone": (("backbone",), "deep*1.5", "deep*2", r"in backbone: deep\*2; there deep\*1.5"),
    "groups": (("groups",), ["a"], ["b", "c"], "in groups: b, c; there a"),
    "training examples": (("examples", "train"), 90, 91, "in examples: 91 train, 10 validation, "),
}


@pytest.mark.parametrize(("keys", "same", "other", "message"), OTHERS.values(), ids=OTHERS)
def test_rows_of_several_comparisons_are_not_read_as_one(tmp_path, keys, same, other, message):
    *path, key = keys

    def put(row, value):
        functools.reduce(dict.__getitem__, path, row)[key] = value

    rows = [make_row("baseline", seed, 0.8) for seed in range(3)]
    for row in rows:
        put(row, same)
    _write(tmp_path, rows)
    assert len(read_rows(tmp_path)) == 3
    put(rows[1], other)
    _write(tmp_path, rows)
    with pytest.raises(UserError, match=f"seed1.json: .*{message}"):
        read_rows(tmp_path)


def test_rows_of_several_budgets_are_not_read_as_one(tmp_path):
    rows = [make_row("baseline", seed, 0.8) for seed in range(3)]
    for row in rows:
        _give(row, "epochs:1")
    _write(tmp_path, rows)
    assert len(read_rows(tmp_path)) == 3
    _give(rows[1], "epochs:2")
    _write(tmp_path, rows)
    with pytest.raises(UserError, match=r"seed1\.json: .*comparison: --budget"):
        read_rows(tmp_path)


def test_arms_have_networks_of_their_own(tmp_path):
    rows = [make_row(arm, 0, 0.8) for arm in ("baseline", "joint-hard")]
    rows[0]["params"]["total"] = 1
    _write(tmp_path, rows)
    assert len(read_rows(tmp_path)) == 2


def test_rows_whose_averages_would_share_networks_are_refused(tmp_path):
    _write(tmp_path, [make_row("baseline", seed, 0.8) for seed in (1, 1001)])
    with pytest.raises(UserError, match="--seed=1001: rows of this seed and of 1, a multiple of"):
        read_rows(tmp_path)


def test_an_image_that_is_there_once_is_not_the_same_as_one_that_is_there_twice(tmp_path):
    rows = [make_row("baseline", seed, 0.8) for seed in range(2)]
    rows[1]["correct"]["copies"] = 1
    _write(tmp_path, rows)
    assert len(read_rows(tmp_path)) == 2
    rows[1]["correct"]["copies"] = 2
    _write(tmp_path, rows)
    with pytest.raises(UserError, match=r"seed1.json: was tested on other examples than .*seed0"):
        read_rows(tmp_path)


def test_a_budget_may_be_spelled_in_several_ways(tmp_path):
    rows = [make_row("baseline", seed, 0.8) for seed in range(3)]
    for row, budget in zip(rows, ("epochs:3", "epochs:3.0", "epochs:3e0"), strict=True):
        row["config"]["train"]["budget"] = budget
    _write(tmp_path, rows)
    assert len(read_rows(tmp_path)) == 3


def test_rows_that_do_not_say_so_much_stand_beside_those_that_do(tmp_path):
    rows = [make_row("baseline", seed, 0.8) for seed in range(3)]
    rows[1]["data"] = rows[1]["correct"]["examples"] = "noted"
    _write(tmp_path, rows)
    assert len(read_rows(tmp_path)) == 3
