"""A queue of rows: made once, continued after any end, filled up on another day."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
import shutil

import pytest
from toy import toy_config, toy_source

import moe.compare.queue
import moe.compare.run
import moe.run
import moe.workspace
from moe.compare.arms import ARMS
from moe.compare.run import compare
from moe.config.tools import CompareConfig
from moe.data.source import Examples
from moe.errors import UserError
from moe.files import alone_in
from moe.train.stage_run import StageRun

SOME = ("baseline", "separate-hard", "separate-soft")
VARIES = (
    *("train_seconds", "seconds"),
    "revision",  # of a checkout that somebody works in
)


class Crash(BaseException):
    """Stands for the end of the process: nothing that was in memory is used again."""


@pytest.fixture(autouse=True, scope="module")
def _toy():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(moe.workspace, "open_source", lambda *_: toy_source())
        yield


def toy_comparison(workdir: pathlib.Path, arms=SOME, seeds=1, results=None, **changes):
    given = {"budget": "epochs:3", "train_examples": 100, "checkpoint_steps": 1} | changes
    return CompareConfig(toy_config(workdir, "compare", **given), seeds, arms, results)


def records(results: pathlib.Path) -> dict[str, dict]:
    """The rows that are there, without what a clock says, or who works in the checkout."""
    found = {path.stem: json.loads(path.read_text()) for path in results.glob("*.json")}
    for record in found.values():
        for part in (record, *record["stages"], *record["runs"].values()):
            for name in set(VARIES) & set(part):
                del part[name]
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("compare")
    with open(workdir / "said.txt", "w") as said, contextlib.redirect_stdout(said):
        assert compare(toy_comparison(workdir)) == 0
    return workdir


def test_every_row_is_small_and_tells_what_it_is(undisturbed):
    found = records(undisturbed / "results")
    assert set(found) == {f"{name}-seed0" for name in SOME}
    for record in found.values():
        arm = ARMS[record["arm"]]
        assert (record["kind"], record["mode"], record["routing"]) == arm
        assert record["budget"] == "epochs:3"
        assert record["correct"]["count"] == record["examples"]["test"] == 75
        assert str(undisturbed) not in json.dumps(record)
    assert all(path.stat().st_size < 20_000 for path in undisturbed.glob("results/*.json"))


def test_a_run_that_several_rows_need_is_trained_once_and_paid_for_by_each(undisturbed):
    found = records(undisturbed / "results")
    runs = {path.name for path in (undisturbed / "runs").iterdir()}
    assert runs == {"baseline-seed0", "separate-seed0"}
    hard, soft = found["separate-hard-seed0"], found["separate-soft-seed0"]
    assert set(hard["runs"]) == {"baseline-seed0", "separate-seed0"}
    assert hard["runs"] == soft["runs"]
    stages = [stage["name"] for stage in hard["stages"]]
    assert stages == ["baseline", "gate", "sharp", "soft", "blend"]
    assert hard["macs_spent"] == sum(stage["macs"] for stage in hard["stages"])
    assert hard["macs_spent"] > found["baseline-seed0"]["macs_spent"]
    assert hard["parts"]["baseline"] == {"accuracy": found["baseline-seed0"]["test"]["accuracy"]}
    assert soft["macs_per_example"]["active"] > hard["macs_per_example"]["active"]
    assert {stage["epochs"] for stage in hard["stages"]} == {3.0}


@pytest.mark.slow
def test_a_comparison_that_was_killed_ends_as_an_undisturbed_one(
    undisturbed, tmp_path, monkeypatch
):
    """Killed in the middle of a run, then between two rows, and continued both times."""
    config = toy_comparison(tmp_path)
    separate = tmp_path / "runs" / "separate-seed0"
    with monkeypatch.context() as patch:
        # The baseline takes nine steps, each a loop; so does the gate after it.
        patch.setattr(StageRun, "_run_loop", _crashing(13, StageRun._run_loop))
        with pytest.raises(Crash):
            compare(config)
    assert set(records(tmp_path / "results")) == {"baseline-seed0"}
    assert (separate / "checkpoints").exists()
    assert not (separate / "results.json").exists()
    with monkeypatch.context() as patch:
        patch.setattr(
            moe.compare.queue, "write_record", _crashing(2, moe.compare.queue.write_record)
        )
        with pytest.raises(Crash):
            compare(config)
    assert set(records(tmp_path / "results")) == {"baseline-seed0", "separate-hard-seed0"}
    assert compare(config) == 0
    assert records(tmp_path / "results") == records(undisturbed / "results")


def _crashing(call: int, function):
    """`function`, which dies at the given call."""
    calls = iter(range(1, call + 1))

    def dying(*arguments, **named):
        if next(calls) == call:
            raise Crash
        return function(*arguments, **named)

    return dying


def test_rows_that_are_there_are_not_made_again_also_in_another_folder(
    undisturbed, tmp_path, monkeypatch, capsys
):
    results = tmp_path / "results"
    shutil.copytree(undisturbed / "results", results)
    monkeypatch.setattr(moe.compare.queue, "train", lambda *_, **__: pytest.fail("trained again"))
    assert compare(toy_comparison(tmp_path / "elsewhere", results=str(results))) == 0
    assert "separate-soft" in capsys.readouterr().out


def test_a_run_trained_by_itself_serves_as_a_row(undisturbed, tmp_path, monkeypatch):
    """Its length in epochs is a budget of as many."""
    single = toy_config(
        tmp_path / "runs" / "baseline-seed0",
        "baseline",
        epochs=3,
        train_examples=100,
        checkpoint_steps=1,
        tensorboard=False,
    )
    assert moe.run.train(single) == 0
    monkeypatch.setattr(moe.compare.queue, "train", lambda *_, **__: pytest.fail("trained again"))
    assert compare(toy_comparison(tmp_path, arms=("baseline",))) == 0
    expected = records(undisturbed / "results")["baseline-seed0"]
    assert records(tmp_path / "results") == {"baseline-seed0": expected}


def test_a_finished_run_of_other_flags_is_no_row(undisturbed, tmp_path, capsys):
    shutil.copytree(undisturbed / "runs", tmp_path / "runs")
    assert compare(toy_comparison(tmp_path, arms=("baseline",), learning_rate=0.5)) == 2
    assert "baseline-seed0: holds another run: --learning_rate=0.5 (was" in capsys.readouterr().err
    assert not list((tmp_path / "results").glob("*.json"))


def test_rows_of_other_data_behind_the_same_flags_are_refused(undisturbed, tmp_path, monkeypatch):
    """As a file of one's own may hold it another day."""
    other = toy_source()
    features, label, *rest = other.train()
    changed = dataclasses.replace(other, train=lambda: Examples(255 - features, label, *rest))
    monkeypatch.setattr(moe.workspace, "open_source", lambda *_: changed)
    config = toy_comparison(tmp_path, results=str(undisturbed / "results"), seeds=2)
    with pytest.raises(UserError, match="another comparison: other examples, groups or class wei"):
        compare(config)
    shutil.copytree(undisturbed / "runs", tmp_path / "runs")
    assert compare(toy_comparison(tmp_path, arms=("baseline",))) == 2
    assert not list((tmp_path / "results").glob("*.json"))


def test_rows_tested_on_other_examples_are_no_company(undisturbed, tmp_path, monkeypatch):
    """Nothing is trained before that is said."""
    other = toy_source()
    features, label, *rest = other.test()
    changed = dataclasses.replace(other, test=lambda: Examples(255 - features, label, *rest))
    monkeypatch.setattr(moe.workspace, "open_source", lambda *_: changed)
    monkeypatch.setattr(moe.compare.queue, "train", lambda *_, **__: pytest.fail("trained"))
    config = toy_comparison(tmp_path, results=str(undisturbed / "results"), seeds=2)
    with pytest.raises(UserError, match="seed0: was tested on other examples than what --data"):
        compare(config)


def _beside_another_queue(monkeypatch, leave) -> None:
    """After every row `leave` does in the folder of rows what another queue might have done."""
    write = moe.compare.queue.write_record

    def write_and_leave(path, record):
        write(path, record)
        leave(path.parent)

    monkeypatch.setattr(moe.compare.queue, "write_record", write_and_leave)


def test_a_row_that_another_queue_made_meanwhile_is_taken(
    undisturbed, tmp_path, monkeypatch, capsys
):
    def leave(folder):
        for made in (undisturbed / "results").glob("separate-*.json"):
            shutil.copy(made, folder)

    shutil.copytree(undisturbed / "runs", tmp_path / "runs")
    _beside_another_queue(monkeypatch, leave)
    assert compare(toy_comparison(tmp_path)) == 0
    said = capsys.readouterr().out
    assert said.count("was made by another queue meanwhile") == 2
    assert records(tmp_path / "results") == records(undisturbed / "results")


def test_a_row_that_another_queue_tested_on_other_examples_is_not_taken(
    undisturbed, tmp_path, monkeypatch
):
    def leave(folder):
        other = json.loads((undisturbed / "results" / "separate-hard-seed0.json").read_text())
        other["correct"]["examples"] = "others"
        (folder / "separate-hard-seed0.json").write_text(json.dumps(other))

    shutil.copytree(undisturbed / "runs", tmp_path / "runs")
    _beside_another_queue(monkeypatch, leave)
    with pytest.raises(UserError, match=r"hard-seed0.json: was tested on other examples than "):
        compare(toy_comparison(tmp_path))
    assert not (tmp_path / "results" / "separate-soft-seed0.json").exists()


def test_a_first_row_that_another_queue_tested_on_other_examples_is_no_company(
    undisturbed, tmp_path, monkeypatch, capsys
):
    """Made while the data were opened: nothing was held against the test split yet."""
    read = moe.compare.queue.read_rows

    def read_before_it_is_left(folder, *arguments):
        found = read(folder, *arguments)
        other = json.loads((undisturbed / "results" / "baseline-seed0.json").read_text())
        other["correct"]["examples"] = "others"
        folder.mkdir(exist_ok=True)
        (folder / "baseline-seed0.json").write_text(json.dumps(other))
        return found

    shutil.copytree(undisturbed / "runs", tmp_path / "runs")
    monkeypatch.setattr(moe.compare.queue, "read_rows", read_before_it_is_left)
    with pytest.raises(UserError, match="tested on other examples than what --dataset=toy has now"):
        compare(toy_comparison(tmp_path))


def test_a_row_of_another_queue_that_fits_none_here_stops_this_one(
    undisturbed, tmp_path, monkeypatch
):
    """Made of other networks at a seed that this queue never comes to: it would be found too late,
    when the folder cannot be read any more.
    """

    def leave(folder):
        other = json.loads((undisturbed / "results" / "baseline-seed0.json").read_text())
        other |= {"seed": 1, "params": {"total": 7, "active": 7}}
        (folder / "baseline-seed1.json").write_text(json.dumps(other))

    shutil.copytree(undisturbed / "runs", tmp_path / "runs")
    _beside_another_queue(monkeypatch, leave)
    with pytest.raises(UserError, match=r"baseline-seed1.json: differs from .*baseline-seed0.json"):
        compare(toy_comparison(tmp_path))
    assert not (tmp_path / "results" / "separate-hard-seed0.json").exists()


def test_rows_that_other_queues_made_meanwhile_stand_in_the_table(
    undisturbed, tmp_path, monkeypatch, capsys
):
    def leave(folder):
        other = json.loads((undisturbed / "results" / "baseline-seed0.json").read_text())
        (folder / "baseline-seed5.json").write_text(json.dumps(other | {"seed": 5}))

    shutil.copytree(undisturbed / "runs", tmp_path / "runs")
    _beside_another_queue(monkeypatch, leave)
    assert compare(toy_comparison(tmp_path, arms=("baseline",))) == 0
    assert json.loads((tmp_path / "compare.json").read_text())["arms"]["baseline"]["seeds"] == [
        *(0, 5)
    ]


def test_a_row_is_of_the_device_that_its_runs_were_trained_on(undisturbed, tmp_path):
    """Its times are: it may be evaluated elsewhere."""
    shutil.copytree(undisturbed / "runs", tmp_path / "runs")
    for name, device in (("baseline", "B"), ("separate", "A")):
        path = tmp_path / "runs" / f"{name}-seed0" / "results.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"device": device}))
    assert compare(toy_comparison(tmp_path)) == 0
    found = records(tmp_path / "results")
    assert found["baseline-seed0"]["device"] == "B"
    assert found["separate-hard-seed0"]["device"] == "A and B"
    assert found["separate-hard-seed0"]["runs"]["separate-seed0"]["device"] == "A"


def test_a_row_of_other_networks_behind_the_same_flags_is_not_trained(
    undisturbed, tmp_path, monkeypatch, capsys
):
    """As a file of one's own may hold them another day."""
    monkeypatch.setattr(moe.compare.queue, "train", lambda *_, **__: pytest.fail("trained"))
    row = json.loads((undisturbed / "results" / "baseline-seed0.json").read_text())
    row |= {"seed": 1, "params": {"total": 7, "active": 7}}
    results = tmp_path / "results"
    results.mkdir()
    (results / "baseline-seed1.json").write_text(json.dumps(row))
    assert compare(toy_comparison(tmp_path, arms=("baseline",))) == 2
    said = capsys.readouterr().err
    assert "baseline-seed0: failed: " in said
    assert "baseline-seed0: differs from baseline-seed1, a row of the same arm, in params: " in said
    assert " active; there 7 total, 7 active. Another version made" in said
    assert not (results / "baseline-seed0.json").exists()


def test_rows_have_a_folder_of_their_own(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"^--results=.*file: cannot be made"):
        compare(toy_comparison(tmp_path / "run", results=str(tmp_path / "file")))
    assert not (tmp_path / "run").exists()
    with pytest.raises(UserError, match=r"^--workdir=.*file/run: cannot be made"):
        compare(toy_comparison(tmp_path / "file" / "run"))
    with pytest.raises(UserError, match=r"--results=.*: is --workdir, whose compare.json is no"):
        compare(toy_comparison(tmp_path, results=str(tmp_path)))


def test_a_queue_goes_on_from_another_place(undisturbed, tmp_path, monkeypatch, capsys):
    """Runs that start from others know them by a path."""
    shutil.copytree(undisturbed, tmp_path / "moved")
    shutil.rmtree(tmp_path / "moved" / "results")
    monkeypatch.setattr(moe.compare.queue, "train", lambda *_, **__: pytest.fail("trained again"))
    monkeypatch.chdir(tmp_path)
    assert compare(toy_comparison(pathlib.Path("moved"))) == 0
    assert records(tmp_path / "moved" / "results") == records(undisturbed / "results")


def test_a_run_of_a_queue_is_continued_with_the_queue(undisturbed):
    said = (undisturbed / "said.txt").read_text().splitlines()
    told = [line for line in said if line.startswith("continue")]
    assert len(told) == 3  # two runs and the queue
    assert all(line.endswith(f"--workdir={undisturbed}") for line in told)


def test_a_trunk_without_a_baseline_leaves_the_joint_mixtures(tmp_path):
    networks = {"expert_backbone": "mlp-8-8", "gate_backbone": "mlp-8-8"}
    networks |= {"baseline_backbone": "mlp-8-8", "trunk": 1, "baseline": False, "boost": "none"}
    config = toy_comparison(tmp_path, arms=("joint-soft",), budget="epochs:1", **networks)
    assert compare(config) == 0
    assert set(records(tmp_path / "results")) == {"joint-soft-seed0"}
    config = toy_comparison(tmp_path / "all", arms=("separate-hard",), **networks)
    with pytest.raises(UserError, match="--arms=separate-hard: must be among baseline, joint-hard"):
        compare(config)


def test_seeds_whose_averages_would_share_networks_are_refused_before_training(
    undisturbed, tmp_path, monkeypatch
):
    monkeypatch.setattr(moe.compare.queue, "train", lambda *_, **__: pytest.fail("trained"))
    config = toy_comparison(tmp_path, results=str(undisturbed / "results"), seed=1000)
    with pytest.raises(UserError, match=r"^--seed=1000: rows of this seed and of 0, a multiple of"):
        compare(config)


def test_rows_of_another_comparison_are_refused(undisturbed, tmp_path):
    config = toy_comparison(tmp_path, results=str(undisturbed / "results"), budget="epochs:4")
    with pytest.raises(UserError, match=r"row of another comparison: --budget=epochs:4 \(was ep"):
        compare(config)


def test_a_row_that_fails_costs_no_other(tmp_path, monkeypatch, capsys):
    real = moe.compare.queue.train

    def train(config, **named):
        if config.runtime.workdir.endswith("baseline-seed0"):
            raise UserError("no luck")
        return real(config, **named)

    monkeypatch.setattr(moe.compare.queue, "train", train)
    config = toy_comparison(tmp_path, arms=("baseline", "wide-hard"), budget="macs:1e6")
    assert compare(config) == 2
    assert set(records(tmp_path / "results")) == {"wide-hard-seed0"}
    assert "baseline-seed0: failed: no luck" in capsys.readouterr().err


def test_a_second_queue_in_the_same_folder_is_refused(undisturbed, monkeypatch):
    monkeypatch.setattr(moe.compare.run, "_show", lambda *_: pytest.fail("written"))
    with alone_in(undisturbed), pytest.raises(UserError, match="is training in it; wait"):
        compare(toy_comparison(undisturbed))


def test_the_folder_of_a_run_is_none_for_a_comparison(undisturbed):
    with pytest.raises(UserError, match="baseline-seed0: holds a run; a comparison needs"):
        compare(toy_comparison(undisturbed / "runs" / "baseline-seed0"))


def test_an_unknown_arm_is_refused(tmp_path):
    with pytest.raises(UserError, match="--arms=dense: must be among baseline, separate-hard"):
        compare(toy_comparison(tmp_path, arms=("baseline", "dense")))


def test_without_named_groups_only_joint_mixtures_are_compared(tmp_path):
    config = toy_comparison(tmp_path, arms=("separate-hard",), groups="none:2")
    with pytest.raises(UserError, match="--arms=separate-hard: must be among baseline, joint-hard"):
        compare(config)


def test_a_network_of_one_width_has_no_wide_control(tmp_path, monkeypatch, capsys):
    (tmp_path / "narrow_networks.py").write_text(
        "from moe.models.backbones import find\n"
        "def narrow(input_shape, outputs):\n"
        "    return find('mlp-4')(input_shape, outputs)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    network = "narrow_networks:narrow"
    config = toy_comparison(tmp_path / "run", arms=("wide-hard",), expert_backbone=network)
    with pytest.raises(UserError, match=r"--arms=wide-hard: must be among .*average-soft\.$"):
        compare(config)
    assert f"{network} has but one width: no control is a" in capsys.readouterr().err


@pytest.mark.slow
def test_every_arm_under_a_budget_of_epochs(tmp_path):
    assert compare(toy_comparison(tmp_path, arms=(), seeds=2)) == 0
    found = records(tmp_path / "results")
    assert len(found) == 2 * len(ARMS)
    staged = found["staged-hard-seed0"]
    assert set(staged["runs"]) == {"parts-seed0", "staged-hard-seed0"}
    assert [stage["epochs"] for stage in staged["stages"]] == [2.0] * 5 + [1.0]
    assert found["staged-soft-seed0"]["runs"]["parts-seed0"] == staged["runs"]["parts-seed0"]
    members = [set(found[f"average-soft-seed{seed}"]["runs"]) for seed in (0, 1)]
    assert len(members[0] | members[1]) == 2 * found["average-soft-seed0"]["networks"] == 8
    assert set(found["average-hard-seed0"]["runs"]) < members[0]
    for routing in ("hard", "soft"):
        mixture, wide, tuned = (
            found[f"{name}-{routing}-seed0"]["macs_per_example"]["active"]
            for name in ("joint", "wide", "tuned")
        )
        assert wide == pytest.approx(mixture, rel=0.02)
        assert tuned == wide
    tuned = found["tuned-hard-seed0"]
    assert set(tuned["runs"]) == {"tuned-hard-first-seed0", "tuned-hard-seed0"}
    assert [stage["epochs"] for stage in tuned["stages"]] == [2.0, 1.0]
    assert tuned["macs_spent"] == found["wide-hard-seed0"]["macs_spent"]
    first, last = (
        json.loads((tmp_path / "runs" / name / "config.json").read_text())["config"]["train"]
        for name in tuned["runs"]
    )
    assert last["learning_rate"] == pytest.approx(0.1 * first["learning_rate"])
    # Another day: rows of another seed, and nothing else.
    later = toy_comparison(tmp_path, arms=("baseline",), seed=2)
    assert compare(later) == 0
    assert set(records(tmp_path / "results")) == {*found, "baseline-seed2"}


@pytest.mark.slow
@pytest.mark.parametrize("budget", ["macs:2e8", "seconds:.5"])
def test_every_arm_has_the_whole_budget_to_itself(tmp_path, budget):
    arms = ("baseline", "separate-hard", "staged-soft", "joint-hard", "wide-hard", "average-hard")
    assert compare(toy_comparison(tmp_path, arms=arms, budget=budget)) == 0
    for name, record in records(tmp_path / "results").items():
        if "average" not in name:
            assert set(record["runs"]) == {name.replace("-hard", "") if "sep" in name else name}
        if budget.startswith("macs"):
            assert record["macs_spent"] == pytest.approx(2e8, rel=0.05)


@pytest.mark.slow
def test_a_staged_run_of_parts_that_are_there_is_the_one_that_makes_them(tmp_path):
    """What is reused changes nothing: bit for bit the same answers as without."""
    config = toy_comparison(tmp_path / "compare", arms=("staged-soft",))
    assert compare(config) == 0
    whole = toy_config(
        tmp_path / "whole", "staged", budget="epochs:3", train_examples=100, tensorboard=False
    )
    assert moe.run.train(whole) == 0
    (row,) = records(tmp_path / "compare" / "results").values()
    results = json.loads((tmp_path / "whole" / "results.json").read_text())
    assert row["test"]["nll"] == pytest.approx(results["test"]["nll"], abs=1e-7)
    assert row["macs_spent"] == results["macs_spent"]
