"""Rows of one folder are of one comparison, and were tested on the same examples."""

from __future__ import annotations

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
        (
            lambda row, value: row["correct"].update(copies=len(value) - 7),
            "tested on other .*seed0.",
        ),
        (lambda row, value: row["params"].update(total=len(value)), r"its params are others \("),
        (lambda row, value: row["macs_per_example"].update(active=len(value)), "its macs_per_ex"),
        (lambda row, value: row.update(networks=len(value)), r"networks are others \(9\) than "),
        (lambda row, value: row.update(groups=[value]), r"its groups are others \(epochs:10\)"),
        (lambda row, value: row["examples"].update(train=len(value)), "its examples are others"),
    ],
    ids=[
        *("flags", "data", "labels", "test examples", "copies"),
        *("weights", "MACs", "number of networks", "groups", "training examples"),
    ],
)
def test_rows_of_several_comparisons_are_not_read_as_one(tmp_path, change, message):
    rows = [make_row("baseline", seed, 0.8) for seed in range(3)]
    for row in rows:
        change(row, "epochs:1")
    _write(tmp_path, rows)
    assert len(read_rows(tmp_path)) == 3
    change(rows[1], "epochs:10")
    _write(tmp_path, rows)
    with pytest.raises(UserError, match=f"seed1.json: .*{message}"):
        read_rows(tmp_path)


def test_arms_have_networks_of_their_own(tmp_path):
    rows = [make_row(arm, 0, 0.8) for arm in ("baseline", "joint-hard")]
    rows[0]["params"]["total"] = 1
    _write(tmp_path, rows)
    assert len(read_rows(tmp_path)) == 2


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
