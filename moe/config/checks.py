"""Rules for one value, each broken in one line that names the flag."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NoReturn

from moe.errors import UserError

LARGEST = 2**31 - 1
"""Integer: TensorFlow has many in 32 bits."""


def fail(name: str, value: Any, rule: str) -> NoReturn:
    """Raises the UserError."""
    raise UserError(f"--{name}={value!s:.200}: must be {rule}.")


def check_sizes(section: Any) -> None:
    """Refuses integers that no 32 bits hold, before anything computes with them."""
    for field in dataclasses.fields(section):
        value = getattr(section, field.name)
        if isinstance(value, int) and abs(value) > LARGEST:
            fail(field.name, value, f"at most {LARGEST}")


def one_of(name: str, value: str, choices: Sequence[str]) -> None:
    """Refuses what is none of `choices`."""
    if value not in choices:
        fail(name, value, "one of " + ", ".join(choices))


def positive(name: str, value: float | None) -> None:
    """Refuses what is given and not above 0, infinities and NaN too."""
    if value is not None and not (math.isfinite(value) and value > 0):
        fail(name, value, "greater than 0")


def not_negative(name: str, value: float | None) -> None:
    """Refuses what is given and below 0, infinities and NaN too."""
    if value is not None and not (math.isfinite(value) and value >= 0):
        fail(name, value, "0 or more")
