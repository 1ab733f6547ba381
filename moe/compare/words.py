"""What a comparison says in words, for the terminal, the report and the published pages."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from moe.compare.arms import ARMS, TOLERANCE, controls_of
from moe.compare.present import PLACES, grids, numbers, p_value, points, points_alone, spread
from moe.compare.summary import Summary, against_chosen, by_outcome
from moe.evaluate.tables import format_table, percent

CONTROLS = {
    "wide": "one network with as many run MACs",
    "tuned": "one network with as many run MACs, tuned at the end as staged mixtures are",
    "wide-params": "one network with as many weights",
    "average": "a plain average of as many baselines as it runs networks",
    "baseline": "the baseline by itself",
}
"""What a control is, by its name or the first word of it; what concerns most comes first."""
_NOTHING = "No mixture is finished at a seed that all mixtures have: nothing to choose yet."
_NO_MIXTURE = "No mixture is among these rows: nothing to choose."
_WIDTH = 100
"""Of a line on the terminal."""


def comparison_text(summary: Summary) -> str:
    """Everything for the terminal."""
    head = f"{summary['dataset']}, budget {summary['budget']}, {summary['examples']['test']:,} test"
    blocks = [f"{head} examples"]
    for grid in grids(summary):
        table = f"{grid.title}\n{format_table(grid.header, grid.rows)}"
        blocks.append(f"{table}\n{textwrap.fill(grid.note, _WIDTH)}".rstrip())
    blocks.append("\n".join(verdict(summary)))
    return "\n\n".join(blocks)


def verdict(summary: Summary) -> list[str]:
    """What is significant and what is not, a sentence each."""
    if summary["chosen"] is None:
        return [_nothing(summary)]
    said = [_chosen(summary), *map(_against_control, against_chosen(summary))]
    place = _place(summary, lambda found: points_and_cost(found, summary))
    said += [f"{summary['chosen']} is {place}."] if place else []
    said += _between_mixtures(summary["mixtures"])
    said += _not_trained(summary)
    said += _caveats(summary)
    said += of_seeds([*summary["controls"], *summary["mixtures"]])
    said += _several_machines(summary)
    return [*said, summary["note"]] if summary["note"] else said


def headline(summary: Summary) -> list[str]:
    """The mixture that validation chooses, its parts, what was not trained, caveats; what the
    differences say is left to others.
    """
    if summary["chosen"] is None:
        return [_nothing(summary)]
    said = [_chosen(summary), *_parts(summary), *_not_trained(summary), *_caveats(summary)]
    return [*said, *_several_machines(summary)]


def gist(summary: Summary) -> str:
    """How good the mixture is that validation chooses, and where it stands."""
    if summary["chosen"] is None:
        return _nothing(summary)
    place = _place(summary, points_alone)
    return f"{summary['chosen']} reaches {_test_accuracy(summary)}{place and f': {place}'}."


def what_is(control: str) -> str:
    """What a control is, in a few words."""
    return CONTROLS.get(control) or CONTROLS[control.partition("-")[0]]


def points_and_cost(comparison: Mapping[str, Any], summary: Summary) -> str:
    """The difference, and where the two differ in cost the first arm's run MACs by the second's."""
    ratio = _cost_ratio(comparison, summary)
    cost = "" if abs(ratio - 1) <= TOLERANCE else f" for {ratio:.3g} times the run MACs"
    return f"{points(comparison)}{cost}"


def _several_machines(summary: Summary) -> list[str]:
    return of_machines({key: summary[key] for key in ("precisions", "devices")})


def _nothing(summary: Summary) -> str:
    kinds = {arm["kind"] for arm in summary["arms"].values()}
    return _NOTHING if "mixture" in kinds else _NO_MIXTURE


def _chosen(summary: Summary) -> str:
    name, by = summary["chosen"], summary["chosen_by"]
    arm, seeds = summary["arms"][name], numbers(by["seeds"])
    where = f"mean {percent(by['validation'])} % over seeds {seeds}"
    if len(by["seeds"]) == 1:
        where = f"{percent(by['validation'])} % at seed {seeds}"
    test = _test_accuracy(summary)
    if sum(arm["kind"] == "mixture" for arm in summary["arms"].values()) == 1:
        return (
            f"{name} is the only mixture here (validation: {where}); its test accuracy is {test}."
        )
    if arm["seeds"] != by["seeds"]:
        test += f" (seeds {numbers(arm['seeds'])})"
    chosen = f"Validation chooses {name} among {', '.join(by['among'])}"
    if len(by["among"]) == 1:
        chosen = f"{name} is the only mixture with so many seeds"
    said = f"{chosen} ({where}); its test accuracy is {test}."
    if by["left_out"]:
        said += f" Left out of the choice, with too few seeds yet: {', '.join(by['left_out'])}."
    return said


def _test_accuracy(summary: Summary) -> str:
    """Of the chosen mixture."""
    return f"{spread(summary['arms'][summary['chosen']]['test']['accuracy'], 100, 2)} %"


def _parts(summary: Summary) -> list[str]:
    """How good the networks of the chosen mixture are by themselves."""
    parts = summary["arms"][summary["chosen"]]["parts"]
    told = [
        f"{name} {percent(accuracy['mean'])}"
        for name, accuracy in parts.items()
        if accuracy is not None
    ]
    return [f"Its networks by themselves: {', '.join(told)} %."] if told else []


def _against_control(comparison: Mapping[str, Any]) -> str:
    control = comparison["b"]
    return f"Against {control} ({what_is(control)}): {_told(comparison)}"


def _told(comparison: Mapping[str, Any]) -> str:
    outcome = comparison["outcome"]
    if outcome == "one seed":
        return f"{points(comparison)} points at one seed, which tells nothing apart."
    chance = p_value(comparison["p_holm"])
    found = f"{points(comparison)} points, p {'' if chance[0] == '<' else '= '}{chance}"
    if outcome == "no":
        return f"{found}: not significant, these seeds and examples do not tell them apart."
    return f"{found}: significantly {outcome}."


def _place(summary: Summary, shown: Callable[[Mapping[str, Any]], str]) -> str:
    """Where the chosen mixture stands, and whose the gain is: what a control also has is not the
    mixture's. Differences as `shown` shows them; "" without a control.
    """
    sides = by_outcome(against_chosen(summary))
    place = "; ".join(
        f"{PLACES[what]} " + ", ".join(f"{c['b']} ({shown(c)})" for c in side)
        for what, side in sides.items()
    )
    comes_to = ""
    if "behind" in sides:
        dearer = all(_cost_ratio(c, summary) < 1 - TOLERANCE for c in sides["behind"])
        comes_to = ": without experts more is reached" + (", at more cost" if dearer else "")
    elif set(sides) == {"one seed"}:
        comes_to = ": one seed tells nothing apart"
    elif "no" in sides or "one seed" in sides:
        comes_to = ": what experts bring beyond that is open"
    elif sides and not _missing_controls(summary):
        comes_to = ": the gain is the mixture's own"
    return f"{place}{comes_to}"


def _cost_ratio(comparison: Mapping[str, Any], summary: Summary) -> float:
    """Run MACs of the first arm by those of the second; 1 where those are not known."""
    first, second = (
        summary["arms"][comparison[side]]["macs_per_example"]["active"] for side in ("a", "b")
    )
    return first / second if first and second else 1.0


def _possible_controls(mixture: str, summary: Summary) -> list[str]:
    return [name for name in controls_of(mixture) if name in summary["possible"]]


def _missing_controls(summary: Summary) -> list[str]:
    there = {comparison["b"] for comparison in against_chosen(summary)}
    return [name for name in _possible_controls(summary["chosen"], summary) if name not in there]


def _not_trained(summary: Summary) -> list[str]:
    """What nothing can be said of."""
    missing, there = _missing_controls(summary), summary["arms"]
    elsewhere = [name for name in missing if name in there]
    mixtures = [name for name in summary["possible"] if ARMS[name].kind == "mixture"]
    controls = [c for name in mixtures if name in there for c in _possible_controls(name, summary)]
    needed = dict.fromkeys((*missing, *controls, *mixtures))
    absent = [name for name in needed if name not in there]
    said = [f"Not trained: {', '.join(absent)}."] if absent else []
    if elsewhere:
        said.append(f"At no seed of {summary['chosen']}: {', '.join(elsewhere)}.")
    return said


def _between_mixtures(found: Sequence[Mapping[str, Any]]) -> list[str]:
    sides = by_outcome(found)
    kinds = {
        "differ significantly": [*sides.get("ahead", []), *sides.get("behind", [])],
        "are not told apart": sides.get("no", []),
        "share one seed only, which tells none apart": sides.get("one seed", []),
    }
    said = []
    for what, side in kinds.items():
        told = "; ".join(f"{c['a']} and {c['b']} ({points(c)})" for c in side)
        if told:
            said.append(f"Mixtures that {what} (first less second): {told}.")
    return said


def _caveats(summary: Summary) -> list[str]:
    """What keeps the differences that were told from being the last word."""
    said = []
    plain = [name for name, arm in summary["arms"].items() if arm["plain_blend"]]
    if plain:
        said.append(
            f"The blend of {', '.join(plain)} was best at its even start: its answer is a plain "
            "average of baseline and expert, the combiners learned nothing of use."
        )
    if summary["tuned"]:
        said.append(
            f"At the end {', '.join(summary['tuned'])} learned at a fraction of the rate, the "
            "others did not: a difference between the two kinds may be the rate's."
        )
    if summary["still_improving"]:
        said.append(
            "Most networks were best in the last epochs of their training, at a constant rate: "
            "longer training may change the order."
        )
    return said


def of_seeds(compared: Sequence[Mapping[str, Any]]) -> list[str]:
    """What comparisons of few seeds leave open."""
    said = []
    if any(len(c["seeds"]) == 1 for c in compared):
        said.append(
            "Where there is one seed, an interval is over test examples only, and nothing is told "
            "apart: another seed may well say otherwise."
        )
    if any(1 < len(c["seeds"]) < 5 for c in compared):
        said.append(
            "Where there are fewer than five seeds, it is known only roughly how far seeds differ."
        )
    return said


def of_machines(found: Mapping[str, Sequence[str]]) -> list[str]:
    """Says where rows are not of one kind: their different devices, say, by `devices`."""
    return [
        f"Rows are of several {key}: {'; '.join(values)}."
        for key, values in found.items()
        if len(values) > 1
    ]
