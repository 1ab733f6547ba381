from __future__ import annotations

import pytest
import tensorflow as tf

from moe.train.guard import FINE, OVERFLOW, find_fault
from moe.train.loss_scale import DynamicScale, Unscaled, make_loss_scale


def test_only_float16_is_scaled():
    assert isinstance(make_loss_scale("mixed_float16"), DynamicScale)
    for policy in ("float32", "mixed_bfloat16"):
        assert isinstance(make_loss_scale(policy), Unscaled)


def _step(scale, loss_gradient: float) -> float:
    """The fault of one step whose true gradient is `loss_gradient`."""
    updates = tf.Variable(0)

    @tf.function
    def step():
        scaled = {"gate": [scale.scale(tf.constant(loss_gradient))]}
        gradients = scale.unscale(scaled)
        fault = scale.judge(find_fault(tf.zeros([1]), gradients))
        scale.apply(fault, lambda: updates.assign_add(1))
        return gradients["gate"][0], fault

    gradient, fault = step()
    assert bool(updates.numpy()) == (fault == FINE)
    if fault == FINE:
        assert float(gradient) == pytest.approx(loss_gradient)
    return float(fault)


def test_a_gradient_whose_square_is_no_number_is_a_fault():
    scale = make_loss_scale("float32")
    assert _step(scale, 1e18) == FINE
    assert _step(scale, 1e20) not in (FINE, OVERFLOW)


def test_an_overflow_skips_the_step_and_halves_the_scale():
    scale = DynamicScale()
    assert _step(scale, 3.0) == FINE
    assert _step(scale, float("inf")) == OVERFLOW
    assert _step(scale, float("nan")) == OVERFLOW
    assert float(scale.factor) == DynamicScale.START / 4
    assert int(scale.good_steps) == 0


def test_what_overflows_without_a_scale_is_no_overflow():
    for scale in (Unscaled(), DynamicScale()):
        scale.factor.assign(1.0)
        assert _step(scale, float("inf")) not in (FINE, OVERFLOW)
        assert float(scale.factor) == 1.0


def test_enough_good_steps_double_the_scale(monkeypatch):
    monkeypatch.setattr(DynamicScale, "GROWTH_STEPS", 2)
    scale = DynamicScale()
    assert _step(scale, 1.0) == FINE
    assert _step(scale, 1.0) == FINE
    assert float(scale.factor) == DynamicScale.START * 2
    assert int(scale.good_steps) == 0
