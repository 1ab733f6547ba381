"""Watches over a mixture in training: names what goes wrong while there is time to mend it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from moe.evaluate.metrics import normalized_count_information

WARM_UP_EPOCHS = 2
"""A gate that has hardly learned may still change its mind."""
COLLAPSED = 0.95
DEAD = 0.01
"""Of an expert's fair share."""
SATURATED = 0.999
UNINFORMED = 0.05
FEW = 10
"""Examples that no verdict is built on."""


class Symptom(NamedTuple):
    """Something that is wrong with a mixture.

    Attributes:
      condition: `dead expert`, `collapse`, `saturated gate` or `experts mend nothing`.
      expert: the expert concerned, or "".
      finding: what was seen.
      advice: what to try.
    """

    condition: str
    expert: str
    finding: str
    advice: str

    def __str__(self) -> str:
        who = f"{self.expert} " if self.expert else ""
        return f"{self.condition}: {who}{self.finding}. Try {self.advice}."

    @property
    def key(self) -> list[str]:
        """What makes it the same one in another epoch; fit for JSON."""
        return [self.condition, self.expert]


class Remedies(NamedTuple):
    """What to try, by what learns.

    Attributes:
      uneven: where an expert gets too much or too little.
      sure: where the gate is too sure.
      weak: where the experts are of no use.
    """

    uneven: str
    sure: str
    weak: str


_MILD = "a lower --learning_rate, --z_loss=1e-3, or a higher --gate_temperature"
_STRONG = "--expert_loss=1, a larger --expert_backbone, or --mode=separate"
UNNAMED = Remedies(
    "a higher --balance_loss or --balance_bias, a lower --learning_rate, or fewer experts",
    _MILD,
    _STRONG,
)
"""Joint training of experts that find their own regions."""
NAMED = Remedies("a higher --gate_supervision, or a lower --learning_rate", _MILD, _STRONG)
"""Joint training of a gate that is told the groups."""
ALONE = Remedies(
    "a lower --learning_rate, more --epochs, or a larger --gate_backbone",
    "a lower --learning_rate, or a higher --gate_temperature",
    "more --epochs, a larger --expert_backbone, or groups that are harder to tell apart inside",
)
"""Networks that are trained one after the other."""


def symptoms(
    validation: Mapping[str, Any],
    *,
    experts: Sequence[str],
    group_shares: Sequence[float] | None,
    size: int,
    remedies: Remedies,
) -> Iterator[Symptom]:
    """What is wrong after an epoch, by its record of the validation split.

    Nothing is said of what fewer than `FEW` examples would have to show.

    Args:
      validation: its `importance`, `confidence`, `expert_by_class`, where groups are known
        `expert_by_group`, where they are named `gate_accuracy`, and with a blended baseline
        `baseline_errors` and `mended`.
      experts: E names.
      group_shares: share of the examples that belong to each expert; None: the gate is to find out.
      size: N.
      remedies: what to try.
    """
    many = len(experts)
    importance = validation["importance"]
    fair = group_shares or [1 / many] * many
    top = int(np.argmax(importance))
    others = (1 - fair[top]) * size
    if many > 1 and importance[top] >= COLLAPSED > fair[top] and others >= FEW:
        yield Symptom(
            "collapse",
            experts[top],
            f"has {importance[top]:.0%} of the say, {fair[top]:.0%} would be its share",
            remedies.uneven,
        )
    else:
        for name, share, due in zip(experts, importance, fair, strict=True):
            if due * size >= FEW and share < DEAD * due:
                finding = f"has {share:.2%} of the say, {due:.0%} would be its share"
                yield Symptom("dead expert", name, finding, remedies.uneven)
    if many > 1 and size >= FEW * many and _decides_blindly(validation, size):
        yield Symptom(
            "saturated gate",
            "",
            f"is sure of its choice ({validation['confidence']:.4f} on average), but that says "
            "little about group or class: hardly any gradient reaches it",
            remedies.sure,
        )
    errors = validation.get("baseline_errors", 0)
    if errors >= FEW and not validation["mended"]:
        yield Symptom(
            "experts mend nothing",
            "",
            f"none of the baseline's {errors} errors is mended",
            remedies.weak,
        )


def _decides_blindly(validation: Mapping[str, Any], size: int) -> bool:
    if validation["confidence"] < SATURATED:
        return False
    if "gate_accuracy" in validation:
        wrong = 1 - validation["gate_accuracy"]
        return wrong > 0.1 and wrong * size >= FEW
    tables = (validation.get(name) for name in ("expert_by_class", "expert_by_group"))
    told = [normalized_count_information(np.asarray(table)) for table in tables if table]
    return max(told) < UNINFORMED


class HealthWatch:
    """Looks at a stage of training, epoch by epoch.

    Args:
      experts, group_shares, size, remedies: as for `symptoms`.
    """

    def __init__(
        self,
        experts: Sequence[str],
        group_shares: Sequence[float] | None,
        size: int,
        remedies: Remedies,
    ) -> None:
        self._known = {"experts": experts, "group_shares": group_shares}
        self._known |= {"size": size, "remedies": remedies}

    def look(self, epoch: int, validation: Mapping[str, Any], last: bool) -> list[Symptom] | None:
        """The symptoms after an epoch, from 1; None: it is too early to tell.

        Args:
          epoch: which one.
          validation: its record.
          last: no other one follows in this stage, so that there is nothing to wait for.
        """
        if epoch < WARM_UP_EPOCHS and not last:
            return None
        return list(symptoms(validation, **self._known))
