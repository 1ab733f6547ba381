"""What a comparison says in words, for the terminal, the report and the published pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from moe.compare.arms import ARMS, TOLERANCE, controls_of
from moe.compare.present import PLACES, grids, numbers, outcome, p_value, points, spread
from moe.compare.summary import Summary, against_chosen
from moe.evaluate.tables import format_table, percent

_WHAT = {
    "baseline": "the baseline by itself",
    "wide": "one network with as many run MACs",
    "wide-params": "one network with as many weights",
    "average": "a plain average of as many baselines as it runs networks",
}
_MIXTURES = [name for name, arm in ARMS.items() if arm.kind == "mixture"]
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
    said = [_chosen(summary), *map(_against_control, against_chosen(summary))]
    said += _whose_gain(summary)
    said += _between_mixtures(summary["mixtures"])
    said += _not_trained(summary)
    said += _caveats(summary)
    said += of_seeds([*summary["controls"], *summary["mixtures"]])
    said += of_machines({key: summary[key] for key in ("precisions", "devices")})
    return [*said, summary["note"]] if summary["note"] else said


def headline(summary: Summary) -> list[str]:
    """What a verdict comes to: the mixture that validation chooses, whether it is ahead of its
    controls and of other mixtures, caveats.

    Args:
      summary: of a comparison.
    """
    if summary["chosen"] is None:
        return [_NOTHING]
    others = [c for c in summary["mixtures"] if summary["chosen"] in (c["a"], c["b"])]
    said = [_chosen(summary), *_whose_gain(summary), *_between_mixtures(others)]
    return [*said, *_not_trained(summary), *_caveats(summary)]


def _chosen(summary: Summary) -> str:
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
    among = ", ".join(by["among"])
    said = f"Validation chooses {name} among {among} ({where}); its test accuracy is {test}."
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
    found = against_chosen(summary)
    if not found:
        return []
    sides = {what: [c for c in found if outcome(c) == what] for what in PLACES}
    place = "; ".join(
        f"{PLACES[what]} {', '.join(_with_cost(c, summary) for c in side)}"
        for what, side in sides.items()
        if side
    )
    comes_to = ""
    if sides["behind"]:
        dearer = all(_cost_ratio(c, summary) > 1 + TOLERANCE for c in sides["behind"])
        comes_to = ": without experts more is reached" + (", at more cost" if dearer else "")
    elif sides["no"]:
        comes_to = ": what experts bring beyond that is open"
    elif not _missing_controls(summary) and min(len(c["seeds"]) for c in found) > 1:
        comes_to = ": the gain is the mixture's own"
    return [f"{summary['chosen']} is {place}{comes_to}."]


def _with_cost(comparison: Mapping[str, Any], summary: Summary) -> str:
    """The control, the difference, and the control's run MACs by those of the mixture."""
    ratio = _cost_ratio(comparison, summary)
    cost = "" if abs(ratio - 1) <= TOLERANCE else f" with {ratio:.2g} times the run MACs"
    return f"{comparison['b']} ({_found(comparison)}{cost})"


def _found(comparison: Mapping[str, Any]) -> str:
    """The difference; of one seed it says less than its interval seems to."""
    return points(comparison) + (" at one seed" if len(comparison["seeds"]) == 1 else "")


def _cost_ratio(comparison: Mapping[str, Any], summary: Summary) -> float:
    """Run MACs of the second arm by those of the first."""
    first, second = (
        summary["arms"][comparison[side]]["macs_per_example"]["active"] for side in ("a", "b")
    )
    return second / first


def _missing_controls(summary: Summary) -> list[str]:
    there = {comparison["b"] for comparison in against_chosen(summary)}
    return [name for name in controls_of(summary["chosen"]) if name not in there]


def _not_trained(summary: Summary) -> list[str]:
    """What nothing can be said of."""
    missing = _missing_controls(summary)
    missing += [name for name in _MIXTURES if name not in summary["arms"]]
    return [f"Not trained: {', '.join(missing)}."] if missing else []


def _between_mixtures(found: Sequence[Mapping[str, Any]]) -> list[str]:
    clear = [c for c in found if c["significant"]]
    said = []
    if clear:
        told = [f"{c['a']} and {c['b']} ({_found(c)})" for c in clear]
        said.append(f"Mixtures that differ significantly (first less second): {'; '.join(told)}.")
    alike = [f"{c['a']} and {c['b']} ({_found(c)})" for c in found if not c["significant"]]
    if alike:
        said.append(f"Mixtures that are not told apart: {'; '.join(alike)}.")
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
            "Where there is one seed, an interval is over test examples only: another seed may "
            "well say otherwise."
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
