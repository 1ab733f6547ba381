"""A run that was cut off and continued ends in the same weights, bit for bit."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from toy import CLASSES, toy_config, toy_source

from moe import run
from moe.config.tools import EvalConfig
from moe.data import registry
from moe.errors import UserError
from moe.evaluate.run import evaluate
from moe.train import stage_run, validation
from moe.train.checkpoint import CheckpointStore
from moe.train.loss_scale import DynamicScale
from moe.train.progress import Reporter
from moe.train.stage_run import StageRun

ROOT = pathlib.Path(__file__).parents[2]
_PATIENCE = 600
"""Seconds after which a process counts as hanging, also on a machine that is busy."""


class Crash(BaseException):
    """Stands for the end of the process: nothing that was in memory is used again."""


def _weights(workdir: pathlib.Path) -> dict[str, np.ndarray]:
    reader = tf.train.load_checkpoint(str(workdir / "best" / "ckpt-1"))
    names = reader.get_variable_to_shape_map()
    return {name: reader.get_tensor(name) for name in names if name.endswith("VARIABLE_VALUE")}


def _assert_same(a: pathlib.Path, b: pathlib.Path) -> None:
    first, second = _weights(a), _weights(b)
    assert first.keys() == second.keys()
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name], err_msg=name)


def _assert_same_metrics(a: pathlib.Path, b: pathlib.Path) -> None:
    """Compares what was logged, but for the clock and for the notes that a run was continued."""
    first, second = (
        [
            {k: value for k, value in record.items() if k not in ("examples_per_second", "seconds")}
            for record in _records(workdir)
            if "event" not in record
        ]
        for workdir in (a, b)
    )
    assert first == second


def _records(workdir: pathlib.Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def _crash(monkeypatch, config, loop: int) -> None:
    """Runs `config` and ends it in its `loop`-th loop, before anything of that is saved."""
    calls = []

    def advance(self, *args):
        calls.append(args)
        if len(calls) == loop:
            raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(Reporter, "advance", advance)
        with pytest.raises(Crash):
            run.train(config)


# Eight steps an epoch (an expert: 3 or 5), two epochs a stage, loops of 2 steps, a checkpoint every
# 4. Loops by stage: baseline 8, gate 8, sharp 4, soft 6, blend 8, joint 8.
@pytest.mark.parametrize(
    ("mode", "flags", "loop"),
    [
        pytest.param(  # in the middle of the first epoch
            *("joint", {"routing": "soft", "expert_backbone": "tiny"}, 4), marks=pytest.mark.slow
        ),
        pytest.param(  # of the second; a trunk whose first layer is frozen, two views of an image
            "joint",
            {"routing": "hard", "schedule": "cosine", "trunk": 1, "whiten": True, "tta": "flip"}
            | dict.fromkeys(("gate_backbone", "expert_backbone", "baseline_backbone"), "tiny"),
            7,
            marks=pytest.mark.slow,
        ),
        pytest.param(  # right behind the first
            *("joint", {"routing": "hard", "precision": "mixed_bfloat16"}, 5),
            marks=pytest.mark.slow,
        ),
        (  # in the third stage; a moving average and alternating flips
            "separate",
            {"baseline": False, "optimizer": "nesterov", "ema_decay": 0.9, "augment": "alternate"},
            15,
        ),
        (  # between two looks
            "joint",
            {"optimizer": "muon", "muon_rate": 0.1, "lookahead": 3, "schedule": "triangular"},
            7,
        ),
        pytest.param(  # in the blend
            *("staged", {"monitor": "loss", "trunk": 1}, 29), marks=pytest.mark.slow
        ),
    ],
)
def test_a_crashed_run_continues_exactly(toy, monkeypatch, tmp_path, mode, flags, loop):
    flags |= {"steps_per_loop": 2, "checkpoint_steps": 4}
    run.train(toy_config(tmp_path / "straight", mode, **flags))
    cut = toy_config(tmp_path / "cut", mode, **flags)
    _crash(monkeypatch, cut, loop)
    assert not (tmp_path / "cut" / "results.json").exists()
    run.train(cut)
    _assert_same(tmp_path / "straight", tmp_path / "cut")
    _assert_same_metrics(tmp_path / "straight", tmp_path / "cut")
    # Flips are counted against an epoch that the continued process has not seen.
    seen = ["routing_flips" in r for r in _records(tmp_path / "cut") if "entropy" in r]
    gate, tuned = [False, True], [False, True, True]  # a stage that starts trained is judged first
    assert seen == {"joint": gate, "separate": gate, "staged": [*gate, *tuned, *tuned]}[mode]
    (continued,) = (record for record in _records(tmp_path / "cut") if "event" in record)
    assert continued["event"] == "continued"
    assert continued["step"] > 0
    if mode == "joint" and "tta" not in flags:  # what was judged, averages too, is what is kept
        records = _records(tmp_path / "cut")
        judged = [r["accuracy"] for r in records if r.get("split") == "validation"]
        results = json.loads((tmp_path / "cut" / "results.json").read_text())
        assert results["validation"]["accuracy"] == max(judged)


# A routing and its statistics, and the share of the experts that run an example in training.
ROUTERS = {
    "noisy": ({"routing": "noisy_topk", "top_k": 2, "load_loss": 0.1}, 2 / 3),
    "balanced": ({"routing": "topk", "top_k": 2, "balance_bias": 0.01}, 2 / 3),
    "expert choice": ({"routing": "expert_choice", "importance_loss": 0.1}, 1.25 / 3),
}


@pytest.mark.slow
@pytest.mark.parametrize("router", ROUTERS)
def test_every_router_trains_continues_exactly_and_is_evaluated(toy, monkeypatch, tmp_path, router):
    flags, share = ROUTERS[router]
    flags = flags | {"groups": "none:3", "baseline": False, "learning_rate": 0.01}
    flags |= {"steps_per_loop": 2, "checkpoint_steps": 4}
    straight, cut = tmp_path / "straight", tmp_path / "cut"
    run.train(toy_config(straight, **flags))
    _crash(monkeypatch, toy_config(cut, **flags), 7)  # in the second epoch
    run.train(toy_config(cut, **flags))
    _assert_same(straight, cut)
    _assert_same_metrics(straight, cut)

    metrics = _records(straight)[0]
    for name in ("importance_loss", "balance_loss", *(f for f in flags if f.endswith("_loss"))):
        assert metrics[name] > 0
    biases = [v for name, v in _weights(straight).items() if "gate" in name and v.shape == (3,)]
    moved = [b for b in biases if b.any() and np.allclose(b / 0.01, np.round(b / 0.01), atol=1e-3)]
    assert len(moved) == (router == "balanced")

    results = json.loads((cut / "results.json").read_text())
    assert results["test"]["accuracy"] > 0.3  # chance is 0.2
    (stage,) = results["stages"]
    expert = 192 * 16 + 16 * 5
    outputs = 6 if router == "noisy" else 3
    gate = 192 * 8 + 8 * outputs
    assert stage["macs"] == stage["examples"] * round(3 * (gate + 3 * share * expert))
    assert evaluate(EvalConfig(workdir=str(cut), report=False)) == 0
    evaluation = json.loads((cut / "evaluation.json").read_text())
    found = evaluation["routings"][flags["routing"]]
    assert found["accuracy"] == results["test"]["accuracy"]
    assert found["nll"] == pytest.approx(results["test"]["nll"], rel=1e-5)
    assert evaluation["parts"] == results["parts"]
    assert evaluation["top_k"] == flags.get("top_k")
    # What is evaluated with all experts is routed nowhere.
    assert (flags["routing"] in evaluation["routed_against_dense"]) == ("top_k" in flags)


@pytest.mark.parametrize(
    ("mode", "stage", "step", "checkpoint_steps"),
    [
        ("baseline", "baseline", 8, 0),  # the first epoch is logged, nothing is saved yet
        ("baseline", "baseline", 8, 4),  # half of it is saved
        pytest.param(
            *("separate", "blend", 1, 0), marks=pytest.mark.slow
        ),  # its start is logged, on the last step of the stage before
    ],
)
def test_what_is_done_again_is_logged_once(
    toy, monkeypatch, tmp_path, mode, stage, step, checkpoint_steps
):
    """The run ends right before a checkpoint, when everything up to it is logged."""
    flags = {"steps_per_loop": 2, "checkpoint_steps": checkpoint_steps}
    run.train(toy_config(tmp_path / "straight", mode, **flags))
    cut = toy_config(tmp_path / "cut", mode, **flags)
    save = StageRun.save

    def crash(self):
        if self._stage.name == stage and self._progress.step >= step:
            raise Crash
        save(self)

    with monkeypatch.context() as patch:
        patch.setattr(StageRun, "save", crash)
        with pytest.raises(Crash):
            run.train(cut)
    run.train(cut)
    _assert_same(tmp_path / "straight", tmp_path / "cut")
    _assert_same_metrics(tmp_path / "straight", tmp_path / "cut")


def test_steps_do_not_depend_on_loops_nor_on_when_they_are_looked_at(toy, monkeypatch, tmp_path):
    flags = {"routing": "hard", "boost": "scalar"}
    run.train(toy_config(tmp_path / "a", steps_per_loop=1, tensorboard=False, **flags))
    run_loop = StageRun._run_loop

    def loop_and_look(self, *args):
        seconds = run_loop(self, *args)
        self._validation.judge_all()
        self._context.reporter.log({"step": 0, "note": "an event more"})
        return seconds

    monkeypatch.setattr(StageRun, "_run_loop", loop_and_look)
    run.train(toy_config(tmp_path / "b", steps_per_loop=4, checkpoint_steps=3, **flags))
    _assert_same(tmp_path / "a", tmp_path / "b")


@pytest.mark.parametrize("finished", [True, False])
def test_a_longer_run_continues_a_shorter_one(toy, monkeypatch, tmp_path, finished):
    flags = {"steps_per_loop": 2, "checkpoint_steps": 4}
    short = toy_config(tmp_path / "grown", "baseline", epochs=1, **flags)
    if finished:
        run.train(short)
    else:
        _crash(monkeypatch, short, loop=4)
    assert (tmp_path / "grown" / "results.json").exists() == finished
    run.train(toy_config(tmp_path / "grown", "baseline", epochs=2, **flags))
    run.train(toy_config(tmp_path / "straight", "baseline", epochs=2, **flags))
    _assert_same(tmp_path / "straight", tmp_path / "grown")


@pytest.mark.parametrize("finished", [True, False])
def test_a_run_whose_checkpoints_are_gone_does_not_start_again(
    toy, monkeypatch, tmp_path, finished
):
    config = toy_config(tmp_path / "run", "baseline", epochs=2, steps_per_loop=2)
    if finished:
        run.train(config)
        (tmp_path / "run" / "results.json").unlink()
    else:
        _crash(monkeypatch, config, loop=1)
        assert run.train(config) == 0  # begun, but never saved
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    (tmp_path / "run" / "results.json").unlink(missing_ok=True)
    before = (tmp_path / "run" / "metrics.jsonl").read_text()
    with pytest.raises(UserError, match="trained before, and its checkpoints are gone"):
        run.train(config)
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == before


def test_a_run_that_grows_is_unfinished_until_it_has_grown(toy, monkeypatch, tmp_path):
    flags = {"steps_per_loop": 2, "checkpoint_steps": 4}
    run.train(toy_config(tmp_path, "baseline", epochs=1, **flags))
    (tmp_path / "figures").mkdir()
    found = [tmp_path / "report.html", tmp_path / "figures" / "learning_curves.png"]
    for path in found:
        path.touch()
    found += [tmp_path / "results.json", tmp_path / "evaluation.json"]
    assert all(path.exists() for path in found)
    longer = toy_config(tmp_path, "baseline", epochs=2, **flags)
    _crash(monkeypatch, longer, loop=4)
    assert not any(path.exists() for path in found)
    run.train(longer)
    assert json.loads((tmp_path / "results.json").read_text())["epochs"] == 2


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_a_run_may_change_its_precision(toy, monkeypatch, tmp_path, capsys, policy):
    flags = {"steps_per_loop": 2, "checkpoint_steps": 4}
    _crash(monkeypatch, toy_config(tmp_path, "baseline", **flags), loop=4)
    run.train(toy_config(tmp_path, "baseline", precision=policy, **flags))
    said = capsys.readouterr().err
    assert f"begun in float32 and goes on in {policy}" in said
    assert "continuing from step 4" in said


def test_a_groups_file_that_changed_under_the_run_is_refused(toy, tmp_path):
    groups = tmp_path / "groups.json"
    groups.write_text(json.dumps({"a": CLASSES[:2], "b": CLASSES[2:]}))
    run.train(toy_config(tmp_path / "run", "gate", groups=str(groups)))
    groups.write_text(json.dumps({"b": CLASSES[2:], "a": CLASSES[:2]}))
    with pytest.raises(UserError, match="the run was begun with"):
        run.train(toy_config(tmp_path / "run", "gate", groups=str(groups)))
    with pytest.raises(UserError, match="the run was begun with"):
        evaluate(EvalConfig(workdir=str(tmp_path / "run"), report=False))


def test_data_that_changed_under_a_run_are_refused(toy, monkeypatch, tmp_path):
    """One pixel of one image; classes, shape and sizes stay."""
    config = toy_config(tmp_path, "baseline", steps_per_loop=2, checkpoint_steps=4)
    _crash(monkeypatch, config, loop=4)

    def changed_source():
        source = toy_source()
        examples = source.train()
        examples.features[17, 0, 0, 0] ^= 1
        return dataclasses.replace(source, train=lambda: examples)

    with monkeypatch.context() as patch:
        patch.setitem(registry._GENERATED, "toy", changed_source)
        with pytest.raises(UserError, match=r"no longer what the run .* \(other contents\)"):
            run.train(config)
        # Begun before runs noted this down.
        stored = json.loads((tmp_path / "config.json").read_text())
        del stored["data"]["contents"]
        (tmp_path / "config.json").write_text(json.dumps(stored))
        assert run.train(config) == 0


def test_patience_ends_a_stage_and_the_best_weights_come_back(toy, monkeypatch, tmp_path):
    """Validation is made to get worse after the first epoch."""
    scores = iter([0.9, 0.5, 0.4, 0.3, 0.2])
    monkeypatch.setattr(
        validation.Validation, "look", lambda self: {"accuracy": next(scores), "nll": 1.0}
    )
    run.train(toy_config(tmp_path / "stopped", "baseline", epochs=9, patience=2))
    results = json.loads((tmp_path / "stopped" / "results.json").read_text())
    assert results["epochs"] == 3
    assert results["stages"][0]["best_epoch"] == 1
    monkeypatch.undo()
    monkeypatch.setitem(registry._GENERATED, "toy", toy_source)
    run.train(toy_config(tmp_path / "one", "baseline", epochs=1))
    _assert_same(tmp_path / "stopped", tmp_path / "one")


@pytest.mark.slow
def test_a_later_stage_does_not_grow(toy, tmp_path):
    run.train(toy_config(tmp_path, "separate", epochs=1))
    with pytest.raises(UserError, match="a longer run needs another --workdir"):
        run.train(toy_config(tmp_path, "separate", epochs=2))


def test_a_checkpoint_of_another_model_is_refused(toy, monkeypatch, tmp_path):
    flags = {"steps_per_loop": 2, "checkpoint_steps": 4}
    _crash(monkeypatch, toy_config(tmp_path, "joint", **flags), loop=5)
    # As if the code had changed under the run: the identity is the same, the network is not.
    wider = toy_config(tmp_path, "joint", gate_backbone="mlp-9", **flags)
    stored = json.loads((tmp_path / "config.json").read_text())
    stored["config"] = wider.to_dict() | {"data": stored["config"]["data"]}
    for section in ("model", "loss", "train"):
        kept = {k: v for k, v in stored["config"][section].items() if v is not None}
        old = json.loads((tmp_path / "config.json").read_text())["config"][section]
        stored["config"][section] = old | kept
    (tmp_path / "config.json").write_text(json.dumps(stored))
    with pytest.raises(UserError, match="does not hold exactly the variables"):
        run.train(wider)


def _command(workdir: pathlib.Path) -> list[str]:
    # Convolutions, dropout, augmented images; five stages of 22, 22, 9, 13 and 22 steps an epoch.
    flags = "--mode=separate --dataset=shapes --train_examples=800 --baseline_backbone=tiny"
    flags += " --augment=flip_crop --epochs=2 --batch_size=32 --checkpoint_steps=10"
    flags += " --steps_per_loop=5 --noreport"
    return [sys.executable, str(ROOT / "train.py"), *flags.split(), f"--workdir={workdir}"]


@pytest.mark.parametrize(("epoch", "batch"), [(1, 2), (2, 1)])
def test_a_validation_that_was_cut_short_is_done_again(toy, monkeypatch, tmp_path, epoch, batch):
    """Also the last one, after which nothing is left to train."""
    monkeypatch.setattr(validation, "_BATCH", 10)  # three of them
    run.train(toy_config(tmp_path / "straight", "baseline"))
    judge_all, calls = validation.Validation.judge_all, []

    def judge_and_stop(self):
        calls.append(self)
        judge, left = self._judge, [batch]

        def judge_a_batch(rows):
            left[0] -= 1
            if not left[0]:
                self._stop.note()
            return judge(rows)

        if len(calls) == epoch:
            self._judge = judge_a_batch
        return judge_all(self)

    with monkeypatch.context() as patch:
        patch.setattr(validation.Validation, "judge_all", judge_and_stop)
        assert run.train(toy_config(tmp_path / "cut", "baseline")) == 143
    assert sum("split" in record for record in _records(tmp_path / "cut")) == 2 * (epoch - 1)
    assert not (tmp_path / "cut" / "results.json").exists()
    run.train(toy_config(tmp_path / "cut", "baseline"))
    _assert_same(tmp_path / "straight", tmp_path / "cut")
    _assert_same_metrics(tmp_path / "straight", tmp_path / "cut")


def test_a_stop_between_two_checkpoints_loses_no_step(toy, monkeypatch, tmp_path, capsys):
    config = toy_config(tmp_path, "baseline", steps_per_loop=2, checkpoint_steps=4)
    run_loop, stopped_at = StageRun._run_loop, []

    def run_loop_and_stop(self, *args):
        seconds = run_loop(self, *args)
        if self._progress.step > 4 and not stopped_at:
            stopped_at.append(self._progress.step)
            self._context.stop.note()
        return seconds

    monkeypatch.setattr(StageRun, "_run_loop", run_loop_and_stop)
    assert run.train(config) == 143
    assert stopped_at[0] in (5, 6)
    saved = CheckpointStore(tmp_path / "checkpoints").newest()
    assert saved.number == saved.progress["step"] == stopped_at[0]
    assert run.train(config) == 0
    assert f"continuing from step {stopped_at[0]}" in capsys.readouterr().err


def test_a_stop_while_a_stage_is_made_waits_for_nothing(toy, monkeypatch, tmp_path):
    def stop(*_, **__):
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(stage_run, "make_optimizer", stop)
    monkeypatch.setattr(stage_run, "make_loss_scale", lambda _: pytest.fail("went on"))
    assert run.train(toy_config(tmp_path, "baseline")) == 143


def test_the_loss_scale_goes_on_where_it_was(toy, monkeypatch, tmp_path):
    start = 2.0**24
    monkeypatch.setattr(DynamicScale, "START", start)  # overflows in the first steps
    flags = {"precision": "mixed_float16", "steps_per_loop": 1, "checkpoint_steps": 4}

    def scale(workdir: str) -> list[float]:
        store = CheckpointStore(tmp_path / workdir / "checkpoints")
        return [float(value) for value in store.read(store.newest(), "loss_scale")]

    run.train(toy_config(tmp_path / "straight", "baseline", **flags))
    cut = toy_config(tmp_path / "cut", "baseline", **flags)
    _crash(monkeypatch, cut, loop=6)
    factor, good_steps = scale("cut")
    assert factor < start
    run.train(cut)
    assert scale("cut") == scale("straight") != [factor, good_steps]
    _assert_same(tmp_path / "straight", tmp_path / "cut")


@pytest.mark.slow
def test_sigkill_and_sigterm_lose_nothing(tmp_path):
    """The real thing: a process killed with signal 9, continued, stopped politely, continued."""
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}

    def start(workdir: str) -> subprocess.Popen:
        return subprocess.Popen(
            _command(tmp_path / workdir),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )

    def wait_for_checkpoint(above: int) -> None:
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            numbers = [
                int(path.stem.removeprefix("ckpt-"))
                for path in (tmp_path / "cut" / "checkpoints").glob("ckpt-*.json")
            ]
            if max(numbers, default=0) > above:
                return
            time.sleep(0.01)
        raise AssertionError("no checkpoint came")

    straight = start("straight")
    cut = start("cut")
    wait_for_checkpoint(above=30)  # in the second epoch of the baseline
    cut.send_signal(signal.SIGKILL)
    cut.communicate()
    cut = start("cut")
    wait_for_checkpoint(above=110)  # in the second expert
    cut.send_signal(signal.SIGTERM)
    said = cut.communicate(timeout=_PATIENCE)[0]
    assert cut.returncode == 143
    assert re.search(r"continuing from step [1-9]", said)
    assert re.search(r"continue with: \S*python \S*train\.py", said)
    cut = start("cut")
    said = cut.communicate(timeout=_PATIENCE)[0]
    assert cut.returncode == 0, said
    assert straight.wait(timeout=_PATIENCE) == 0
    _assert_same(tmp_path / "straight", tmp_path / "cut")
    _assert_same_metrics(tmp_path / "straight", tmp_path / "cut")
