"""What a comparison says in words is what its numbers say."""

from __future__ import annotations

import pytest
from rows import make_row, make_rows

from moe.compare.summary import summarize
from moe.compare.words import comparison_text, headline, verdict


def test_a_mixture_that_has_just_begun_does_not_decide():
    rows = [
        *(make_row("separate-hard", seed, 0.8, validation=0.80) for seed in range(3)),
        make_row("joint-hard", 0, 0.8, validation=0.90),
    ]
    (choice, *_) = said = verdict(summarize(rows))
    assert choice.startswith("Validation chooses separate-hard (mean 80.00 % over seeds 0-2)")
    assert choice.endswith("Left out of the choice, with too few seeds yet: joint-hard.")
    assert headline(summarize(rows))[0] == choice
    assert not any("nothing to choose" in line for line in said)
    stray = [*rows[:3], make_row("joint-hard", 7, 0.8, validation=0.90)]
    assert summarize(stray)["chosen"] == "separate-hard"


def test_the_choice_is_told_by_the_seeds_that_made_it():
    rows = [
        *(make_row("separate-hard", seed, 0.8, validation=0.80) for seed in range(2)),
        make_row("joint-hard", 0, 0.8, validation=0.90),
    ]
    (choice, *_) = verdict(summarize(rows))
    assert choice.startswith("Validation chooses joint-hard (90.00 % at seed 0)")
    more = [*rows, *(make_row("joint-hard", seed, 0.8, validation=0.5) for seed in (7, 8))]
    (choice, *_) = verdict(summarize(more))
    assert choice.startswith("Validation chooses joint-hard (90.00 % at seed 0)")
    assert choice.endswith("% (seeds 0, 7, 8).")


def test_one_mixture_is_not_chosen_among_many():
    (said, *_) = verdict(summarize(make_rows(2, {"baseline": 0.8, "joint-hard": 0.8})))
    assert said.startswith("joint-hard is the only mixture here (validation: mean 80.00 % over")


def test_controls_that_are_missing_are_named():
    said = verdict(summarize(make_rows(3, {"baseline": 0.7, "joint-hard": 0.9, "wide-hard": 0.8})))
    assert "joint-hard is ahead of baseline, wide-hard." in said
    assert "Controls that were not trained: average-hard, wide-params." in said


def test_a_blend_that_learned_nothing_is_called_an_average():
    rows = make_rows(2, {"separate-hard": 0.8})
    for row in rows:
        row["stages"].append(row["stages"][0] | {"name": "blend", "best_epoch": 0})
    assert any(
        "separate-hard was best at its even start" in line for line in verdict(summarize(rows))
    )
    rows[0]["stages"][-1]["best_epoch"] = 1
    assert not any("even start" in line for line in verdict(summarize(rows)))


def test_rows_of_several_machines_are_told():
    rows = make_rows(2)
    assert not any("several" in line for line in verdict(summarize(rows)))
    rows[0]["device"] = "GPU"
    assert "Rows are of several devices: CPU; GPU." in verdict(summarize(rows))


def test_the_words_are_those_of_the_numbers():
    summary = summarize(make_rows(seeds=3))
    said = verdict(summary)
    assert said[0].startswith("Validation chooses joint-soft (mean 86.00 % over seeds 0-2)")
    controls = "baseline, wide-soft, average-soft, wide-params"
    assert f"joint-soft is ahead of {controls}: the gain is the mixture's own." in said
    (against,) = (line for line in said if line.startswith("Against wide-soft (one network with"))
    assert "significantly ahead" in against
    (apart,) = (line for line in said if line.startswith("Mixtures that differ significantly"))
    assert "joint-soft and staged-soft (+" in apart
    assert any(line.startswith("Mixtures that are not told apart") for line in said)


def test_a_gain_that_a_control_may_have_too_is_not_called_the_mixtures():
    means = {"baseline": 0.78, "joint-hard": 0.85, "wide-hard": 0.85}
    said = verdict(summarize(make_rows(3, means)))
    (open_,) = (line for line in said if line.endswith("what experts bring beyond that is open."))
    assert open_.startswith("joint-hard is ahead of baseline; not told apart from wide-hard (")
    assert any("not significant" in line for line in said)


def test_a_loss_is_called_one():
    means = {"baseline": 0.85, "joint-hard": 0.78}
    said = verdict(summarize(make_rows(3, means)))
    assert any("significantly behind" in line for line in said)


@pytest.mark.parametrize(
    ("control", "begins", "ends"),
    [
        (0.85, "behind wide-hard (-", ": without experts more is reached."),
        (0.78, "not told apart from wide-hard (", ": what experts bring beyond that is open."),
        (0.70, "ahead of wide-hard.", ""),
    ],
)
def test_a_headline_needs_no_baseline(control, begins, ends):
    said = headline(summarize(make_rows(3, {"joint-hard": 0.78, "wide-hard": control})))
    (place,) = (line for line in said if line.startswith(f"joint-hard is {begins}"))
    assert place.endswith(ends)
    assert "Controls that were not trained: baseline, average-hard, wide-params." in said


def test_a_headline_says_all_sides():
    rows = make_rows(3, {"baseline": 0.70, "joint-hard": 0.80, "wide-hard": 0.9})
    rows += make_rows(3, {"average-hard": 0.80})
    (place,) = (
        line for line in headline(summarize(rows)) if line.startswith("joint-hard is ahead")
    )
    assert place.startswith("joint-hard is ahead of baseline; not told apart from average-hard (")
    assert "] with 0.96 times the run MACs); behind wide-hard (-" in place
    assert place.endswith("]): without experts more is reached.")  # which runs as many


def test_few_seeds_of_other_arms_are_not_said_of_the_headline():
    rows = [
        *make_rows(5, {"joint-hard": 0.8, "wide-hard": 0.7}),
        *make_rows(3, {"separate-hard": 0.75}),
    ]
    summary = summarize(rows)
    assert summary["chosen"] == "joint-hard"
    assert any("fewer than five" in line for line in verdict(summary))
    assert not any("fewer than five" in line for line in headline(summary))


def test_one_seed_is_said_to_be_one():
    said = verdict(summarize(make_rows(1, {"baseline": 0.8, "joint-hard": 0.8})))
    assert any("one seed" in line for line in said)


def test_a_queue_that_has_just_begun_has_a_table():
    text = comparison_text(summarize([make_row("baseline", 0, 0.8)]))
    assert "baseline" in text
    assert "nothing to choose yet" in text
