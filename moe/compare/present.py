"""A comparison in tables, for the terminal, the report and `docs/results.md`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from moe.compare.summary import SIGNIFICANT, Summary
from moe.evaluate.tables import TIMES, Units, count, unit_of

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
    f"other); told apart is what is below {SIGNIFICANT}. An interval is of its line alone: it may "
    "exclude 0 where the correction says that the two are not told apart. McNemar's exact test at "
    "each seed is corrected likewise; it is left out where a test example is there several times. "
    "One seed says nothing of others: its interval is over examples only, and it tells none apart."
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


def grids(summary: Summary) -> list[Grid]:
    """The tables of a comparison; those without a row are left out, a note stands once."""
    found = [
        accuracy_grid(summary),
        _costs(summary),
        difference_grid("Mixtures against their controls", summary["controls"]),
        difference_grid("Modes and routings against each other", summary["mixtures"]),
        _parts(summary),
        _routing(summary),
    ]
    found = [grid for grid in found if grid.rows]
    noted = [grid.note for grid in found]
    return [
        grid._replace(note="") if grid.note in noted[:place] else grid
        for place, grid in enumerate(found)
    ]


def accuracy_grid(summary: Mapping[str, Any]) -> Grid:
    """How good each arm is."""
    rows = [
        (
            name,
            numbers(arm["seeds"]),
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
            in_unit(arm["train_seconds"], TIMES) if arm["train_seconds"] else None,
        )
        for name, arm in summary["arms"].items()
    ]
    header = ("arm", "network", "weights", "run MACs an example", "MACs spent", "training")
    note = (
        f"Times are of training alone, and of rows made on {summary['timed_on']}, which may have "
        "had other work."
    )
    if summary["timed_revisions"] > 1:
        note += (
            f" These rows are of {summary['timed_revisions']} revisions of the code, some of them "
            "faster than others: what differs in time alone may be a revision's."
        )
    return Grid("Cost", header, rows, note)


def _network(arm: Mapping[str, Any]) -> str | None:
    if arm["backbone"] is None:
        return None
    return arm["backbone"] if arm["networks"] == 1 else f"{arm['networks']} x {arm['backbone']}"


def difference_grid(title: str, found: Sequence[Mapping[str, Any]]) -> Grid:
    """What `moe.compare.summary.family` found."""
    rows = [
        (
            comparison["a"],
            comparison["b"],
            numbers(comparison["seeds"]),
            points(comparison),
            None if comparison["p_holm"] is None else p_value(comparison["p_holm"]),
            " ".join(p_value(test["p_holm"]) for test in comparison["mcnemar"]),
            comparison["outcome"],
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
    low, high = (_signed(comparison[key]) for key in ("low", "high"))
    return f"{points_alone(comparison)} [{low}, {high}]"


def points_alone(comparison: Mapping[str, Any]) -> str:
    """The same without its interval."""
    return _signed(comparison["difference"])


def _signed(value: float) -> str:
    # Without the sign of what is rounded to nothing.
    return f"{round(100 * value, 2) + 0.0:+.2f}"


def p_value(value: float) -> str:
    """`.012` or `<.001`."""
    return "<.001" if value < 0.001 else f"{value:.3f}".removeprefix("0")


def numbers(seeds: Sequence[int]) -> str:
    """`0-4`, or one after the other."""
    whole = len(seeds) > 2 and seeds[-1] - seeds[0] == len(seeds) - 1
    return f"{seeds[0]}-{seeds[-1]}" if whole else ", ".join(map(str, seeds))


PLACES = {
    "ahead": "ahead of",
    "no": "not told apart from",
    "behind": "behind",
    "one seed": "compared at one seed only with",
}
"""Of the first arm, by the outcome of a comparison."""
