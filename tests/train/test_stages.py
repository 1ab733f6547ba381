from __future__ import annotations

import pytest

from moe.config import Config
from moe.taxonomy import Groups
from moe.train.stages import TUNING_RATE, stages_of

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
    assert stages["joint"].rate == TUNING_RATE
    assert stages["gate"].rate == 1
