"""What `--mode=benchmark` makes of its measurements."""

from __future__ import annotations

import pytest
import tensorflow as tf

from moe.benchmark import run
from moe.benchmark.cases import CROSSOVER_TITLE
from moe.benchmark.measure import Arm, Ratio, Timing
from moe.benchmark.suites import COST, INPUT, Group
from moe.config.sections import RuntimeConfig
from moe.errors import UserError
from moe.train.devices import choose_strategy


@pytest.mark.parametrize(
    ("pays", "says"),
    [
        ("0000", "nowhere up to batch 8"),
        ("1111", "at every size measured, batch 1 and up"),
        ("0011", "from batch 4 on"),
        ("0001", "from batch 8 on"),
        ("0110", "at batch 2, 4 alone, of those from 1 to 8"),
        ("1011", "at batch 1, 4, 8 alone, of those from 1 to 8"),
    ],
)
def test_where_routing_pays(pays, says):
    assert run.where_it_pays(dict(zip((1, 2, 4, 8), map(int, pays), strict=True))) == says


def test_a_verdict_names_the_case_and_counts_only_what_is_resolved():
    title = f"{CROSSOVER_TITLE} (train): 4 experts tiny"
    facts = {"phase": "train", "expert": "tiny", "expert_macs": 2_340_000, "num_experts": 4}
    rows = [{"group": title, "name": f"routed, {n}", "batch_size": n, **facts} for n in (1, 8, 32)]
    answers = [
        {"group": title, "arm": f"routed, {size}", "low": low, "resolved": resolved}
        for size, low, resolved in ((1, 1.2, False), (8, 0.5, True), (32, 1.2, True))
    ]
    (verdict,) = run.verdicts(rows, [{"group": "another"}, *answers])
    sentence = "train, 4 experts tiny of 2.3 M MACs: routing pays from batch 32 on"
    assert verdict == {**facts, "sentence": sentence}


def test_only_the_pipeline_alone_is_a_share_of_input():
    arms = [
        Arm(name, lambda: None, 1, 1) for name in ("fed", "pipeline with flip", "pipeline alone")
    ]
    timings = {arm.name: Timing(0, [1.0]) for arm in arms}
    answers = [
        {"arm": "pipeline with flip", "peer": "fed", "quantity": COST, "ratio": 0.9},
        {"arm": "pipeline alone", "peer": "pipeline with flip", "quantity": INPUT, "ratio": 0.1},
    ]
    answers = [answer | {"resolved": True} for answer in answers]
    rows = run._rows(Group("x", lambda: arms, []), arms, timings, answers)
    assert [line["input_share"] for line in rows] == [None, 0.1, None]


def test_a_load_is_told_whole():
    assert run.load_in_words([0.0625] * 16) == "16 x 0.06"
    assert run.load_in_words([0.5, 0.25, 0.125, 0.125]) == "0.50 0.25 2 x 0.12"
    assert run.load_in_words([]) is None


def test_equal_things_of_which_one_is_faster_are_biased():
    assert run.bias_of(Ratio(1.02, 1.01, 1.04)) == pytest.approx(0.02)
    assert run.bias_of(Ratio(1.02, 0.99, 1.04)) is None


def test_a_benchmark_that_requires_a_gpu_does_not_go_without(monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: [])
    device = run.one_device(RuntimeConfig(require_gpus=True))
    with pytest.raises(UserError, match="--gpus=1: 0 visible"):
        choose_strategy(device)
    assert run.one_device(RuntimeConfig()).gpus == 0
    assert run.one_device(RuntimeConfig(gpus=1)).gpus == 1
