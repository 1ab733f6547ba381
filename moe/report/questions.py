"""What several comparisons answer together, a line a question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from moe.compare.arms import ARMS
from moe.compare.present import PLACES, points
from moe.compare.summary import against_chosen, by_outcome
from moe.compare.words import CONTROLS, points_and_cost, what_is
from moe.report.comparisons import Comparison

_IN = {
    "ahead": "ahead in",
    "no": "not told apart in",
    "behind": "behind in",
    "one seed": "compared at one seed only in",
}
"""Of the mixture, by the outcome of a comparison."""
_DIFFER: Mapping[str, str] = {"separate, staged or joint": "mode", "hard or soft": "routing"}
"""Questions about mixtures, and the one thing in which those differ that answer it."""


def questions(comparisons: Mapping[str, Comparison]) -> list[str]:
    """Where the mixture that validation chooses stands against each kind of control, and mixtures
    against each other, over all comparisons: a line of Markdown a question.
    """
    controls = [
        f"**Mixture against {what}**: {'; '.join(sides)}."
        for what, sides in _by_control(comparisons).items()
    ]
    between = [
        f"**{question.capitalize()}**: {' '.join(_between(comparisons, key)) or 'not compared.'}"
        for question, key in _DIFFER.items()
    ]
    return [*controls, _everywhere(comparisons), *between]


def _by_control(comparisons: Mapping[str, Comparison]) -> dict[str, list[str]]:
    """By what a control is, the comparisons of each outcome."""
    found: dict[str, list[tuple[str, str]]] = {}
    for name, (_, _, summary) in comparisons.items():
        for one in against_chosen(summary):
            told = f"{name} ({points_and_cost(one, summary)})"
            found.setdefault(what_is(one["b"]), []).append((one["outcome"], told))
    return {
        what: [
            f"{place} {', '.join(told for outcome, told in found[what] if outcome == side)}"
            for side, place in _IN.items()
            if side in dict(found[what])
        ]
        for what in CONTROLS.values()
        if what in found
    }


def _everywhere(comparisons: Mapping[str, Comparison]) -> str:
    """Where the chosen mixture has a gain that none of its controls has."""
    names = [
        name
        for name, comparison in comparisons.items()
        if list(by_outcome(against_chosen(comparison.summary))) == ["ahead"]
    ]
    where = ", ".join(names) or "none"
    return f"**Ahead of every control beside it**: in {where} of {len(comparisons)}."


def _between(comparisons: Mapping[str, Comparison], key: str) -> list[str]:
    """Of every comparison that has mixtures which differ in `key` alone, a sentence."""
    said = []
    for name, (_, _, summary) in comparisons.items():
        sides = by_outcome(
            [
                _winner_first(one)
                for one in summary["mixtures"]
                if getattr(ARMS[one["a"]], key) != getattr(ARMS[one["b"]], key)
            ]
        )
        told = [
            f"{one['a']} {PLACES['ahead']} {one['b']} ({points_and_cost(one, summary)})"
            for one in sides.get("ahead", ())
        ]
        told += _together("not told apart", sides.get("no", ()))
        told += _together("compared at one seed only", sides.get("one seed", ()))
        if told:
            said.append(f"In {name} {'; '.join(told)}.")
    return said


def _winner_first(one: Mapping[str, Any]) -> Mapping[str, Any]:
    """The same comparison, turned where its first arm is behind."""
    if one["outcome"] != "behind":
        return one
    turned = {"a": one["b"], "b": one["a"], "outcome": "ahead"}
    values = {"difference": "difference", "low": "high", "high": "low"}
    return {**one, **turned, **{key: -one[other] for key, other in values.items()}}


def _together(what: str, side: Sequence[Mapping[str, Any]]) -> list[str]:
    pairs = ", ".join(f"{one['a']} and {one['b']} ({points(one)})" for one in side)
    return [f"{what} {pairs}"] if side else []
