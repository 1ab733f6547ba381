from __future__ import annotations

import pytest
from rows import make_row, make_rows

from moe.compare.summary import summarize
from moe.report.comparisons import Comparison
from moe.report.questions import in_short, questions


def _lines(**rows):
    """What is said of comparisons with these rows, by question."""
    comparisons = {name: Comparison("", made, summarize(made)) for name, made in rows.items()}
    lines = [in_short(comparisons), *questions(comparisons)]
    return dict(line.removeprefix("**").split("**: ") for line in lines)


def _of(seeds=3, **means):
    return make_rows(seeds, {arm.replace("_", "-"): mean for arm, mean in means.items()})


WIDE = "Mixture against one network with as many run MACs"


def test_a_control_of_a_kind_is_looked_at_in_all_comparisons():
    said = _lines(
        good=_of(joint_hard=0.80, wide_hard=0.70),
        even=_of(joint_soft=0.75, wide_soft=0.75),
        bad=_of(joint_hard=0.70, wide_hard=0.80),
        begun=_of(seeds=1, joint_hard=0.70, wide_hard=0.80),
    )
    good, even, bad, begun = said[WIDE].split("; ")
    assert good.startswith("ahead in good (+")
    assert even.startswith("not told apart in even (")
    assert bad.startswith("behind in bad (-")
    assert begun.startswith("compared at one seed only in begun (-")
    assert said["In short"] == (
        "against the best network with as many run MACs, the mixture that validation chooses is "
        "ahead in good; not told apart in even; behind in bad; compared at one seed only in begun; "
        "ahead of every control beside it in good."
    )


@pytest.mark.parametrize(
    ("tuned", "place"), [(0.70, "ahead in"), (0.80, "not told apart in"), (0.90, "behind in")]
)
def test_of_two_networks_of_its_cost_the_better_one_counts(tuned, place):
    said = _lines(toy=_of(staged_hard=0.80, wide_hard=0.70, tuned_hard=tuned))
    assert f" chooses is {place} toy; ahead" in said["In short"]
    assert said[WIDE].startswith("ahead in toy (+")
    assert said[f"{WIDE}, tuned at the end as staged mixtures are"].startswith(f"{place} toy (")


def test_mixtures_that_were_not_chosen_are_told_too():
    means = {"joint_hard": 0.80, "joint_soft": 0.90, "separate_hard": 0.70, "wide_hard": 0.75}
    said = _lines(toy=_of(**means, average_hard=0.70))
    ahead, behind = said["Other mixtures against networks with as many run MACs"].split("; ")
    assert ahead.startswith("In toy joint-hard ahead of wide-hard (+")
    assert behind.startswith("separate-hard behind wide-hard (-")
    assert WIDE not in said
    assert len(_lines(toy=_of(joint_hard=0.80, wide_hard=0.75))) == 4


def test_controls_of_other_kinds_are_told_apart():
    said = _lines(
        toy=_of(joint_hard=0.80, baseline=0.70, average_hard=0.90, wide_params=0.80),
    )
    assert WIDE not in said
    average, weights, baseline = (
        said[f"Mixture against {what}"]
        for what in (
            "a plain average of as many baselines as it runs networks",
            "one network with as many weights",
            "the baseline by itself",
        )
    )
    assert average.startswith("behind in toy (-")
    assert average.endswith("] for 1.04 times the run MACs).")
    assert weights.startswith("not told apart in toy (")
    assert baseline.startswith("ahead in toy (+")
    assert said["In short"].endswith("not compared; ahead of every control beside it in none.")


def test_a_mixture_without_a_control_is_ahead_of_nothing():
    said = _lines(alone=_of(joint_hard=0.80))
    assert said["In short"].endswith("not compared; ahead of every control beside it in none.")
    assert said["Separate, staged or joint"] == said["Hard or soft"] == "not compared."


@pytest.mark.parametrize("staged", [0.9, 0.7])
def test_of_two_mixtures_that_differ_the_better_one_comes_first(staged):
    said = _lines(toy=_of(joint_hard=0.8, staged_hard=staged), alone=_of(joint_hard=0.8))
    first, second = sorted(("joint-hard", "staged-hard"), reverse=staged > 0.8)
    told = said["Separate, staged or joint"]
    assert told.startswith(f"In toy {first} ahead of {second} (+")
    low, high = told.split("[")[1].split("]")[0].split(", ")
    assert 0 < float(low) < float(high)
    assert "alone" not in told
    assert said["Hard or soft"] == "not compared."


def test_routings_are_told_with_what_they_cost():
    said = _lines(toy=_of(joint_hard=0.8, joint_soft=0.9, staged_hard=0.8, staged_soft=0.8))
    soft, apart = said["Hard or soft"].split("; ")
    assert soft.startswith("In toy joint-soft ahead of joint-hard (+")
    assert soft.endswith("] for 1.5 times the run MACs)")
    assert apart.startswith("not told apart staged-hard and staged-soft (")
    assert apart.endswith("] for 0.667 times the run MACs).")


def test_a_lower_rate_at_the_end_is_told_where_modes_are_compared():
    """And where a schedule lowers the rate of all it is not."""
    rows = _of(joint_hard=0.8, staged_hard=0.9)
    told = _lines(toy=rows)["Separate, staged or joint"]
    assert "). There staged-hard ended at a lower rate than the others, to which they" in told
    for row in rows:
        row["config"]["train"]["schedule"] = "cosine"
    assert "lower rate" not in _lines(toy=rows)["Separate, staged or joint"]
    assert "lower rate" not in _lines(toy=_of(joint_hard=0.8, joint_soft=0.9))["Hard or soft"]


def test_mixtures_at_one_seed_are_not_called_even():
    rows = [*_of(joint_hard=0.8), make_row("joint-soft", 0, 0.9)]
    assert _lines(toy=rows)["Hard or soft"].startswith(
        "In toy compared at one seed only joint-hard and joint-soft (-"
    )
