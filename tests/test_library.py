"""The public names, and the mixture as a part of other Keras models."""

from __future__ import annotations

import subprocess
import sys
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

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
    x = moe.Conv2D(4, 3)(inputs)
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
    "routed": {"router": moe.Router("hard", balance_bias=0.1)},
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


def test_what_is_known_of_the_inputs_comes_before_the_first_call():
    mixture = moe.MixtureOfExperts(gate=network(2), experts=[network(3), network(3)], num_classes=3)
    mixture.fit_inputs(IMAGES)
    np.testing.assert_allclose(mixture.standardize(IMAGES).numpy().std(), 1, atol=0.01)


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


# --- routers --------------------------------------------------------------------------------------

E = 3
ROUTERS = {
    "soft": {"routing": "soft", "z_loss": 0.1},
    "top 1": {"routing": "hard", "balance_loss": 0.1, "importance_loss": 0.1},
    "top 2": {"routing": "topk", "top_k": 2, "balance_loss": 0.1},
    "noisy top 1": {"routing": "noisy_topk", "load_loss": 0.1},
    "noisy top 2": {"routing": "noisy_topk", "top_k": 2, "load_loss": 0.1, "importance_loss": 0.1},
    "bias": {"routing": "topk", "top_k": 2, "balance_bias": 0.01},
    "expert choice": {"routing": "expert_choice"},
}


def plain(outputs):
    """A network that draws nothing, of Keras' own layers."""
    inputs = keras.Input(SHAPE)
    return keras.Model(inputs, keras.layers.Dense(outputs)(keras.layers.Flatten()(inputs)))


def routed_mixture(router, **changes):
    experts = {"experts": [plain(CLASSES) for _ in range(E)], **WITHOUT_BASELINE}
    return make_mixture(router=router, gate=plain(E * (1 + router.noisy)), **experts | changes)


SLOW = ("soft", "top 2", "noisy top 1")  # alike in what they try


@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=[pytest.mark.slow] if c in SLOW else []) for c in ROUTERS]
)
def test_a_mixture_with_a_router_fits_is_saved_and_goes_on(case, tmp_path):
    keras.utils.set_random_seed(3)
    mixture = routed_mixture(moe.Router(**ROUTERS[case], seed=5))
    inputs = keras.Input(SHAPE, dtype="uint8")
    model = keras.Model(inputs, mixture(inputs))
    parts = list(mixture.parts().values())
    before = [part.get_weights() for part in parts]
    model.compile(keras.optimizers.SGD(0.01), keras.losses.SparseCategoricalCrossentropy())
    # 32 examples in batches of 12: the last one is another size.
    history = model.fit(IMAGES, LABEL, batch_size=12, epochs=4, verbose=0).history["loss"]
    assert history[-1] < history[0]
    for part, weights in zip(parts, before, strict=True):
        assert not all(map(np.array_equal, part.get_weights(), weights))
    assert mixture.router.bias is None or np.any(mixture.router.bias)
    way = mixture.router.ways.evaluate
    expected = np.exp(mixture.forward(IMAGES, way).log_probs)
    np.testing.assert_allclose(model.predict(IMAGES, verbose=0), expected, atol=1e-5)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again(IMAGES), expected, atol=1e-5)
    assert again.layers[-1].router.get_config() == mixture.router.get_config()


def ask(router, logits, training=True):
    """What a router chooses of these logits, and what it adds to the losses."""
    expert, log_weights = router(np.asarray(logits, np.float32), training=training)
    return expert.numpy(), np.exp(log_weights), [float(loss) for loss in router.losses]


def test_a_router_adds_the_losses_of_the_batch_in_training_alone():
    logits = np.log([[0.7, 0.2, 0.1], [0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.6, 0.1, 0.3]]) + 2
    router = moe.Router("hard", balance_loss=1.0, importance_loss=0.5, z_loss=0.25)
    mass = np.array([1.9, 1.4, 0.7])
    balance = 3 * (0.75 * mass[0] + 0.25 * mass[1]) / 4
    expected = [balance, 0.5 * mass.var() / mass.mean() ** 2, 0.25 * 2**2]
    assert ask(router, logits)[2] == pytest.approx(expected, rel=1e-5)
    expert, weights, added = ask(router, logits, training=False)
    assert not added
    np.testing.assert_array_equal(expert, [[0], [0], [1], [0]])
    np.testing.assert_array_equal(weights, np.ones([4, 1]))
    assert not ask(moe.Router("topk", 2), logits)[2]


def test_the_bias_follows_the_load_in_training_alone():
    logits = np.log([[0.5, 0.4, 0.1]] * 4)
    router = moe.Router("hard", balance_bias=0.25)
    assert set(ask(router, logits, training=False)[0][:, 0]) == {0}
    np.testing.assert_array_equal(router.bias, [0, 0, 0])
    ask(router, logits)
    np.testing.assert_allclose(router.bias, [-0.25, 0.25, 0.25])
    assert set(ask(router, logits, training=False)[0][:, 0]) == {1}
    router.trainable = False
    ask(router, logits)
    np.testing.assert_allclose(router.bias, [-0.25, 0.25, 0.25])


def test_the_draws_of_a_router_are_those_of_its_seed():
    def chosen(router):
        return [ask(router, np.zeros([64, 2 * E]))[0].tolist() for _ in range(2)]

    router = moe.Router("noisy_topk", seed=7)
    first, second = chosen(router)
    assert first != second
    assert chosen(moe.Router.from_config(router.get_config())) == [first, second]
    assert chosen(moe.Router("noisy_topk", seed=8)) != [first, second]
    router.trainable = False
    assert np.ptp(chosen(router)) == 0


def test_what_a_router_learns_is_for_one_device(monkeypatch):
    two = types.SimpleNamespace(num_replicas_in_sync=2, replica_id_in_sync_group=1)
    monkeypatch.setattr(tf.distribute, "get_replica_context", lambda: two)
    logits = np.zeros([4, 2 * E])
    assert ask(moe.Router("noisy_topk"), logits)[0].shape == (4, 1)
    for learns in ({"balance_loss": 0.1}, {"balance_bias": 0.1}):
        with pytest.raises(ValueError, match="for one device"):
            ask(moe.Router("hard", **learns), logits)


def test_a_router_is_a_layer_of_a_functional_model(tmp_path):
    inputs = keras.Input([4])
    outputs = moe.Router("topk", 2, balance_bias=0.1)(keras.layers.Dense(E)(inputs))
    model = keras.Model(inputs, outputs)
    model.layers[-1].bias.assign([1.0, -2.0, 2.0])
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    features = np.ones([5, 4], np.float32)
    for expert, log_weights in (model(features), again(features)):
        np.testing.assert_array_equal(expert, [[2, 0]] * 5)
        np.testing.assert_allclose(np.exp(log_weights).sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"routing": "sideways"}, "must be one of soft"),
        ({"routing": "hard", "load_loss": 0.1}, "without noise"),
        ({"routing": "soft", "balance_bias": 0.1}, "leaves no such choice"),
        ({"routing": "soft", "top_k": 2}, "--top_k=2"),
        ({"routing": "hard", "z_loss": -1.0}, "0 or more"),
    ],
)
def test_a_router_that_cannot_be_is_refused(arguments, says):
    with pytest.raises(moe.UserError, match=says):
        moe.Router(**arguments)


def test_a_router_needs_experts_to_choose_from():
    for router in (moe.Router("topk", E + 1), moe.Router("noisy_topk", E)):
        with pytest.raises(ValueError, match="there are 3 experts"):
            routed_mixture(router)
    with pytest.raises(ValueError, match="router or balanced"):
        routed_mixture(moe.Router("hard"), balanced=True)


def test_what_is_frozen_answers_in_training_as_at_evaluation():
    inputs = keras.Input(SHAPE)
    x = keras.layers.Dropout(0.5)(moe.Dropout(0.5)(keras.layers.Flatten()(inputs)))
    pretrained = keras.Model(inputs, keras.layers.Dense(CLASSES)(x))
    mixture = make_mixture(**{"gate": plain(1), "experts": [pretrained], **WITHOUT_BASELINE})
    expected = mixture(IMAGES)
    assert np.abs(mixture(IMAGES, training=True) - expected).max() > 1e-3
    pretrained.trainable = False
    np.testing.assert_allclose(mixture(IMAGES, training=True), expected, atol=1e-6)
    frozen = routed_mixture(moe.Router("noisy_topk", balance_loss=0.1))
    assert np.abs(frozen(IMAGES, training=True) - frozen(IMAGES)).max() > 1e-3
    frozen.trainable = False
    np.testing.assert_allclose(frozen(IMAGES, training=True), frozen(IMAGES), atol=1e-6)
    assert not frozen.losses


def test_a_gate_with_a_balance_bias_is_saved_by_itself(tmp_path):
    gate = make_mixture(balanced=True).gate
    gate.bias.assign([0.5, -0.5])
    inputs = keras.Input(SHAPE)
    keras.Model(inputs, gate(inputs)).save(tmp_path / "gate.keras")
    again = keras.models.load_model(tmp_path / "gate.keras").layers[-1]
    np.testing.assert_array_equal(again.bias, gate.bias)
    np.testing.assert_allclose(again(IMAGES / 255), gate(IMAGES / 255), atol=1e-5)
