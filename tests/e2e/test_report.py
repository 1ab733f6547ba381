"""A run ends with a picture, and an evaluation with its own."""

from __future__ import annotations

from toy import toy_config

from moe import run
from moe.config.tools import EvalConfig
from moe.evaluate.run import evaluate


def test_a_run_ends_with_a_picture(toy, tmp_path, capsys):
    run.train(toy_config(tmp_path, epochs=1, report=True))
    said = capsys.readouterr().out
    assert said.rstrip().endswith(f"report: {tmp_path / 'report.html'}")
    assert len(list((tmp_path / "figures").glob("*.png"))) == 11
    assert "75 examples of the test split" in (tmp_path / "report.html").read_text()
    assert list((tmp_path / "tensorboard").glob("*/events*"))
    run.train(toy_config(tmp_path, epochs=1))  # only reports
    assert f"report: {tmp_path / 'report.html'}" in capsys.readouterr().out
    evaluate(EvalConfig(workdir=str(tmp_path), eval_split="validation", routing=("uniform",)))
    assert "25 examples of the validation split" in (tmp_path / "report.html").read_text()
    assert not (tmp_path / "figures" / "attribution.png").exists()


def test_a_part_alone_has_a_report_too(toy, tmp_path):
    run.train(toy_config(tmp_path, "gate", epochs=1, report=True, tensorboard=False))
    drawn = {path.name for path in (tmp_path / "figures").iterdir()}
    assert drawn == {"learning_curves.png", "clock.png"}
    assert not (tmp_path / "tensorboard").exists()
