"""Dropout's statistics, reproducibility and gradients; standardisation against scikit-learn."""

import keras
import numpy as np
import pytest
import sklearn.preprocessing
import tensorflow as tf

from moe import randomness
from moe.models.layers import (
    Conv2D,
    Dropout,
    MaxPool,
    Standardize,
    keep_mask,
    weight_gradient,
)

KEY = tf.constant([5, 6])


def drop(layer, x, key=KEY, training=True):
    with randomness.key_scope(key):
        return layer(x, training=training)


# --- masks --------------------------------------------------------------------------------------

# .25 and .5 are decided by 8 bits each, .1 and .999 by 16.
RATES = [0.1, 0.25, 0.5, 0.999]


@pytest.mark.parametrize("rate", RATES)
def test_a_mask_drops_the_right_share(rate):
    size = 200_000
    kept = keep_mask(tf.constant([size]), rate, KEY).numpy().mean()
    assert abs(kept - (1 - rate)) < 5 * np.sqrt(rate * (1 - rate) / size)


@pytest.mark.parametrize("rate", [0.25, 0.1])
def test_every_element_has_a_coin_of_its_own(rate):
    size = 40_000
    kept = keep_mask(tf.constant([size]), rate, KEY).numpy().astype(float)
    # Neighbours share a random word; nothing else.
    for distance in (1, 2, 3, 4, 8):
        correlation = np.corrcoef(kept[:-distance], kept[distance:])[0, 1]
        assert abs(correlation) < 5 / np.sqrt(size)
    for lane in range(4):
        share = kept[lane::4].mean()
        assert abs(share - (1 - rate)) < 5 * np.sqrt(rate * (1 - rate) * 4 / size)


@pytest.mark.parametrize("shape", [[1], [3], [5, 7], [2, 3, 5, 1], [0, 4]])
@pytest.mark.parametrize("rate", [0.25, 0.1])
def test_a_mask_has_any_shape(shape, rate):
    mask = keep_mask(tf.constant(shape), rate, KEY)
    assert mask.dtype == tf.bool
    assert mask.shape == shape


def test_a_mask_depends_on_the_key_only():
    first, again, other = (
        keep_mask(tf.constant([50]), 0.5, tf.constant(key)).numpy()
        for key in ([5, 6], [5, 6], [6, 5])
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


# --- the layer ----------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_dropout_scales_what_it_keeps(rate):
    result = drop(Dropout(rate), tf.ones([100, 100])).numpy()
    kept = result != 0
    np.testing.assert_allclose(result[kept], 1 / (1 - rate), rtol=1e-6)
    assert abs(result.mean() - 1) < 5 * np.sqrt(rate / (1 - rate)) / 100


def test_dropout_does_nothing_at_evaluation_or_at_rate_0():
    x = tf.random.stateless_normal([4, 3], seed=[1, 2])
    np.testing.assert_array_equal(drop(Dropout(0.5), x, training=False), x)
    np.testing.assert_array_equal(Dropout(0.5)(x), x)
    np.testing.assert_array_equal(drop(Dropout(0.0), x), x)


def test_the_same_key_drops_the_same_and_the_next_call_something_else():
    layer, x = Dropout(0.5), tf.ones([8, 8])
    np.testing.assert_array_equal(drop(layer, x), drop(layer, x))
    assert tf.reduce_any(drop(layer, x) != drop(layer, x, tf.constant([5, 7])))
    with randomness.key_scope(KEY):
        one, other = layer(x, training=True), layer(x, training=True)
    np.testing.assert_array_equal(one, drop(layer, x))
    assert tf.reduce_any(one != other)


def test_masks_follow_the_order_of_the_layers_not_their_names():
    x = tf.ones([8, 8])

    def twice():
        inputs = keras.Input([8])
        return keras.Model(inputs, Dropout(0.5)(Dropout(0.5)(inputs)))

    np.testing.assert_array_equal(drop(twice(), x), drop(twice(), x))
    with randomness.key_scope(KEY):
        by_hand = Dropout(0.5)(Dropout(0.5)(x, training=True), training=True)
    np.testing.assert_array_equal(drop(twice(), x), by_hand)


def test_the_gradient_is_the_scaled_mask():
    x = tf.random.stateless_normal([6, 5], seed=[1, 2])
    with tf.GradientTape() as tape:
        tape.watch(x)
        result = drop(Dropout(0.25), x)
    gradient = tape.gradient(result, x)
    np.testing.assert_allclose(gradient, np.where(result != 0, 1 / 0.75, 0), rtol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_dropout_stays_in_the_compute_dtype(policy):
    layer = Dropout(0.25, dtype=keras.DTypePolicy(policy))
    dtype = tf.as_dtype(layer.compute_dtype)
    x = tf.ones([64, 64], dtype)
    result = drop(layer, x)
    assert result.dtype == dtype
    values = np.unique(tf.cast(result, tf.float32))
    # 4/3, rounded to 8 or 11 bits
    np.testing.assert_allclose(values, [0, 4 / 3], rtol=2**-8)
    # The mask is that of float32.
    np.testing.assert_array_equal(result != 0, drop(Dropout(0.25), tf.ones([64, 64])) != 0)


def test_dropout_in_a_traced_step_follows_the_key_that_is_passed_in():
    layer, x = Dropout(0.5), tf.ones([8, 8])
    traced = tf.function(lambda key: drop(layer, x, key))
    for key in (KEY, tf.constant([7, 8])):
        np.testing.assert_array_equal(traced(key), drop(layer, x, key))


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5])
def test_a_rate_outside_of_the_range_is_refused(rate):
    with pytest.raises(ValueError, match=rf"rate must be in \[0, 1\), got {rate}"):
        Dropout(rate)


def test_dropout_can_be_rebuilt_from_its_configuration():
    assert Dropout.from_config(Dropout(0.3).get_config()).rate == 0.3
    assert keras.saving.get_registered_object("moe>Dropout") is Dropout


# --- standardisation ----------------------------------------------------------------------------


def fitted(features):
    layer = Standardize()
    layer.build((None, *features.shape[1:]))
    layer.fit(features)
    return layer


def test_rows_are_standardised_as_by_scikit_learn():
    rng = np.random.default_rng(0)
    rows = rng.normal([0, 100, -5, 1e6], [1, 0.1, 30, 1e3], size=(200, 4)).astype(np.float32)
    rows[:, 2] = 7.5  # constant
    layer = fitted(rows[:150])
    expected = sklearn.preprocessing.StandardScaler().fit(rows[:150].astype(np.float64))
    np.testing.assert_allclose(layer(rows), expected.transform(rows), atol=2e-3)
    np.testing.assert_allclose(layer.mean, expected.mean_, rtol=1e-6)
    np.testing.assert_allclose(layer.deviation, expected.scale_, rtol=1e-5)


def test_images_are_standardised_by_channel():
    images = np.random.default_rng(0).integers(0, 256, size=(30, 5, 4, 3)).astype(np.uint8)
    images[..., 1] //= 4
    layer = fitted(images)
    result = layer(images).numpy()
    assert result.shape == images.shape
    np.testing.assert_allclose(result.mean(axis=(0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(result.std(axis=(0, 1, 2)), 1, atol=1e-5)
    flat = images.reshape(-1, 3).astype(np.float64)
    np.testing.assert_allclose(layer.deviation, flat.std(axis=0), rtol=1e-6)


def test_more_examples_than_a_chunk_give_the_same_statistics():
    rows = np.random.default_rng(0).normal(3, 2, size=(12_345, 2)).astype(np.float32)
    layer = fitted(rows)
    np.testing.assert_allclose(layer.mean, rows.astype(np.float64).mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(layer.deviation, rows.astype(np.float64).std(axis=0), rtol=1e-6)


def test_a_layer_that_is_not_fitted_changes_nothing_but_the_type():
    layer = Standardize()
    result = layer(tf.constant([[1, 2]], tf.uint8))
    assert result.dtype == tf.float32
    np.testing.assert_array_equal(result, [[1, 2]])


def test_table_rows_are_standardised_in_float32_whatever_the_policy():
    layer = Standardize(dtype=keras.DTypePolicy("mixed_bfloat16"))
    rows = np.array([[1000.0], [1001.0], [1002.0]], np.float32)
    layer.build(rows.shape)
    layer.fit(rows)
    result = layer(tf.constant(rows))
    assert result.dtype == tf.bfloat16
    # In bfloat16 all three rows would be 1000.
    np.testing.assert_allclose(tf.cast(result, tf.float32)[:, 0], [-1.2247, 0, 1.2247], rtol=1e-2)


def test_images_are_standardised_in_float32_whatever_the_policy():
    images = np.array([[[[120]]], [[[131]]], [[[126]]]], np.uint8)
    layer = Standardize(dtype=keras.DTypePolicy("mixed_bfloat16"))
    layer.build((None, 1, 1, 1))
    layer.fit(images)
    # mean 125.667, deviation 4.497: 1.186 for the second; 1.14 with a mean rounded to bfloat16
    result = tf.cast(layer(images), tf.float32)[:, 0, 0, 0]
    np.testing.assert_allclose(result, [-1.2602, 1.1861, 0.0741], rtol=6e-3)


def test_the_statistics_are_weights_that_are_not_trained():
    layer = fitted(np.ones((3, 2), np.float32))
    assert {v.name for v in layer.weights} == {"mean", "deviation"}
    assert layer.trainable_weights == []


# --- pooling ------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"pool_size": 3, "strides": 2, "padding": "same"}])
@pytest.mark.parametrize("conditional", [False, True])
def test_pooling_and_its_gradient_are_those_of_keras(options, conditional):
    # Few values, so that there are equals within a window.
    x = tf.round(2 * tf.random.stateless_normal([3, 7, 8, 2], seed=[1, 2]))

    def pooled(layer):
        @tf.function
        def both(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = (
                    tf.cond(tf.size(x) > 0, lambda: layer(x), lambda: x)
                    if conditional
                    else layer(x)
                )
                total = tf.reduce_sum(y * tf.range(1.0, 1 + tf.cast(tf.shape(y)[-1], tf.float32)))
            return y, tape.gradient(total, x)

        return both(x)

    for mine, theirs in zip(
        pooled(MaxPool(**options)), pooled(keras.layers.MaxPooling2D(**options)), strict=True
    ):
        np.testing.assert_array_equal(mine, theirs)


def test_the_gradient_of_pooling_can_be_differentiated():
    x = tf.random.stateless_normal([1, 4, 4, 1], seed=[1, 2])
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            y = tf.reduce_sum(MaxPool()(x) ** 3)
        first = inner.gradient(y, x)
    second = outer.gradient(first, x)
    np.testing.assert_allclose(second, np.where(first != 0, 6 * x, 0), rtol=1e-5)


# --- convolution --------------------------------------------------------------------------------


def test_a_weight_gradient_by_hand():
    # One channel, one row: x = 1 2 3, dy = 1 10 100, a window of three: what each place of the
    # window saw, times dy: 0 1 2, 1 2 3, 2 3 0.
    x, dy = (tf.reshape(tf.constant(v), [1, 1, 3, 1]) for v in ([1.0, 2, 3], [1.0, 10, 100]))
    found = weight_gradient(x, dy, (1, 3))
    assert found.shape == (1, 3, 1, 1)
    np.testing.assert_array_equal(tf.reshape(found, [-1]), [210, 321, 32])


@pytest.mark.parametrize("window", [(1, 1), (2, 2), (2, 3), (3, 3), (5, 4), (9, 13)])
@pytest.mark.parametrize("examples", [0, 1, 5])
def test_weight_gradients_are_those_of_tensorflow(window, examples):
    x = tf.random.stateless_normal([examples, 4, 6, 3], seed=[1, 2])
    dy = tf.random.stateless_normal([examples, 4, 6, 2], seed=[3, 4])
    filters = tf.zeros([*window, 3, 2])
    with tf.GradientTape() as tape:
        tape.watch(filters)
        y = tf.nn.conv2d(x, filters, 1, "SAME")
    expected = tape.gradient(y, filters, output_gradients=dy)
    np.testing.assert_allclose(weight_gradient(x, dy, window), expected, rtol=1e-5, atol=1e-5)


def gradients(layer, x, by_products):
    """Answer, gradients, and whether TensorFlow's own gradient of the filters is in the graph."""
    layer.build([None, *x.shape[1:]])
    layer.set_weights([0.1 * tf.random.stateless_normal(w.shape, [5, 6]) for w in layer.weights])

    @tf.function
    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.cond(tf.size(x) > 0, lambda: layer(x), lambda: layer(x) + 1)
            total = tf.reduce_sum(tf.cast(y, tf.float32) ** 2)
        return y, *tape.gradient(total, [x, *(w.value for w in layer.trainable_weights)])

    functions = step.get_concrete_function(x).graph.as_graph_def().library.function
    used = {node.op for function in functions for node in function.node_def}
    assert ("Conv2DBackpropFilter" not in used) == by_products
    return [tf.cast(v, tf.float32).numpy() for v in step(x)]


OPTIONS = {"filters": 128, "kernel_size": 3, "padding": "same"}


@pytest.mark.parametrize(
    ("side", "channels", "dtype", "changes", "by_products"),
    [
        (4, 128, "mixed_bfloat16", {}, True),
        (8, 128, "mixed_bfloat16", {"kernel_size": (1, 3), "use_bias": False}, True),
        (9, 128, "mixed_bfloat16", {}, False),
        (4, 127, "mixed_bfloat16", {}, False),
        (4, 128, "mixed_bfloat16", {"filters": 64}, False),
        (4, 128, "float32", {}, False),
        (4, 128, "mixed_bfloat16", {"padding": "valid"}, False),
        (4, 128, "mixed_bfloat16", {"strides": 2}, False),
        (4, 128, "mixed_bfloat16", {"dilation_rate": 2}, False),
        (4, 128, "mixed_bfloat16", {"groups": 2}, False),
    ],
)
def test_a_convolution_and_its_gradients_are_those_of_keras(
    side, channels, dtype, changes, by_products
):
    options = OPTIONS | changes | {"dtype": dtype}
    x = tf.random.stateless_normal([3, side, side, channels], seed=[1, 2])
    mine = gradients(Conv2D(**options), x, by_products)
    theirs = gradients(keras.layers.Conv2D(**options), x, False)
    assert len(mine) == len(theirs) >= 3
    for one, other in zip(mine, theirs, strict=True):
        # bfloat16 keeps eight bits; sums of some hundred products round differently.
        np.testing.assert_allclose(one, other, rtol=0.02, atol=0.01 * np.abs(other).max())
    for one, other in zip(mine[:2], theirs[:2], strict=True):
        np.testing.assert_array_equal(one, other)  # the answer and its gradient by x


def test_a_picture_that_is_long_or_of_unknown_size_is_none_for_products():
    layer = Conv2D(**OPTIONS, dtype="mixed_bfloat16")
    x = tf.random.stateless_normal([1, 4, 9, 128], seed=[1, 2])
    gradients(layer, x, False)

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 128])])
    def step(x):
        with tf.GradientTape() as tape:
            y = layer(x)
        return tape.gradient(y, layer.kernel.value)

    assert step(x[:, :, :4]).shape == (3, 3, 128, 128)


def test_a_gradient_may_come_without_its_shape():
    def again(y):
        return tf.numpy_function(lambda v: v, [y], tf.float32)

    @tf.custom_gradient
    def same(y):
        return tf.ensure_shape(again(y), y.shape), again

    layers = [kind(**OPTIONS, dtype="mixed_bfloat16") for kind in (Conv2D, keras.layers.Conv2D)]
    x = tf.random.stateless_normal([1, 4, 4, 128], seed=[1, 2])

    @tf.function
    def step(layer):
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(same(tf.cast(layer(x), tf.float32)) ** 2)
        return tape.gradient(total, layer.kernel.value)

    for layer in layers:
        layer.build(x.shape)
        layer.set_weights([tf.ones(w.shape) for w in layer.weights])
    one, other = (step(layer) for layer in layers)
    np.testing.assert_allclose(one, other, rtol=0.02)


def test_a_gpu_has_a_kernel_of_its_own(monkeypatch):
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: [f"{kind}:0"])
    x = tf.random.stateless_normal([1, 4, 4, 128], seed=[1, 2])
    gradients(Conv2D(**OPTIONS, dtype="mixed_bfloat16"), x, False)
