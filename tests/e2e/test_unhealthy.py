"""The health watch inside of a run: warnings, the stop, and silence where nothing is wrong."""

from __future__ import annotations

import json
import re

import pytest
from toy import toy_config

from moe import run
from moe.config.run import Config
from moe.config.sections import DataConfig, LossConfig, ModelConfig, RuntimeConfig, TrainConfig
from moe.errors import UserError
from moe.run_files import read_results
from moe.train import health


def _events(workdir):
    records = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return [record for record in records if record.get("event") == "unhealthy"]


@pytest.fixture
def sick(monkeypatch):
    """A watch that thinks of every gate that it has collapsed."""

    def symptoms(validation, **known):
        yield health.Symptom("collapse", known["experts"][0], "gets 99% of the examples", "less")

    monkeypatch.setattr(health, "symptoms", symptoms)


def test_a_healthy_run_is_left_in_peace(toy, tmp_path, capsys):
    run.train(toy_config(tmp_path, epochs=4))
    assert _events(tmp_path) == []
    assert "warning" not in capsys.readouterr().err
    validations = [
        record
        for record in map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
        if record.get("split") == "validation"
    ]
    # What the watch looks at is in the log.
    for record in validations:
        assert 0 <= record["mended"] <= record["baseline_errors"]
        assert 0 <= record["gate_accuracy"] <= 1


def _health(workdir):
    return json.loads((workdir / "results.json").read_text())["health"]


TOLD = "collapse: sharp gets 99% of the examples. Try less."
ENTRY = {"stage": "joint", "condition": "collapse", "expert": "sharp", "message": TOLD}


def test_a_symptom_is_told_once_logged_and_part_of_the_outcome(toy, sick, tmp_path, capsys):
    run.train(toy_config(tmp_path, epochs=3))
    (event,) = _events(tmp_path)
    assert event | ENTRY | {"epoch": 2, "stops": False} == event
    said = capsys.readouterr()
    assert said.err.count(f"warning: joint epoch 2: {TOLD}") == 1
    assert _health(tmp_path) == [{"epoch": 2, **ENTRY}]
    assert f"health, joint epoch 2: {TOLD}" in said.out
    read_results(tmp_path)


@pytest.mark.parametrize("mode", ["gate", "joint"])
def test_a_run_of_one_epoch_is_looked_at_too(toy, sick, tmp_path, mode):
    run.train(toy_config(tmp_path, mode, epochs=1))
    assert _health(tmp_path) == [{"epoch": 1, **ENTRY, "stage": mode}]


def test_a_gate_and_a_blend_by_themselves_are_looked_at(toy, tmp_path, monkeypatch):
    seen = []

    def symptoms(validation, **known):
        seen.append(("baseline_errors" in validation, *validation["load"]))
        yield health.Symptom("collapse", "sharp", "gets it all", known["remedies"].uneven)

    monkeypatch.setattr(health, "symptoms", symptoms)
    run.train(toy_config(tmp_path, "separate", epochs=1))
    assert [row[0] for row in seen] == [False, True]  # the gate, and what is blended
    for _, *load in seen:
        assert sum(load) == pytest.approx(1)
    (entry,) = _health(tmp_path)  # the frozen gate's fault is not told again
    assert (entry["stage"], entry["epoch"]) == ("gate", 1)
    assert "--gate_backbone" in entry["message"]


@pytest.mark.slow
def test_a_run_can_stop_for_its_health_and_go_on_all_the_same(toy, sick, tmp_path, capsys):
    message = f"joint epoch 2: {TOLD} Stopped and saved for --on_unhealthy=stop; the same command"
    with pytest.raises(UserError, match=f"^{re.escape(message)} with --on_unhealthy=warn goes on"):
        run.train(toy_config(tmp_path, epochs=4, on_unhealthy="stop"))
    assert not (tmp_path / "results.json").exists()
    assert "warning" not in capsys.readouterr().err  # the error is the one line
    (event,) = _events(tmp_path)
    assert event | ENTRY | {"epoch": 2, "step": 16, "stops": True} == event
    # Nothing was done about it.
    with pytest.raises(UserError, match=r"joint epoch 3: collapse.*Stopped"):
        run.train(toy_config(tmp_path, epochs=4, on_unhealthy="stop"))
    assert run.train(toy_config(tmp_path, epochs=4)) == 0
    assert _health(tmp_path) == [{"epoch": 2, **ENTRY}]
    assert len(_events(tmp_path)) == 1
    steps = [
        record["step"]
        for record in map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
        if record.get("event") == "continued"
    ]
    assert steps == [16, 24]  # no epoch was lost


@pytest.mark.slow
@pytest.mark.parametrize("balance_loss", [0.0, 20.0])
def test_a_gate_that_really_gives_up_experts_is_told_and_balance_helps(tmp_path, balance_loss):
    """Nobody pretends anything: of twice as many experts as clusters some get next to nothing."""
    networks = {"gate_backbone": "mlp-8", "expert_backbone": "mlp-16", "baseline": False}
    config = Config(
        mode="joint",
        data=DataConfig(dataset="clusters", groups="none:8", train_examples=1200),
        model=ModelConfig(routing="hard", boost="none", **networks),
        loss=LossConfig(balance_loss=balance_loss, expert_loss=0.0),
        train=TrainConfig(epochs=6, patience=0, batch_size=64, learning_rate=0.03),
        runtime=RuntimeConfig(workdir=str(tmp_path), precision="float32", report=False),
    )
    assert run.train(config) == 0
    conditions = {found["condition"] for found in _health(tmp_path)}
    if balance_loss:
        assert conditions == set()
    else:
        assert conditions & {"dead expert", "collapse"}
