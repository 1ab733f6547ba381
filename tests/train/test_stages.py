from __future__ import annotations

import numpy as np
import pytest

from moe.config.run import Config
from moe.data.pipeline import Split
from moe.data.source import Examples
from moe.errors import UserError
from moe.taxonomy import Groups
from moe.train.stages import Stage, check_examples, filled_parts, leave_out, stages_of

GROUPS = Groups(("artificial", "natural"), named=True, group_of_class=(0, 1))
PARTS = ["baseline", "gate", "expert_0", "expert_1", "combiner_0", "combiner_1"]


def _names(mode: str, parts=PARTS) -> list[str]:
    return [stage.name for stage in stages_of(Config(mode=mode), GROUPS, parts)]


@pytest.mark.parametrize(
    ("mode", "names"),
    [
        ("baseline", ["baseline"]),
        ("gate", ["gate"]),
        ("experts", ["artificial", "natural"]),
        ("separate", ["baseline", "gate", "artificial", "natural", "blend"]),
        ("joint", ["joint"]),
        ("staged", ["baseline", "gate", "artificial", "natural", "blend", "joint"]),
    ],
)
def test_the_stages_of_a_mode(mode, names):
    assert _names(mode) == names


def test_without_a_baseline_there_is_no_blend():
    assert _names("separate", ["gate", "expert_0", "expert_1"]) == ["gate", "artificial", "natural"]


def test_experts_learn_their_own_group_only_and_joint_learns_all():
    stages = {stage.name: stage for stage in stages_of(Config(mode="staged"), GROUPS, PARTS)}
    assert stages["natural"].group == 1
    assert stages["natural"].parts == ("expert_1",)
    assert stages["blend"].parts == ("combiner_0", "combiner_1")
    assert stages["joint"].parts == tuple(PARTS)
    assert stages["joint"].rate == 0.1
    assert stages["gate"].rate == 1


@pytest.mark.parametrize(
    ("mode", "routing", "filled"),
    [
        ("joint", "soft", []),
        ("joint", "expert_choice", []),
        ("joint", "hard", ["combiner_0", "combiner_1", "expert_0", "expert_1"]),
        ("separate", "hard", ["combiner_0", "combiner_1"]),
        ("experts", "hard", []),
    ],
)
def test_who_learns_in_batches_that_are_filled_up(mode, routing, filled):
    assert filled_parts(stages_of(Config(mode=mode), GROUPS, PARTS), routing) == filled


def _split(*sizes: int) -> Split:
    """Examples of groups 0 and 1, so many of each."""
    group = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    return Split(Examples(np.zeros([len(group), 1], np.uint8), group), group)


@pytest.mark.parametrize(
    ("train", "validation", "replicas", "message"),
    [
        ((8, 8), (1, 1), 1, None),
        ((8, 7), (1, 1), 1, "--batch_size=8: stage natural has only 7 training examples"),
        ((8, 8), (2, 0), 1, "stage natural has no validation examples"),
        ((8, 8), (1, 1), 3, "--batch_size=8: 3 replicas cannot share it evenly"),
    ],
    ids=["enough", "small group", "nothing to validate on", "uneven"],
)
def test_every_stage_is_checked_before_the_first_one_trains(train, validation, replicas, message):
    stages = stages_of(Config(mode="separate"), GROUPS, PARTS)
    if message is None:
        check_examples(stages, _split(*train), _split(*validation), 8, replicas)
        return
    with pytest.raises(UserError, match=message):
        check_examples(stages, _split(*train), _split(*validation), 8, replicas)


def test_a_group_that_no_stage_needs_may_be_small():
    stages = stages_of(Config(mode="joint"), GROUPS, PARTS)
    check_examples(stages, _split(8, 1), _split(1, 0), 8, 1)


def test_slices_must_be_equal_on_every_replica():
    stages = stages_of(Config(mode="joint"), GROUPS, PARTS)
    check_examples(stages, _split(8, 8), _split(1, 1), 8, 2, accumulate=4)
    with pytest.raises(UserError, match="cannot be cut into --accumulate=3 equal slices"):
        check_examples(stages, _split(8, 8), _split(1, 1), 8, 2, accumulate=3)


def test_stages_that_another_run_has_done_are_left_out():
    stages = [Stage("gate", "part", ("gate",)), Stage("joint", "joint", ("gate", "expert_0"))]
    found = leave_out(stages, ["gate"], {"gate"})
    assert [stage.done for stage in found] == [True, False]
    assert [stage.name for stage in found] == ["gate", "joint"]
    assert not any(stage.done for stage in leave_out(stages, [], set()))


@pytest.mark.parametrize(
    ("names", "filled", "message"),
    [
        (["blend"], {"gate"}, "--skip_stages=blend: must be one of gate, joint"),
        (["gate"], {"expert_0"}, "--skip_stages=gate: --init_from gives no gate"),
        (["joint"], {"gate", "expert_0"}, "--skip_stages=joint: nothing would be left"),
    ],
)
def test_what_is_not_there_cannot_be_left_out(names, filled, message):
    stages = [Stage("gate", "part", ("gate",)), Stage("joint", "joint", ("gate", "expert_0"))]
    with pytest.raises(UserError, match=message):
        leave_out(stages, names, filled)
