"""Identities that hand on what they see; whitening filters against plain linear algebra."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from moe.errors import UserError
from moe.models import backbones, cost, starts
from moe.models.mixture import MixtureOfExperts

RNG = np.random.default_rng(0)


def convolution(shape, filters, size, **options):
    inputs = keras.Input(shape)
    outputs = keras.layers.Conv2D(filters, size, use_bias=False, **options)(inputs)
    return keras.Model(inputs, outputs)


@pytest.mark.parametrize("filters", [2, 3, 5])
@pytest.mark.parametrize("size", [1, 3, (5, 1)])
def test_a_convolution_starts_by_handing_on_its_channels(filters, size):
    model = convolution((6, 7, 3), filters, size, padding="same")
    drawn = model.layers[-1].kernel.numpy()
    starts.start_as_identity(model)
    images = RNG.normal(size=(2, 6, 7, 3)).astype(np.float32)
    copied = min(3, filters)
    np.testing.assert_allclose(model(images)[..., :copied], images[..., :copied], atol=1e-6)
    np.testing.assert_array_equal(model.layers[-1].kernel[..., copied:], drawn[..., copied:])


@pytest.mark.parametrize(
    "options",
    [
        {"size": 3, "padding": "valid"},
        {"size": 2, "padding": "same"},
        {"size": 3, "padding": "same", "strides": 2},
        {"size": 3, "padding": "same", "groups": 2},
    ],
)
def test_what_cannot_hand_on_keeps_its_draw(options):
    model = convolution((6, 6, 4), 4, **options)
    drawn = model.layers[-1].kernel.numpy()
    starts.start_as_identity(model)
    np.testing.assert_array_equal(model.layers[-1].kernel, drawn)


def correlated_images(size=60):
    """Neighbours and channels depend on each other, as in photographs."""
    noise = RNG.normal(size=(size, 13, 13, 3))
    smooth = sum(np.roll(noise, (a, b), axis=(1, 2)) for a in (0, 1) for b in (0, 1))
    return (smooth @ np.array([[2, 1, 1], [0, 1, 1], [0, 0, 0.5]])).astype(np.float32)


@pytest.mark.parametrize(("height", "width"), [(2, 2), (1, 3)])
def test_whitened_patches_are_uncorrelated_and_of_one_size(height, width):
    images = correlated_images()
    filters = starts.whitening_filters(images, height, width)
    answers = tf.nn.conv2d(images, filters, 1, "VALID").numpy()
    half = answers.shape[-1] // 2
    assert half == height * width * 3
    np.testing.assert_allclose(answers[..., half:], -answers[..., :half], atol=1e-5)
    flat = answers[..., :half].reshape(-1, half).astype(np.float64)
    # Exactly 1 would be without what is added to the eigenvalues, the smallest of which is .1.
    np.testing.assert_allclose(flat.T @ flat / len(flat), np.eye(half), atol=0.02)


def test_directions_come_by_falling_variance_whatever_the_chunks(monkeypatch):
    images = correlated_images()
    filters = starts.whitening_filters(images, 2, 2)[..., :12]
    sizes = np.linalg.norm(filters.reshape(12, 12), axis=0)  # 1 / root of the variance
    assert (np.diff(sizes) >= 0).all()
    assert sizes[-1] > 2 * sizes[0]
    monkeypatch.setattr(starts, "_CHUNK", 7 * 12 * 12)
    again = starts.whitening_filters(images, 2, 2)[..., :12]
    # The sign of a direction is of no account: both are there.
    np.testing.assert_allclose(abs(again), abs(filters), rtol=1e-3, atol=1e-4)


def test_pixels_that_never_change_are_not_blown_up():
    images = np.zeros((4, 5, 5, 1), np.float32)
    filters = starts.whitening_filters(images, 2, 2)
    assert abs(filters).max() <= 1 / np.sqrt(5e-4) * 1.001


def small_mixture(filters=24, whitens=True, gate="mlp-4"):
    def expert():
        inputs = keras.Input((13, 13, 3))
        x = keras.layers.Conv2D(filters, 2, activation="relu")(inputs)
        x = keras.layers.GlobalAveragePooling2D()(x)
        return keras.Model(inputs, keras.layers.Dense(5, dtype="float32")(x))

    mixture = MixtureOfExperts(
        gate=backbones.build(gate, (13, 13, 3), 2),
        experts=[expert(), expert()],
        num_classes=5,
        whitens=whitens,
    )
    mixture.build((None, 13, 13, 3))
    return mixture


@pytest.mark.parametrize("filters", [24, 7])
def test_first_convolutions_whiten_what_is_standardised_and_learn_their_offsets_only(filters):
    mixture = small_mixture(filters)
    images = (correlated_images() * 9 + 100).astype(np.uint8)
    mixture.fit_inputs(images)
    for expert in (mixture.expert_0, mixture.expert_1):
        first = expert.layers[1]
        linear = tf.nn.conv2d(mixture.standardize(images), first.kernel, 1, "VALID").numpy()
        flat = linear.reshape(-1, filters).astype(np.float64)
        half = -(-filters // 2)
        moments = flat[:, :half].T @ flat[:, :half] / len(flat)
        np.testing.assert_allclose(moments, np.eye(half), atol=0.05)
        both = flat[:, half:] + flat[:, : filters - half]
        np.testing.assert_allclose(both, np.zeros_like(both), atol=1e-4)
        names = [v.name for v in expert.trainable_variables]
        assert names == ["bias", "kernel", "bias"]  # the second kernel is the head's


def test_a_mixture_that_does_not_whiten_fits_its_standardisation_alone():
    mixture = small_mixture(whitens=False)
    before = mixture.expert_0.layers[1].kernel.numpy()
    mixture.fit_inputs(np.full((4, 13, 13, 3), 7, np.uint8))
    np.testing.assert_array_equal(mixture.standardize.mean, [7, 7, 7])
    np.testing.assert_array_equal(mixture.expert_0.layers[1].kernel, before)
    assert len(mixture.expert_0.trainable_variables) == 4


def test_a_mixture_read_back_still_whitens():
    again = MixtureOfExperts.from_config(small_mixture().get_config())
    assert len(again.expert_0.trainable_variables) == 3
    again.build((None, 13, 13, 3))
    again.fit_inputs((correlated_images() * 9 + 100).astype(np.uint8))


def test_a_frozen_first_layer_costs_its_forward_pass_alone():
    model = convolution((6, 6, 3), 4, 2)
    inner = 5 * 5 * 2 * 2 * 3 * 4
    assert cost.training_macs(model) == 2 * inner  # the gradient by the filters
    starts.Whitening([model])
    assert cost.training_macs(model) == inner


def test_more_filters_than_directions_are_refused():
    with pytest.raises(UserError, match=r"has 25 filters, and patches of 2 x 2 x 3 .* than 24"):
        small_mixture(25)


def test_networks_without_a_convolution_have_nothing_to_whiten():
    with pytest.raises(UserError, match="--whiten: none of the networks begins with a conv"):
        starts.Whitening([backbones.build("mlp-4", (4, 4, 3), 2)])


def test_the_sample_is_from_all_over_the_split():
    """Which may be in order of classes."""
    rows = np.arange(12_000)
    found = starts.sample(rows)
    assert len(found) == 5_000
    assert (np.diff(found) > 0).all()
    assert (found[0], found[-1]) == (0, 11_999)
    assert np.histogram(found, bins=10)[0].tolist() == pytest.approx([500] * 10, abs=1)
    assert starts.sample(rows[:7]).tolist() == list(range(7))


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((8, 8, 4), {"size": 2, "groups": 2}, r"has 2 groups of channels"),
        ((8, 8, 3), {"size": 2, "dilation_rate": 2}, r"is dilated"),
        ((8, 6, 3), {"size": 7, "padding": "same"}, r"patches of 7 x 7, and images have 8 x 6"),
    ],
)
def test_convolutions_that_cannot_whiten_are_refused(shape, options, message):
    with pytest.raises(UserError, match=f"--whiten: a first convolution .*{message}"):
        starts.Whitening([convolution(shape, 4, **options)]).fit(np.zeros((2, *shape), np.float32))


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize(
    "operation", [lambda x: x * 0.1, lambda x: keras.ops.concatenate([x, -x]), lambda x: x[..., :1]]
)
def test_a_convolution_that_does_not_see_the_image_itself_is_no_first_one(operation, nested):
    inputs = keras.Input((8, 8, 3))
    network = keras.Model(inputs, keras.layers.Conv2D(4, 2)(operation(inputs)))
    if nested:
        network = keras.Sequential([keras.Input((8, 8, 3)), network])
    with pytest.raises(UserError, match="none of the networks begins with a convolution that le"):
        starts.Whitening([network])


def test_what_whitens_already_is_fitted_again_in_another_mixture():
    model = convolution((8, 8, 3), 4, 2)
    draws = (RNG.normal(scale=scale, size=(9, 8, 8, 3)).astype(np.float32) for scale in (1, 5))
    for images in draws:
        starts.Whitening([model]).fit(images)
        answers = model(images).numpy().reshape(-1, 4)[:, :2]
        np.testing.assert_allclose(answers.T @ answers / len(answers), np.eye(2), atol=0.02)


def freeze(layer):
    layer.trainable = False


def freeze_filters(layer):
    layer.kernel.trainable = False


def adapt(layer):
    layer.enable_lora(2)


@pytest.mark.parametrize("freeze", [freeze, freeze_filters, adapt])
def test_frozen_convolutions_stay_as_they_are(freeze):
    model = convolution((8, 8, 3), 3, 3, padding="same")
    freeze(model.layers[-1])
    before = model.layers[-1].kernel.numpy()
    starts.start_as_identity(model)
    np.testing.assert_array_equal(model.layers[-1].kernel, before)
    other = convolution((8, 8, 3), 3, 3, padding="same")
    starts.Whitening([model, other]).fit(RNG.normal(size=(9, 8, 8, 3)).astype(np.float32))
    np.testing.assert_array_equal(model.layers[-1].kernel, before)
    with pytest.raises(UserError, match="none of the networks begins with a convolution that le"):
        starts.Whitening([model])
