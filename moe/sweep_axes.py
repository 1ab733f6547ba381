"""What `--sweep` can vary, and over which values. No TensorFlow here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from moe.backbone_names import backbone_problem
from moe.errors import UserError

LOADS = ("balanced", "zipf")
DISPATCHES = ("soft", "dense", "routed", "fixed")
PHASES = ("train", "evaluate")
WAYS = ("mixture", "ours", "stock", "keras")
_OF_A_MIXTURE = ("phase", "dispatch", "load", "num_experts", "gate")


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
    problem = backbone_problem(text)
    if problem:
        raise ValueError(problem)
    return text


def _switch(text: str) -> bool:
    return _one_of("on", "off")(text) == "on"


AXES: dict[str, Callable[[str], Any]] = {
    "way": _one_of(*WAYS),
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
        if len(set(found[axis])) < len(found[axis]):
            raise UserError(f"--sweep={text}: names a value twice.")
    return found


def check_sweep(axes: Mapping[str, Sequence[Any]], dispatch: str, jit_compile: bool) -> None:
    """Whether every combination can be measured, and every axis varies something.

    Args:
      axes: of `parse_sweep`.
      dispatch, jit_compile: what holds where no axis says so.

    Raises:
      UserError: one cannot, or one does not.
    """
    ways = set(axes.get("way", ["mixture"]))
    dispatches = set(axes.get("dispatch", [dispatch]))
    compiled = True in axes.get("jit_compile", [jit_compile])
    useless = [axis for axis in _OF_A_MIXTURE if axis in axes]
    if "way" in axes and useless and ways != {"mixture"}:
        raise UserError(
            f"--sweep=way={','.join(axes['way'])}: a network alone has no {', '.join(useless)}; "
            "sweep them without it."
        )
    if "keras" in ways and compiled:
        raise UserError("--sweep=way=keras: runs without XLA; leave out jit_compile=on.")
    if "mixture" in ways and compiled and "routed" in dispatches:
        raise UserError(
            "--sweep: XLA (jit_compile=on) needs fixed shapes, which dispatch=routed has not; use "
            "--sweep=dispatch=fixed, dense or soft."
        )
    if "load" in axes and dispatches == {"soft"}:
        raise UserError(
            "--sweep=load: with soft routing every expert takes every example; add --routing=hard "
            "or --sweep=dispatch=routed,dense."
        )
