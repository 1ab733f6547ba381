"""Muon against NumPy: the singular values of its steps, its momentum, the kernels it is for."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from moe.config.sections import TrainConfig
from moe.models import backbones
from moe.models.normalization import BatchNorm
from moe.train.muon import orthogonalised
from moe.train.optimizers import PartOptimizer, apply_active
from moe.train.schedules import make_schedule
from moe.train.weight_groups import hidden_kernels, make_optimizer, norm_offsets

CONSTANT = make_schedule("constant", 1)
RNG = np.random.default_rng(0)


def reference(matrix):
    """Newton-Schulz as Jordan et al. 2024 write it, for matrices that are not taller than wide."""
    x = matrix / np.linalg.norm(matrix)
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x


@pytest.mark.parametrize("shape", [(4, 9), (9, 4), (5, 5), (1, 6)])
def test_steps_of_newton_schulz(shape):
    matrix = RNG.normal(size=shape).astype(np.float32)
    expected = reference(matrix) if shape[0] <= shape[1] else reference(matrix.T).T
    np.testing.assert_allclose(orthogonalised(tf.constant(matrix)), expected, atol=1e-4)


@pytest.mark.parametrize(("dtype", "slack"), [("float32", 0.0), ("bfloat16", 0.1)])
@pytest.mark.parametrize("shape", [(16, 60), (60, 16)])
def test_all_directions_become_alike(dtype, slack, shape):
    left, _, right = np.linalg.svd(RNG.normal(size=shape), full_matrices=False)
    matrix = left * np.geomspace(1, 0.05, 16) @ right
    result = orthogonalised(tf.constant(matrix, tf.float32), dtype).numpy()
    sizes = np.linalg.svd(result, compute_uv=False)
    assert 0.65 - slack < sizes.min() < sizes.max() < 1.25 + slack
    # The directions stay, and so do their signs.
    across = left.T @ result @ right.T
    assert (np.diag(across) > 0.6 - slack).all()
    assert abs(across - np.diag(np.diag(across))).max() < 0.02 + slack


def test_no_gradient_no_step():
    np.testing.assert_array_equal(orthogonalised(tf.zeros([3, 4])), np.zeros([3, 4]))


@pytest.mark.parametrize("rule", ["muon", "muon_of_fixed_size"])
@pytest.mark.parametrize("shape", [(3, 3, 2, 5), (2, 6)], ids=["convolution", "more out than in"])
def test_three_updates_by_numpy(rule, shape):
    start = RNG.normal(size=shape).astype(np.float32)
    gradients = RNG.normal(size=(3, *shape)).astype(np.float32)
    kernel = tf.Variable(start)
    muon = PartOptimizer(rule, [kernel], 0.3, CONSTANT, momentum=0.8)

    @tf.function(autograph=False)
    def update(gradient):
        muon.apply(tf.distribute.get_strategy(), [gradient], tf.constant(0, tf.int64))

    outputs = shape[-1]
    inputs = start.size // outputs
    expected, buffer = start.reshape(inputs, outputs).astype(np.float64), 0
    for gradient in gradients:
        update(tf.constant(gradient))
        gradient = gradient.reshape(inputs, outputs)
        buffer = 0.8 * buffer + gradient
        direction = gradient + 0.8 * buffer
        step = reference(direction.T).T if inputs > outputs else reference(direction)
        if rule == "muon_of_fixed_size":
            expected *= np.sqrt(outputs) / np.linalg.norm(expected)
        expected = expected - 0.3 * max(1, outputs / inputs) ** 0.5 * step
    np.testing.assert_allclose(kernel.numpy().reshape(inputs, outputs), expected, atol=1e-4)
    assert len(muon.state()) == 2


# --- which weights --------------------------------------------------------------------------------


def network():
    """A convolution with a bias, one in front of a normalisation, a hidden dense layer, logits."""
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 2, name="first")(inputs)
    x = keras.layers.Conv2D(5, 3, use_bias=False, name="normalised")(x)
    x = BatchNorm(name="norm")(x)
    x = keras.layers.DepthwiseConv2D(3, name="depthwise")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dense(6, name="hidden")(x)
    return keras.Model(inputs, keras.layers.Dense(2, name="logits")(x))


def named(model, *paths):
    return [
        next(v.value for v in model.get_layer(layer).weights if v.name == name)
        for layer, name in (path.split("/") for path in paths)
    ]


def same(found, expected):
    assert [id(v) for v in found] == [id(v) for v in expected]


def test_muon_has_the_hidden_kernels():
    model = network()
    free, fixed = hidden_kernels(model, ends_in_head=True)
    same(free, named(model, "first/kernel", "hidden/kernel"))
    same(fixed, named(model, "normalised/kernel"))
    free, fixed = hidden_kernels(model, ends_in_head=False)
    same(free, named(model, "first/kernel", "hidden/kernel", "logits/kernel"))
    model.get_layer("first").kernel.trainable = False
    model.get_layer("normalised").trainable = False
    free, fixed = hidden_kernels(model, ends_in_head=True)
    same(free + fixed, named(model, "hidden/kernel"))


@pytest.mark.parametrize(
    "layer", [BatchNorm(), keras.layers.BatchNormalization(), keras.layers.LayerNormalization()]
)
def test_offsets_of_normalisations(layer):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4), layer])
    same(norm_offsets(model), [layer.beta.value])
    layer.trainable = False
    assert norm_offsets(model) == []


@pytest.mark.parametrize(
    ("changes", "groups"),
    [
        ({}, 1),
        ({"optimizer": "adam", "bias_lr_scale": 64.0}, 2),
        ({"optimizer": "muon"}, 3),
        ({"optimizer": "muon", "bias_lr_scale": 64.0}, 4),
    ],
)
def test_every_weight_is_in_one_group(changes, groups):
    model = network()
    optimizer = make_optimizer(model, TrainConfig(**changes), CONSTANT)
    expected = {id(v.value) for v in model.trainable_variables}
    assert len(optimizer.variables) == len(expected)
    assert {id(v) for v in optimizer.variables} == expected
    counts = [v for v in optimizer.state() if v.shape == ()]
    assert len(counts) == groups


def test_each_group_has_its_own_rate():
    model = network()
    config = TrainConfig(optimizer="sgd", learning_rate=0.1, bias_lr_scale=5.0)
    optimizer = make_optimizer(model, config, CONSTANT, rate=0.5)
    before = {id(v): v.numpy() for v in optimizer.variables}
    gradients = [tf.ones(v.shape) for v in optimizer.variables]
    apply_active(
        {"gate": optimizer}, tf.distribute.get_strategy(), {"gate": gradients}, {}, tf.constant(0)
    )
    (offset,) = norm_offsets(model)
    for variable in optimizer.variables:
        moved = before[id(variable)] - variable.numpy()
        expected = 0.5 * 0.1 * (5 if variable is offset else 1)
        np.testing.assert_allclose(moved, np.full_like(moved, expected), rtol=1e-4)


def test_muon_leaves_the_other_weights_to_nesterov():
    config = TrainConfig(optimizer="muon", learning_rate=0.1, muon_rate=0.2, momentum=0.5)
    model = network()
    optimizer = make_optimizer(model, config, CONSTANT)
    before = {id(v): v.numpy() for v in optimizer.variables}
    gradients = [tf.ones(v.shape) for v in optimizer.variables]
    optimizer.apply(tf.distribute.get_strategy(), gradients, tf.constant(0, tf.int64))
    (kernel,) = named(model, "logits/kernel")
    # accum = -.1 g; the weight moves by .5 accum - .1 g
    np.testing.assert_allclose(before[id(kernel)] - kernel.numpy(), 0.15, rtol=1e-4)
    for kernel in named(model, "first/kernel", "hidden/kernel"):
        matrix = np.reshape(before[id(kernel)] - kernel.numpy(), [-1, kernel.shape[-1]])
        assert np.linalg.norm(matrix, 2) < 0.2 * 1.3 * max(1, matrix.shape[1] / matrix.shape[0])
        assert np.linalg.norm(matrix, 2) > 0.2 * 0.6
    (fixed,) = named(model, "normalised/kernel")
    assert np.linalg.norm(fixed) == pytest.approx(np.sqrt(5), rel=0.2)


def test_fast_gives_muon_its_normalised_convolutions():
    model = backbones.build("fast", (16, 16, 3), 10)
    free, fixed = hidden_kernels(model, ends_in_head=True)
    assert [tuple(v.shape) for v in free] == [(2, 2, 3, 24)]
    assert len(fixed) == 6
    assert len(norm_offsets(model)) == 6
