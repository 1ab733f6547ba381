"""Batch normalisation against Keras' own: values, gradients, moving statistics."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from moe.errors import UserError
from moe.models.normalization import BatchNorm, check_fixed_shapes, check_replicas

POLICIES = {"float32": 1e-4, "mixed_bfloat16": 1e-2, "mixed_float16": 1e-3}
SHAPES = [(8, 5, 6, 7), (9, 4), (1, 3, 1, 3)]


def _pair(shape, policy, **options):
    layers = (
        BatchNorm(dtype=policy, **options),
        keras.layers.BatchNormalization(dtype=policy, **options),
    )
    weights = np.random.default_rng(1).uniform(0.5, 2, (2, shape[-1]))
    for layer in layers:
        layer.build(shape)
        layer.gamma.assign(weights[0])
        layer.beta.assign(weights[1])
    return layers


def _inputs(shape, policy):
    # A mean far from zero: a variance computed by E x^2 - (E x)^2 in few digits would show.
    x = np.random.default_rng(0).normal(3, 2, shape)
    return tf.constant(x, keras.DTypePolicy(policy).compute_dtype)


def _step(layer, x):
    """Outputs and all gradients of a loss that is not symmetric in them."""
    weights = tf.range(tf.size(x), dtype=tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(x)
        outputs = layer(x, training=True)
        loss = tf.reduce_sum(tf.reshape(tf.cast(outputs, tf.float32), [-1]) * weights)
    return outputs, *tape.gradient(loss, [x, layer.gamma.value, layer.beta.value])


def _close(found, expected, tolerance):
    found, expected = (np.asarray(tf.cast(v, tf.float32)) for v in (found, expected))
    scale = max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(found / scale, expected / scale, atol=tolerance)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("shape", SHAPES)
def test_training_equals_keras(shape, policy):
    x = _inputs(shape, policy)
    ours, theirs = _pair(shape, policy, momentum=0.7)
    for found, expected in zip(_step(ours, x), _step(theirs, x), strict=True):
        assert found.dtype == expected.dtype
        _close(found, expected, POLICIES[policy])
    for name in ("moving_mean", "moving_variance"):
        _close(getattr(ours, name).value, getattr(theirs, name).value, 1e-5)


@pytest.mark.parametrize("policy", POLICIES)
def test_evaluation_equals_keras_and_leaves_the_statistics_alone(policy):
    x = _inputs(SHAPES[0], policy)
    ours, theirs = _pair(SHAPES[0], policy)
    _step(ours, x), _step(theirs, x)
    before = ours.moving_mean.numpy()
    _close(ours(x), theirs(x), POLICIES[policy])
    np.testing.assert_array_equal(ours.moving_mean.numpy(), before)


def test_a_frozen_layer_runs_as_at_evaluation():
    x = _inputs(SHAPES[0], "float32")
    layer, _ = _pair(SHAPES[0], "float32")
    layer.trainable = False
    np.testing.assert_array_equal(layer(x, training=True), layer(x))


def test_what_is_not_learned_is_not_trainable():
    layer = BatchNorm(center=False, scale=False)
    layer.build((2, 3))
    assert layer.trainable_variables == []
    assert BatchNorm.from_config(layer.get_config()).get_config() == layer.get_config()


# --- several replicas ---------------------------------------------------------------------------


def _network(layer):
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), layer])


def test_batch_statistics_that_replicas_can_share():
    frozen = _network(BatchNorm(trainable=False))
    for routed in (True, False):
        check_replicas({"gate": _network(BatchNorm()), "expert_0": frozen}, routed)
    check_replicas({"expert_0": _network(BatchNorm())}, routed=False)


@pytest.mark.parametrize("layer", [BatchNorm, keras.layers.BatchNormalization])
def test_batch_statistics_do_not_go_with_fixed_shapes(layer):
    check_fixed_shapes({"expert_0": _network(layer(trainable=False))})
    with pytest.raises(UserError, match=r"expert_1: --jit_compile fills the batches"):
        check_fixed_shapes(
            {"expert_0": _network(keras.layers.ReLU()), "expert_1": _network(layer())}
        )


def test_batch_statistics_that_replicas_cannot_share():
    with pytest.raises(UserError, match=r"expert_0: batch statistics of routed experts"):
        check_replicas({"expert_0": _network(BatchNorm())}, routed=True)
    with pytest.raises(UserError, match=r"gate: keras.layers.BatchNormalization does not work"):
        check_replicas({"gate": _network(keras.layers.BatchNormalization())}, routed=False)
