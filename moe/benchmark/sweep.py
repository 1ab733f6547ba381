"""`--sweep`: every combination of the values given, side by side."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any

from moe.benchmark.cases import DISPATCHES, LOADS, PHASES, Case
from moe.benchmark.mixtures import mixture_arm
from moe.benchmark.suites import Group, Question
from moe.errors import UserError
from moe.models import backbones


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise ValueError("a positive integer")
    return int(text)


def _one_of(*choices: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in choices:
            raise ValueError("one of " + ", ".join(choices))
        return text

    return read


def _backbone(text: str) -> str:
    backbones.find(text)
    return text


def _switch(text: str) -> bool:
    return _one_of("on", "off")(text) == "on"


AXES: dict[str, Callable[[str], Any]] = {
    "phase": _one_of(*PHASES),
    "dispatch": _one_of(*DISPATCHES),
    "load": _one_of(*LOADS),
    "num_experts": _positive,
    "batch_size": _positive,
    "steps_per_loop": _positive,
    "precision": _one_of("float32", "mixed_bfloat16", "mixed_float16"),
    "jit_compile": _switch,
    "gate": _backbone,
    "expert": _backbone,
}


def parse_sweep(texts: Sequence[str]) -> dict[str, list[Any]]:
    """From `AXIS=VALUE,VALUE` to values by axis, in the order given.

    Raises:
      UserError: no such axis, or a value does not fit it.
    """
    found: dict[str, list[Any]] = {}
    for text in texts:
        axis, _, values = text.partition("=")
        if axis not in AXES or not values or axis in found:
            raise UserError(
                f"--sweep={text}: must be AXIS=VALUE,VALUE with another AXIS each time, of "
                f"{', '.join(AXES)}."
            )
        try:
            found[axis] = [AXES[axis](value) for value in values.split(",")]
        except ValueError as error:
            raise UserError(f"--sweep={text}: every value must be {error}.") from error
    return found


def sweep_group(base: Case, axes: dict[str, list[Any]]) -> Group:
    """All combinations as one group; the first of them is what the others are compared to.

    Raises:
      UserError: a combination cannot be built.
    """
    cases = {}
    for values in itertools.product(*axes.values()):
        chosen = dict(zip(axes, values, strict=True))
        name = ", ".join(f"{axis}={_show(value)}" for axis, value in chosen.items())
        cases[name] = dataclasses.replace(base, **chosen)
    for name, case in cases.items():
        if case.jit_compile and case.dispatch == "routed":
            raise UserError(
                f"--sweep: {name}: XLA needs fixed shapes, which dispatch=routed has not; "
                "use fixed, dense or soft."
            )
    first, *others = cases
    return Group(
        f"sweep over {', '.join(axes)}",
        lambda: [mixture_arm(name, case) for name, case in cases.items()],
        [Question(f"{name} / {first}", name, first) for name in others],
        base.precision,
    )


def _show(value: Any) -> Any:
    if isinstance(value, bool):
        return "on" if value else "off"
    return value
