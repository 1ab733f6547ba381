"""What several comparisons answer together, a line a question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from moe.compare.arms import ARMS
from moe.compare.present import PLACES, points
from moe.compare.summary import Summary, against_chosen, by_outcome
from moe.compare.words import CONTROLS, points_and_cost, what_is
from moe.report.comparisons import Comparison

_IN = {
    "ahead": "ahead in",
    "no": "not told apart in",
    "behind": "behind in",
    "one seed": "compared at one seed only in",
}
"""Of the mixture, by the outcome of a comparison."""
_WORST_FIRST = ("behind", "no", "one seed", "ahead")
"""Outcomes against several controls: the worst of them counts."""
_DIFFER: Mapping[str, str] = {"separate, staged or joint": "mode", "hard or soft": "routing"}
"""Questions about mixtures, and the one thing in which those differ that answer it."""


def questions(comparisons: Mapping[str, Comparison]) -> list[str]:
    """Where the mixture that validation chooses stands against each kind of control, and mixtures
    against each other, over all comparisons: a line of Markdown a question.
    """
    controls = _by_control(comparisons)
    lines = [
        f"**Mixture against {what}**: {_sides(found)}."
        for what in CONTROLS.values()
        if (found := controls.get(what))
    ]
    others = " ".join(_others(comparisons))
    if others:
        lines.append(f"**Other mixtures against networks with as many run MACs**: {others}")
    for question, key in _DIFFER.items():
        told = " ".join(_between(comparisons, key)) or "not compared."
        lines.append(f"**{question.capitalize()}**: {told}")
    return lines


def _by_control(
    comparisons: Mapping[str, Comparison],
) -> dict[str, list[tuple[str, str, str]]]:
    """By what a control is, of every comparison that has it: outcome, name, the difference."""
    found: dict[str, list[tuple[str, str, str]]] = {}
    for name, (_, _, summary) in comparisons.items():
        for one in against_chosen(summary):
            told = (one["outcome"], name, f" ({points_and_cost(one, summary)})")
            found.setdefault(what_is(one["b"]), []).append(told)
    return found


def _sides(found: Sequence[tuple[str, str, str]]) -> str:
    """The comparisons of each outcome, and what follows their names."""
    sides = {
        place: ", ".join(name + told for outcome, name, told in found if outcome == side)
        for side, place in _IN.items()
    }
    return "; ".join(f"{place} {names}" for place, names in sides.items() if names)


def in_short(comparisons: Mapping[str, Comparison]) -> str:
    """Where the chosen mixture is ahead of every network of its cost, and where it has a gain that
    none of its controls has.
    """
    of_its_cost, everywhere = [], []
    for name, comparison in comparisons.items():
        found = against_chosen(comparison.summary)
        sides = by_outcome(_of_its_cost(found))
        of_its_cost += [(side, name, "") for side in _WORST_FIRST if side in sides][:1]
        if list(by_outcome(found)) == ["ahead"]:
            everywhere.append(name)
    return (
        "**In short**: against the best network with as many run MACs, the mixture that validation "
        f"chooses is {_sides(of_its_cost) or 'not compared'}; ahead of every control beside it in "
        f"{', '.join(everywhere) or 'none'}."
    )


def _of_its_cost(found: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Those against one network that runs as many MACs."""
    return [one for one in found if ARMS[one["b"]].kind == "wide" and ARMS[one["b"]].routing]


def _others(comparisons: Mapping[str, Comparison]) -> list[str]:
    """Of every comparison, where mixtures that were not chosen stand."""
    said = []
    for name, (_, _, summary) in comparisons.items():
        found = [one for one in summary["controls"] if one["a"] != summary["chosen"]]
        told = [
            f"{one['a']} {PLACES[side]} {one['b']} ({points(one)})"
            for side, ones in by_outcome(_of_its_cost(found)).items()
            for one in ones
        ]
        said += [f"In {name} {'; '.join(told)}."] if told else []
    return said


def _between(comparisons: Mapping[str, Comparison], key: str) -> list[str]:
    """Of every comparison that has mixtures which differ in `key` alone, what they come to."""
    said = []
    for name, (_, _, summary) in comparisons.items():
        found = [
            _winner_first(one)
            for one in summary["mixtures"]
            if getattr(ARMS[one["a"]], key) != getattr(ARMS[one["b"]], key)
        ]
        if not found:
            continue
        sides = by_outcome(found)
        told = [
            f"{one['a']} {PLACES['ahead']} {one['b']} ({points_and_cost(one, summary)})"
            for one in sides.get("ahead", ())
        ]
        told += _together("not told apart", sides.get("no", ()), summary)
        told += _together("compared at one seed only", sides.get("one seed", ()), summary)
        said.append(f"In {name} {'; '.join(told)}.")
        in_pairs = [{one["a"], one["b"]} & set(summary["tuned"]) for one in found]
        # Where both sides are tuned the rate is no difference between them.
        if tuned := set().union(*(names for names in in_pairs if len(names) == 1)):
            said.append(
                f"There {', '.join(sorted(tuned))} ended at a lower rate than the others, to which "
                "they may owe a part of that."
            )
    return said


def _winner_first(one: Mapping[str, Any]) -> Mapping[str, Any]:
    """The same comparison, turned where its first arm is behind."""
    if one["outcome"] != "behind":
        return one
    turned = {"a": one["b"], "b": one["a"], "outcome": "ahead"}
    values = {"difference": "difference", "low": "high", "high": "low"}
    return {**one, **turned, **{key: -one[other] for key, other in values.items()}}


def _together(what: str, side: Sequence[Mapping[str, Any]], summary: Summary) -> list[str]:
    pairs = ", ".join(
        f"{one['a']} and {one['b']} ({points_and_cost(one, summary)})" for one in side
    )
    return [f"{what} {pairs}"] if side else []
