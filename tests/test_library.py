"""The public names, and the mixture as a part of other Keras models."""

from __future__ import annotations

import subprocess
import sys

import keras
import numpy as np
import pytest

import moe

SHAPE, CLASSES = (8, 8, 3), 4
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (32, *SHAPE)).astype(np.uint8)
LABEL = (IMAGES[:, 0, 0, 0] // 64).astype(np.int32)


def test_importing_the_package_does_not_load_tensorflow():
    code = (
        "import sys, moe; dir(moe); moe.UserError;"
        "print([n for n in ('tensorflow', 'keras', 'numpy') if n in sys.modules])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"


def test_every_public_name_is_there():
    for name in moe._PUBLIC:
        assert getattr(moe, name).__name__ == name
        assert name in dir(moe)
    with pytest.raises(AttributeError, match="'moe' has no attribute 'nonsense'"):
        _ = moe.nonsense


def network(outputs):
    """Every layer of ours."""
    inputs = keras.Input(SHAPE)
    x = keras.layers.Conv2D(4, 3)(inputs)
    x = keras.layers.ReLU()(moe.BatchNorm(momentum=0.9)(moe.MaxPool()(x)))
    x = moe.Dropout(0.1)(keras.layers.Flatten()(x))
    return keras.Model(inputs, keras.layers.Dense(outputs)(x))


def make_mixture(**changes):
    keras.utils.set_random_seed(3)
    mixture = moe.MixtureOfExperts(
        **{
            "gate": network(2),
            "experts": [network(CLASSES), network(CLASSES)],
            "num_classes": CLASSES,
            "baseline": network(CLASSES),
            "combiners": [network(1), network(CLASSES)],
            "gate_temperature": 2.0,
        }
        | changes
    )
    mixture.build((None, *SHAPE))
    mixture.standardize.fit(IMAGES)
    return mixture


def inside(mixture):
    """A functional model around it that turns classes into two answers."""
    inputs = keras.Input(SHAPE, dtype="uint8")
    return keras.Model(inputs, keras.layers.Dense(2, use_bias=False)(mixture(inputs)))


WITHOUT_BASELINE = {"baseline": None, "combiners": []}
KINDS = {
    "blended": {},
    "plain": WITHOUT_BASELINE,
    "noisy": WITHOUT_BASELINE | {"gate": network(4), "gate_noise": True},
    "balanced": WITHOUT_BASELINE | {"balanced": True},
    "group heads": WITHOUT_BASELINE
    | {"experts": [network(1), network(3)], "group_of_class": (1, 0, 1, 1)},
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_mixture_is_rebuilt_from_its_configuration(kind):
    mixture = make_mixture(**KINDS[kind])
    again = moe.MixtureOfExperts.from_config(mixture.get_config())
    again.build((None, *SHAPE))
    assert again.get_config() == mixture.get_config()
    mine = {id(variable) for variable in mixture.variables}
    assert not mine & {id(variable) for variable in again.variables}
    again.set_weights(mixture.get_weights())
    np.testing.assert_allclose(again(IMAGES), mixture(IMAGES), atol=1e-6)


def test_a_mixture_rebuilt_in_half_precision_computes_in_it():
    mixture = make_mixture(**WITHOUT_BASELINE, dtype="mixed_bfloat16")
    again = moe.MixtureOfExperts.from_config(mixture.get_config())
    assert again.standardize.compute_dtype == mixture.standardize.compute_dtype == "bfloat16"


def test_a_model_around_a_mixture_is_cloned_saved_and_loaded(tmp_path):
    model = inside(make_mixture(balanced=True))
    model.layers[1].balance_bias.assign([0.25, 0.5])
    expected = model(IMAGES)
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    model.save(tmp_path / "model.keras")
    model.layers[1].save(tmp_path / "mixture.keras")
    for other in (clone, keras.models.load_model(tmp_path / "model.keras")):
        np.testing.assert_allclose(other(IMAGES), expected, atol=1e-6)
    mixture = keras.models.load_model(tmp_path / "mixture.keras")
    np.testing.assert_allclose(mixture(IMAGES), model.layers[1](IMAGES), atol=1e-6)
    np.testing.assert_array_equal(mixture.balance_bias, [0.25, 0.5])


def test_fitting_lowers_the_loss_and_leaves_a_frozen_expert_alone():
    pretrained, other = network(CLASSES), network(CLASSES)
    pretrained.trainable = False
    model = inside(make_mixture(**WITHOUT_BASELINE | {"experts": [pretrained, other]}))
    before = pretrained.get_weights(), other.get_weights()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss)
    history = model.fit(IMAGES, LABEL % 2, epochs=3, verbose=0).history
    assert history["loss"][2] < history["loss"][0]
    assert all(map(np.array_equal, before[0], pretrained.get_weights()))
    assert not all(map(np.array_equal, before[1], other.get_weights()))
