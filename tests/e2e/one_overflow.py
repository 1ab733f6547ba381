"""Two steps of a float16 network on two replicas; in the first one replica 1 alone overflows.

It does so on the way forward, before the batch statistics, which all replicas share.

Prints, as JSON, what every step left behind. A program of its own: devices are global.
"""

import json

import keras
import numpy as np
import tensorflow as tf

from moe.config.sections import RuntimeConfig
from moe.models import backbones
from moe.models.mixture import MixtureOfExperts
from moe.models.normalization import BatchNorm
from moe.train.devices import choose_strategy
from moe.train.loss_scale import make_loss_scale
from moe.train.objectives import PartObjective
from moe.train.optimizers import PartOptimizer
from moe.train.schedules import make_schedule
from moe.train.state import moving_statistics
from moe.train.step import make_train_step
from moe.types import Batch

S, SHAPE, L = 8, (4,), 3


def main() -> None:
    strategy = choose_strategy(RuntimeConfig(cpu_replicas=2))
    keras.config.set_dtype_policy("mixed_float16")
    with strategy.scope():
        layers = [keras.layers.Dense(5), BatchNorm(), keras.layers.ReLU(), keras.layers.Dense(L)]
        network = keras.Sequential([keras.Input(SHAPE), *layers])
        gate = backbones.build("mlp-5", SHAPE, 1)
        mixture = MixtureOfExperts(gate=gate, experts=[], num_classes=L, baseline=network)
        mixture.build((None, *SHAPE))
        weights = [v.value for v in network.trainable_variables]
        statistics = moving_statistics([network])
        optimizer = PartOptimizer("sgd", weights, 0.1, make_schedule("constant", 1))
        loss_scale = make_loss_scale("mixed_float16")
    step = tf.function(
        make_train_step(
            PartObjective(mixture, "baseline"),
            {"baseline": optimizer},
            strategy,
            key=(1, 2),
            global_batch_size=S,
            loss_scale=loss_scale,
            statistics=statistics,
        )
    )

    def batch_of(replica: tf.distribute.ReplicaContext, overflow: bool) -> Batch:
        rng = np.random.default_rng(replica.replica_id_in_sync_group)
        features = rng.normal(size=(S // 2, *SHAPE)).astype(np.float32)
        if overflow and replica.replica_id_in_sync_group == 1:
            features *= 1e5  # beyond what float16 can hold
        label = tf.constant(rng.integers(L, size=S // 2), tf.int32)
        ones = tf.ones([S // 2])
        return Batch(tf.constant(features), label, label, ones, tf.range(S // 2), ones)

    def on_each(variables) -> list[np.ndarray]:
        copies = [strategy.experimental_local_results(variable) for variable in variables]
        return [np.concatenate([copy[n].numpy().ravel() for copy in copies]) for n in (0, 1)]

    def state() -> dict:
        return {
            "weights": on_each(weights),
            "statistics": on_each(statistics),
            "factor": float(loss_scale.factor.numpy()),
        }

    states = [state()]
    for number, overflow in enumerate((True, False)):
        batch = strategy.experimental_distribute_values_from_function(
            lambda replica, overflow=overflow: batch_of(replica, overflow)
        )
        sums = step(batch, tf.constant(number, tf.int64))
        states.append(state() | {"fault": float(sums[-1])})
    print(json.dumps(states, default=lambda array: array.tolist()))


main()
