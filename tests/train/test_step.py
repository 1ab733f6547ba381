"""One step against plain TensorFlow; a batch in slices against the same batch whole."""

from __future__ import annotations

import functools
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from moe import randomness
from moe.config.sections import LossConfig
from moe.models import backbones
from moe.models.mixture import MixtureOfExperts
from moe.models.normalization import BatchNorm
from moe.models.routers import make_router
from moe.train.guard import FINE, OVERFLOW, describe
from moe.train.loss_scale import make_loss_scale
from moe.train.objectives import BlendObjective, JointObjective, PartObjective, per_example
from moe.train.optimizers import PartOptimizer
from moe.train.schedules import make_schedule
from moe.train.state import moving_statistics
from moe.train.step import make_train_step
from moe.types import Batch, Routing

S, E, L, RATE = 12, 2, 3, 0.1
SHAPE = (4,)


def _mixture(balanced: bool = False) -> MixtureOfExperts:
    tf.random.set_seed(0)
    networks = [backbones.build("mlp-5", SHAPE, n) for n in (E, L, L, L)]
    for network in networks:
        rng = np.random.default_rng(3)
        for variable in network.trainable_variables:
            variable.assign(rng.normal(size=variable.shape) / 2)
    gate, *experts, baseline = networks
    mixture = MixtureOfExperts(
        gate=gate, experts=experts, num_classes=L, baseline=baseline, balanced=balanced
    )
    mixture.build((None, *SHAPE))
    return mixture


def _batch() -> Batch:
    rng = np.random.default_rng(0)
    draw = {"label": L, "group": E}
    columns = {name: rng.integers(n, size=S).astype(np.int32) for name, n in draw.items()}
    return Batch(
        features=tf.constant(rng.normal(size=(S, *SHAPE)), tf.float32),
        weight=tf.ones([S]),
        index=tf.range(S),
        loss_weight=tf.ones([S]),
        **{name: tf.constant(column) for name, column in columns.items()},
    )


OBJECTIVES = {
    "one part": lambda mixture: PartObjective(mixture, "baseline"),
    "soft": lambda mixture: JointObjective(
        mixture, make_router("soft"), LossConfig("likelihood", 1.0, 0.5, 0.5, 0.0), named=True
    ),
    "topk": lambda mixture: JointObjective(
        mixture, make_router("topk", 2), LossConfig("likelihood", 1.0, 0.5, 0.5, 0.0), named=True
    ),
    "hard": lambda mixture: JointObjective(
        mixture, make_router("hard"), LossConfig("likelihood", 1.0, 0.5, 0.5, 0.0), named=True
    ),
    "balanced": lambda mixture: JointObjective(
        mixture,
        make_router("hard", balanced=True),
        LossConfig("likelihood", 1.0, 0.5, 0.5, 0.0),
        named=True,
        balance_rate=0.25,
    ),
}


def _make_step(objective, optimizers, **options):
    """The step on one device and batches of S."""
    return make_train_step(
        objective,
        optimizers,
        tf.distribute.get_strategy(),
        **{"key": (1, 2), "global_batch_size": S, "loss_scale": make_loss_scale("float32")}
        | options,
    )


@functools.cache
def _traced(kind: str, **options):
    """A mixture, its step of plain gradient descent, all that this changes, and the names of its
    metrics: most of a test's time is tracing.
    """
    mixture = _mixture(kind == "balanced")
    objective = OBJECTIVES[kind](mixture)
    parts = ["baseline"] if kind == "one part" else list(mixture.parts())
    optimizers = {
        part: PartOptimizer(
            "sgd",
            [v.value for v in mixture.parts()[part].trainable_variables],
            RATE,
            make_schedule("constant", 1),
        )
        for part in parts
    }
    step = tf.function(_make_step(objective, optimizers, **options), autograph=False)
    changes = [v for network in mixture.parts().values() for v in network.variables]
    changes += [v for optimizer in optimizers.values() for v in optimizer.state()]
    return mixture, step, changes, objective.metric_names


@pytest.fixture(autouse=True, scope="module")
def _forget():
    yield
    _traced.cache_clear()


def _step(
    kind: str, batch: Batch | None = None, **options
) -> tuple[dict[str, float], dict[str, list[np.ndarray]]]:
    """Metric sums and fault of one step of plain gradient descent, and the weights after it."""
    mixture, step, changes, names = _traced(kind, **options)
    before = [variable.numpy() for variable in changes]
    sums = step(batch or _batch(), tf.constant(0, tf.int64))
    after = {
        part: [v.numpy() for v in network.variables] for part, network in mixture.parts().items()
    }
    for variable, value in zip(changes, before, strict=True):
        variable.assign(value)
    return dict(zip((*names, "fault"), sums.numpy(), strict=True)), after


def test_a_step_is_gradient_descent_on_the_mean_loss():
    mixture, batch = _mixture(), _batch()
    variables = mixture.baseline.trainable_variables
    with tf.GradientTape() as tape:
        logits = mixture.baseline(batch.features)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(batch.label, logits)
        loss = tf.reduce_mean(losses)
    gradients = tape.gradient(loss, [v.value for v in variables])
    sums, after = _step("one part")
    assert sums["loss"] == pytest.approx(float(loss) * S, rel=1e-5)
    assert sums["examples"] == S
    for found, before, gradient in zip(after["baseline"], variables, gradients, strict=True):
        np.testing.assert_allclose(found, before.numpy() - RATE * gradient, atol=1e-6)
    for found, before in zip(after["gate"], mixture.gate.trainable_variables, strict=True):
        np.testing.assert_array_equal(found, before.numpy())


_SLICES = [pytest.param(2, marks=pytest.mark.slow), 3, pytest.param(12, marks=pytest.mark.slow)]


@pytest.mark.parametrize("slices", _SLICES)
@pytest.mark.parametrize("kind", OBJECTIVES)
def test_a_batch_in_slices_is_the_whole_batch(kind, slices):
    whole, in_slices = _step(kind), _step(kind, accumulate=slices)
    sums = [
        # Statistics of a batch become those of a slice.
        [value for name, value in sums.items() if name not in ("balance_loss", "importance_loss")]
        for sums, _ in (whole, in_slices)
    ]
    np.testing.assert_allclose(*sums, rtol=1e-5, atol=1e-5)
    for part, weights in whole[1].items():
        for found, expected in zip(in_slices[1][part], weights, strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"accumulate": 3}])
def test_the_balance_bias_follows_the_load_of_the_whole_batch(options):
    mixture = _mixture()
    logits = mixture.gate_logits(mixture.standardize(_batch().features))
    load = np.bincount(np.argmax(logits, axis=1), minlength=E)
    assert load[0] != load[1]
    gate = _step("balanced", **options)[1]["gate"]
    (bias,) = (weight for weight in gate if weight.shape == (E,) and set(abs(weight)) == {0.25})
    np.testing.assert_array_equal(bias, 0.25 * np.sign(S / E - load))


def _with_a(value: float) -> Batch:
    features = _batch().features.numpy()
    features[3, 1] = value
    return _batch()._replace(features=tf.constant(features))


@pytest.mark.parametrize("value", [np.nan, pytest.param(np.inf, marks=pytest.mark.slow)])
@pytest.mark.parametrize("options", [{}, {"accumulate": 3}])
@pytest.mark.parametrize("kind", [kind for kind in OBJECTIVES if kind != "hard"])
def test_a_step_with_a_number_that_is_none_changes_nothing(kind, options, value):
    sums, after = _step(kind, _with_a(value), **options)
    assert sums["fault"] not in (FINE, OVERFLOW)
    before = _mixture(kind == "balanced")
    for part, network in before.parts().items():
        for found, expected in zip(after[part], network.variables, strict=True):
            np.testing.assert_array_equal(found, expected.numpy())


def test_a_gradient_that_is_not_finite_is_its_parts_fault():
    """The loss itself is finite: the square root of 0 is, but not its slope."""
    mixture = _mixture()
    expert = mixture.parts()["expert_1"]

    class Rooted(PartObjective):
        def train(self, batch, global_batch_size):
            outcome = super().train(batch, global_batch_size)
            zero = tf.reduce_sum(tf.square(expert.trainable_variables[0].value)) * 0.0
            return outcome._replace(loss=outcome.loss + tf.sqrt(zero))

    objective = Rooted(mixture, "baseline")
    parts = {"baseline": mixture.baseline, "expert_1": expert}
    optimizers = {
        part: PartOptimizer(
            "adam",
            [v.value for v in network.trainable_variables],
            RATE,
            make_schedule("constant", 1),
        )
        for part, network in parts.items()
    }
    before = [v.numpy() for o in optimizers.values() for v in (*o.variables, *o.state())]
    step = _make_step(objective, optimizers)
    *sums, fault = tf.function(step)(_batch(), tf.constant(0, tf.int64)).numpy()
    assert np.isfinite(sums).all()
    text = describe(fault, sums, objective.metric_names, list(optimizers))
    assert text == ("expert_1", "the gradient of expert_1 is not finite")
    after = [v.numpy() for o in optimizers.values() for v in (*o.variables, *o.state())]
    for found, expected in zip(after, before, strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("layer", [BatchNorm, keras.layers.BatchNormalization])
def test_moving_statistics_are_put_back(layer):
    network = keras.Sequential([keras.Input(SHAPE), layer(), keras.layers.Dense(L)])
    mixture = _mixture()
    mixture = MixtureOfExperts(gate=mixture.gate, experts=[], num_classes=L, baseline=network)
    mixture.build((None, *SHAPE))
    statistics = moving_statistics([network])
    assert len(statistics) == 2
    step = tf.function(_make_step(PartObjective(mixture, "baseline"), {}, statistics=statistics))
    step(_with_a(np.nan), tf.constant(0, tf.int64))
    assert [statistic.numpy().tolist() for statistic in statistics] == [[0] * 4, [1] * 4]
    step(_batch(), tf.constant(1, tf.int64))
    assert all(np.isfinite(statistic).all() for statistic in statistics)
    assert all((statistic.numpy() != [0] * 4).all() for statistic in statistics)
    network.layers[0].trainable = False
    assert moving_statistics([network]) == ()


def test_a_float16_step_that_overflows_on_the_way_forward_changes_nothing():
    float16 = {"dtype": "mixed_float16"}
    layers = [
        keras.layers.Dense(5, **float16),
        BatchNorm(**float16),
        keras.layers.Dense(L, **float16),
    ]
    network = keras.Sequential([keras.Input(SHAPE), *layers])
    mixture = MixtureOfExperts(gate=_mixture().gate, experts=[], num_classes=L, baseline=network)
    mixture.build((None, *SHAPE))
    weights = [v.value for v in network.trainable_variables]
    loss_scale = make_loss_scale("mixed_float16")
    step = tf.function(
        _make_step(
            PartObjective(mixture, "baseline"),
            {"baseline": PartOptimizer("sgd", weights, RATE, make_schedule("constant", 1))},
            loss_scale=loss_scale,
            statistics=moving_statistics([network]),
        )
    )

    def state() -> list[np.ndarray]:
        return [v.numpy() for v in network.variables]

    before, factor = state(), float(loss_scale.factor)
    far = _batch()._replace(features=_batch().features * 1e5)
    assert step(far, tf.constant(0, tf.int64)).numpy()[-1] == OVERFLOW
    assert float(loss_scale.factor) == factor / 2
    for found, expected in zip(state(), before, strict=True):
        np.testing.assert_array_equal(found, expected)
    assert step(_batch(), tf.constant(1, tf.int64)).numpy()[-1] == FINE
    for found, expected in zip(state(), before, strict=True):
        assert np.isfinite(found).all()
        assert (found != expected).any()


@pytest.mark.slow
def test_xla_takes_the_same_step():
    plain, compiled = _step("soft"), _step("soft", jit_compile=True)
    assert compiled[0] == pytest.approx(plain[0], rel=1e-5, abs=1e-5)
    for part, weights in plain[1].items():
        for found, expected in zip(compiled[1][part], weights, strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-5)


# --- weighted examples --------------------------------------------------------------------------


def _told(features: tf.Tensor) -> types.SimpleNamespace:
    """A mixture of one expert whose answers are the features."""
    return types.SimpleNamespace(
        num_experts=1,
        encode=lambda x, training: x,
        part_log_probs=lambda part, x, training: x,
        forward=lambda x, way, parts: types.SimpleNamespace(
            log_probs=x,
            gate_logits=tf.zeros([4, 1]),
            routing=Routing(tf.zeros([4, 1], tf.int32), tf.zeros([4, 1])),
        ),
    )


@pytest.mark.parametrize("kind", ["part", "blend"])
def test_weights_scale_losses_and_leave_counts_alone(kind):
    # Probabilities of the label: 1/2, 1/4, 1/8, 1/2; the first and the last answer are right.
    probabilities = [[4, 2, 2], [5, 1, 2], [1, 6, 1], [2, 4, 2]]
    features = tf.math.log(tf.constant(probabilities, tf.float32) / 8)
    batch = Batch(
        features,
        label=tf.constant([0, 2, 0, 1]),
        group=tf.zeros([4], tf.int32),
        weight=tf.ones([4]),
        index=tf.range(4),
        loss_weight=tf.constant([1, 2, 0, 0.5]),
    )
    mixture = _told(features)
    objective = {
        "part": lambda: PartObjective(mixture, "baseline"),
        "blend": lambda: BlendObjective(mixture, None),
    }[kind]()
    outcome = objective.train(batch, 4)
    sums = dict(zip(objective.metric_names, outcome.sums.numpy(), strict=True))
    # log 2 * (1 * 1 + 2 * 2 + 0 * 3 + 0.5 * 1), two right ones, four examples.
    expected = {"loss": 5.5 * np.log(2), "accuracy": 2, "examples": 4}
    if kind == "blend":
        expected["dropped"] = 0
    assert sums == pytest.approx(expected, rel=1e-6)
    assert float(outcome.loss) == pytest.approx(5.5 * np.log(2) / 4)


def test_blends_count_what_fixed_shapes_drop():
    """All to one of two experts, and each of them has room for 3 of 12."""
    gate = keras.Sequential([keras.Input(SHAPE), keras.layers.Dense(E)])
    gate.layers[0].set_weights([np.zeros((*SHAPE, E)), np.array([5.0, 0.0])])
    mixture = MixtureOfExperts(
        gate=gate,
        experts=[backbones.build("mlp-5", SHAPE, L) for _ in range(E)],
        num_classes=L,
        baseline=backbones.build("mlp-5", SHAPE, L),
        combiners=[backbones.build("mlp-5", SHAPE, 1) for _ in range(E)],
    )
    mixture.build((None, *SHAPE))
    dropped = {}
    for factor in (None, 0.5):
        objective = BlendObjective(mixture, factor)
        sums = objective.train(_batch(), S).sums.numpy()
        dropped[factor] = dict(zip(objective.metric_names, sums, strict=True))["dropped"]
    assert dropped == {None: 0, 0.5: 9}


def test_joint_losses_are_sums_over_weighted_examples_and_balance_is_not():
    mixture = _mixture()
    weights = LossConfig("likelihood", 1.0, 0.5, 0.5, balance_loss=0.1, z_loss=0.3)
    objective = JointObjective(mixture, make_router("soft"), weights, named=True)

    def sums(loss_weight: np.ndarray) -> dict[str, float]:
        loss_weight = tf.constant(loss_weight, tf.float32)
        outcome = objective.train(_batch()._replace(loss_weight=loss_weight), S)
        assert float(outcome.loss) == pytest.approx(float(outcome.sums[0]) / S)
        return dict(zip(objective.metric_names, outcome.sums.numpy(), strict=True))

    weighted = np.linspace(0, 3, S)
    alone = [sums(row) for row in np.eye(S)]
    found = sums(weighted)
    factors = {"nll": 1, "gate_loss": 1, "baseline_loss": 0.5, "expert_loss": 0.5, "z_loss": 0.3}
    for name in factors:
        expected = sum(w * one[name] for w, one in zip(weighted, alone, strict=True))
        assert found[name] == pytest.approx(expected, rel=1e-4)
        assert expected > 0
    for name in ("balance_loss", "accuracy", "gate_accuracy", "dropped", "examples"):
        assert found[name] == pytest.approx(alone[0][name], rel=1e-6)
    total = sum(factor * found[name] for name, factor in factors.items())
    assert found["loss"] == pytest.approx(total + 0.1 * found["balance_loss"], rel=1e-5)


def test_labels_of_classes_are_smoothed_and_groups_are_not():
    mixture, batch = _mixture(), _batch()
    output = mixture.forward(batch.features)

    def smoothed(log_probs: tf.Tensor, label: np.ndarray) -> float:
        """Of targets with 1 - .3 + .3 / 3 at the label and .3 / 3 elsewhere, summed up."""
        target = np.full((S, L), 0.1)
        target[np.arange(S), label] += 0.7
        return -float((target * log_probs.numpy()).sum())

    label, rows = batch.label.numpy(), np.arange(S)
    own = tf.gather(output.expert_log_probs, batch.group, axis=1, batch_dims=1)
    gate = -float(output.gate_log_probs.numpy()[rows, batch.group.numpy()].sum())
    expected = {
        "nll": smoothed(output.log_probs, label),
        "baseline_loss": smoothed(output.baseline_log_probs, label),
        "expert_loss": smoothed(own, label),
        "gate_loss": gate,
    }
    weights = LossConfig("likelihood", 1.0, 0.5, 0.5, 0.0)
    objective = JointObjective(mixture, make_router("soft"), weights, named=True, smoothing=0.3)
    sums = objective.train(batch, S).sums.numpy()
    found = dict(zip(objective.metric_names, sums, strict=True))
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-5), name
    for part, value in (("baseline", expected["baseline_loss"]), ("gate", gate)):
        objective = PartObjective(mixture, part, smoothing=0.3)
        assert float(objective.train(batch, S).sums[0]) == pytest.approx(value, rel=1e-5)
    # Validation takes labels at their word.
    plain = PartObjective(mixture, "baseline").train(batch, S).sums[0]
    judged = PartObjective(mixture, "baseline", smoothing=0.3).evaluate(batch)
    assert float(tf.reduce_sum(judged.nll)) == pytest.approx(float(plain), rel=1e-6)


@pytest.mark.parametrize("baseline", [True, False])
def test_the_stand_in_is_smoothed_like_any_answer(baseline):
    mixture, batch = _mixture(), _batch()
    if not baseline:
        mixture.baseline = None
    router = make_router("hard", balanced=True)  # draws nothing
    weights = LossConfig("likelihood", 0.0, 0.0, 0.0, 0.0)
    objective = JointObjective(mixture, router, weights, named=True, smoothing=0.3)
    output = mixture.forward(batch.features, router.train)
    gate = np.exp(output.gate_log_probs.numpy().max(axis=1))[:, np.newaxis]
    fallback = np.exp(output.baseline_log_probs) if baseline else np.full((S, L), 1 / L)
    says = np.log(gate * np.exp(output.expert_log_probs[:, 0]) + (1 - gate) * fallback)
    target = np.full((S, L), 0.1)
    target[np.arange(S), batch.label.numpy()] += 0.7
    assert float(objective.train(batch, S).loss) == pytest.approx(-(target * says).sum() / S)


def test_an_example_that_weighs_two_is_an_example_twice():
    """Of the gradient, too: the update is the one of a batch that holds it twice."""
    batch = _batch()
    double = np.r_[np.arange(S // 2), np.arange(S // 2)]
    twice = Batch(*(tf.gather(column, double) for column in batch))
    weight = np.repeat([2.0, 0.0], S // 2).astype(np.float32)
    one = batch._replace(loss_weight=tf.constant(weight))
    after = [_step("soft", b)[1] for b in (twice, one)]
    for part, weights in after[0].items():
        for expected, found in zip(weights, after[1][part], strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-6)


def test_sums_become_means_and_lists():
    names = ("loss", "load/0", "load/1", "left/0", "left/1", "examples")
    assert per_example(names, [6.0, 3, 1, 2, 1, 4]) == {
        "loss": 1.5,
        "load": [0.75, 0.25],
        "left": [0.5, 0.25],
    }
    assert per_example(("loss", "examples"), [0.0, 0.0]) == {"loss": 0}


@pytest.mark.parametrize("kind", ["hard", "topk"])
def test_what_is_counted_of_a_gate_with_a_bias_is_the_choice_that_is_carried_out(kind):
    mixture, batch = _mixture(balanced=True), _batch()
    mixture.balance_bias.assign([0.0, 1.5])  # outbids any gate
    weights = LossConfig("likelihood", 1.0, 0.5, 0.5, 0.0)
    objective = JointObjective(mixture, make_router(kind, 1, balanced=True), weights, named=True)
    routed = objective.evaluate(batch).routed
    assert 0 in routed.gate_log_probs.numpy().argmax(axis=1)
    assert set(routed.favourite.numpy()) == {1}
    assert routed.load.numpy().tolist() == routed.importance.numpy().tolist() == [[0, 1]] * S
    sums = objective.train(batch, S).sums.numpy()
    means = per_example(objective.metric_names, sums.tolist())
    assert means["gate_accuracy"] == pytest.approx(np.mean(batch.group == 1))


def test_second_choices_have_a_load_and_an_importance():
    mixture = _mixture()
    weights = LossConfig("likelihood", 1.0, 0.5, 0.5, 0.0)
    for name in ("topk", "soft"):
        routed = JointObjective(mixture, make_router(name, 2), weights, named=True)
        routed = routed.evaluate(_batch()).routed
        gate = np.exp(routed.gate_log_probs.numpy())
        np.testing.assert_allclose(routed.importance, gate, atol=1e-6)
        # With K = E everybody answers: what is asked for is the favourite.
        expected = np.eye(E)[gate.argmax(axis=1)]
        np.testing.assert_array_equal(routed.load, expected)


def test_joint_training_counts_the_load_before_and_after_capacity():
    mixture, batch = _mixture(), _batch()
    router = make_router("topk", 1, fixed=True, capacity_factor=0.5)  # hard: draws from the gate
    objective = JointObjective(
        mixture,
        router,
        LossConfig(gate_supervision=0.0, baseline_loss=0.0, expert_loss=0.0, balance_loss=0.0),
        named=False,
    )
    with randomness.key_scope(tf.constant([0, 0]), 0, 1):
        sums = objective.train(batch, S).sums.numpy()
    means = per_example(objective.metric_names, sums.tolist())
    assert sum(means["load"]) == pytest.approx(1)
    # Each of the two has room for 3 of 12.
    assert max(means["load_after_capacity"]) == pytest.approx(0.25)
    assert sum(means["load_after_capacity"]) == pytest.approx(1 - means["dropped"])
