"""`--mode=benchmark` from the flags to its files, on networks of no size."""

from __future__ import annotations

import functools
import json

import pytest

from moe.benchmark import run, suites
from moe.benchmark.cases import Case
from moe.benchmark.training import network_arm
from moe.config.run import Config
from moe.config.sections import ModelConfig, RuntimeConfig, TrainConfig
from moe.config.tools import BenchmarkConfig
from moe.sweep_axes import PHASES
from moe.train import meter

# What DESIGN promises of a row, and what the tables are made of.
KEYS = {
    *("name", "batch_size", "precision", "num_experts", "routing", "dispatch", "load", "resolved"),
    *("examples_per_second", "step_ms_p50", "step_ms_p95", "compile_seconds", "input_share"),
    *("gflops", "fraction_of_matmul"),
}


@pytest.fixture
def small_networks(monkeypatch):
    def instead(name, network, **options):
        return network_arm(name, "mlp-4", **options)

    monkeypatch.setattr(suites, "network_arm", instead)
    monkeypatch.setattr(meter, "_MATRIX", 16)
    monkeypatch.setattr(suites, "EXPERT_COUNTS", (1, 3))
    monkeypatch.setattr(suites, "Case", functools.partial(Case, gate="mlp-4", expert="mlp-4"))


def _config(workdir, **options):
    base = Config(
        mode="benchmark",
        model=ModelConfig(gate_backbone="mlp-4", expert_backbone="mlp-4", baseline=False),
        train=TrainConfig(batch_size=16),
        runtime=RuntimeConfig(workdir=str(workdir), precision="float32"),
    )
    return BenchmarkConfig(run=base, rounds=7, window_seconds=0.001, **options)


@pytest.mark.slow
def test_a_sweep(small_networks, tmp_path, capsys):
    sweep = ("dispatch=routed,dense", "load=balanced,zipf")
    assert run.benchmark(_config(tmp_path, sweep=sweep)) == 0
    found = json.loads((tmp_path / "benchmark.json").read_text())
    rows = [row for row in found["rows"] if row["group"].startswith("sweep")]
    assert len(rows) == 4 + 1  # and the matrix product
    assert rows[0].keys() >= KEYS
    assert rows[0]["batch_size"] == 16
    assert rows[1]["load"][0] > rows[0]["load"][0]
    assert len([a for a in found["answers"] if a["group"].startswith("sweep")]) == 3
    assert {"command", "versions", "device", "resolution", "bias", "rounds"} <= found.keys()
    printed = capsys.readouterr().out
    assert "A / A" in printed
    assert "not resolved" in printed
    assert "can be told apart" in printed


@pytest.mark.slow
def test_cost_by_number_of_experts_has_a_picture(small_networks, tmp_path):
    assert run.benchmark(_config(tmp_path, suite=("growth",))) == 0
    assert (tmp_path / "figures" / "growth.png").stat().st_size > 1_000


@pytest.mark.slow
def test_where_routing_pays_is_written_down(small_networks, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(suites, "CROSSOVER_BATCHES", {"evaluate": (1, 4), "train": (4,)})
    monkeypatch.setattr(suites, "CROSSOVER_EXPERTS", dict.fromkeys(PHASES, ("mlp-4",)))
    assert run.benchmark(_config(tmp_path, suite=("crossover",))) == 0
    found = json.loads((tmp_path / "benchmark.json").read_text())
    assert [verdict["phase"] for verdict in found["verdicts"]] == ["evaluate", "train"]
    printed = capsys.readouterr().out
    for verdict in found["verdicts"]:
        assert "4 experts mlp-4 of 0.0 M MACs: routing pays " in verdict["sentence"]
        assert verdict["sentence"] in printed


@pytest.mark.slow
def test_a_plain_network_is_trained_in_every_way(small_networks, tmp_path):
    assert run.benchmark(_config(tmp_path, sweep=("way=ours,stock,keras",))) == 0
    found = json.loads((tmp_path / "benchmark.json").read_text())
    names = [f"way={way}" for way in ("ours", "stock", "keras")]
    assert [row["name"] for row in found["rows"]][3:6] == names
    assert {answer["peer"] for answer in found["answers"][1:]} == {"way=ours"}
