"""Watches over a mixture in training: names what goes wrong while there is time to mend it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from moe.evaluate.metrics import normalized_count_information

WARM_UP_EPOCHS = 2
"""A gate that has hardly learned may still change its mind."""
COLLAPSED = 0.95
SATURATED = 0.999
UNINFORMED = 0.05


class Symptom(NamedTuple):
    """Something that is wrong with a mixture.

    Attributes:
      name: `dead expert`, `collapse`, `saturated gate` or `experts mend nothing`.
      who: the expert concerned, or "".
      finding: what was seen.
      advice: what to try.
    """

    name: str
    who: str
    finding: str
    advice: str

    def __str__(self) -> str:
        who = f"{self.who} " if self.who else ""
        return f"{self.name}: {who}{self.finding}. Try {self.advice}."


def symptoms(
    epoch: int,
    validation: Mapping[str, Any],
    *,
    experts: Sequence[str],
    group_shares: Sequence[float] | None,
) -> Iterator[Symptom]:
    """What is wrong after an epoch, by its record of the validation split.

    Args:
      epoch: from 1.
      validation: its `load`, `confidence`, `expert_by_class`, where groups are named
        `gate_accuracy`, and with a blended baseline `baseline_errors` and `mended`.
      experts: E names.
      group_shares: share of the examples that belong to each expert; None: the gate is to find out.
    """
    if epoch < WARM_UP_EPOCHS:
        return
    load = validation["load"]
    fair = group_shares or [1 / len(experts)] * len(experts)
    top = int(np.argmax(load))
    if len(experts) > 1 and load[top] >= COLLAPSED > fair[top]:
        yield Symptom(
            "collapse",
            experts[top],
            f"gets {load[top]:.0%} of the examples, {fair[top]:.0%} would be its share",
            _more_balance(group_shares),
        )
    else:
        for name, share, due in zip(experts, load, fair, strict=True):
            if share == 0 and due > 0:
                yield Symptom("dead expert", name, "gets no example", _more_balance(group_shares))
    if validation["confidence"] >= SATURATED and _decides_blindly(validation):
        yield Symptom(
            "saturated gate",
            "",
            f"is sure of its choice ({validation['confidence']:.4f} on average), but that says "
            "little about the class: hardly any gradient reaches it",
            "a lower --learning_rate, --z_loss=1e-3, or a higher --gate_temperature",
        )
    errors = validation.get("baseline_errors", 0)
    if errors and not validation["mended"]:
        yield Symptom(
            "experts mend nothing",
            "",
            f"none of the baseline's {errors} errors is mended",
            "--expert_loss=1, a larger --expert_backbone, or --mode=separate",
        )


def _more_balance(group_shares: Sequence[float] | None) -> str:
    if group_shares is None:
        return (
            "a higher --balance_loss or --balance_bias, a lower --learning_rate, or fewer experts"
        )
    return "a higher --gate_supervision, or a lower --learning_rate"


def _decides_blindly(validation: Mapping[str, Any]) -> bool:
    if "gate_accuracy" in validation:
        return validation["gate_accuracy"] < validation["confidence"] - 0.1
    return normalized_count_information(np.asarray(validation["expert_by_class"])) < UNINFORMED


class HealthWatch:
    """Says each symptom once, and again only after it had gone.

    Args:
      experts, group_shares: as for `symptoms`.
    """

    def __init__(self, experts: Sequence[str], group_shares: Sequence[float] | None) -> None:
        self._experts = experts
        self._group_shares = group_shares
        self._known: set[tuple[str, str]] = set()

    def look(self, epoch: int, validation: Mapping[str, Any]) -> list[Symptom]:
        """The symptoms that are new after this epoch."""
        seen = list(
            symptoms(epoch, validation, experts=self._experts, group_shares=self._group_shares)
        )
        new = [symptom for symptom in seen if symptom[:2] not in self._known]
        self._known = {symptom[:2] for symptom in seen}
        return new
