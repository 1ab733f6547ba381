"""What the generated sets promise, by training on them: minutes, so `make verify` only."""

from __future__ import annotations

import json
import pathlib
import statistics

import pytest

from flags.parse import parse_train
from moe import run
from moe.data.shapes import CLASSES, PARTITION, SIZE
from moe.models import backbones, cost

pytestmark = pytest.mark.slow

PRESETS = pathlib.Path(__file__).parents[2] / "flags" / "presets"


def _train(workdir: pathlib.Path, *flags: str) -> dict:
    """The results of `python train.py FLAGS`."""
    assert run.train(parse_train(["train.py", f"--workdir={workdir}", "--noreport", *flags])) == 0
    return json.loads((workdir / "results.json").read_text())


def test_the_baseline_on_shapes_leaves_room_for_experts(tmp_path):
    results = _train(tmp_path, "--dataset=shapes", "--mode=baseline")
    assert 0.75 <= results["test"]["accuracy"] <= 0.95


def test_on_shapes_the_true_group_is_worth_more_than_a_wider_network(tmp_path):
    """Experts behind a perfect gate, and one network that costs what a gate and an expert do."""
    shape = (SIZE, SIZE, 3)
    gate = cost.macs(backbones.build("tiny", shape, len(PARTITION)))
    expert = cost.macs(backbones.build("tiny", shape, len(CLASSES)))
    wide = cost.macs(backbones.build("my_networks:wide_tiny", shape, len(CLASSES)))
    assert wide == pytest.approx(gate + expert, rel=0.02)

    flags = ("--dataset=shapes", "--expert_backbone=tiny", "--gate_backbone=tiny")
    experts = _train(tmp_path / "experts", "--mode=experts", *flags)["parts"]["experts"]
    # Classes are equally frequent.
    share = {group: len(classes) / len(CLASSES) for group, classes in PARTITION.items()}
    routed = sum(share[group] * part["accuracy"] for group, part in experts.items())
    dense = _train(
        tmp_path / "dense", "--mode=baseline", "--baseline_backbone=my_networks:wide_tiny", *flags
    )
    assert routed >= dense["test"]["accuracy"] + 0.03


def test_joint_training_finds_the_clusters(tmp_path):
    """As a rule: from one seed in three, two experts may share a cluster in the end."""
    found = []
    for seed in range(3):
        preset = f"--flagfile={PRESETS / 'clusters.flags'}"
        results = _train(tmp_path / str(seed), preset, f"--seed={seed}")
        found.append(results["routing_metrics"]["group_normalized_mutual_information"])
    assert statistics.median(found) >= 0.9
