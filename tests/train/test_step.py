"""One step against plain TensorFlow; a batch in slices against the same batch whole."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from moe.config import LossConfig
from moe.models import backbones
from moe.models.mixture import MixtureOfExperts
from moe.models.routers import make_router
from moe.train.loss_scale import make_loss_scale
from moe.train.objectives import JointObjective, PartObjective
from moe.train.optimizers import PartOptimizer
from moe.train.schedules import make_schedule
from moe.train.step import make_train_step
from moe.types import Batch

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
    "balanced": lambda mixture: JointObjective(
        mixture,
        make_router("hard", balanced=True),
        LossConfig("likelihood", 1.0, 0.5, 0.5, 0.0),
        named=True,
        balance_rate=0.25,
    ),
}


def _step(kind: str, **options) -> tuple[dict[str, float], dict[str, list[np.ndarray]]]:
    """Metric sums of one step of plain gradient descent, and the weights after it."""
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
    step = make_train_step(
        objective,
        optimizers,
        tf.distribute.get_strategy(),
        key=(1, 2),
        global_batch_size=S,
        loss_scale=make_loss_scale("float32"),
        **options,
    )
    sums = tf.function(step, autograph=False)(_batch(), tf.constant(0, tf.int64))
    after = {
        part: [v.numpy() for v in network.variables] for part, network in mixture.parts().items()
    }
    return dict(zip(objective.metric_names, sums.numpy(), strict=True)), after


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


@pytest.mark.parametrize("slices", [2, 3, 12])
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


def test_xla_takes_the_same_step():
    plain, compiled = _step("soft"), _step("soft", jit_compile=True)
    assert compiled[0] == pytest.approx(plain[0], rel=1e-5, abs=1e-5)
    for part, weights in plain[1].items():
        for found, expected in zip(compiled[1][part], weights, strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-5)
