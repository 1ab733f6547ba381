"""What each part of a recipe brings: one arm with the whole recipe, and again without each part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from moe.compare.present import Grid, accuracy_grid, difference_grid
from moe.compare.record import Record
from moe.compare.rows import check_same_test
from moe.compare.summary import by_outcome, family, machines, means
from moe.compare.words import of_machines, of_seeds
from moe.config.specs import read_budget

WHOLE = "whole"


class Ablation(NamedTuple):
    """What a recipe's parts bring.

    Attributes:
      said: what can be told of them and what cannot, a sentence each.
      grids: accuracies of all recipes, and what the whole one is ahead of the others.
    """

    said: list[str]
    grids: list[Grid]


def ablation(recipes: Mapping[str, Sequence[Record]]) -> Ablation:
    """Holds the whole recipe against those that leave something out.

    Args:
      recipes: rows of one arm by recipe; `whole` is what the others leave something out of.

    Raises:
      ValueError: there is no whole one, or rows are of several arms, budgets or data sets.
      UserError: they were tested on different examples.
    """
    if WHOLE not in recipes:
        raise ValueError(f"nothing to compare with: {WHOLE!r} is not among {sorted(recipes)}")
    every = {f"{name}, seed {row['seed']}": row for name in recipes for row in recipes[name]}
    for key in ("arm", "budget", "dataset", "groups", "examples"):
        read = read_budget if key == "budget" else str
        kinds = {read(row[key]): str(row[key]) for row in every.values()}
        if len(kinds) > 1:
            several = " and ".join(sorted(kinds.values()))
            raise ValueError(f"rows of several kinds: {key} is {several}")
    check_same_test({name: row["correct"] for name, row in every.items()})
    ordered = {
        name: sorted(recipes[name], key=lambda row: row["seed"])
        for name in (WHOLE, *sorted(set(recipes) - {WHOLE}))
    }
    found = family([(WHOLE, name) for name in ordered if name != WHOLE], ordered)
    summary = {"arms": {name: means(rows) for name, rows in ordered.items()}}
    made_with = machines(list(every.values()))
    said = [*_said(found), *of_seeds(found), *of_machines(made_with)]
    return Ablation(said, [accuracy_grid(summary), difference_grid("What the parts bring", found)])


def _said(found: Sequence[Mapping[str, Any]]) -> list[str]:
    kinds = {
        "ahead": "Worse than the whole recipe",
        "behind": "Better than the whole recipe",
        "no": "Not told apart from the whole recipe by these seeds and examples",
        "one seed": "Compared with the whole recipe at one seed only",
    }
    return [
        f"{kinds[kind]}: {', '.join(comparison['b'] for comparison in side)}."
        for kind, side in by_outcome(found).items()
    ]
