"""`--sweep`: every combination of the values given, side by side."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any

from moe.benchmark.cases import Case
from moe.benchmark.measure import Arm
from moe.benchmark.mixtures import mixture_arm
from moe.benchmark.suites import Group, Question
from moe.benchmark.training import keras_arm, network_arm


def sweep_group(base: Case, axes: Mapping[str, list[Any]]) -> Group:
    """All combinations as one group.

    They are compared to the first of them; the ways of training a network to the first way with
    everything else alike.

    Args:
      base: what is not varied.
      axes: values by field of `Case`, as `moe.sweep_axes.parse_sweep` leaves them.
    """
    first = {axis: values[0] for axis, values in axes.items()}
    cases, questions = {}, []
    for values in itertools.product(*axes.values()):
        chosen = dict(zip(axes, values, strict=True))
        other_way = "way" in axes and chosen["way"] != first["way"]
        peer = chosen | {"way": first["way"]} if other_way else first
        name = _name(chosen)
        cases[name] = dataclasses.replace(base, **chosen)
        if chosen != first:
            questions.append(Question(f"{name} / {_name(peer)}", name, _name(peer)))
    return Group(
        f"sweep over {', '.join(axes)}",
        lambda: [_arm(name, case) for name, case in cases.items()],
        questions,
    )


def _arm(name: str, case: Case) -> Arm:
    if case.way == "mixture":
        return mixture_arm(name, case)
    same = {
        "policy": case.precision,
        "batch_size": case.batch_size,
        "steps": case.steps_per_loop,
    }
    if case.way == "keras":
        return keras_arm(name, case.expert, **same)
    stock = case.way == "stock"
    return network_arm(name, case.expert, stock=stock, jit_compile=case.jit_compile, **same)


def _name(chosen: Mapping[str, Any]) -> str:
    return ", ".join(f"{axis}={_show(value)}" for axis, value in chosen.items())


def _show(value: Any) -> Any:
    if isinstance(value, bool):
        return "on" if value else "off"
    return value
