"""A loss that is no number: stop, skip or go back; the weights stay finite whatever is chosen."""

from __future__ import annotations

import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from toy import toy_config

from moe import run
from moe.errors import UserError
from moe.train import faults, stage_run
from moe.train.checkpoint import CheckpointStore

# Eight steps an epoch, two epochs.
FLAGS = {"steps_per_loop": 2, "checkpoint_steps": 4}


@pytest.fixture
def poison(monkeypatch):
    """`poison(index, times)`: a batch with that example has no loss, in so many starts of a stage.

    As the data would do it: the same in every pass over the same step.
    """

    def poison(index: int, times: int) -> None:
        make, left = stage_run.make_objective, [times]

        def make_poisoned(*args):
            objective = make(*args)
            train = objective.train
            left[0] -= 1

            def poisoned(batch, size):
                outcome = train(batch, size)
                bad = tf.where(tf.reduce_any(batch.index == index), np.nan, 1.0)
                return outcome._replace(loss=outcome.loss * bad)

            if left[0] >= 0:
                objective.train = poisoned
            return objective

        monkeypatch.setattr(stage_run, "make_objective", make_poisoned)

    return poison


def _records(workdir: pathlib.Path) -> list[dict]:
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def _assert_finite(folder: pathlib.Path) -> None:
    reader = tf.train.load_checkpoint(str(CheckpointStore(folder).newest().prefix))
    for name, dtype in reader.get_variable_to_dtype_map().items():
        if dtype.is_floating:
            assert np.isfinite(reader.get_tensor(name)).all(), name


@pytest.mark.parametrize(
    ("flags", "saved", "advice"),
    [({"batch_size": 215}, False, "nothing is learned yet"), (FLAGS, True, "lower --learning")],
)
def test_it_ends_the_run_and_names_stage_step_and_part(toy, tmp_path, poison, flags, saved, advice):
    poison(7, times=1)
    message = rf"stage baseline, step \d+: the gradient of baseline is not finite; {advice}"
    with pytest.raises(UserError, match=message) as caught:
        run.train(toy_config(tmp_path, "baseline", **flags))
    assert (tmp_path / "checkpoints").exists() == saved
    assert str(caught.value).endswith("is from before that.") == saved
    if saved:
        _assert_finite(tmp_path / "checkpoints")


@pytest.mark.parametrize("optimizer", ["adam", pytest.param("muon", marks=pytest.mark.slow)])
def test_a_rate_that_is_far_too_high_is_named_with_what_to_try(toy, tmp_path, optimizer):
    rates = "--learning_rate" + " and --muon_rate" * (optimizer == "muon")
    message = (
        r"^stage joint, step \d+: \w+ of (baseline|gate|experts|mixture) is (nan|inf).*; "
        rf"lower {rates}, or try --on_nonfinite=rollback\."
    )
    with pytest.raises(UserError, match=message) as told:
        run.train(toy_config(tmp_path, optimizer=optimizer, learning_rate=1e30))
    (event,) = [record for record in _records(tmp_path) if record.get("event") == "nonfinite"]
    assert (event["stage"], event["step"] > 1) == ("joint", True)
    assert event["part"] in ("baseline", "gate", "experts", "mixture")
    assert f"step {event['step']}: {event['why']}; lower" in str(told.value)
    assert not (tmp_path / "results.json").exists()


def test_it_is_skipped_and_counted_also_by_a_run_that_is_continued(toy, tmp_path, poison):
    poison(7, times=99)
    flags = FLAGS | {"on_nonfinite": "skip"}
    run.train(toy_config(tmp_path / "straight", "baseline", **flags))
    for epochs in (1, 2):
        run.train(toy_config(tmp_path / "cut", "baseline", epochs=epochs, **flags))
    _assert_finite(tmp_path / "cut" / "best")
    results = json.loads((tmp_path / "cut" / "results.json").read_text())
    assert results["skipped"] in (1, 2)  # once an epoch, unless it is left over
    assert results["overflows"] == results["rollbacks"] == 0
    (stage,) = results["stages"]
    assert stage["skipped"] == results["skipped"]
    events = [record for record in _records(tmp_path / "cut") if record.get("event") == "skipped"]
    (entry,) = results["health"]  # once, however often it comes
    assert (entry["condition"], entry["expert"]) == ("not finite", "baseline")
    assert entry["epoch"] in (1, 2)
    assert [event["why"] for event in events] == [
        "the gradient of baseline is not finite"
    ] * results["skipped"]
    # A skipped step counts no example and is no part of the mean loss.
    logged = [[r for r in _records(tmp_path / n) if "split" in r] for n in ("straight", "cut")]
    assert [r["loss"] for r in logged[0] if "loss" in r] == [
        r["loss"] for r in logged[1] if "loss" in r
    ]
    assert np.isfinite([r["loss"] for r in logged[0] if "loss" in r]).all()


def test_skipping_everything_leads_nowhere(toy, monkeypatch, tmp_path, poison):
    monkeypatch.setattr(faults, "_MOST_IN_A_ROW", 3)
    poison(7, times=1)
    config = toy_config(tmp_path, "baseline", on_nonfinite="skip", batch_size=215, steps=5)
    with pytest.raises(UserError, match=r"step 3: the gradient .*, as in 2 steps before; lower"):
        run.train(config)


def test_it_goes_back_to_the_last_checkpoint_at_half_the_rate(toy, tmp_path, poison, capsys):
    poison(7, times=1)
    config = toy_config(tmp_path, "baseline", on_nonfinite="rollback", **FLAGS)
    assert run.train(config) == 0
    said = capsys.readouterr().err
    assert "the gradient of baseline is not finite; back to step " in said
    results = json.loads((tmp_path / "results.json").read_text())
    (stage,) = results["stages"]
    assert (stage["rate"], stage["rollbacks"], results["rollbacks"]) == (0.5, 1, 1)
    (event,) = [record for record in _records(tmp_path) if "event" in record]
    assert (event["event"], event["rate"], event["step"] % 4) == ("rollback", 0.5, 0)
    assert (event["part"], event["why"]) == ("baseline", "the gradient of baseline is not finite")
    (entry,) = results["health"]
    assert (entry["condition"], entry["stage"], entry["expert"]) == (
        "not finite",
        *["baseline"] * 2,
    )
    steps = [r["step"] for r in _records(tmp_path) if r.get("split") == "train"]
    assert steps == [8, 16]
    _assert_finite(tmp_path / "best")


def test_weights_that_are_none_from_the_start_have_nothing_to_go_back_to(
    toy, monkeypatch, tmp_path
):
    real = run.train_stages

    def broken(context, stages):
        weight = context.mixture.parts()["baseline"].trainable_variables[0]
        weight.assign(tf.fill(weight.shape, np.nan))
        return real(context, stages)

    monkeypatch.setattr(run, "train_stages", broken)
    with pytest.raises(UserError, match="step 0: the weights of baseline are not finite; look at"):
        run.train(toy_config(tmp_path, "baseline", on_nonfinite="rollback"))


@pytest.mark.slow
def test_going_back_for_ever_leads_nowhere(toy, tmp_path, poison):
    poison(7, times=99)
    config = toy_config(tmp_path, "baseline", on_nonfinite="rollback", batch_size=100)
    with pytest.raises(UserError, match=r"also at 0\.03125 times the learning rate; lower"):
        run.train(config)
    saved = CheckpointStore(tmp_path / "checkpoints").newest()
    assert (saved.progress["rate"], saved.progress["rollbacks"]) == (1, 0)
    _assert_finite(tmp_path / "checkpoints")


def test_weights_that_an_update_blew_up_are_never_saved(toy, monkeypatch, tmp_path):
    run_loop = stage_run.StageRun._run_loop

    def blow_up(self, *args):
        seconds = run_loop(self, *args)
        if self._progress.step == 4:
            weight = self._optimizers["baseline"].variables[0]
            weight.assign(tf.fill(weight.shape, np.inf))
        return seconds

    monkeypatch.setattr(stage_run.StageRun, "_run_loop", blow_up)
    message = (
        "stage baseline, step 4: the weights of baseline are not finite; .* The last checkpoint"
    )
    with pytest.raises(UserError, match=message):
        run.train(toy_config(tmp_path, "baseline", checkpoint_steps=2))
    assert CheckpointStore(tmp_path / "checkpoints").newest().number == 2
    _assert_finite(tmp_path / "checkpoints")
