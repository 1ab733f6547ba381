"""From rows to means, choice and verdict."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from rows import make_row, make_rows

from moe.compare.arms import ARMS, controls_of, in_order, mixture_pairs, possible_arms
from moe.compare.present import comparison_text, grids, headline, verdict
from moe.compare.record import unpack
from moe.compare.report import write_files, write_report
from moe.compare.summary import summarize
from moe.evaluate.metrics import mcnemar
from moe.files import write_json


@pytest.fixture(scope="module")
def rows():
    return make_rows(seeds=3)


@pytest.fixture(scope="module")
def summary(rows):
    return summarize(rows)


def test_every_control_has_what_the_mixture_has():
    assert controls_of("joint-hard") == ["baseline", "wide-hard", "average-hard", "wide-params"]
    assert controls_of("staged-soft") == ["baseline", "wide-soft", "average-soft", "wide-params"]


def test_mixtures_are_compared_where_one_thing_differs():
    pairs = mixture_pairs()
    assert len(pairs) == 9
    assert ("separate-hard", "joint-hard") in pairs
    assert ("joint-hard", "joint-soft") in pairs
    assert ("separate-hard", "joint-soft") not in pairs


def test_a_seed_is_finished_before_the_next_but_for_the_dearest_arm():
    order = in_order(["wide-params", "joint-hard", "baseline"], [0, 1])
    assert order == [
        *[("baseline", 0), ("joint-hard", 0), ("baseline", 1), ("joint-hard", 1)],
        *[("wide-params", 0), ("wide-params", 1)],
    ]
    assert possible_arms(in_parts=True, any_width=True) == list(ARMS)
    whole = possible_arms(in_parts=False, any_width=True)
    by_parts = {"separate-hard", "separate-soft", "staged-hard", "staged-soft"}
    assert {*ARMS} - {*whole} == by_parts
    one_width = possible_arms(in_parts=True, any_width=False)
    assert {*ARMS} - {*one_width} == {"wide-hard", "wide-soft", "wide-params"}


def test_means_are_over_seeds(summary, rows):
    mine = [row["test"]["accuracy"] for row in rows if row["arm"] == "joint-soft"]
    found = summary["arms"]["joint-soft"]["test"]["accuracy"]
    assert found["mean"] == pytest.approx(np.mean(mine))
    assert found["deviation"] == pytest.approx(np.std(mine, ddof=1))
    assert summary["arms"]["joint-soft"]["seeds"] == [0, 1, 2]


def test_a_difference_is_that_of_the_rows_at_common_seeds(summary, rows):
    by = {(row["arm"], row["seed"]): unpack(row["correct"]) for row in rows}
    (found,) = (c for c in summary["controls"] if (c["a"], c["b"]) == ("joint-soft", "wide-soft"))
    at = [by["joint-soft", s].mean() - by["wide-soft", s].mean() for s in range(3)]
    assert found["difference"] == pytest.approx(np.mean(at))
    for seed, test in enumerate(found["mcnemar"]):
        expected = mcnemar(by["joint-soft", seed], by["wide-soft", seed])
        assert {key: test[key] for key in expected} == expected
        assert test["p_holm"] >= test["p_value"]


def test_validation_chooses_and_the_test_split_has_no_say():
    rows = [
        make_row("separate-hard", 0, 0.70, validation=0.80),
        make_row("joint-hard", 0, 0.90, validation=0.79),
    ]
    assert summarize(rows)["chosen"] == "separate-hard"


def test_only_seeds_that_all_mixtures_have_choose():
    """A mixture that was given more seeds afterwards is not chosen, or dropped, for them."""
    rows = [
        make_row("separate-hard", 0, 0.8, validation=0.80),
        make_row("joint-hard", 0, 0.8, validation=0.79),
        make_row("joint-hard", 1, 0.8, validation=0.99),
    ]
    assert summarize(rows)["chosen"] == "separate-hard"


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


def test_a_difference_knows_what_both_have_at_its_seeds():
    rows = [
        *(make_row("joint-hard", seed, 0.9 if seed == 1 else 0.8) for seed in (0, 1)),
        make_row("wide-hard", 0, 0.7),
    ]
    (found,) = summarize(rows)["controls"]
    assert found["seeds"] == [0]
    assert found["test"]["joint-hard"]["deviation"] is None
    means = [found["test"][name]["mean"] for name in ("joint-hard", "wide-hard")]
    assert means[0] - means[1] == pytest.approx(found["difference"])


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


def test_copies_leave_no_room_for_mcnemar():
    rows = make_rows(3, {"joint-hard": 0.8, "wide-hard": 0.75})
    (plain,) = summarize(rows)["controls"]
    for row in rows:
        row["correct"]["copies"] = 4
    (found,) = summarize(rows)["controls"]
    assert plain["mcnemar"]
    assert found["mcnemar"] == []
    assert found["difference"] == plain["difference"]
    assert found["high"] - found["low"] != plain["high"] - plain["low"]


def test_of_equals_the_cheaper_one_is_chosen():
    rows = [make_row("joint-soft", 0, 0.8), make_row("joint-hard", 0, 0.8)]
    assert summarize(rows)["chosen"] == "joint-hard"


def test_the_words_are_those_of_the_numbers(summary):
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


def test_calibration_is_that_of_all_seeds_together():
    rows = make_rows(2, {"baseline": 0.8})
    for row, count, accuracy in zip(rows, (30, 10), (0.5, 0.9), strict=True):
        row["calibration"] = {
            "count": [0, count],
            "accuracy": [None, accuracy],
            "confidence": [None, 0.7],
        }
    found = summarize(rows)["arms"]["baseline"]["calibration"]
    assert found["count"] == [0, 40]
    assert found["accuracy"] == [None, pytest.approx(0.6)]
    assert found["confidence"] == [None, pytest.approx(0.7)]


def test_one_seed_is_said_to_be_one():
    said = verdict(summarize(make_rows(1, {"baseline": 0.8, "joint-hard": 0.8})))
    assert any("one seed" in line for line in said)


def test_a_queue_that_has_just_begun_has_a_table():
    text = comparison_text(summarize([make_row("baseline", 0, 0.8)]))
    assert "baseline" in text
    assert "nothing to choose yet" in text


def test_the_table_has_a_line_an_arm(summary):
    by_title = {grid.title: grid for grid in grids(summary)}
    assert [row[0] for row in by_title["Accuracy"].rows] == list(ARMS)
    for grid in by_title.values():
        assert all(len(row) == len(grid.header) for row in grid.rows)


def test_files_hold_every_row(rows, summary, tmp_path):
    write_files(tmp_path, rows, summary)
    assert json.loads((tmp_path / "compare.json").read_text()) == json.loads(json.dumps(summary))
    lines = list(csv.DictReader((tmp_path / "compare.csv").open()))
    assert len(lines) == len(rows)
    assert {(line["arm"], line["seed"]) for line in lines} == {
        (row["arm"], str(row["seed"])) for row in rows
    }


def test_the_report_says_what_was_found(summary, tmp_path):
    text = write_report(tmp_path, summary, "python train.py --mode=compare").read_text()
    assert "the gain is the mixture&#39;s own" in text
    assert "<span>python</span> <span>train.py</span> <span>--mode=compare</span>" in text
    figures = {path.stem for path in (tmp_path / "figures").iterdir()}
    assert figures == {
        *("accuracy_training_time", "accuracy_run_macs", "accuracy_macs_spent", "differences"),
        "calibration",
    }
    assert text.count("data:image/png") == 5
    assert text.count("The p-values come from the same samples") == 2


def test_a_summary_is_plain_json(summary, tmp_path):
    write_json(tmp_path / "x.json", summary)
