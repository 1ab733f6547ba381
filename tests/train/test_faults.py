"""What is said of a number that is none, and where it is noted."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from moe.train.context import Progress
from moe.train.faults import FaultPolicy
from moe.train.guard import Fault

ROLLS_BACK = SimpleNamespace(
    config=SimpleNamespace(runtime=SimpleNamespace(on_nonfinite="rollback"))
)


@pytest.mark.parametrize(
    ("done", "steps", "epoch"),
    [
        (8, 0, 1),  # the judgement of the first epoch, all of whose steps are booked
        (8, 1, 2),  # the step after it
        (4, 4, 1),
        (13, 0, 2),  # training ended within the second
    ],
)
def test_a_rollback_is_noted_in_the_epoch_that_went_wrong(done, steps, epoch):
    policy = FaultPolicy(ROLLS_BACK, SimpleNamespace(name="joint"), Progress(step=done), 8)
    found = policy.error("somewhere", Fault("gate", "is none"), steps)
    assert found.epoch == epoch
