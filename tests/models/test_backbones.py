"""Size, shape and type of every network; the registry and its errors."""

import itertools
import sys
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from flags.define import BACKBONES
from moe.errors import UserError
from moe.models import backbones, cost
from moe.models.build import dtype_policy

CIFAR = (32, 32, 3)


def test_small_is_the_network_of_2017():
    model = backbones.build("small", CIFAR, 10)
    # 896 + 9,248 + 18,496 + 36,928 in the convolutions, 4,096 * 512 + 512, 512 * 10 + 10
    assert cost.parameters(model) == 2_168_362
    # 1,024 * (864 + 9,216) + 256 * (18,432 + 36,864) + 4,096 * 512 + 5,120
    assert cost.macs(model) == 26_579_968


def test_deep_is_the_network_of_2017():
    model = backbones.build("deep", CIFAR, 10)
    # as before, + 73,856 + 2 * 147,584, but 2,048 * 512 + 512 behind the convolutions
    assert cost.parameters(model) == 1_488_810
    # 24,477,696 as before + 64 * (73,728 + 2 * 147,456) + 2,048 * 512 + 5,120
    assert cost.macs(model) == 49_124_352


def test_combiners_by_the_shape_of_the_features():
    images = backbones.combiner(CIFAR, 10)
    assert cost.parameters(images) == 3072 * 512 + 512 + 512 * 10 + 10
    rows = backbones.combiner((7,), 1)
    assert cost.parameters(rows) == 7 * 32 + 32 + 32 + 1


def test_mlp_by_name():
    model = backbones.build("mlp-6-5", (4,), 3)
    assert cost.parameters(model) == (4 * 6 + 6) + (6 * 5 + 5) + (5 * 3 + 3)
    assert model(np.zeros((2, 4), np.float32)).shape == (2, 3)


def test_all_registered_names():
    assert backbones.names() == BACKBONES  # as on the help page


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("name", ["tiny", "pooled", "mlp-8"])
def test_logits_are_float32_under_every_policy(name, policy):
    shape = (16, 16, 3)
    with dtype_policy(policy):
        model = backbones.build(name, shape, 4)
        x = tf.zeros([2, *shape], keras.config.dtype_policy().compute_dtype)
    hidden = next(layer for layer in model.layers if layer.weights)
    assert hidden.compute_dtype == policy.removeprefix("mixed_")
    for training in (False, True):
        logits = model(x, training=training)
        assert (logits.dtype, logits.shape) == (tf.float32, (2, 4))
    assert all(v.dtype == "float32" for v in model.trainable_variables)


def test_networks_drop_in_training_only():
    model = backbones.build("tiny", (16, 16, 3), 4)
    x = tf.random.stateless_normal([2, 16, 16, 3], seed=[1, 2])
    np.testing.assert_array_equal(model(x), model(x))
    assert tf.reduce_any(model(x, training=True) != model(x, training=True))


def test_a_network_can_be_registered(monkeypatch):
    monkeypatch.setattr(backbones, "_BUILDERS", dict(backbones._BUILDERS))

    @backbones.register("flat")
    def flat(input_shape, outputs):
        return backbones.mlp(input_shape, outputs, [])

    assert "flat" in backbones.names()
    assert cost.parameters(backbones.build("flat", (4,), 3)) == 4 * 3 + 3


@pytest.fixture
def module(monkeypatch):
    """A module of somebody else's, `other`, to import networks from."""
    other = types.ModuleType("other")
    monkeypatch.setitem(sys.modules, "other", other)
    return other


def test_a_network_can_be_imported(module):
    module.wide = lambda shape, outputs: backbones.mlp(shape, outputs, [9])
    assert cost.parameters(backbones.build("other:wide", (4,), 3)) == 4 * 9 + 9 + 9 * 3 + 3


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet", r"backbone resnet: must be one of small, deep.*mlp-WIDTH"),
        ("mlp", r"backbone mlp: must be one of"),
        ("mlp-", r"backbone mlp-: must be one of"),
        ("mlp-0", r"backbone mlp-0: must be one of"),
        ("mlp-8-x", r"backbone mlp-8-x: must be one of"),
        ("no.such.module:f", r"backbone no.such.module:f: cannot be imported"),
        ("math:no_such_function", r"backbone math:no_such_function: cannot be imported"),
        (":f", r"backbone :f: cannot be imported"),
        (".x:y", r"backbone .x:y: cannot be imported"),
    ],
)
def test_an_unknown_network_is_refused(name, message):
    with pytest.raises(UserError, match=message):
        backbones.build(name, CIFAR, 10)


@pytest.mark.parametrize("source", ["def net(:", "1 / 0"])
def test_a_module_that_fails_is_refused(tmp_path, monkeypatch, source):
    (tmp_path / "failing_networks.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"failing_networks:net: cannot be imported \(\w+Error: "):
        backbones.build("failing_networks:net", CIFAR, 10)


@pytest.mark.parametrize(
    ("name", "shape"),
    [("small", (13,)), ("pooled", (4,)), ("deep", (4, 4, 3)), ("tiny", (0, 0, 3))],
)
def test_features_that_do_not_fit_are_refused(name, shape):
    with pytest.raises(UserError, match=rf"backbone {name} does not fit features of shape \["):
        backbones.build(name, shape, 10)


def test_a_network_with_the_wrong_outputs_is_refused(module):
    module.wrong = lambda shape, outputs: backbones.mlp(shape, outputs + 1, [])
    with pytest.raises(
        UserError, match=r"other:wrong: must return .* \(None, 3\), not \(None, 4\)"
    ):
        backbones.build("other:wrong", (4,), 3)


def test_something_that_is_no_network_is_refused(module):
    module.nothing = lambda shape, outputs: None
    with pytest.raises(UserError, match=r"must return a Keras model .*not NoneType"):
        backbones.build("other:nothing", (4,), 3)


@pytest.mark.parametrize("name", [*backbones.names(), "mlp-64-32"])
def test_a_wider_network_has_more_units_everywhere_but_at_the_end(name):
    shape = (16, 16, 3)
    plain, same, wide = (
        backbones.build(full, shape, 7) for full in (name, f"{name}*1", f"{name}*1.5")
    )

    def units(model):
        return [layer.kernel.shape[-1] for layer in model.layers if hasattr(layer, "kernel")]

    assert units(same) == units(plain)
    fixed = 1 if name == "fast" else 0  # its first layer is what a window holds
    *hidden, last = units(plain)
    assert units(wide) == [*hidden[:fixed], *(round(1.5 * n) for n in hidden[fixed:]), last]
    assert wide.output_shape == (None, 7)


def test_a_network_of_ones_own_can_be_wider(monkeypatch):
    def build(input_shape, outputs, width=1.0):
        return backbones.mlp(input_shape, outputs, [round(10 * width)])

    def plain(input_shape, outputs):
        return backbones.mlp(input_shape, outputs, [10])

    module = types.SimpleNamespace(build=build, plain=plain)
    monkeypatch.setitem(sys.modules, "someones", module)
    assert backbones.build("someones:build*2", (5,), 3).layers[2].units == 20
    for name in ("someones:plain", "math:pi", "builtins:dict"):  # two are no builders at all
        assert not backbones.has_widths(name)
        with pytest.raises(UserError, match=rf"{name}\*2: .*takes no argument `width`"):
            backbones.build(f"{name}*2", (5,), 3)


@pytest.mark.parametrize("factor", ["", "0", "-1", "wide", "inf", "nan"])
def test_a_wrong_width_is_refused(factor):
    with pytest.raises(UserError, match="must be given a width greater than 0"):
        backbones.find(f"small*{factor}")


def test_fast_is_the_network_of_the_speed_records():
    model = backbones.build("fast", CIFAR, 10)
    # 312 + 9 * (24 * 64 + 64 * 64 + 64 * 256 + 3 * 256 * 256) in the convolutions, an offset, a
    # mean, a deviation and a fixed factor for 2 * (64 + 256 + 256) channels, 2,560 + 10
    assert cost.parameters(model) == 312 + 9 * 218_624 + 4 * 1_152 + 2_570
    # 961 * (288 + 9 * 1,536) + 225 * 9 * (4,096 + 16,384) + 49 * 9 * 2 * 65,536 + 9 * 589,824
    # + 2,560: window, pooled to 15, 7 and 3
    assert cost.macs(model) == 961 * 14_112 + 225 * 184_320 + 49 * 1_179_648 + 5_308_416 + 2_560


def test_layers_of_one_shape_start_from_draws_of_their_own():
    model = backbones.build("fast*.25", CIFAR, 10)
    kernels = [v.numpy() for v in model.trainable_variables if v.shape == (3, 3, 64, 64)]
    assert len(kernels) == 3
    for a, b in itertools.combinations(kernels, 2):
        assert (a != b).mean() > 0.99


def test_fast_has_a_width_and_small_logits_at_the_start():
    half = backbones.fast((12, 12, 1), 3, 0.5)
    filters = [x.filters for x in half.layers if isinstance(x, keras.layers.Conv2D)]
    assert filters == [8, 32, 32, 128, 128, 128, 128]
    x = tf.random.stateless_normal([32, 12, 12, 1], seed=[1, 2])
    assert 0 < float(tf.math.reduce_std(half(x, training=True))) < 0.3
