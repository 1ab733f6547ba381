"""Every mode really trains, on a small image set, from configuration to results."""

from __future__ import annotations

import json
import pathlib
import signal
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf
from toy import TEST, TRAIN, toy_config, toy_source, untrained_run

from moe import outcome, run
from moe.config.run import Config
from moe.data import pipeline, registry
from moe.data.pipeline import Split
from moe.errors import UserError
from moe.find_groups import find_and_train
from moe.train import accounts, meter, stage_run
from moe.train.objectives import JointObjective
from moe.trained import restore_best
from moe.workspace import open_workspace


def _slow(*case):
    return pytest.param(*case, marks=pytest.mark.slow)


MIXTURES = [
    ("joint", {}),
    _slow("joint", {"routing": "hard", "expert_backbone": "small"}),
    _slow("joint", {"routing": "hard", "boost": "scalar", "expert_head": "group"}),
    ("joint", {"routing": "topk", "top_k": 2, "groups": "none:3"}),
    ("joint", {"baseline": False, "expert_head": "group", "routing": "hard"}),
    _slow("joint", {"baseline": False, "mixture_loss": "expected", "z_loss": 0.01}),
    (
        "joint",
        {
            "boost": "none",
            "groups": "none:3",
            "precision": "mixed_bfloat16",
            "gate_backbone": "pooled",
        },
    ),
    _slow("separate", {"routing": "hard", "baseline_backbone": "tiny", "expert_backbone": "deep"}),
    ("separate", {"expert_head": "group", "baseline": False}),
    ("staged", {"boost": "scalar"}),
    _slow("staged", {"routing": "hard", "jit_compile": True}),
    _slow("joint", {"routing": "hard", "accumulate": 2, "expert_backbone": "tiny"}),
]


def _results(workdir):
    return json.loads((workdir / "results.json").read_text())


@pytest.mark.parametrize(("mode", "flags"), MIXTURES)
def test_a_mixture_trains_and_reports(toy, tmp_path, mode, flags):
    assert run.train(toy_config(tmp_path, mode, **flags)) == 0
    results = _results(tmp_path)
    assert results["dataset"] == "toy"
    assert results["test"]["accuracy"] > 0.5  # chance is 0.2
    assert results["test"]["nll"] < np.log(5)
    assert results["examples"] == {"train": 215, "validation": 25, "test": TEST}
    assert sum(results["routing_metrics"]["load"]) == pytest.approx(1)
    assert results["macs_spent"] > 0
    with np.load(tmp_path / "predictions.npz") as predictions:
        assert predictions["index"].tolist() == list(range(TEST))
        np.testing.assert_allclose(predictions["probabilities"].sum(axis=1), 1, atol=1e-5)
        np.testing.assert_allclose(predictions["gate_probabilities"].sum(axis=1), 1, atol=1e-5)
        accuracy = (predictions["answer"] == predictions["label"]).mean()
        assert results["test"]["accuracy"] == pytest.approx(accuracy)


def test_a_profile_of_one_loop(toy, tmp_path):
    assert run.train(toy_config(tmp_path, "baseline", profile=True, steps_per_loop=2)) == 0
    assert len(list((tmp_path / "tensorboard").rglob("*.xplane.pb"))) == 1


class Separate(NamedTuple):
    """A run of the toy set in parts, and what reached its training pipelines."""

    config: Config
    workdir: pathlib.Path
    trained_on: list[Split]


def test_compiling_is_not_paid_for_with_the_seconds_of_a_budget(toy, tmp_path):
    """A stage that gets less time than that takes as many steps as its own time pays for."""
    assert run.train(toy_config(tmp_path, "baseline", budget="seconds:.001", steps_per_loop=1)) == 0
    results = _results(tmp_path)
    assert results["compile_seconds"] > 0.001
    assert results["stages"][0]["steps"] > 1


@pytest.fixture(scope="module")
def separate(tmp_path_factory):
    """Trained once for all that only look at it; clocks and yardsticks are for runs this short."""
    workdir = tmp_path_factory.mktemp("separate")
    trained_on = []
    original = pipeline.training_batches

    def spy(split, *args):
        trained_on.append(split)
        return original(split, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry._GENERATED, "toy", toy_source)
        patch.setattr(stage_run, "training_batches", spy)
        patch.setattr(stage_run, "LONG_SECONDS", 0.0)
        patch.setattr(accounts, "LONG_SECONDS", 0.0)
        patch.setattr(meter, "_MATRIX", 64)
        config = toy_config(workdir, "separate", routing="hard")
        assert run.train(config) == 0
        yield Separate(config, workdir, trained_on)


def test_the_speed_of_a_run(separate):
    results = _results(separate.workdir)
    assert all(value > 0 for value in results["throughput"].values())
    assert 0 < results["startup_seconds"] < results["wall_seconds"]
    parts = [results[name] for name in ("prepare_seconds", "train_seconds", "test_seconds")]
    assert all(seconds > 0 for seconds in parts)
    assert results["clock_seconds"] == pytest.approx(sum(parts))
    assert results["clock_seconds"] < results["wall_seconds"]
    rows = [json.loads(line) for line in (separate.workdir / "metrics.jsonl").open()]
    clock = [row["seconds"] for row in rows if "split" in row]
    assert clock == sorted(clock)
    assert clock[-1] == pytest.approx(sum(parts[:2]), abs=0.01)


def test_the_parts_of_separate_are_those_that_train_alone(separate, toy, tmp_path):
    run.train(toy_config(tmp_path, "baseline"))
    alone, among = (_results(workdir) for workdir in (tmp_path, separate.workdir))
    assert alone["parts"]["baseline"] == among["parts"]["baseline"]


def test_validation_examples_are_never_trained_on(separate):
    """Compares the pixels that reach the training pipeline with those of the validation split."""
    validation = open_workspace(separate.config).validation
    held_out = {image.tobytes() for image in validation.examples.features}
    assert len(held_out) == len(validation) == 25
    seen = {image.tobytes() for split in separate.trained_on for image in split.examples.features}
    assert len(seen) == TRAIN - len(validation)
    assert not seen & held_out


def test_features_are_standardised_by_training_examples_only(separate):
    workspace = open_workspace(separate.config)
    mixture = workspace.build(tf.distribute.get_strategy(), "float32")
    restore_best(mixture, separate.workdir)
    parts = [part.examples.features for part in (workspace.train, workspace.validation)]
    means = [x.mean(axis=(0, 1, 2)) for x in (parts[0], np.concatenate(parts))]
    np.testing.assert_allclose(mixture.standardize.mean, means[0], rtol=1e-5)
    assert (np.abs(means[0] - means[1]) > 1e-4 * means[0]).any()  # the two can be told apart


def _pays_for_one_expert(workdir):
    blend = _results(workdir)["stages"][-1]
    pixels, classes = 8 * 8 * 3, 5
    gate = pixels * 8 + 8 * 2
    baseline = expert = pixels * 16 + 16 * classes
    combiner = pixels * 512 + 512 * classes
    assert blend["name"] == "blend"
    assert blend["macs"] == blend["examples"] * (gate + baseline + expert + 3 * combiner)


def test_the_blend_stage_pays_for_one_expert(separate):
    _pays_for_one_expert(separate.workdir)


def test_every_variable_is_in_the_checkpoint(separate):
    mixture = open_workspace(separate.config).build(tf.distribute.get_strategy(), "float32")
    [index] = (separate.workdir / "best").glob("*.index")
    names = [name for name, _ in tf.train.list_variables(str(index.with_suffix("")))]
    stored = [name for name in names if name.endswith("VARIABLE_VALUE")]
    assert len(stored) == len(mixture.variables)


@pytest.mark.slow
def test_the_blend_stage_pays_for_one_expert_where_all_answer(toy, tmp_path):
    run.train(toy_config(tmp_path, "separate", epochs=1, routing="soft"))
    _pays_for_one_expert(tmp_path)


@pytest.mark.parametrize(("factor", "full"), [(0.5, True), (3.0, False)])
@pytest.mark.slow
def test_what_fixed_shapes_drop_is_counted(toy, tmp_path, factor, full):
    flags = {"routing": "hard", "jit_compile": True, "capacity_factor": factor}
    assert run.train(toy_config(tmp_path, groups="none:3", **flags)) == 0
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").open()]
    rows = [row for row in rows if row.get("split") == "train"]
    dropped = [row["dropped"] for row in rows]
    left = [sum(row["load_after_capacity"]) for row in rows]
    np.testing.assert_allclose(left, 1 - np.array(dropped), atol=1e-6)
    # Room for half of the examples at most, however even the gate; or for all, however uneven.
    assert all((share >= 0.5) == full and (share > 0) == full for share in dropped)


def test_noise_must_have_something_to_decide(toy, tmp_path):
    with pytest.raises(UserError, match=r"chooses 2 of 2 experts, so noise decides nothing"):
        run.train(toy_config(tmp_path, routing="noisy_topk", top_k=2))


@pytest.mark.parametrize("mode", ["baseline", "gate", "experts"])
def test_a_part_trains_alone(toy, tmp_path, mode):
    assert run.train(toy_config(tmp_path, mode)) == 0
    results = _results(tmp_path)
    assert list(results["parts"]) == [mode]
    accuracies = results["parts"][mode]
    if mode != "experts":
        accuracies = {mode: accuracies}
    assert all(part["accuracy"] > 0.4 for part in accuracies.values())
    answers = mode == "baseline"
    assert (results["test"]["accuracy"] is not None) == answers
    assert (tmp_path / "predictions.npz").exists() == answers
    # It costs what it is: 192 pixels, 8 or 16 units, 2 groups or 5 classes; two experts, one of
    # which answers.
    widths = {"baseline": (16, 5), "gate": (8, 2), "experts": (16, 5)}
    units, outputs = widths[mode]
    weights, number = 192 * units + units * outputs, 1 + (mode == "experts")
    one = weights + units + outputs
    assert results["macs_per_example"] == {"total": number * weights, "active": weights}
    assert results["params"] == {"total": number * one, "active": one}


def test_training_selects_on_validation_and_never_opens_the_test_split(monkeypatch, tmp_path):
    monkeypatch.setitem(registry._GENERATED, "toy", lambda: toy_source(test_opens=False))
    evaluated = []

    def final_evaluation(*args):
        evaluated.append(True)
        raise UserError("far enough")

    monkeypatch.setattr(outcome, "_evaluate", final_evaluation)
    with pytest.raises(UserError, match="far enough"):
        run.train(toy_config(tmp_path / "parts", "separate", epochs=1))
    with pytest.raises(UserError, match="far enough"):
        find_and_train(toy_config(tmp_path / "auto", groups="auto:2", epochs=1))
    assert len(evaluated) == 2


@pytest.mark.parametrize("routing", [pytest.param("soft", marks=pytest.mark.slow), "hard"])
def test_a_stage_is_traced_once(toy, monkeypatch, tmp_path, routing):
    loops = []
    original = stage_run.make_train_loop

    def spy(*args):
        loops.append(original(*args))
        return loops[-1]

    judgements = []
    judge = JointObjective.evaluate

    def spy_on_judge(*args):  # Python runs in a trace only
        judgements.append(args)
        return judge(*args)

    monkeypatch.setattr(stage_run, "make_train_loop", spy)
    monkeypatch.setattr(JointObjective, "evaluate", spy_on_judge)
    # Loops of 3 and 2 steps, over three epochs: neither they nor the validation may trace again.
    run.train(toy_config(tmp_path, "joint", routing=routing, epochs=3, steps_per_loop=3))
    assert [loop.experimental_get_tracing_count() for loop in loops] == [1]
    assert len(judgements) == 1


def test_a_finished_run_only_reports(toy, tmp_path, capsys):
    run.train(toy_config(tmp_path, "baseline"))
    before = (tmp_path / "results.json").stat().st_mtime_ns
    capsys.readouterr()
    assert run.train(toy_config(tmp_path, "baseline")) == 0
    assert "baseline" in capsys.readouterr().out
    assert (tmp_path / "results.json").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate": 0.1}, r"learning_rate=0.1 \(was 0.003\)"),
        ({"seed": 1}, r"seed=1 \(was 0\)"),
        ({"epochs": 1}, r"epochs=1 \(was 2\)"),
    ],
)
def test_another_run_in_the_workdir_is_refused(toy, tmp_path, changes, message):
    untrained_run(tmp_path, "baseline")
    with pytest.raises(UserError, match=message):
        run.train(toy_config(tmp_path, "baseline", **changes))


def test_a_run_whose_configuration_is_gone_is_nobodys(toy, tmp_path):
    run.train(toy_config(tmp_path, "gate", epochs=1))
    (tmp_path / "config.json").unlink()
    with pytest.raises(UserError, match=r"holds a run whose config.json is gone"):
        run.train(toy_config(tmp_path, "gate", epochs=1))
    (tmp_path / "results.json").unlink()
    with pytest.raises(UserError, match=r"holds a run whose config.json is gone"):
        run.train(toy_config(tmp_path, "gate", epochs=1, seed=7))


def test_what_is_refused_leaves_no_folder_behind(toy, tmp_path):
    with pytest.raises(UserError, match="batch_size"):
        run.train(toy_config(tmp_path / "new", batch_size=100_000))
    assert not (tmp_path / "new").exists()


def test_weights_that_validate_as_nan_are_never_kept(toy, tmp_path):
    # One step an epoch: the training loss is still finite when the weights no longer are.
    config = toy_config(tmp_path, "baseline", batch_size=215, learning_rate=1e38)
    with pytest.raises(
        UserError, match=r"stage baseline, after epoch 1: the validation NLL of baseline is"
    ):
        run.train(config)
    assert not list((tmp_path / "checkpoints").glob("*.json"))
    assert "NaN" not in (tmp_path / "metrics.jsonl").read_text()


@pytest.mark.slow
def test_xla_is_part_of_what_a_routed_run_is(toy, tmp_path):
    run.train(toy_config(tmp_path, routing="hard", epochs=1))
    with pytest.raises(UserError, match=r"--jit_compile=True \(was False, and routes differently"):
        run.train(toy_config(tmp_path, routing="hard", epochs=2, jit_compile=True))
    run.train(toy_config(tmp_path / "soft", epochs=1))
    assert run.train(toy_config(tmp_path / "soft", epochs=2, jit_compile=True)) == 0


@pytest.mark.parametrize(("groups", "named"), [("semantic", True), ("none:2", False)])
def test_only_named_groups_have_a_gate_accuracy(toy, tmp_path, groups, named):
    run.train(toy_config(tmp_path, groups=groups, epochs=1))
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").open()]
    first, second = rows
    assert ("gate_accuracy" in first) == ("gate_loss" in first) == named
    assert first["loss"] > 0
    assert all(sum(row["load"]) == pytest.approx(1) for row in rows)
    # 25 validation examples, each counted for its favourite.
    counted = np.sum(second["expert_by_class"], axis=1)
    np.testing.assert_allclose(counted, np.multiply(second["load"], 25))
    assert 0 < second["entropy"] <= np.log(2)
    assert 0.5 <= second["confidence"] <= 1


def test_flags_of_recipes_without_effect_are_named(toy, tmp_path, capsys):
    idle = {"bias_lr_scale": 64.0, "identity_init": True, "optimizer": "nesterov"}
    assert run.train(toy_config(tmp_path, "gate", steps=1, **idle)) == 0
    said = capsys.readouterr().err
    assert "--bias_lr_scale: no network has a normalisation layer; it does nothing." in said
    assert "--identity_init: no network has a convolution that can be one; it does" in said


@pytest.mark.parametrize(
    "number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM]
)
def test_a_signal_in_the_final_evaluation_is_heard(toy, tmp_path, monkeypatch, capsys, number):
    def interrupted(*args):
        signal.raise_signal(number)

    with monkeypatch.context() as patch:
        patch.setattr(outcome, "_evaluate", interrupted)
        assert run.train(toy_config(tmp_path, epochs=1)) == 128 + number
    name = signal.Signals(number).name
    assert f"stopped ({name}); continue with: " in capsys.readouterr().err
    assert not (tmp_path / "results.json").exists()
    assert run.train(toy_config(tmp_path, epochs=1)) == 0  # the same command evaluates
    assert _results(tmp_path)["stages"][0]["steps"] == 8
