"""What a comparison says in words, for the terminal, the report and the published pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from moe.compare.arms import ARMS, TOLERANCE, controls_of
from moe.compare.present import grids, numbers, outcome, p_value, points, spread
from moe.compare.summary import Summary, against_chosen
from moe.evaluate.tables import format_table, percent

_WHAT = {
    "baseline": "the baseline by itself",
    "wide": "one network with as many run MACs",
    "wide-params": "one network with as many weights",
    "average": "a plain average of as many baselines as it runs networks",
}
_PLACES = {"ahead": "ahead of", "no": "not told apart from", "behind": "behind"}
"""Of the chosen mixture, by the outcome of a comparison."""
_NOTHING = "No mixture is finished at a seed that all mixtures have: nothing to choose yet."


def comparison_text(summary: Summary) -> str:
    """Everything for the terminal."""
    head = f"{summary['dataset']}, budget {summary['budget']}, {summary['examples']['test']:,} test"
    blocks = [f"{head} examples"]
    blocks += [f"{g.title}\n{format_table(g.header, g.rows)}" for g in grids(summary)]
    blocks.append("\n".join(verdict(summary)))
    return "\n\n".join(blocks)


def verdict(summary: Summary) -> list[str]:
    """What is significant and what is not, a sentence each."""
    if summary["chosen"] is None:
        return [_NOTHING]
    said = [_choice(summary), *map(_against_control, against_chosen(summary))]
    said += _whose_gain(summary)
    said += _between_mixtures(summary["mixtures"])
    return [*said, *_caveats(summary, [*summary["controls"], *summary["mixtures"]])]


def headline(summary: Summary) -> list[str]:
    """What a verdict comes to: the mixture that validation chooses, whether it is ahead, caveats.

    Args:
      summary: of a comparison.
    """
    if summary["chosen"] is None:
        return [_NOTHING]
    told = _caveats(summary, against_chosen(summary))
    return [_choice(summary), *_whose_gain(summary), *told]


def _choice(summary: Summary) -> str:
    name, by = summary["chosen"], summary["chosen_by"]
    arm, seeds = summary["arms"][name], numbers(by["seeds"])
    where = f"mean {percent(by['validation'])} % over seeds {seeds}"
    if len(by["seeds"]) == 1:
        where = f"{percent(by['validation'])} % at seed {seeds}"
    test = f"{spread(arm['test']['accuracy'], 100, 2)} %"
    if sum(arm["kind"] == "mixture" for arm in summary["arms"].values()) == 1:
        return (
            f"{name} is the only mixture here (validation: {where}); its test accuracy is {test}."
        )
    if arm["seeds"] != by["seeds"]:
        test += f" (seeds {numbers(arm['seeds'])})"
    said = f"Validation chooses {name} ({where}); its test accuracy is {test}."
    if by["left_out"]:
        said += f" Left out of the choice, with too few seeds yet: {', '.join(by['left_out'])}."
    return said


def _against_control(comparison: Mapping[str, Any]) -> str:
    control = comparison["b"]
    what = _WHAT.get(control) or _WHAT[ARMS[control].kind]
    return f"Against {control} ({what}): {_told(comparison)}"


def _told(comparison: Mapping[str, Any]) -> str:
    chance = p_value(comparison["p_holm"])
    found = f"{points(comparison)} points, p {'' if chance[0] == '<' else '= '}{chance}"
    if not comparison["significant"]:
        return f"{found}: not significant, these seeds and examples do not tell them apart."
    ahead = "ahead" if comparison["difference"] > 0 else "behind"
    return f"{found}: significantly {ahead}."


def _whose_gain(summary: Summary) -> list[str]:
    """A gain that a control also has is not the mixture's."""
    chosen = summary["chosen"]
    found = against_chosen(summary)
    missing = [name for name in controls_of(chosen) if name not in {c["b"] for c in found}]
    told = {
        what: ", ".join(
            c["b"] + (f" ({points(c)}{_cost(c, summary['arms'])})" if what != "ahead" else "")
            for c in found
            if outcome(c) == what
        )
        for what in _PLACES
    }
    said = []
    if found:
        place = "; ".join(f"{_PLACES[what]} {names}" for what, names in told.items() if names)
        comes_to = ""
        if told["behind"]:
            comes_to = ": without experts more is reached"
        elif told["no"]:
            comes_to = ": what experts bring beyond that is open"
        elif not missing:
            comes_to = ": the gain is the mixture's own"
        said.append(f"{chosen} is {place}{comes_to}.")
    if missing:
        said.append(f"Controls that were not trained: {', '.join(missing)}.")
    return said


def _cost(comparison: Mapping[str, Any], arms: Mapping[str, Any]) -> str:
    """By how much the run MACs of the second arm differ from those of the first, if they do."""
    first, second = (arms[comparison[side]]["macs_per_example"]["active"] for side in ("a", "b"))
    ratio = second / first
    return "" if abs(ratio - 1) <= TOLERANCE else f" with {ratio:.2g} times the run MACs"


def _between_mixtures(found: Sequence[Mapping[str, Any]]) -> list[str]:
    clear = [c for c in found if c["significant"]]
    said = []
    if clear:
        told = [f"{c['a']} and {c['b']} ({points(c)})" for c in clear]
        said.append(f"Mixtures that differ significantly (first less second): {'; '.join(told)}.")
    alike = [f"{c['a']} and {c['b']} ({points(c)})" for c in found if not c["significant"]]
    if alike:
        said.append(f"Mixtures that are not told apart: {'; '.join(alike)}.")
    return said


def _caveats(summary: Summary, compared: Sequence[Mapping[str, Any]]) -> list[str]:
    """What to know of a comparison and of those differences that were told."""
    said = []
    plain = [name for name, arm in summary["arms"].items() if arm["plain_blend"]]
    if plain:
        said.append(
            f"The blend of {', '.join(plain)} was best at its even start: its answer is a plain "
            "average of baseline and expert, the combiners learned nothing of use."
        )
    said += of_seeds(compared)
    said += of_machines({key: summary[key] for key in ("precisions", "devices")})
    if summary["note"]:
        said.append(summary["note"])
    return said


def of_seeds(compared: Sequence[Mapping[str, Any]]) -> list[str]:
    """What comparisons of few seeds leave open."""
    said = []
    if any(len(c["seeds"]) == 1 for c in compared):
        said.append(
            "Where there is one seed, an interval is over test examples only: another seed may "
            "well say otherwise."
        )
    if any(1 < len(c["seeds"]) < 5 for c in compared):
        said.append("With fewer than five seeds it is known only roughly how far seeds differ.")
    return said


def of_machines(found: Mapping[str, Sequence[str]]) -> list[str]:
    """Says where rows are not of one kind: their different devices, say, by `devices`."""
    return [
        f"Rows are of several {key}: {'; '.join(values)}."
        for key, values in found.items()
        if len(values) > 1
    ]
