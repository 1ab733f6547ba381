"""The health watch inside of a run: warnings, the stop, and silence where nothing is wrong."""

from __future__ import annotations

import json

import pytest
from toy import toy_config

from moe import run
from moe.errors import UserError
from moe.train import health


def _events(workdir):
    records = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return [record for record in records if record.get("event") == "unhealthy"]


@pytest.fixture
def sick(monkeypatch):
    """A watch that thinks of every gate that it has collapsed."""

    def symptoms(epoch, validation, **known):
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


def test_a_symptom_is_told_once_and_logged(toy, sick, tmp_path, capsys):
    run.train(toy_config(tmp_path, epochs=2))
    (event,) = _events(tmp_path)
    assert (event["name"], event["who"], event["epoch"]) == ("collapse", "sharp", 1)
    told = "warning: joint epoch 1: collapse: sharp gets 99% of the examples. Try less."
    assert capsys.readouterr().err.count(told) == 1


def test_a_run_can_stop_for_its_health_and_go_on_all_the_same(toy, sick, tmp_path):
    with pytest.raises(UserError, match=r"collapse: sharp gets 99%.*--on_unhealthy=warn goes on"):
        run.train(toy_config(tmp_path, epochs=2, on_unhealthy="stop"))
    assert not (tmp_path / "results.json").exists()
    assert run.train(toy_config(tmp_path, epochs=2)) == 0
    steps = [
        record["step"]
        for record in map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
        if record.get("event") == "continued"
    ]
    assert steps == [8]  # nothing of the first epoch was lost
