"""One step against plain TensorFlow; a batch in slices against the same batch whole."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from moe.config import LossConfig
from moe.models import backbones
from moe.models.mixture import MixtureOfExperts, make_router
from moe.train.loss_scale import make_loss_scale
from moe.train.objectives import JointObjective, PartObjective
from moe.train.optimizers import PartOptimizer
from moe.train.schedules import make_schedule
from moe.train.step import make_train_step
from moe.types import Batch

S, E, L, RATE = 12, 2, 3, 0.1
SHAPE = (4,)


def _mixture() -> MixtureOfExperts:
    tf.random.set_seed(0)
    networks = [backbones.build("mlp-5", SHAPE, n) for n in (E, L, L, L)]
    for network in networks:
        rng = np.random.default_rng(3)
        for variable in network.trainable_variables:
            variable.assign(rng.normal(size=variable.shape) / 2)
    gate, *experts, baseline = networks
    mixture = MixtureOfExperts(gate=gate, experts=experts, num_classes=L, baseline=baseline)
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
}


def _step(kind: str, **options) -> tuple[np.ndarray, dict[str, list[np.ndarray]]]:
    """Metric sums of one step of plain gradient descent, and the weights after it."""
    mixture = _mixture()
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
        part: [v.numpy() for v in network.trainable_variables]
        for part, network in mixture.parts().items()
    }
    return sums.numpy(), after


def test_a_step_is_gradient_descent_on_the_mean_loss():
    mixture, batch = _mixture(), _batch()
    variables = mixture.baseline.trainable_variables
    with tf.GradientTape() as tape:
        logits = mixture.baseline(batch.features)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(batch.label, logits)
        loss = tf.reduce_mean(losses)
    gradients = tape.gradient(loss, [v.value for v in variables])
    sums, after = _step("one part")
    assert sums[0] == pytest.approx(float(loss) * S, rel=1e-5)
    assert sums[-1] == S
    for found, before, gradient in zip(after["baseline"], variables, gradients, strict=True):
        np.testing.assert_allclose(found, before.numpy() - RATE * gradient, atol=1e-6)
    for found, before in zip(after["gate"], mixture.gate.trainable_variables, strict=True):
        np.testing.assert_array_equal(found, before.numpy())


@pytest.mark.parametrize("slices", [2, 3, 12])
@pytest.mark.parametrize("kind", OBJECTIVES)
def test_a_batch_in_slices_is_the_whole_batch(kind, slices):
    whole, in_slices = _step(kind), _step(kind, accumulate=slices)
    np.testing.assert_allclose(in_slices[0], whole[0], rtol=1e-5, atol=1e-5)
    for part, weights in whole[1].items():
        for found, expected in zip(in_slices[1][part], weights, strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-6)


def test_xla_takes_the_same_step():
    plain, compiled = _step("soft"), _step("soft", jit_compile=True)
    np.testing.assert_allclose(compiled[0], plain[0], rtol=1e-5, atol=1e-5)
    for part, weights in plain[1].items():
        for found, expected in zip(compiled[1][part], weights, strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-5)
