"""Plain values against annotations: what fits, and how the first misfit is named."""

from typing import NotRequired, TypedDict

import pytest

from moe.typed import check


class Inner(TypedDict):
    score: float | None


class Outer(TypedDict):
    name: str
    parts: dict[str, Inner]
    load: list[float]
    note: NotRequired[str]


GOOD = {"name": "a", "parts": {"gate": {"score": 0.5}}, "load": [0.25, 1]}


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (1, int),
        (1, float),
        (None, float | None),
        (1, float | None),
        (True, bool),
        ([], list[int]),
        (("a", "b"), tuple[str, ...]),
        (["a"], tuple[str, ...]),
        (GOOD, Outer),
        (GOOD | {"note": "b", "unheard of": object}, Outer),
        (GOOD | {"parts": {}}, Outer),
        (GOOD | {"parts": {"gate": {"score": None}}}, Outer),
    ],
)
def test_what_fits_passes(value, hint):
    check(value, hint, "it")


@pytest.mark.parametrize(
    ("value", "hint", "message"),
    [
        (1.0, int, "it is 1.0"),
        (True, int, "it is True"),
        (1, bool, "it is 1"),
        ("1", float | None, "it is '1'"),
        (None, str, "it is None"),
        ((), list[int], r"it is \(\)"),
        ("ab", tuple[str, ...], "it is 'ab'"),
        (["a", 1], tuple[str, ...], r"it\[1\] is 1"),
        ([1, "2"], list[int], r"it\[1\] is '2'"),
        ([], Outer, r"it is \[\]"),
        ({"name": "a", "parts": {}}, Outer, "it.load is missing"),
        (GOOD | {"note": 3}, Outer, "it.note is 3"),
        (GOOD | {"parts": [1]}, Outer, r"it.parts is \[1\]"),
        (GOOD | {"parts": {"gate": {"score": "high"}}}, Outer, "it.parts.gate.score is 'high'"),
        (GOOD | {"parts": {"gate": {}}}, Outer, "it.parts.gate.score is missing"),
    ],
)
def test_the_first_misfit_is_named(value, hint, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        check(value, hint, "it")


def test_a_long_value_does_not_fill_the_screen():
    with pytest.raises(ValueError, match=r"^it is .{40}$"):
        check("a" * 1000, int, "it")
