"""Flags whose value has parts: a budget, what a network starts from."""

from __future__ import annotations

import math
import re
from typing import NamedTuple

from moe.config.checks import fail
from moe.config.choices import BUDGETS


class Budget(NamedTuple):
    """What a run may spend on training.

    Attributes:
      unit: one of `BUDGETS`.
      amount: how many of them.
    """

    unit: str
    amount: float


def read_budget(text: str) -> Budget:
    """Reads `epochs:N`, `seconds:N` or `macs:N`.

    Raises:
      UserError: it is none of these.
    """
    unit, _, amount = text.partition(":")
    try:
        found = Budget(unit, float(amount))
    except ValueError:
        found = Budget(unit, math.nan)
    if unit not in BUDGETS or not (math.isfinite(found.amount) and found.amount > 0):
        fail("budget", text, "epochs:N, seconds:N or macs:N, with N greater than 0")
    return found


class InitFrom(NamedTuple):
    """One --init_from.

    Attributes:
      run: the folder of a finished run.
      part: the network there; None: every one that fits by name.
      to: the network here that starts from it; None: the one of the same name.
    """

    run: str
    part: str | None
    to: str | None


def read_init_from(spec: str) -> InitFrom:
    """Reads `RUN`, `RUN:PART` or `RUN:PART->PART`.

    Raises:
      UserError: it is none of these.
    """
    part = r"\w[\w .-]*?"
    found = re.fullmatch(rf"(.+?)(?::({part})(?:->({part}))?)?", spec)
    if found is None or found[1].endswith(":") or "->" in found[1]:
        fail("init_from", spec, "RUN, RUN:PART or 'RUN:PART->PART'")
    return InitFrom(*found.groups())
