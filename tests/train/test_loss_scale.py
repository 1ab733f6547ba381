from __future__ import annotations

import pytest
import tensorflow as tf

from moe.train.loss_scale import DynamicScale, Unscaled, make_loss_scale


def test_only_float16_is_scaled():
    assert isinstance(make_loss_scale("mixed_float16"), DynamicScale)
    for policy in ("float32", "mixed_bfloat16"):
        assert isinstance(make_loss_scale(policy), Unscaled)


def _step(scale, loss_gradient: float) -> bool:
    """One step whose true gradient is `loss_gradient`; says whether it updated."""
    updates = tf.Variable(0)

    @tf.function
    def step():
        scaled = {"gate": [scale.scale(tf.constant(loss_gradient))]}
        gradients, usable = scale.unscale(scaled)
        scale.apply(usable, lambda: updates.assign_add(1))
        return gradients["gate"][0]

    gradient = float(step())
    if updates.numpy():
        assert gradient == pytest.approx(loss_gradient)
    return bool(updates.numpy())


def test_an_overflow_skips_the_step_and_halves_the_scale():
    scale = DynamicScale()
    assert _step(scale, 3.0)
    assert not _step(scale, float("inf"))
    assert not _step(scale, float("nan"))
    assert float(scale.factor) == DynamicScale.START / 4
    assert int(scale.skipped) == 2
    assert int(scale.good_steps) == 0


def test_enough_good_steps_double_the_scale(monkeypatch):
    monkeypatch.setattr(DynamicScale, "GROWTH_STEPS", 2)
    scale = DynamicScale()
    assert _step(scale, 1.0)
    assert _step(scale, 1.0)
    assert float(scale.factor) == DynamicScale.START * 2
    assert int(scale.good_steps) == 0
