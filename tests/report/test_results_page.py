from __future__ import annotations

import json
import pathlib

import pytest
from rows import make_rows

from moe.compare.record import write_record
from moe.compare.summary import summarize
from moe.compare.words import verdict
from moe.errors import UserError
from moe.report import results_page
from moe.report.clock_section import clock_pictures
from moe.report.comparisons import load_ablations, load_comparisons
from moe.report.runs_section import runs_section

DOCS = pathlib.Path(__file__).parents[2] / "docs"


def whole_page(folder: pathlib.Path) -> str:
    return results_page.whole_page(folder, load_comparisons(folder))


def _run(seed: int, accuracy: float) -> dict:
    return {
        "dataset": "toy",
        "note": "made up",
        "mode": "joint",
        "routing": "soft",
        "seed": seed,
        "groups": ["a", "b"],
        "test": {"accuracy": accuracy, "nll": 0.5, "ece": 0.1},
        "parts": {"gate": {"accuracy": 0.9}, "experts": {"a": {"accuracy": 0.8}}},
        "routing_metrics": {"group_normalized_mutual_information": 0.7},
        "classes": ["x", "y"],
        "params": {"total": 1000, "active": 500},
        "macs_per_example": {"total": 4000, "active": 2000},
        "macs_spent": 3e15,
        "train_seconds": 120,
        "throughput": {"examples_per_second": 50},
        "precision": "float32",
        "command": "python train.py",
        "device": "CPU",
        "versions": {"tensorflow": "2"},
        "revision": "abc",
        "stages": [
            {"name": "gate", "kind": "part", "best_epoch": 3, "epochs": 5.0},
            {"name": "blend", "kind": "blend", "best_epoch": 0, "epochs": 2.0},
        ],
    }


def test_the_page_is_what_the_results_say():
    page = whole_page(DOCS / "results")
    assert (DOCS / "results.md").read_text(encoding="utf-8") == page


def test_seeds_of_another_machine_or_revision_have_a_line_of_their_own(tmp_path):
    for seed in range(3):
        run = _run(seed, 0.5) | {"command": f"python train.py --seed={seed}"}
        run |= {"revision": "def"} if seed == 1 else {}
        (tmp_path / f"toy-seed{seed}.json").write_text(json.dumps(run))
    page = whole_page(tmp_path)
    assert (
        "- **toy**, seeds 0, 2: `python train.py --seed=0`; CPU; tensorflow 2; revision abc" in page
    )
    assert "- **toy**, seed 1: `python train.py --seed=1`; CPU; tensorflow 2; revision def" in page
    assert page.count("- best epochs on validation") == 1


def test_seeds_of_other_flags_have_a_line_of_their_own(tmp_path):
    for seed, flags in enumerate(["", " --nowhiten"]):
        run = _run(seed, 0.5) | {"command": f"train.py{flags} --seed={seed} --workdir=runs/{seed}"}
        (tmp_path / f"toy-seed{seed}.json").write_text(json.dumps(run))
    page = whole_page(tmp_path)
    assert "- **toy**, seed 0: `train.py --seed=0 " in page
    assert "- **toy**, seed 1: `train.py --nowhiten --seed=1 " in page


@pytest.mark.parametrize("content", [{}, [], {"seed": 0}])
def test_what_is_no_result_of_a_run_is_refused_by_name(tmp_path, content):
    (tmp_path / "toy-seed0.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"toy-seed0\.json: is damaged, or another version"):
        whole_page(tmp_path)


def test_a_log_is_a_table_and_a_figure_of_the_last_stage_by_the_clock(tmp_path):
    (tmp_path / "toy-seed0.json").write_text(json.dumps(_run(0, 0.5)))
    (tmp_path / "clock").mkdir()
    record = {"stage": "gate", "epoch": 1, "split": "validation", "seconds": 30, "accuracy": 0.9}
    records = [
        record,
        record | {"stage": "joint", "seconds": 90, "accuracy": 0.5},
        record | {"stage": "joint", "seconds": 90, "accuracy": 0.6, "split": "train"},
        record | {"stage": "joint", "seconds": 150, "accuracy": 0.75, "epoch": 2},
    ]
    log = "\n".join(json.dumps(record) for record in records)
    (tmp_path / "clock" / "toy-seed0.jsonl").write_text(log)
    page = whole_page(tmp_path)
    assert "| joint, epoch | 1 | 2 |" in page
    assert "| minutes | 1.5 | 2.5 |\n| accuracy | 50.0 | 75.0 |" in page
    assert "![Validation accuracy by training time: 75.0% on validation after" in page
    assert "](clock/toy-seed0.png)" in page
    ((name, picture),) = clock_pictures(tmp_path)
    assert name == "toy-seed0"
    assert "75.0% on validation after 150.0 seconds" in picture.alt
    assert "soft routing" in picture.figure.get_suptitle()


def test_the_clock_of_a_network_by_itself_names_no_routing(tmp_path):
    (tmp_path / "toy-seed0.json").write_text(json.dumps(_run(0, 0.5) | {"mode": "baseline"}))
    (tmp_path / "clock").mkdir()
    record = {"stage": "baseline", "epoch": 1, "split": "validation", "seconds": 3, "accuracy": 0.9}
    (tmp_path / "clock" / "toy-seed0.jsonl").write_text(json.dumps(record))
    ((_, picture),) = clock_pictures(tmp_path)
    assert "routing" not in picture.figure.get_suptitle()


def test_every_published_log_is_that_of_a_published_run_and_drawn():
    logs = {path.stem for path in (DOCS / "results" / "clock").iterdir()}
    assert logs <= {path.stem for path in (DOCS / "results").glob("*.json")}
    assert logs == {path.stem for path in (DOCS / "clock").iterdir()}


def test_an_evaluation_is_a_table_of_routings(tmp_path):
    found = {
        "dataset": "toy",
        "precision": "float32",
        "routings": {
            "hard": {
                "accuracy": 0.5,
                "nll": 1.25,
                "ece": 0.1,
                "macro_f1": 0.4,
                "routing_metrics": {"mutual_information": 0.3},
            },
            "baseline": {
                "accuracy": 0.25,
                "nll": 2.5,
                "ece": 0.2,
                "macro_f1": 0.2,
                "routing_metrics": {},
            },
        },
        "routed_against_dense": {"hard": 1.5e-7},
        **{key: _run(0, 0.5)[key] for key in ("command", "device", "versions", "revision")},
    }
    (tmp_path / "evaluations").mkdir()
    (tmp_path / "evaluations" / "toy-run.json").write_text(json.dumps(found))
    page = whole_page(tmp_path)
    assert "| hard | 50.00 | 1.250 | 0.100 | 0.400 | 0.300 |" in page
    assert "| baseline | 25.00 | 2.500 | 0.200 | 0.200 | - |" in page
    assert "by at most 1.5e-07" in page


def test_a_benchmark_is_a_table_of_questions(tmp_path):
    answer = {"question": "new / old", "quantity": "speed", "ratio": 1.25, "low": 1.1, "high": 1.3}
    found = {
        "data": "images",
        "precision": "float32",
        "rounds": 15,
        "resolution": 0.031,
        "answers": [answer | {"resolved": True}, answer | {"ratio": 1.01, "resolved": False}],
        **{key: _run(0, 0.5)[key] for key in ("command", "device", "versions", "revision")},
    }
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "cpu.json").write_text(json.dumps(found))
    page = whole_page(tmp_path)
    assert "**cpu**, images, float32, 15 rounds; equal things are told apart by 3.1 %:" in page
    assert "| new / old | speed | 1.250 | 1.100 to 1.300 |" in page
    assert "| new / old | speed | 1.010 (not resolved) | 1.100 to 1.300 |" in page
    found |= {"bias": -0.012, "verdicts": [{"sentence": "train: routing pays from batch 8 on"}]}
    (tmp_path / "benchmarks" / "cpu.json").write_text(json.dumps(found))
    page = whole_page(tmp_path)
    assert "told apart by 3.1 %, with a bias of -1.2 %:" in page
    assert "- train: routing pays from batch 8 on.\n" in page


def test_the_comparison_with_most_rows_comes_first(tmp_path):
    for name, seeds in (("a", 1), ("b", 3), ("c", 1)):
        for row in make_rows(seeds, {"baseline": 0.7}):
            write_record(tmp_path / "compare" / name / f"baseline-seed{row['seed']}.json", row)
    assert list(load_comparisons(tmp_path)) == ["b", "a", "c"]


def test_a_comparison_is_its_finding_and_its_tables(tmp_path):
    folder = tmp_path / "compare" / "toy"
    rows = make_rows(3, {"baseline": 0.7, "joint-hard": 0.8, "wide-hard": 0.75})
    for row in rows:
        write_record(folder / f"{row['arm']}-seed{row['seed']}.json", row)
    page = whole_page(tmp_path)
    assert "### toy\n" in page
    assert "- joint-hard is the only mixture here (validation: mean 80.00 % over seeds 0-2)" in page
    for sentence in verdict(summarize(rows)):
        assert f"- {sentence}\n" in page
    (line,) = (line for line in page.splitlines() if line.startswith("| joint-hard | wide-hard |"))
    assert line.endswith("| ahead |")
    assert "- 9 rows: `python train.py --mode=compare`; CPU; tensorflow 2; revision abc" in page
    path = folder / "baseline-seed0.json"
    (run,) = rows[0]["runs"].values()
    revisions = {"baseline": "old", "again": "abc", "elsewhere": None}  # that one without git
    row = rows[0] | {"runs": {name: run | {"revision": r} for name, r in revisions.items()}}
    write_record(path, row)
    page = whole_page(tmp_path)
    assert (
        "- 1 row: `python train.py --mode=compare`; CPU; tensorflow 2; revision abc, trained at "
        "None, old\n"
    ) in page


def test_an_ablation_is_the_whole_recipe_against_its_parts(tmp_path):
    for recipe, accuracy in (("whole", 0.8), ("no-trick", 0.75)):
        for row in make_rows(3, {"joint-soft": accuracy}):
            path = tmp_path / "ablations" / "toy" / recipe / f"joint-soft-seed{row['seed']}.json"
            write_record(path, row)
    page = whole_page(tmp_path)
    assert "### toy\n\njoint-soft on toy, budget epochs:3; float32.\n" in page
    (line,) = (line for line in page.splitlines() if line.startswith("| whole | no-trick |"))
    assert line.endswith("| ahead |")
    assert "- 6 rows: `python train.py --mode=compare`; CPU; tensorflow 2; revision abc" in page


def test_an_ablation_that_has_just_begun_is_left_out(tmp_path):
    (row,) = make_rows(1, {"joint-soft": 0.8})
    for name in ("begun", "later"):
        (tmp_path / "ablations" / name / "whole").mkdir(parents=True)
    write_record(tmp_path / "ablations" / "later" / "no-trick" / "joint-soft-seed0.json", row)
    assert load_ablations(tmp_path) == {}
    write_record(tmp_path / "ablations" / "begun" / "whole" / "joint-soft-seed0.json", row)
    (tmp_path / "ablations" / "begun" / "no-trick").mkdir()
    assert {name: set(found) for name, found in load_ablations(tmp_path).items()} == {
        "begun": {"whole"}
    }


def test_what_went_wrong_is_told_by_seed():
    def finding(condition: str, epoch: int) -> dict:
        return {"stage": "joint", "epoch": epoch, "condition": condition, "expert": "a"}

    found = [
        finding("collapse", 3),
        finding("dead expert", 3),
        finding("dead expert", 3),
        finding("collapse", 5),
    ]
    page = runs_section({"run": [_run(0, 0.5), _run(1, 0.5) | {"health": found}]})
    assert page.count("health") == 1
    assert "  - seed 1, health: collapse, joint epoch 3, 5; dead expert, joint epoch 3\n" in page


def test_seeds_become_one_row_with_their_spread():
    # mean (70 + 72) / 2 = 71; deviation sqrt((1 + 1) / 1) = 1.41
    page = runs_section({"toy-joint": [_run(0, 0.70), _run(1, 0.72)]})
    assert "| toy-joint | joint | soft | 2 | 71.00 ± 1.41 |" in page
    assert "| 3.0 ± 0.0 P | - | 2.0 ± 0.0 min |" in page
    assert "made up" in page
    assert "best epochs on validation: gate 3 of 5, 3 of 5; blend 0 of 2, 0 of 2 (the even" in page


@pytest.mark.parametrize(
    ("macs", "seconds", "cells"),
    [
        (7.2e14, 6624, "720.0 T | - | 110.4 min"),
        (1e12, 60, "1.0 T | - | 1.0 min"),
        (2.5e9, 59.94, "2.5 G | - | 59.9 s"),
        (12, 0.25, "12.0 | - | 0.2 s"),
    ],
)
def test_units_fit_the_size_of_the_run(macs, seconds, cells):
    run = _run(0, 0.7) | {"macs_spent": macs, "train_seconds": seconds}
    assert f"| {cells} |" in runs_section({"toy": [run]})


def test_groups_found_are_a_row_a_baseline(tmp_path):
    found = {
        "dataset": "toy",
        "seed": 3,
        "validation_accuracy": 0.8125,
        "found": {"group_0": ["cat", "dog"], "group_1": ["ship"]},
        "named": {"natural": ["cat", "dog"], "artificial": ["ship"]},
        "agreement": {"adjusted_rand_index": 1.0, "normalized_mutual_information": 0.75},
        "command": "python train.py --groups=auto:2",
        "device": "CPU",
        "versions": {"tensorflow": "2"},
        "revision": "abc",
    }
    unnamed = found | {"named": None, "agreement": None}
    folder = tmp_path / "discovery"
    folder.mkdir()
    for name, content in (("one", found), ("two", unnamed)):
        (folder / f"{name}.json").write_text(json.dumps(content))
    page = whole_page(tmp_path)
    groups = "group_0: cat, dog; group_1: ship"
    named = "natural: cat, dog; artificial: ship"
    assert f"| one | toy | 3 | 81.25 | {groups} | {named} | 1.000 | 0.750 |" in page
    assert f"| two | toy | 3 | 81.25 | {groups} | - | - | - |" in page
    assert "- **one**: `python train.py --groups=auto:2`; CPU; tensorflow 2; revision abc" in page
