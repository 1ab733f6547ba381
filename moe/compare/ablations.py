"""What each part of a recipe brings: one arm with the whole recipe, and again without each part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from moe.compare.present import Grid, answers, differences
from moe.compare.record import Record
from moe.compare.summary import family, means

WHOLE = "whole"


def ablation_grids(recipes: Mapping[str, Sequence[Record]]) -> list[Grid]:
    """Accuracies of all recipes, and what the whole one is ahead of the others.

    Args:
      recipes: rows of one arm by recipe; `whole` is what the others leave something out of.

    Raises:
      ValueError: there is no whole one, or rows are of several arms or budgets.
    """
    if WHOLE not in recipes:
        raise ValueError(f"nothing to compare with: {WHOLE!r} is not among {sorted(recipes)}")
    kinds = {(row["arm"], row["budget"]) for rows in recipes.values() for row in rows}
    if len(kinds) > 1:
        raise ValueError(f"rows of several arms or budgets: {sorted(kinds)}")
    ordered = {
        name: sorted(recipes[name], key=lambda row: row["seed"])
        for name in (WHOLE, *sorted(set(recipes) - {WHOLE}))
    }
    found = family([(WHOLE, name) for name in ordered if name != WHOLE], ordered)
    summary = {"arms": {name: means(rows) for name, rows in ordered.items()}}
    return [answers(summary), differences("What the parts bring", found)]
