"""What a run may spend, stage by stage: hand-computed."""

from __future__ import annotations

import pytest
import tensorflow as tf
from toy import toy_config, toy_source

import moe.workspace
from moe.config.specs import read_budget
from moe.models import cost
from moe.train.budget import allot
from moe.train.stages import stages_of


@pytest.fixture(scope="module")
def opened():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(moe.workspace, "open_source", lambda *_: toy_source())
        workspace = moe.workspace.open_workspace(toy_config("nowhere"))
    return workspace, workspace.build(tf.distribute.get_strategy(), "float32")


def allotted(opened, mode, **changes):
    workspace, mixture = opened
    config = toy_config("nowhere", mode, groups="semantic", boost="per_class", **changes)
    stages = stages_of(config, workspace.groups, list(mixture.parts()))
    return config, mixture, allot(config, mixture, stages, workspace.train)


# 215 training examples in batches of 24: 8 steps an epoch, of the groups 3 and 5.
@pytest.mark.parametrize(
    ("mode", "changes", "steps"),
    [
        ("separate", {"epochs": 2}, [16, 16, 6, 10, 16]),
        ("joint", {"steps": 7}, [7]),
        ("separate", {"budget": "epochs:3"}, [24, 24, 9, 15, 24]),
        ("joint", {"budget": "epochs:1.5"}, [12]),
        ("staged", {"budget": "epochs:3"}, [16, 16, 6, 10, 16, 8]),
        ("joint", {"budget": "epochs:.001"}, [1]),
    ],
)
def test_epochs_are_those_of_each_network(opened, mode, changes, steps):
    _, _, stages = allotted(opened, mode, **changes)
    assert [stage.steps for stage in stages] == steps
    assert {stage.seconds for stage in stages} == {None}


def test_a_budget_that_pays_for_no_step_is_said(opened, capsys):
    allotted(opened, "joint", budget="macs:4e9")
    assert capsys.readouterr().err == ""
    _, _, stages = allotted(opened, "joint", budget="macs:10")
    assert [stage.steps for stage in stages] == [1]
    said = capsys.readouterr().err
    assert said == (
        "warning: --budget=macs:10: does not pay for a step of joint; it takes one all the same.\n"
    )


@pytest.mark.parametrize("mode", ["baseline", "separate", "joint", "staged"])
@pytest.mark.parametrize("routing", ["soft", "hard"])
def test_macs_are_spent_in_all_and_stages_see_equal_epochs(opened, mode, routing):
    budget = 4e9
    config, mixture, stages = allotted(opened, mode, routing=routing, budget=f"macs:{budget}")
    running = {"joint": 2 if routing == "soft" else 1}
    macs = [
        stage.steps
        * config.train.batch_size
        * cost.stage_macs(mixture, stage.kind, stage.parts, running.get(stage.kind, 1))
        for stage in stages
    ]
    assert sum(macs) == pytest.approx(budget, rel=0.02)
    size = {"sharp": 3, "soft": 5}
    epochs = {stage.name: stage.steps / size.get(stage.name, 8) for stage in stages}
    parts = [count for name, count in epochs.items() if name != "joint"]
    assert parts == pytest.approx([parts[0]] * len(parts), rel=0.1) if parts else True
    if mode == "staged":
        assert epochs["joint"] == pytest.approx(parts[0] / 2, rel=0.1)


def test_seconds_are_shared_out_by_cost(opened):
    _, _, macs = allotted(opened, "separate", budget="macs:4e9")
    _, mixture, stages = allotted(opened, "separate", budget="seconds:60")
    assert {stage.steps for stage in stages} == {None}
    assert sum(stage.seconds for stage in stages) == pytest.approx(60)
    spent = [s.steps * cost.stage_macs(mixture, s.kind, s.parts, 1) for s in macs]
    share = [stage.seconds / 60 for stage in stages]
    assert share == pytest.approx([cost / sum(spent) for cost in spent], rel=0.1)
    assert read_budget("seconds:60") == ("seconds", 60)
