"""What a comparison says in words is what its numbers say."""

from __future__ import annotations

import pytest
from rows import MEANS, make_row, make_rows

from moe.compare.summary import summarize
from moe.compare.words import comparison_text, headline, verdict


def test_a_mixture_that_has_just_begun_does_not_decide():
    rows = [
        *(make_row("separate-hard", seed, 0.8, validation=0.80) for seed in range(3)),
        make_row("joint-hard", 0, 0.8, validation=0.90),
    ]
    (choice, *_) = said = verdict(summarize(rows))
    assert choice.startswith(
        "separate-hard is the only mixture with so many seeds (mean 80.00 % over seeds 0-2); its "
    )
    assert choice.endswith("Left out of the choice, with too few seeds yet: joint-hard.")
    assert headline(summarize(rows))[0] == choice
    assert not any("nothing to choose" in line for line in said)
    stray = [*rows[:3], make_row("joint-hard", 7, 0.8, validation=0.90)]
    assert summarize(stray)["chosen"] == "separate-hard"


def test_the_choice_is_told_by_the_seeds_that_made_it():
    rows = [
        make_row("separate-hard", 0, 0.8, validation=0.80),
        make_row("joint-hard", 0, 0.8, validation=0.90),
    ]
    among = "among separate-hard, joint-hard"
    (choice, *_) = verdict(summarize(rows))
    assert choice.startswith(f"Validation chooses joint-hard {among} (90.00 % at seed 0)")
    rows += [make_row("separate-hard", seed, 0.8, validation=0.80) for seed in (1, 2)]
    rows += [make_row("joint-hard", seed, 0.8, validation=0.5) for seed in (7, 8)]
    (choice, *_) = verdict(summarize(rows))
    assert choice.startswith(f"Validation chooses joint-hard {among} (90.00 % at seed 0)")
    assert choice.endswith("% (seeds 0, 7, 8).")


def test_one_mixture_is_not_chosen_among_many():
    (said, *_) = verdict(summarize(make_rows(2, {"baseline": 0.8, "joint-hard": 0.8})))
    assert said.startswith("joint-hard is the only mixture here (validation: mean 80.00 % over")


def test_what_is_missing_is_named():
    said = verdict(summarize(make_rows(3, {"baseline": 0.7, "joint-hard": 0.9, "wide-hard": 0.8})))
    assert any(
        line.startswith("joint-hard is ahead of baseline (+") and line.endswith("]).")
        for line in said
    )
    assert (
        "Not trained: average-hard, wide-params, separate-hard, separate-soft, joint-soft, "
        "staged-hard, staged-soft."
    ) in said


@pytest.mark.parametrize(
    "flags",
    [{"data": {"groups": "none:2"}}, {"model": {"trunk": 5, "baseline": False}}],
    ids=["groups without names", "a trunk that nothing trains"],
)
def test_what_these_flags_cannot_train_is_not_missed(flags):
    rows = make_rows(1, {"joint-hard": 0.9})
    for row in rows:
        for section, values in flags.items():
            row["config"][section].update(values)
    assert ("Not trained: baseline, wide-hard, average-hard, wide-params, joint-soft.") in verdict(
        summarize(rows)
    )


def test_a_control_that_there_cannot_be_is_not_missed():
    means = {"baseline": 0.7, "joint-hard": 0.8, "average-hard": 0.7}
    rows = make_rows(3, means)
    assert any(line.startswith("Not trained: wide-hard, ") for line in verdict(summarize(rows)))
    for row in rows[1:]:  # an older version did not say
        row["possible"] = list(means)
    said = verdict(summarize(rows))
    assert any(line.endswith(": the gain is the mixture's own.") for line in said)
    assert not any("Not trained" in line for line in said)


def test_a_blend_that_learned_nothing_is_called_an_average():
    rows = make_rows(2, {"separate-hard": 0.8})
    for row in rows:
        row["stages"].append(row["stages"][0] | {"name": "blend", "best_epoch": 0})
    assert any(
        "separate-hard was best at its even start" in line for line in verdict(summarize(rows))
    )
    rows[1]["stages"][-1]["best_epoch"] = 1
    assert not any("even start" in line for line in verdict(summarize(rows)))


def test_a_blend_that_was_tuned_afterwards_is_not_called_an_average():
    (row,) = make_rows(1, {"staged-hard": 0.8})
    (joint,) = row["stages"]
    row["stages"] = [joint | {"name": "blend", "best_epoch": 0}, joint]
    assert not any("even start" in line for line in verdict(summarize([row])))
    row["stages"][1]["best_epoch"] = 0
    assert any("even start" in line for line in verdict(summarize([row])))


def test_a_lower_rate_at_the_end_is_told_where_others_have_none():
    means = {"staged-hard": 0.8, "tuned-hard": 0.8}
    assert not any("the rate's" in line for line in verdict(summarize(make_rows(2, means))))
    for said in (verdict, headline):
        assert (
            "At the end staged-hard, tuned-hard learned at a fraction of the rate, the others did "
            "not: a difference between the two kinds may be the rate's."
        ) in said(summarize(make_rows(2, means | {"wide-hard": 0.8})))


def test_a_schedule_that_lowers_the_rate_of_all_is_no_caveat():
    rows = make_rows(2, {"staged-hard": 0.8, "wide-hard": 0.8})
    for row in rows:
        row["config"]["train"]["schedule"] = "cosine"
    assert not any("the rate's" in line for line in verdict(summarize(rows)))


def test_rows_of_several_machines_are_told():
    rows = make_rows(2)
    assert not any("several" in line for line in verdict(summarize(rows)))
    rows[0] |= {"device": "GPU", "precision": "mixed_bfloat16"}
    for said in (verdict, headline):
        assert "Rows are of several devices: CPU; GPU." in said(summarize(rows))
        assert "Rows are of several precisions: float32; mixed_bfloat16." in said(summarize(rows))


def test_the_words_are_those_of_the_numbers():
    summary = summarize(make_rows(seeds=3))
    said = verdict(summary)
    assert said[0].startswith("Validation chooses joint-soft among separate-hard, separate-soft, ")
    assert "staged-soft (mean 86.00 % over seeds 0-2); its test accuracy is " in said[0]
    (own,) = (line for line in said if line.endswith(": the gain is the mixture's own."))
    assert own.startswith("joint-soft is ahead of baseline (+")
    assert all(f", {name} (+" in own for name in ("wide-soft", "average-soft", "wide-params"))
    assert not any("Not trained" in line for line in said)
    (against,) = (line for line in said if line.startswith("Against wide-soft (one network with"))
    assert "significantly ahead" in against
    (apart,) = (line for line in said if line.startswith("Mixtures that differ significantly"))
    assert "joint-soft and staged-soft (+" in apart
    assert any(line.startswith("Mixtures that are not told apart") for line in said)


def test_a_gain_that_a_control_may_have_too_is_not_called_the_mixtures():
    means = {"baseline": 0.78, "joint-hard": 0.85, "wide-hard": 0.85}
    said = verdict(summarize(make_rows(3, means)))
    (open_,) = (line for line in said if line.endswith("what experts bring beyond that is open."))
    assert open_.startswith("joint-hard is ahead of baseline (+")
    assert "] for 3.85 times the run MACs); not told apart from wide-hard (" in open_
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
        (0.70, "ahead of wide-hard (+", "])."),
    ],
)
def test_a_verdict_needs_no_baseline(control, begins, ends):
    said = verdict(summarize(make_rows(3, {"joint-hard": 0.78, "wide-hard": control})))
    (place,) = (line for line in said if line.startswith(f"joint-hard is {begins}"))
    assert place.endswith(ends)
    assert any(
        line.startswith("Not trained: baseline, average-hard, wide-params, ") for line in said
    )


def test_a_verdict_says_all_sides():
    rows = make_rows(3, {"baseline": 0.70, "joint-hard": 0.80, "wide-hard": 0.9})
    rows += make_rows(3, {"average-hard": 0.80})
    (place,) = (line for line in verdict(summarize(rows)) if line.startswith("joint-hard is ahead"))
    assert "] for 3.85 times the run MACs); not told apart from average-hard (" in place
    assert "] for 1.04 times the run MACs); behind wide-hard (-" in place
    assert place.endswith("]): without experts more is reached.")  # which runs as many
    for row in rows:
        if row["arm"] == "wide-hard":
            row["macs_per_example"]["active"] *= 3
    (_, place) = (line for line in verdict(summarize(rows)) if line.startswith("joint-hard is"))
    assert place.endswith(
        "] for 0.33 times the run MACs): without experts more is reached, at more cost."
    )


def test_a_headline_leaves_differences_to_others():
    rows = make_rows(3, {"joint-hard": 0.8, "joint-soft": 0.9, "baseline": 0.7})
    choice, parts, absent = headline(summarize(rows))
    assert choice.startswith("Validation chooses joint-soft among joint-hard, joint-soft (mean 90")
    assert parts == "Its networks by themselves: baseline 80.00, gate 90.00, expert sharp 70.00 %."
    absent_controls = "wide-soft, average-soft, wide-params, wide-hard, average-hard"
    assert absent.startswith(f"Not trained: {absent_controls}, separate-hard, ")


def test_what_was_trained_at_other_seeds_is_not_called_untrained():
    rows = [*make_rows(3, {"joint-hard": 0.8}), make_row("wide-hard", 5, 0.7)]
    said = verdict(summarize(rows))
    assert "At no seed of joint-hard: wide-hard." in said
    (absent,) = (line for line in said if line.startswith("Not trained: "))
    assert absent.startswith("Not trained: baseline, average-hard, wide-params, separate-hard")


def test_one_seed_is_said_to_be_one():
    means = {"baseline": 0.7, "joint-hard": 0.8, "wide-hard": 0.7, "average-hard": 0.7}
    said = verdict(summarize(make_rows(1, means | {"wide-params": 0.7})))
    assert any("one seed, an interval is over test examples only" in line for line in said)
    (told,) = (line for line in said if line.startswith("joint-hard is compared at one seed "))
    assert told.startswith("joint-hard is compared at one seed only with baseline (+")
    assert all(f", {name} (+" in told for name in ("wide-hard", "average-hard", "wide-params"))
    assert told.endswith(": one seed tells nothing apart.")
    (against,) = (line for line in said if line.startswith("Against baseline "))
    assert against.endswith("] points at one seed, which tells nothing apart.")
    assert not any("significant" in line for line in said)


def test_one_seed_of_a_control_is_no_gain_of_the_mixtures_and_no_loss():
    means = {"baseline": 0.7, "joint-hard": 0.8, "average-hard": 0.7, "wide-params": 0.7}
    for control in (0.5, 0.9):
        rows = [*make_rows(3, means), make_row("wide-hard", 0, control)]
        (place,) = (
            line for line in verdict(summarize(rows)) if line.startswith("joint-hard is ahead")
        )
        assert "; compared at one seed only with wide-hard (" in place
        assert place.endswith(": what experts bring beyond that is open.")


def test_mixtures_that_share_one_seed_are_not_called_different():
    rows = [*make_rows(3, {"separate-hard": 0.8}), make_row("joint-hard", 0, 0.5)]
    (told,) = (line for line in verdict(summarize(rows)) if line.startswith("Mixtures that"))
    assert told.startswith(
        "Mixtures that share one seed only, which tells none apart (first less second): "
        "separate-hard and joint-hard (+"
    )


def test_a_dearer_control_that_is_ahead_is_told_with_a_cheaper_one():
    rows = make_rows(3, {"joint-hard": 0.7, "wide-hard": 0.9, "baseline": 0.9})
    for row in rows:
        row["macs_per_example"]["active"] *= {"wide-hard": 3}.get(row["arm"], 1)
    (place,) = (line for line in verdict(summarize(rows)) if "joint-hard is behind" in line)
    assert place.endswith("MACs): without experts more is reached.")


def test_networks_whose_macs_are_not_known_are_told_without_cost():
    rows = make_rows(3, {"joint-hard": 0.8, "wide-hard": 0.7})
    for row in rows:
        row["macs_per_example"]["active"] = 0
    assert not any("times the run MACs" in line for line in verdict(summarize(rows)))


def test_a_queue_that_has_just_begun_has_a_table():
    text = comparison_text(summarize([make_row("baseline", 0, 0.8)]))
    assert "baseline" in text
    assert "No mixture is among these rows: nothing to choose." in text
    stray = [make_row("joint-hard", 0, 0.8), make_row("joint-soft", 1, 0.8)]
    assert "nothing to choose yet" in comparison_text(summarize(stray))


def test_the_terminal_says_what_its_columns_mean_once():
    lines = comparison_text(summarize(make_rows(3, MEANS))).splitlines()
    assert sum("95 % interval over seeds and test examples" in line for line in lines) == 1
    assert any("Times are of training alone" in line for line in lines)
