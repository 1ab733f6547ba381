"""From rows to means, choice and verdict."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from rows import make_row, make_rows

from moe.compare.arms import (
    ARMS,
    MEMBER_STRIDE,
    check_seeds,
    controls_of,
    in_order,
    mixture_pairs,
    possible_arms,
)
from moe.compare.figures import figures
from moe.compare.present import grids, points
from moe.compare.record import unpack
from moe.compare.report import write_files, write_report
from moe.compare.summary import summarize
from moe.compare.words import comparison_text
from moe.config.tools import MOST_SEEDS
from moe.errors import UserError
from moe.evaluate.metrics import mcnemar
from moe.files import write_json
from moe.report.drawing import style


@pytest.fixture(scope="module")
def rows():
    return make_rows(seeds=3)


@pytest.fixture(scope="module")
def summary(rows):
    return summarize(rows)


def test_every_control_has_what_the_mixture_has():
    assert controls_of("joint-hard") == ["baseline", "wide-hard", "average-hard", "wide-params"]
    assert controls_of("staged-soft") == [
        *("baseline", "wide-soft", "tuned-soft", "average-soft", "wide-params")
    ]


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
    assert possible_arms(by_parts=True, any_width=True) == list(ARMS)
    whole = possible_arms(by_parts=False, any_width=True)
    by_parts = {"separate-hard", "separate-soft", "staged-hard", "staged-soft"}
    tuned = {"tuned-hard", "tuned-soft"}
    assert {*ARMS} - {*whole} == by_parts | tuned
    one_width = possible_arms(by_parts=True, any_width=False)
    assert {*ARMS} - {*one_width} == {"wide-hard", "wide-soft", "wide-params"} | tuned


def test_no_two_rows_of_an_average_share_a_baseline():
    check_seeds([*range(MOST_SEEDS), MEMBER_STRIDE - 1])
    for seed, other in ((7, 7 + MEMBER_STRIDE), (0, 3 * MEMBER_STRIDE)):
        with pytest.raises(UserError, match=f"--seed={other}: rows of this seed and of {seed}, "):
            check_seeds([other, seed, seed + 1])


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
        *(make_row("separate-hard", seed, 0.8, validation=0.80) for seed in range(3)),
        *(make_row("joint-hard", seed, 0.8, validation=0.79) for seed in range(3)),
        make_row("joint-hard", 3, 0.8, validation=0.99),
    ]
    found = summarize(rows)
    assert found["chosen"] == "separate-hard"
    assert found["chosen_by"]["seeds"] == [0, 1, 2]


@pytest.mark.parametrize(
    ("seeds", "chosen"), [((4, 3), "joint-hard"), ((4, 2), "separate-hard"), ((2, 1), "separate-")]
)
def test_a_candidate_has_three_seeds_or_as_many_as_any(seeds, chosen):
    rows = [
        *(make_row("separate-hard", seed, 0.8, validation=0.80) for seed in range(seeds[0])),
        *(make_row("joint-hard", seed, 0.8, validation=0.90) for seed in range(seeds[1])),
    ]
    found = summarize(rows)
    assert found["chosen"].startswith(chosen)
    assert found["chosen_by"]["left_out"] == ([] if seeds[1] == 3 else ["joint-hard"])


def test_what_is_to_know_of_the_data_is_what_most_rows_say_of_it():
    notes = ("Said otherwise.", "", "Made up.", "", "", "Made up.")
    rows = make_rows(6, {"baseline": 0.8})
    noted = [row | {"note": note} for row, note in zip(rows, notes, strict=True)]
    assert summarize(noted)["note"] == "Made up."
    assert summarize(rows)["note"] == ""


def test_the_order_of_rows_is_of_no_account():
    rows = make_rows(2, {"baseline": 0.8, "joint-hard": 0.8, "wide-hard": 0.7})
    for number, row in enumerate(rows):
        row |= {"device": "AB"[number % 2], "precision": "CD"[number % 2], "note": str(number)}
        row["budget"] = f"epochs:3.{'0' * number}"
        row["possible"] = [["joint-hard", "baseline"], ["wide-hard"]][number % 2]
    found = summarize(rows)
    assert summarize(rows[::-1]) == found
    assert (found["timed_on"], found["note"]) == ("A", "0")
    assert found["timed_revisions"] == 1
    assert found["possible"] == ["baseline", "joint-hard", "wide-hard"]
    assert (found["devices"], found["precisions"]) == (["A", "B"], ["C", "D"])


def test_one_seed_tells_nothing_apart_and_costs_the_others_nothing():
    """However far apart its examples are: other seeds may be as far apart."""
    means = {"joint-hard": 0.9, "joint-soft": 0.7}
    rows = make_rows(1, means | {"baseline": 0.5, "wide-hard": 0.5})
    found = summarize(rows)
    for one in [*found["controls"], *found["mixtures"]]:
        assert (one["outcome"], one["p_value"], one["p_holm"]) == ("one seed", None, None)
        assert one["mcnemar"][0]["p_holm"] < 0.001
    rows += [make_row(arm, 1, 0.8) for arm in ("joint-hard", "baseline")]
    hard = {one["b"]: one for one in summarize(rows)["controls"] if one["a"] == "joint-hard"}
    assert hard["baseline"]["p_holm"] == hard["baseline"]["p_value"]
    assert hard["wide-hard"]["outcome"] == "one seed"


def test_times_are_of_one_device():
    rows = make_rows(3, {"baseline": 0.8, "joint-hard": 0.8})
    for row in rows:
        if row["seed"] == 2 or row["arm"] == "joint-hard":
            row["device"] = "another"
    rows[0]["runs"]["baseline-seed0"]["revision"] = "of another device"
    found = summarize(rows)
    assert (found["timed_on"], found["timed_revisions"]) == ("another", 1)
    assert "revisions" not in comparison_text(found)
    rows[-1]["runs"]["joint-hard-seed2"]["revision"] = "later"
    assert "These rows are of 2 revisions of the code" in comparison_text(summarize(rows)).replace(
        "\n", " "
    )
    assert found["arms"]["baseline"]["train_seconds"] == {"mean": 62.0, "deviation": None}
    assert found["arms"]["joint-hard"]["train_seconds"]["mean"] == 61.0
    for number, row in enumerate(rows[::2]):  # the baselines
        row["device"] = f"machine {number}"
    assert summarize(rows)["arms"]["joint-hard"]["train_seconds"] is not None
    assert summarize(rows)["arms"]["baseline"]["train_seconds"] is None


@pytest.mark.parametrize(
    ("best", "schedule", "told"),
    [
        ([9, 9], "constant", True),
        ([8, 8], "constant", False),
        ([1, 1, 9], "constant", False),
        ([9, 9], "cosine", False),
    ],
)
def test_networks_that_were_still_improving_are_told(best, schedule, told):
    """Most of them, where a blend is none."""
    rows = make_rows(len(best), {"joint-hard": 0.8})
    for row, epoch in zip(rows, best, strict=True):
        row["config"]["train"]["schedule"] = schedule
        (stage,) = row["stages"]
        stage |= {"best_epoch": epoch, "epochs": 10.0}
        row["stages"] += [stage | {"name": "blend", "best_epoch": 0 if told else 10}] * 3
    assert summarize(rows)["still_improving"] is told


def test_a_last_stage_at_a_lower_rate_does_not_tell_of_longer_training():
    rows = make_rows(2, {"staged-hard": 0.8, "tuned-hard": 0.8})
    for row in rows:
        (stage,) = row["stages"]
        parts = stage | {"best_epoch": 5, "epochs": 10.0}
        row["stages"] = [parts, stage | {"best_epoch": 5, "epochs": 5.0}]
    assert not summarize(rows)["still_improving"]
    for row in rows:
        row["stages"][0]["best_epoch"] = 10
    assert summarize(rows)["still_improving"]


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


def test_the_table_has_a_line_an_arm(summary):
    by_title = {grid.title: grid for grid in grids(summary)}
    assert [row[0] for row in by_title["Accuracy"].rows] == list(ARMS)
    for grid in by_title.values():
        assert all(len(row) == len(grid.header) for row in grid.rows)


def test_nothing_has_no_sign():
    assert points({"difference": -1e-9, "low": -0.01, "high": 0.0}) == "+0.00 [-1.00, +0.00]"


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
    assert text.count("The p-values come from the same samples") == 1
    assert "of training alone, and of rows made on CPU" in text


def test_a_summary_is_plain_json(summary, tmp_path):
    write_json(tmp_path / "x.json", summary)


def test_arms_that_were_timed_elsewhere_are_named_in_the_figure():
    rows = make_rows(2, {"baseline": 0.8, "joint-hard": 0.8})
    rows[-1]["device"] = "GPU"
    with style():
        times, *others = figures(summarize(rows))
        assert "elsewhere" not in times.reading
        rows[1]["device"] = "GPU"
        rows += make_rows(3, {"wide-hard": 0.8})
        times, *others = figures(summarize(rows))
    assert times.reading.endswith(" Made elsewhere only: joint-hard.")
    assert not any("elsewhere" in picture.reading for picture in others)
