"""A network cut in two is the network; a trunk runs once; an image and its mirror image."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from moe.config.run import Config
from moe.config.sections import ModelConfig
from moe.errors import UserError
from moe.models import backbones, cost
from moe.models.build import build_mixture
from moe.models.mixture import MixtureOfExperts
from moe.models.routers import make_router
from moe.models.trunk import branch_of, trunk_of
from moe.taxonomy import Groups
from moe.train.objectives import PartObjective
from moe.types import Batch

SHAPE, E, L = (16, 16, 3), 2, 4
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, size=(6, *SHAPE)).astype(np.uint8)
NETWORKS = ModelConfig(
    gate_backbone="tiny", expert_backbone="fast", baseline_backbone="tiny", boost="none"
)


def make_mixture(**changes):
    model = dataclasses.replace(NETWORKS, **changes)
    groups = Groups(("one", "two"), True, (0, 0, 1, 1))
    mixture = build_mixture(Config(model=model), groups, SHAPE, L)
    mixture.standardize.fit(IMAGES)
    return mixture


@pytest.mark.parametrize(
    ("name", "shape", "count", "behind"),
    [
        ("tiny", SHAPE, 1, (8, 8, 16)),
        ("tiny", SHAPE, 3, (256,)),  # the dense top is left
        ("fast", SHAPE, 2, (7, 7, 64)),
        ("mlp-8-5", (7,), 1, (8,)),
    ],
)
def test_trunk_and_branch_are_the_network(name, shape, count, behind):
    whole = backbones.build(name, shape, L)
    trunk = trunk_of(whole, count, name)
    branch = branch_of(whole, count, name, trunk.output_shape[1:])
    assert trunk.output_shape[1:] == behind
    assert cost.macs(trunk) + cost.macs(branch) == cost.macs(whole)
    assert cost.parameters(trunk) + cost.parameters(branch) == cost.parameters(whole)
    x = RNG.normal(size=(5, *shape)).astype(np.float32)
    assert np.abs(branch(trunk(x)) - whole(x)).max() > 1e-6  # weights of its own
    for mine, theirs in zip(branch.weights, whole.weights[-len(branch.weights) :], strict=True):
        mine.assign(theirs)
    for training in (False, True):
        keras.utils.set_random_seed(0)
        expected = whole(x, training=training)
        keras.utils.set_random_seed(0)
        found = branch(trunk(x, training=training), training=training)
        if name == "fast" or not training:  # the others drop
            np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_branch_fits_whatever_the_trunk_gives():
    wide = branch_of(backbones.build("tiny", SHAPE, L), 1, "tiny", (7, 7, 64))
    assert wide.output_shape == (None, L)
    assert wide.layers[1].kernel.shape == (3, 3, 64, 32)


@pytest.mark.parametrize(
    ("count", "shape"),
    [(3, (7, 7, 8)), (1, (3, 3, 8))],
    ids=["a dense layer on an image", "pooled to nothing"],
)
def test_a_branch_that_does_not_fit_the_trunk_is_refused(count, shape):
    with pytest.raises(UserError, match=r"backbone tiny has behind its kernel number . does not"):
        branch_of(backbones.build("tiny", SHAPE, L), count, "tiny", shape)


def test_networks_that_cannot_be_cut_are_refused():
    with pytest.raises(UserError, match=r"--trunk=2: backbone mlp-8 has 2 layers with a kernel"):
        trunk_of(backbones.build("mlp-8", (4,), L), 2, "mlp-8")
    inputs = keras.Input((4,))
    x = keras.layers.Dense(4)(inputs)
    x = keras.layers.Add()([x, keras.layers.Dense(4)(x)])
    residual = keras.Model(inputs, keras.layers.Dense(L)(x))
    scaled = keras.Model(inputs, keras.layers.Dense(L)(keras.layers.Dense(4)(inputs)) * 0.1)
    for name, network in {"residual": residual, "scaled": scaled}.items():
        with pytest.raises(UserError, match=rf"--trunk: backbone {name} is no plain chain"):
            trunk_of(network, 1, name)


@pytest.mark.parametrize("functional", [False, True])
def test_a_network_within_is_one_layer(functional):
    body = chain(keras.layers.Dense(3, "relu"), keras.layers.Dense(4))
    if functional:
        body = keras.Model(body.inputs[0], body.outputs[0])
    whole = chain(keras.layers.Dense(3), body, keras.layers.Dense(L))
    trunk = trunk_of(whole, 2, "brought")
    assert trunk.output_shape == (None, 4)
    branch = branch_of(whole, 2, "brought", (4,))
    for mine, theirs in zip(branch.weights, whole.weights[-2:], strict=True):
        mine.assign(theirs)
    x = RNG.normal(size=(5, 3)).astype(np.float32)
    np.testing.assert_allclose(branch(trunk(x)), whole(x), atol=1e-6)


def test_kernels_are_counted_whatever_kind_of_layer_has_them():
    whole = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.SeparableConv2D(4, 3),
            keras.layers.LayerNormalization(axis=(1, 2, 3)),  # factors, no kernel
            keras.layers.Conv2DTranspose(5, 3),
            keras.layers.Flatten(),
            keras.layers.Dense(L),
        ]
    )
    assert trunk_of(whole, 1, "brought").output_shape == (None, 6, 6, 4)
    assert trunk_of(whole, 2, "brought").output_shape == (None, 8 * 8 * 5)


def test_a_trunk_is_a_part_and_runs_once_for_all():
    plain, shared = make_mixture(), make_mixture(trunk=2)
    assert list(shared.parts()) == ["trunk", *plain.parts()]
    fast = cost.part_costs(plain)["expert_0"]
    costs = cost.part_costs(shared)
    assert costs["trunk"].macs + costs["expert_0"].macs == fast.macs
    # What `tiny` has behind its second kernel, on the trunk's 7 x 7 x 64.
    gate = 49 * 9 * 64 * 64 + 3 * 3 * 64 * 128 + 128 * E
    assert costs["gate"].macs == gate
    again = MixtureOfExperts.from_config(shared.get_config())
    assert cost.part_costs(again) == costs
    active = cost.active_cost(shared, 1)
    assert active.macs == fast.macs + gate
    assert cost.active_cost(shared, 2).macs == active.macs + costs["expert_1"].macs
    seen = []
    trunk = shared.trunk

    def counted(x, training):
        seen.append(training)
        return trunk(x, training=training)

    object.__setattr__(shared, "trunk", counted)
    shared.forward(IMAGES, make_router("hard").evaluate)
    assert seen == [False]
    shared.forward(IMAGES, train_parts={"trunk", "gate"})
    assert seen == [False, True]


class Closed(keras.layers.Layer):
    """A layer that cannot be made from its configuration."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def call(self, x):
        return self.function(x)


def chain(*layers):
    return keras.Sequential([keras.Input((3,)), *layers])


def test_a_network_that_grew_layer_by_layer_is_cut_like_any_other():
    grown = keras.Sequential()
    for layer in (keras.Input((3,)), *map(keras.layers.Dense, (5, 6, L))):
        grown.add(layer)
    trunk = trunk_of(grown, 1, "brought")
    branch = branch_of(grown, 1, "brought", (5,))
    assert [layer.units for layer in branch.layers[1:]] == [6, L]
    for layer, other in zip(branch.layers[1:], grown.layers[1:], strict=True):
        layer.set_weights(other.get_weights())
    x = RNG.normal(size=(2, 3)).astype(np.float32)
    np.testing.assert_allclose(branch(trunk(x)), grown(x), atol=1e-6)


def test_frozen_layers_of_a_branch_stay_as_they_are():
    frozen = keras.layers.Dense(5, trainable=False)
    whole = chain(keras.layers.Dense(3), frozen, keras.layers.Dense(L))
    branch = branch_of(whole, 1, "brought", (3,))
    for mine, theirs in zip(branch.layers[1].weights, whole.layers[1].weights, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert not branch.layers[1].trainable
    assert np.abs(branch.layers[2].kernel - whole.layers[2].kernel).max() > 1e-3
    with pytest.raises(UserError, match=r"does not fit a trunk's answers of shape \[4\]"):
        branch_of(whole, 1, "brought", (4,))


def test_a_layer_without_anything_to_learn_stays_as_it_is():
    adapted = keras.layers.Normalization()
    adapted.adapt(RNG.normal(5, 3, size=(50, 3)))
    whole = chain(keras.layers.Dense(3), keras.layers.Dense(3), adapted, keras.layers.Dense(L))
    branch = branch_of(whole, 1, "brought", (3,))
    np.testing.assert_array_equal(branch.layers[2].mean, adapted.mean)


@pytest.mark.parametrize("functional", [False, True])
def test_what_is_frozen_within_a_network_stays_as_it_is(functional):
    normalised = keras.layers.BatchNormalization(trainable=False)
    adapted = keras.layers.Normalization()
    adapted.adapt(RNG.normal(5, 3, size=(50, 4)))
    learns = keras.layers.BatchNormalization()
    body = chain(keras.layers.Dense(4), adapted, normalised, learns)
    for layer in (normalised, learns):
        layer.set_weights(list(np.outer([2, 1, 5, 9], np.ones(4))))
    if functional:
        body = keras.Model(body.inputs[0], body.outputs[0])
    whole = chain(keras.layers.Dense(3), body, keras.layers.Dense(L))
    branch = branch_of(whole, 1, "brought", (3,))
    _, mean, frozen, free = branch.layers[1].layers[-4:]
    np.testing.assert_array_equal(mean.mean, adapted.mean)
    for mine, theirs in zip(frozen.weights, normalised.weights, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    np.testing.assert_array_equal(free.moving_mean, [0] * 4)  # learns: begins anew
    x = RNG.normal(size=(6, 4)).astype(np.float32)
    np.testing.assert_allclose(frozen(mean(x)), normalised(adapted(x)), atol=1e-6)


class Block(keras.layers.Layer):
    """Layers as attributes: the first learns, the second is frozen after it was made."""

    def __init__(self, **options):
        super().__init__(**options)
        self.first, self.second = keras.layers.Dense(3), keras.layers.Dense(3, use_bias=False)
        self.normalised = keras.layers.BatchNormalization(trainable=False)
        self.centred = keras.layers.BatchNormalization(center=False, scale=False)

    def build(self, shape):
        for layer in (self.first, self.second, self.normalised, self.centred):
            layer.build(shape)

    def call(self, x):
        return self.centred(self.normalised(self.second(self.first(x))))


def test_what_is_frozen_within_a_layer_stays_as_it_is():
    block = Block()
    whole = chain(keras.layers.Dense(3), block, keras.layers.Dense(3), keras.layers.Dense(L))
    block.normalised.set_weights(list(np.outer([2, 1, 5, 9], np.ones(3))))
    block.second.kernel.trainable = False
    block.centred.trainable = False
    other = branch_of(whole, 1, "brought", (3,)).layers[1]
    assert [v.name for v in other.trainable_variables] == ["kernel", "bias"]
    np.testing.assert_array_equal(other.second.kernel, block.second.kernel)
    for mine, theirs in zip(other.normalised.weights, block.normalised.weights, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert np.abs(other.first.kernel - block.first.kernel).max() > 1e-3
    assert not other.centred.trainable  # its statistics stay, and it has nothing else


class Adapted(keras.layers.Layer):
    """A fitted standardisation as an attribute."""

    def __init__(self, **options):
        super().__init__(**options)
        self.within = keras.layers.Normalization()

    def build(self, shape):
        self.within.build(shape)

    def call(self, x):
        return self.within(x)


def test_a_layer_with_nothing_to_learn_computes_with_what_it_was_fitted_to():
    adapted = Adapted()
    whole = chain(keras.layers.Dense(3), keras.layers.Dense(3), adapted, keras.layers.Dense(L))
    adapted.within.adapt(RNG.normal(5, 3, size=(50, 3)))
    branch = branch_of(whole, 1, "brought", (3,))
    x = RNG.normal(size=(6, 3)).astype(np.float32)
    np.testing.assert_allclose(branch.layers[2](x), adapted(x), atol=1e-6)


class Particular(keras.layers.Layer):
    """Raises what it likes."""

    def call(self, x):
        assert len(x.shape) == 2, "rows\nonly"
        return x


def test_what_a_layer_of_the_users_own_raises_is_one_line():
    whole = chain(keras.layers.Dense(3), keras.layers.Dense(3), Particular(), keras.layers.Dense(L))
    with pytest.raises(UserError, match=r"a trunk's answers of shape \[2, 3\]: Asser.*Partic"):
        branch_of(whole, 1, "brought", (2, 3))


def test_what_a_layer_never_learns_stays_as_it_is():
    adapted = keras.layers.Dense(3)
    constrained = keras.layers.SpectralNormalization(keras.layers.Dense(3))
    whole = chain(keras.layers.Dense(3), adapted, constrained, keras.layers.Dense(L))
    adapted.enable_lora(2)
    branch = branch_of(whole, 1, "brought", (3,))
    np.testing.assert_array_equal(branch.layers[1]._kernel, adapted._kernel)
    assert [v.name for v in branch.layers[1].trainable_variables] == [
        *("bias", "lora_kernel_a", "lora_kernel_b")
    ]
    np.testing.assert_array_equal(branch.layers[2].vector_u, constrained.vector_u)


def test_a_layer_that_is_frozen_in_part_is_refused():
    middle = keras.layers.Dense(3)
    whole = chain(keras.layers.Dense(3), middle, keras.layers.Dense(L))
    branch_of(whole, 1, "brought", (3,))
    middle.kernel.trainable = False
    with pytest.raises(UserError, match=r"of backbone brought is frozen in part \(kernel\)"):
        branch_of(whole, 1, "brought", (3,))


def test_a_layer_that_cannot_be_made_anew_is_named():
    whole = chain(keras.layers.Dense(3), Closed(abs), keras.layers.Dense(3), keras.layers.Dense(L))
    assert branch_of(whole, 2, "brought", (3,)).output_shape == (None, L)
    with pytest.raises(UserError, match=r"layer closed.* of backbone brought cannot be made from"):
        branch_of(
            chain(keras.layers.Dense(3), keras.layers.Dense(3), Closed(abs)), 1, "brought", (3,)
        )


def test_training_macs_of_a_trunk_and_its_branches():
    mixture = make_mixture(trunk=2, baseline=False, baseline_backbone=None)
    costs = cost.part_costs(mixture)
    everything = list(mixture.parts())
    total = costs["trunk"].macs + costs["gate"].macs + 2 * costs["expert_0"].macs
    assert cost.stage_macs(mixture, "joint", everything, 2) == 3 * total
    # Behind a trunk that learns, all gradients by inputs are needed but the image's.
    first = 15 * 15 * 4 * 3 * 24
    assert cost.stage_flops(mixture, "joint", everything, 2) == 2 * (3 * total - first)
    # A frozen trunk runs, and ends the gradients.
    gate = costs["trunk"].macs + 3 * costs["gate"].macs
    assert cost.stage_macs(mixture, "part", ["gate"], 1) == gate
    assert cost.stage_flops(mixture, "part", ["gate"], 1) == 2 * (gate - 49 * 9 * 64 * 64)
    both = 3 * (costs["trunk"].macs + costs["gate"].macs)
    assert cost.stage_macs(mixture, "part", ["trunk", "gate"], 1) == both
    alone = cost.cost_alone(mixture, ["trunk", "expert_0", "expert_1"])
    assert alone.macs == costs["trunk"].macs + costs["expert_0"].macs


@pytest.mark.parametrize("with_trunk", [False, True])
def test_a_trunk_learns_with_its_first_branch_and_then_stays(with_trunk):
    mixture = make_mixture(trunk=2)
    label = tf.constant([0, 1, 2, 3, 0, 1])
    batch = Batch(IMAGES, label, label // 2, tf.ones([6]), tf.range(6), tf.ones([6]))
    before = [v.numpy() for v in mixture.trunk.variables]
    objective = PartObjective(mixture, "baseline", with_trunk=with_trunk)
    objective.train(batch, 6)
    same = [np.array_equal(a, b) for a, b in zip(before, mixture.trunk.variables, strict=True)]
    assert all(same) != with_trunk  # the statistics of its batch normalisation
    now = [v.numpy() for v in mixture.trunk.variables]
    objective.evaluate(batch)
    for value, expected in zip(mixture.trunk.variables, now, strict=True):
        np.testing.assert_array_equal(value, expected)


@pytest.mark.parametrize("trunk", [0, 2])
def test_whitening_is_for_what_sees_the_image(trunk):
    mixture = make_mixture(trunk=trunk, whiten=True)
    learning = {
        part: [v for v in model.trainable_variables if v.shape == (2, 2, 3, 24)]
        for part, model in mixture.parts().items()
    }
    assert not any(learning.values())
    # Beside its offset, the first layer of every network that sees it is frozen; branches are not.
    frozen = {
        part: sum(len(w.shape) > 1 and not w.trainable for w in model.weights)
        for part, model in mixture.parts().items()
    }
    assert frozen == {part: int(not trunk or part == "trunk") for part in mixture.parts()}


# --- test-time augmentation -----------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{}, {"trunk": 2, "boost": "scalar"}])
@pytest.mark.parametrize("router", ["soft", "hard"])
def test_an_image_and_its_mirror_image_get_the_same_answer(changes, router):
    mixture = make_mixture(expert_backbone="tiny", **changes)
    way = make_router(router).evaluate
    mirrored = IMAGES[:, :, ::-1]
    plain = mixture.forward(IMAGES, way).log_probs
    assert np.abs(plain - mixture.forward(mirrored, way).log_probs).max() > 1e-4
    mixture.mirrors = True
    found, other = (mixture.forward(images, way) for images in (IMAGES, mirrored))
    np.testing.assert_allclose(found.log_probs, other.log_probs, atol=1e-5)
    np.testing.assert_allclose(found.gate_log_probs, other.gate_log_probs, atol=1e-5)
    np.testing.assert_allclose(np.exp(found.log_probs).sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("trunk", [0, 1])
def test_networks_answer_with_the_mean_of_their_logits(trunk):
    mixture = make_mixture(expert_backbone="tiny", trunk=trunk)
    x, y = (mixture.encode(images) for images in (IMAGES, IMAGES[:, :, ::-1]))
    mixture.mirrors = True
    both = mixture.encode(IMAGES)
    assert both.shape == (6, 2, *x.shape[1:])
    for part in ("gate", "baseline", "expert_1"):
        network = mixture.parts()[part]
        expected = tf.nn.log_softmax((network(x) + network(y)) / 2)
        np.testing.assert_allclose(mixture.part_log_probs(part, both), expected, atol=1e-5)


def test_two_views_cost_twice():
    mixture = make_mixture(trunk=2)
    once, alone = cost.active_cost(mixture, 1), cost.cost_alone(mixture, ["trunk", "baseline"])
    mixture.mirrors = True
    assert cost.active_cost(mixture, 1) == once._replace(macs=2 * once.macs)
    assert cost.cost_alone(mixture, ["trunk", "baseline"]).macs == 2 * alone.macs
    # Training looks once.
    assert cost.stage_macs(mixture, "part", ["baseline"], 1) == (
        cost.part_costs(mixture)["trunk"].macs + 3 * cost.part_costs(mixture)["baseline"].macs
    )
