"""A comparison in tables and in words, for the terminal, the report and `docs/results.md`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from moe.compare.arms import ARMS, TOLERANCE, controls_of
from moe.compare.summary import SIGNIFICANT, Summary
from moe.evaluate.tables import TIMES, Units, count, format_table, percent, unit_of

_WHAT = {
    "baseline": "the baseline by itself",
    "wide": "one network with as many run MACs",
    "wide-params": "one network with as many weights",
    "average": "a plain average of as many baselines as it runs networks",
}
_ROUTING = (
    ("load_cv", "load CV"),
    ("dead_experts", "dead"),
    ("confidence", "confidence"),
    ("entropy", "entropy"),
    ("normalized_mutual_information", "I(E;Y), normalised"),
    ("group_normalized_mutual_information", "NMI with groups"),
)

HOW = (
    "Points of test accuracy, first less second, with a 95 % interval over seeds and test examples "
    "together: a bootstrap over examples, and Student's distribution over seeds, which knows how "
    "little two or three of them tell. The p-values come from the same samples and are corrected "
    "after Holm over the rows of one mixture (against controls) or of the table (against each "
    f"other); told apart is what is below {SIGNIFICANT}. McNemar's exact test at each seed is "
    "corrected likewise; it is left out where a test example is there several times. Times are of "
    "training alone, on a machine that may have had other work."
)
"""What the tables of differences mean."""


class Grid(NamedTuple):
    """A table of strings; None where there is nothing to say.

    Attributes:
      title: above it.
      header: names of the columns.
      rows: as long as the header each.
      note: what it means, or "".
    """

    title: str
    header: Sequence[str]
    rows: Sequence[tuple[str | None, ...]]
    note: str = ""


def comparison_text(summary: Summary) -> str:
    """Everything for the terminal."""
    head = f"{summary['dataset']}, budget {summary['budget']}, {summary['examples']['test']:,} test"
    blocks = [f"{head} examples"]
    blocks += [f"{g.title}\n{format_table(g.header, g.rows)}" for g in grids(summary)]
    blocks.append("\n".join(verdict(summary)))
    return "\n\n".join(blocks)


def grids(summary: Summary) -> list[Grid]:
    """The tables of a comparison; those without a row are left out."""
    found = [
        answers(summary),
        _costs(summary),
        differences("Mixtures against their controls", summary["controls"]),
        differences("Modes and routings against each other", summary["mixtures"]),
        _parts(summary),
        _routing(summary),
    ]
    return [grid for grid in found if grid.rows]


def answers(summary: Mapping[str, Any]) -> Grid:
    """How good each arm is."""
    rows = [
        (
            name,
            _numbers(arm["seeds"]),
            spread(arm["validation"]["accuracy"], 100, 2),
            spread(arm["test"]["accuracy"], 100, 2),
            spread(arm["test"]["nll"], 1, 3),
            spread(arm["test"]["ece"], 1, 3),
        )
        for name, arm in summary["arms"].items()
    ]
    return Grid("Accuracy", ("arm", "seeds", "validation %", "test %", "NLL", "ECE"), rows)


def _costs(summary: Summary) -> Grid:
    rows = [
        (
            name,
            _network(arm),
            count(arm["params"]["total"]),
            count(arm["macs_per_example"]["active"]),
            count(arm["macs_spent"]["mean"]),
            in_unit(arm["train_seconds"], TIMES),
        )
        for name, arm in summary["arms"].items()
    ]
    header = ("arm", "network", "weights", "run MACs an example", "MACs spent", "training")
    return Grid("Cost", header, rows)


def _network(arm: Mapping[str, Any]) -> str | None:
    if arm["backbone"] is None:
        return None
    return arm["backbone"] if arm["networks"] == 1 else f"{arm['networks']} x {arm['backbone']}"


def differences(title: str, found: Sequence[Mapping[str, Any]]) -> Grid:
    """What `moe.compare.summary.family` found."""
    rows = [
        (
            comparison["a"],
            comparison["b"],
            _numbers(comparison["seeds"]),
            points(comparison),
            _p_value(comparison["p_holm"]),
            " ".join(_p_value(test["p_holm"]) for test in comparison["mcnemar"]),
            outcome(comparison),
        )
        for comparison in found
    ]
    header = ("arm", "against", "seeds", "points [95 %]", "p", "McNemar p by seed", "told apart")
    return Grid(title, header, rows, HOW)


def _parts(summary: Summary) -> Grid:
    mixtures = {name: arm for name, arm in summary["arms"].items() if arm["parts"]}
    parts = list(dict.fromkeys(part for arm in mixtures.values() for part in arm["parts"]))
    rows = [
        (name, *(spread(arm["parts"].get(part), 100, 2) for part in parts))
        for name, arm in mixtures.items()
    ]
    return Grid("Networks by themselves, test %", ("arm", *parts), rows)


def _routing(summary: Summary) -> Grid:
    mixtures = {n: arm for n, arm in summary["arms"].items() if arm["routing_metrics"]}
    rows = [
        (name, *(spread(arm["routing_metrics"].get(key), 1, 3) for key, _ in _ROUTING))
        for name, arm in mixtures.items()
    ]
    return Grid("Routing", ("arm", *(title for _, title in _ROUTING)), rows)


def spread(value: Mapping[str, Any] | None, scale: float, digits: int) -> str | None:
    """Mean ± standard deviation over seeds."""
    if value is None:
        return None
    mean = f"{scale * value['mean']:,.{digits}f}"
    if value["deviation"] is None:
        return mean
    return f"{mean} ± {scale * value['deviation']:,.{digits}f}"


def in_unit(value: Mapping[str, Any], units: Units) -> str:
    """The same in the largest unit that the mean reaches."""
    size, name = unit_of(value["mean"], units)
    return f"{spread(value, 1 / size, 1)} {name}".rstrip()


def points(comparison: Mapping[str, Any]) -> str:
    """A difference in points of accuracy, with its interval."""
    values = (100 * comparison[key] for key in ("difference", "low", "high"))
    return "{:+.2f} [{:+.2f}, {:+.2f}]".format(*values)


def _p_value(value: float) -> str:
    return "<.001" if value < 0.001 else f"{value:.3f}".removeprefix("0")


def _numbers(seeds: Sequence[int]) -> str:
    """`0-4`, or one after the other."""
    whole = len(seeds) > 2 and seeds[-1] - seeds[0] == len(seeds) - 1
    return f"{seeds[0]}-{seeds[-1]}" if whole else ", ".join(map(str, seeds))


def outcome(comparison: Mapping[str, Any]) -> str:
    """Whether its first arm is told to be `ahead` or `behind`; `no` where that cannot be said."""
    if not comparison["significant"]:
        return "no"
    return "ahead" if comparison["difference"] > 0 else "behind"


# --- words --------------------------------------------------------------------------------------


_PLACES = {"ahead": "ahead of", "no": "not told apart from", "behind": "behind"}
"""Of the chosen mixture, by the outcome of a comparison."""
_NOTHING = "No mixture is finished at a seed that all mixtures have: nothing to choose yet."


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


def against_chosen(summary: Summary) -> list[Mapping[str, Any]]:
    """The chosen mixture against its controls."""
    return [c for c in summary["controls"] if c["a"] == summary["chosen"]]


def _choice(summary: Summary) -> str:
    name, by = summary["chosen"], summary["chosen_by"]
    arm, seeds = summary["arms"][name], _numbers(by["seeds"])
    where = f"mean {percent(by['validation'])} % over seeds {seeds}"
    if len(by["seeds"]) == 1:
        where = f"{percent(by['validation'])} % at seed {seeds}"
    test = f"{spread(arm['test']['accuracy'], 100, 2)} %"
    if sum(arm["kind"] == "mixture" for arm in summary["arms"].values()) == 1:
        return (
            f"{name} is the only mixture here (validation: {where}); its test accuracy is {test}."
        )
    if arm["seeds"] != by["seeds"]:
        test += f" (seeds {_numbers(arm['seeds'])})"
    said = f"Validation chooses {name} ({where}); its test accuracy is {test}."
    if by["left_out"]:
        said += f" Left out of the choice, with too few seeds yet: {', '.join(by['left_out'])}."
    return said


def _against_control(comparison: Mapping[str, Any]) -> str:
    control = comparison["b"]
    what = _WHAT.get(control) or _WHAT[ARMS[control].kind]
    return f"Against {control} ({what}): {_told(comparison)}"


def _told(comparison: Mapping[str, Any]) -> str:
    p_value = _p_value(comparison["p_holm"])
    found = f"{points(comparison)} points, p {'' if p_value[0] == '<' else '= '}{p_value}"
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
