"""Numbers in units that suit them."""

from __future__ import annotations

import pytest

from moe.evaluate.tables import TIMES, count, format_table, unit_of


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (0, "0"),
        (999, "999"),
        (1_000, "1.000 k"),
        (6_570, "6.570 k"),
        (26_583_040, "26.58 M"),
        (3_975e5, "397.5 M"),
        (312_600_000_000_000, "312.6 T"),
        (5e18, "5,000 P"),
    ],
)
def test_a_count_has_four_digits_and_a_unit(value, told):
    assert count(value) == told


def test_a_time_is_in_minutes_from_one_on():
    assert [unit_of(seconds, TIMES)[1] for seconds in (0.0, 59.9, 60, 1e5)] == [
        *("s", "s", "min", "min")
    ]


def test_columns_of_numbers_stand_to_the_right():
    assert format_table(("a", "n"), [("x", 1), ("long", None), ("y", "1,000.5")]) == (
        "a           n\n----  -------\nx           1\nlong        -\ny     1,000.5"
    )
