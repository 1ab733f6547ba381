"""What the runs of a row are."""

from __future__ import annotations

import pathlib

import pytest

from moe.compare.plan import Setting, all_runs, make_row
from moe.config.run import Config
from moe.config.sections import TrainConfig

FOLDER = pathlib.Path("runs")


@pytest.mark.parametrize(
    ("budget", "first", "last"),
    [
        ("epochs:15", "epochs:10", "epochs:5"),
        ("macs:3e12", "macs:2e12", "macs:1e12"),
        ("seconds:90", "seconds:60", "seconds:30"),
    ],
)
@pytest.mark.parametrize("optimizer", ["sgd", "muon"])
def test_a_tuned_network_ends_as_a_staged_mixture_does(budget, first, last, optimizer):
    train = TrainConfig(optimizer=optimizer, learning_rate=0.5, budget=budget)
    setting = Setting(Config(train=train), FOLDER, {"tuned-soft": "deep*2"}, {}, ())
    row = make_row("tuned-soft", 3, setting)
    whole, tuned = all_runs(row.runs)
    assert [run.folder.name for run in (whole, tuned)] == [
        "tuned-soft-first-seed3",
        "tuned-soft-seed3",
    ]
    for run, expected in ((whole, first), (tuned, last)):
        assert run.config.mode == "baseline"
        assert run.config.model.baseline_backbone == "deep*2"
        unit, amount = expected.split(":")
        found = run.config.train.budget.split(":")
        assert (found[0], float(found[1])) == (unit, pytest.approx(float(amount)))
    assert tuned.config.train.init_from == (f"{whole.folder}:baseline",)
    assert whole.config.train.seed == 3 < tuned.config.train.seed  # the same batches once only
    assert (whole.config.train.learning_rate, tuned.config.train.learning_rate) == (0.5, 0.05)
    lower = 0.1 if optimizer == "muon" else 1
    assert tuned.config.train.muon_rate == pytest.approx(lower * whole.config.train.muon_rate)
