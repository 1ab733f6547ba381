from __future__ import annotations

import pytest
from rows import make_row, make_rows

from moe.compare.ablations import ablation
from moe.errors import UserError

RECIPES = {
    "no-trick": make_rows(3, {"joint-soft": 0.75}),
    "whole": make_rows(3, {"joint-soft": 0.80})[::-1],
    "no-habit": make_rows(3, {"joint-soft": 0.80}),
}


def test_the_whole_recipe_stands_against_each_part_left_out():
    said, (accuracy, brought) = ablation(RECIPES)
    assert [row[:2] for row in accuracy.rows] == [
        ("whole", "0-2"),
        ("no-habit", "0-2"),
        ("no-trick", "0-2"),
    ]
    habit, trick = brought.rows
    assert habit[:4] == ("whole", "no-habit", "0-2", "+0.00 [+0.00, +0.00]")
    assert habit[-1] == "no"
    assert trick[:3] == ("whole", "no-trick", "0-2")
    low = float(trick[3].partition("[")[2].partition(",")[0])
    assert low > 3
    assert trick[-1] == "ahead"
    assert said == [
        "Worse than the whole recipe: no-trick.",
        "Not told apart from the whole recipe by these seeds and examples: no-habit.",
        "Where there are fewer than five seeds, it is known only roughly how far seeds differ.",
    ]


def test_rows_of_several_devices_are_told():
    other = [row | {"device": "another"} for row in RECIPES["no-trick"]]
    said, _ = ablation(RECIPES | {"no-trick": other})
    assert said[-1].startswith("Rows are of several devices: ")
    assert "another" in said[-1]


def test_without_the_whole_recipe_there_is_nothing_to_compare_with():
    with pytest.raises(ValueError, match="'whole' is not among"):
        ablation({"no-trick": RECIPES["no-trick"]})


@pytest.mark.parametrize(
    ("key", "value"), [("budget", "epochs:9"), ("dataset", "other"), ("groups", ["a", "b"])]
)
def test_only_what_was_trained_alike_is_compared(key, value):
    other = [row | {key: value} for row in RECIPES["no-trick"]]
    with pytest.raises(ValueError, match=f"several kinds: {key} is .* and ") as caught:
        ablation(RECIPES | {"no-trick": other})
    assert str(value) in str(caught.value)
    with pytest.raises(ValueError, match="arm is joint-hard and joint-soft"):
        ablation(RECIPES | {"no-trick": [make_row("joint-hard", 0, 0.8)]})


def test_only_what_was_tested_alike_is_compared():
    other = make_rows(3, {"joint-soft": 0.75})
    other[0]["correct"]["labels"] = "others"
    with pytest.raises(UserError, match="tested on other examples"):
        ablation(RECIPES | {"no-trick": other})
