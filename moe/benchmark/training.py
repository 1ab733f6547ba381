"""Ways to train one network: the framework's loop, the same with stock layers, Keras' own loop."""

from __future__ import annotations

import keras
import tensorflow as tf

from moe.benchmark.cases import (
    INPUT_SHAPE,
    KEY,
    NUM_CLASSES,
    generated_split,
    one_batch,
)
from moe.benchmark.measure import Arm
from moe.data.augment import make_augmentation
from moe.data.pipeline import training_batches
from moe.models import backbones, cost
from moe.models.build import dtype_policy
from moe.models.layers import Conv2D, Dropout, MaxPool
from moe.models.mixture import MixtureOfExperts
from moe.models.normalization import BatchNorm
from moe.train.loop import make_train_loop
from moe.train.loss_scale import make_loss_scale
from moe.train.meter import matrix_product_flops, matrix_products
from moe.train.objectives import Objective, PartObjective
from moe.train.optimizers import PartOptimizer
from moe.train.schedules import make_schedule
from moe.train.step import make_train_step


def loop_arm(
    name: str,
    mixture: MixtureOfExperts,
    objective: Objective,
    *,
    policy: str,
    batch_size: int,
    steps: int,
    augment: str | None = None,
    jit_compile: bool = False,
    **more,
) -> Arm:
    """The framework's own loop with Adam on whatever the objective trains.

    Args:
      name: of the arm.
      mixture: built under `policy`; everything in it that can learn, learns.
      objective: a training objective on it.
      policy: Keras dtype policy.
      batch_size: S.
      steps: in one loop.
      augment: feed from the pipeline, with this augmentation; None: one cached batch.
      jit_compile: XLA.
      **more: `facts` and `flops` of the arm.
    """
    schedule = make_schedule("constant", 1)
    optimizers = {
        part: PartOptimizer("adam", [v.value for v in model.trainable_variables], 1e-3, schedule)
        for part, model in mixture.parts().items()
        if model.trainable_variables
    }
    step = make_train_step(
        objective,
        optimizers,
        tf.distribute.get_strategy(),
        key=KEY,
        global_batch_size=batch_size,
        loss_scale=make_loss_scale(policy),
        jit_compile=jit_compile,
    )
    loop = make_train_loop(step, len(objective.metric_names))
    if augment is None:
        batches = tf.data.Dataset.from_tensors(one_batch(batch_size)).repeat()
    else:
        augmentation = make_augmentation(augment)
        batches = training_batches(generated_split(), batch_size, KEY, 0, augmentation)
    iterator = iter(batches)
    first, count = tf.constant(0, tf.int64), tf.constant(steps, tf.int64)
    return Arm(name, lambda: loop(iterator, first, count), steps, batch_size, **more)


def network_arm(
    name: str,
    network: str,
    *,
    policy: str,
    batch_size: int,
    steps: int,
    stock: bool = False,
    **options,
) -> Arm:
    """The framework's own loop on a single classifier.

    Args:
      name, policy, batch_size, steps, **options: as in `loop_arm`.
      network: backbone.
      stock: with Keras' layers in the place of ours.
    """
    with dtype_policy(policy):
        model = backbones.build(network, INPUT_SHAPE, NUM_CLASSES)
        flops = 2 * cost.training_macs(model)
        if stock:
            model = _with_stock_layers(model)
        gate = backbones.build("mlp-8", INPUT_SHAPE, 1)
        gate.trainable = False
        mixture = MixtureOfExperts(gate=gate, experts=[], num_classes=NUM_CLASSES, baseline=model)
        mixture.build((None, *INPUT_SHAPE))
    return loop_arm(
        name,
        mixture,
        PartObjective(mixture, "baseline"),
        policy=policy,
        batch_size=batch_size,
        steps=steps,
        facts={"batch_size": batch_size, "precision": policy},
        flops=flops,
        **options,
    )


def keras_arm(name: str, network: str, *, policy: str, batch_size: int, steps: int) -> Arm:
    """What `Model.fit(jit_compile=False, steps_per_execution=steps)` runs: stock layers, Adam.

    Its compiled training function is called directly: what `fit` spends around it on callbacks is
    not held against it.
    """
    with dtype_policy(policy):
        ours = backbones.build(network, INPUT_SHAPE, NUM_CLASSES)
        model = keras.Sequential(
            [
                keras.Input(INPUT_SHAPE, dtype="uint8"),
                keras.layers.Rescaling(1 / 64, offset=-2.0),
                _with_stock_layers(ours),
            ]
        )
        model.compile(
            optimizer=keras.optimizers.Adam(1e-3),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            jit_compile=False,
            steps_per_execution=steps,
        )
    batch = one_batch(batch_size)
    data = tf.data.Dataset.from_tensors((batch.features, batch.label)).repeat()
    iterator = iter(data.prefetch(tf.data.AUTOTUNE))
    model.make_train_function()
    return Arm(
        name,
        lambda: tf.convert_to_tensor(model.train_function(iterator)["loss"]),
        steps,
        batch_size,
        {"batch_size": batch_size, "precision": policy},
        2 * cost.training_macs(ours),
    )


def _with_stock_layers(model: keras.Model) -> keras.Model:
    """The same network, with Keras' layers where it has ours."""

    def stock(layer: keras.layers.Layer) -> keras.layers.Layer:
        if isinstance(layer, Dropout):
            return keras.layers.Dropout(layer.rate)
        if isinstance(layer, BatchNorm):
            same = ("momentum", "epsilon", "center", "scale")
            return keras.layers.BatchNormalization(**{name: getattr(layer, name) for name in same})
        theirs = {MaxPool: keras.layers.MaxPooling2D, Conv2D: keras.layers.Conv2D}
        return theirs.get(type(layer), type(layer)).from_config(layer.get_config())

    return keras.models.clone_model(model, clone_function=stock)


def pipeline_arm(name: str, augment: str, *, batch_size: int, steps: int) -> Arm:
    """The input pipeline with nobody who trains on what it delivers."""
    augmentation = make_augmentation(augment)
    batches = iter(training_batches(generated_split(), batch_size, KEY, 0, augmentation))

    @tf.function
    def run(batches) -> tf.Tensor:
        total = tf.zeros([], tf.int32)
        for _ in tf.range(steps):
            total += next(batches).label[0]
        return total

    return Arm(name, lambda: run(batches), steps, batch_size, {"batch_size": batch_size})


PRODUCT = "matrix product"


def matrix_product_arm(policy: str, repeats: int = 4) -> Arm:
    """The device's practical ceiling, see `moe.train.meter.matrix_products`."""
    return Arm(
        f"{PRODUCT}, {policy}",
        matrix_products(policy, repeats),
        repeats,
        1,
        {"precision": policy},
        matrix_product_flops(),
    )
