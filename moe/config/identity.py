"""What identifies a run, and which of its flags are of no account."""

from __future__ import annotations

import dataclasses
from typing import Any

from moe.config.run import SECTIONS, Config
from moe.config.sections import LossConfig
from moe.config.specs import read_budget


def ignored_losses(config: Config) -> list[str]:
    """Names of the loss flags that were given although the mode has no joint loss.

    The balance bias is one of them: it stands in for such a loss.
    """
    if config.mode in ("joint", "staged", "compare"):
        return []
    fields = dataclasses.fields(LossConfig)
    given = [field.name for field in fields if getattr(config.loss, field.name) != field.default]
    return [*given, "balance_bias"] if config.model.balance_bias else given


def _shown(value: Any) -> str:
    """As one would type it."""
    return ",".join(value) if isinstance(value, tuple) else str(value)


def _same(name: str, before: Any, after: Any) -> bool:
    """Whether both values of a flag mean the same: `epochs:3` and `epochs:3.0` do."""
    if name == "budget" and before and after:
        return read_budget(before) == read_budget(after)
    return before == after


def identity_differences(old: Config, new: Config) -> list[str]:
    """How `new` differs from `old` in what identifies a run, one phrase a field.

    The length of a run may grow, unless the shape of a schedule depends on it.
    """
    differences = []
    if old.mode != new.mode:
        differences.append(f"--mode={new.mode} (was {old.mode})")
    for section in SECTIONS:
        for field in dataclasses.fields(SECTIONS[section]):
            before = getattr(getattr(old, section), field.name)
            after = getattr(getattr(new, section), field.name)
            if _same(field.name, before, after) or not field.metadata.get("identity", True):
                continue
            if field.name == "epochs" and old.train.budget and new.train.budget:
                continue  # the budget says how long
            grows = before is not None and after is not None and after > before
            shape = old.train.schedule != "constant" or old.train.lookahead
            may_grow = field.name in ("epochs", "steps") and not shape
            if grows and may_grow:
                continue
            differences.append(f"--{field.name}={_shown(after)} (was {_shown(before)})")
    routed = new.model.routing != "soft" or new.mode in ("separate", "staged")
    if routed and bool(old.runtime.jit_compile) != bool(new.runtime.jit_compile):
        # In fixed shapes a full expert drops examples.
        now, before = bool(new.runtime.jit_compile), bool(old.runtime.jit_compile)
        differences.append(f"--jit_compile={now} (was {before}, and routes differently)")
    return differences
