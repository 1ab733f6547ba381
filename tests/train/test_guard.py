"""What is said of a number that is none."""

import math

import pytest

from moe.train.guard import describe

JOINT = ("loss", "nll", "baseline_loss", "expert_loss", "z_loss", "examples")
PARTS = ("baseline", "gate", "expert_0", "expert_1")
NAN = math.nan


@pytest.mark.parametrize(
    ("sums", "expected"),
    [
        # The total and the mixture's NLL are made of what the parts say.
        ([NAN, NAN, NAN, 1, 1, 4], ("baseline", "baseline_loss of baseline is nan")),
        ([NAN, NAN, 1, 1, math.inf, 4], ("gate", "z_loss of gate is inf")),
        ([NAN, NAN, 1, NAN, 1, 4], ("experts", "expert_loss of experts is nan")),
        ([NAN, NAN, 1, 1, 1, 4], ("mixture", "loss of mixture is nan")),
    ],
)
def test_the_part_that_it_comes_from_is_named(sums, expected):
    found = describe(1, sums, JOINT, PARTS)
    assert found.part == expected[0]
    assert found.what.startswith(f"{expected[1]} (so is ")
    assert "nll" in found.what


def test_a_network_by_itself_and_the_one_whose_gradient_it_is():
    names = ("loss", "accuracy", "examples")
    assert describe(1, [NAN, 3, 4], names, ("trunk", "baseline")) == (
        "baseline",
        "loss of baseline is nan",
    )
    assert describe(3, [1, 3, 4], names, PARTS) == ("gate", "the gradient of gate is not finite")
