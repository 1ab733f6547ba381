"""MACs and parameters by hand, of layers, mixtures and stages."""

import keras
import pytest

from moe.models import backbones, cost
from moe.models.mixture import MixtureOfExperts


def network(shape, *layers):
    inputs = x = keras.Input(shape)
    for layer in layers:
        x = layer(x)
    return keras.Model(inputs, x)


def test_macs_of_a_dense_layer():
    # 5 * 7; the bias and the activation are not counted
    assert cost.macs(network((5,), keras.layers.Dense(7, activation="relu"))) == 35


def test_macs_of_a_dense_layer_over_positions():
    assert cost.macs(network((4, 3, 5), keras.layers.Dense(7))) == 4 * 3 * 35


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (keras.layers.Conv2D(6, 3, padding="same"), 8 * 8 * 3 * 3 * 4 * 6),
        (keras.layers.Conv2D(6, 3), 6 * 6 * 3 * 3 * 4 * 6),
        (keras.layers.Conv2D(6, (1, 3), strides=2, padding="same"), 4 * 4 * 3 * 4 * 6),
        (keras.layers.Conv2D(6, 3, padding="same", groups=2), 8 * 8 * 3 * 3 * 2 * 6),
        (keras.layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2), 8 * 8 * 9 * 4 * 2),
        (keras.layers.MaxPooling2D(), 0),
        (keras.layers.BatchNormalization(), 0),
    ],
    ids=["same", "valid", "strided", "grouped", "depthwise", "pooling", "normalisation"],
)
def test_macs_of_layers_on_8x8x4(layer, expected):
    assert cost.macs(network((8, 8, 4), layer)) == expected


def test_macs_of_nested_networks():
    inner = network((7,), keras.layers.Dense(3))
    assert cost.macs(network((5,), keras.layers.Dense(7), inner)) == 5 * 7 + 7 * 3


def test_parameters_count_what_is_not_trained_too():
    assert cost.parameters(network((5,), keras.layers.BatchNormalization())) == 4 * 5


# MACs and parameters of `mlp(widths)` on 4 columns:
#   gate: 4 * 3 = 12, + 3 = 15;  expert [5] to 2 classes: 20 + 10 = 30, + 7 = 37
#   baseline to 2 classes: 8, + 2 = 10;  combiner 4-32-2: 128 + 64 = 192, + 34 = 226
GATE, EXPERT, BASELINE, COMBINER = (15, 12), (37, 30), (10, 8), (226, 192)


def mixture(*, baseline, blends):
    return MixtureOfExperts(
        gate=backbones.mlp((4,), 3, []),
        experts=[backbones.mlp((4,), 2, [5]) for _ in range(3)],
        num_classes=2,
        baseline=backbones.mlp((4,), 2, []) if baseline else None,
        combiners=[backbones.combiner((4,), 2) for _ in range(3)] if blends else [],
    )


def test_costs_of_the_parts():
    costs = cost.part_costs(mixture(baseline=True, blends=True))
    assert costs == {
        "baseline": BASELINE,
        "gate": GATE,
        **{f"expert_{e}": EXPERT for e in range(3)},
        **{f"combiner_{e}": COMBINER for e in range(3)},
    }


@pytest.mark.parametrize("num_chosen", [1, 2, 3])
def test_only_what_an_answer_needs_is_active(num_chosen):
    def total(*always):
        return tuple(sum(c[i] for c in always) for i in (0, 1))

    alone = total(GATE, *[EXPERT] * num_chosen)
    assert cost.active_cost(mixture(baseline=False, blends=False), num_chosen) == alone
    # A baseline that nothing is blended with is a reference: it does not run.
    assert cost.active_cost(mixture(baseline=True, blends=False), num_chosen) == alone
    blended = total(GATE, BASELINE, *[EXPERT, COMBINER] * num_chosen)
    assert cost.active_cost(mixture(baseline=True, blends=True), num_chosen) == blended


def test_stage_macs_count_learning_three_times():
    model = mixture(baseline=True, blends=True)
    assert cost.stage_macs(model, "part", ["expert_1"], 1) == 3 * 30
    everything = list(model.parts())
    # 3 * (gate 12 + baseline 8 + 2 of 3 experts (30 each) with their combiners (192 each))
    assert cost.stage_macs(model, "joint", everything, 2) == 3 * (12 + 8 + 2 * (30 + 192))
    combiners = [f"combiner_{e}" for e in range(3)]
    # frozen: gate, baseline and the one expert; learning: its combiner
    assert cost.stage_macs(model, "blend", combiners, 1) == 12 + 8 + 30 + 3 * 192


def test_operations_of_a_training_step():
    two = network((5,), keras.layers.Dense(7), keras.layers.Dense(2))
    first, second = 35, 14
    # forward and both gradients, two operations each; no gradient by the features
    assert 2 * cost.training_macs(two) == 4 * first + 6 * second
    model = mixture(baseline=True, blends=True)
    everything = list(model.parts())
    # gate and baseline are single layers; the first ones of expert and combiner are 20 and 128
    expected = 2 * (12 + 8) + (3 * 30 - 20) + (3 * 192 - 128)
    assert cost.stage_flops(model, "joint", everything, 1) == 2 * expected


def test_layers_whose_macs_are_not_known_are_named():
    layer = keras.layers.EinsumDense("ab,bc->ac", output_shape=3, name="strange")
    assert cost.uncounted_layers(network((5,), keras.layers.Dense(7), layer)) == ["strange"]
    assert cost.uncounted_layers(network((5,), keras.layers.BatchNormalization())) == []


@pytest.mark.parametrize("trainable", [True, False])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (keras.layers.SeparableConv2D, {"filters": 4, "kernel_size": 3}),
        (keras.layers.Conv2DTranspose, {"filters": 4, "kernel_size": 3}),
        (keras.layers.TimeDistributed, {"layer": keras.layers.Dense(4)}),
    ],
)
def test_kinds_that_are_not_counted_are_named_also_where_they_are_frozen(kind, options, trainable):
    layer = kind(**options, name="strange", trainable=trainable)
    assert cost.uncounted_layers(network((8, 8, 3), layer)) == ["strange"]


def test_a_layer_costs_as_often_as_it_is_called():
    twice = keras.layers.Dense(4)
    within = network((4,), twice, twice)
    assert cost.macs(network((4,), within, within, keras.layers.Dense(2))) == 4 * 4 * 4 + 4 * 2


def test_a_network_that_grew_layer_by_layer_costs_once():
    grown = keras.Sequential()
    for layer in (keras.Input((5,)), keras.layers.Dense(7), keras.layers.Dense(3)):
        grown.add(layer)
    assert cost.macs(grown) == 5 * 7 + 7 * 3


def test_a_frozen_network_costs_no_training():
    whole = mixture(baseline=False, blends=False)
    whole.expert_0.trainable = False
    assert cost.stage_macs(whole, "part", ["expert_0"], 1) == 0


@pytest.mark.parametrize("trainable", [True, False])
def test_layers_that_take_images_of_any_size_are_named_as_uncounted(trainable):
    layer = keras.layers.Conv2D(4, 3, name="any_size", trainable=trainable)
    body = keras.Sequential([keras.Input((None, None, 3)), layer])
    whole = network((8, 8, 3), body, keras.layers.GlobalAveragePooling2D())
    assert cost.macs(whole) == 0
    assert cost.uncounted_layers(whole) == ["any_size"]


def test_layers_of_a_network_with_a_call_of_its_own_are_named_as_uncounted():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner = keras.layers.Dense(4, name="inner")

        def call(self, x):
            return self.inner(x)

    assert cost.uncounted_layers(network((5,), Own())) == ["inner"]
