"""`tf.data` pipelines whose every batch is a pure function of (seed, step).

The position in the data is one integer, the step: nothing of a pipeline is ever saved, and a
pipeline that starts at step n yields what an uninterrupted one yields from step n on.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import tensorflow as tf

from moe import randomness
from moe.data.augment import Augmentation
from moe.data.source import Examples
from moe.types import Batch


class Split:
    """Examples of one split with their groups, in memory, ready to be batched.

    Attributes:
      examples: the `Examples`.
      group: `<int32>[N]`, reference groups, -1 where none is known.
    """

    def __init__(self, examples: Examples, group: np.ndarray) -> None:
        self.examples = examples
        self.group = group

    def __len__(self) -> int:
        return len(self.group)

    def take(self, rows: np.ndarray) -> Split:
        """The split restricted to `rows`."""
        return Split(self.examples.take(rows), self.group[rows])

    def of_group(self, group: int | None) -> Split:
        """The split restricted to one group; None: all of it."""
        return self if group is None else self.take(np.flatnonzero(self.group == group))

    def size_of_group(self, group: int | None) -> int:
        """How many examples `of_group` would hold."""
        return len(self) if group is None else int((self.group == group).sum())


def steps_per_epoch(num_examples: int, batch_size: int) -> int:
    """Whole batches an epoch; the examples left over are other ones every epoch."""
    return num_examples // batch_size


def training_batches(
    split: Split, batch_size: int, seed_key: tuple[int, int], first_step: int, augment: Augmentation
) -> tf.data.Dataset:
    """Endless batches of `batch_size` from step `first_step` on, a new order every epoch.

    The order of an epoch is a pseudo-random permutation that is computed entry by entry
    (`tf.random.experimental.index_shuffle`), so no shuffle buffer is filled or saved.

    Args:
      split: the examples.
      batch_size: S.
      seed_key: randomness of the stage.
      first_step: number of the first batch.
      augment: see `moe.data.augment`.

    Returns:
      A data set of `Batch`; `index` is the row in `split`.
    """
    size = len(split)
    epoch_steps = steps_per_epoch(size, batch_size)
    first_turn = tf.constant(np.random.default_rng(seed_key).permutation(size) % 2, tf.int32)
    loss_weight = split.examples.weight
    if loss_weight is None:
        loss_weight = np.ones(size, np.float32)
    with tf.device("CPU"):  # the pipeline runs there, whatever the model runs on
        columns = [tf.constant(c) for c in (*split.examples[:2], split.group, loss_weight)]
    order_key = tf.constant(seed_key, tf.int32)
    augment_key = randomness.fold(order_key, -1)
    weight = tf.ones([batch_size])

    def batch_at(step: tf.Tensor) -> Batch:
        epoch = tf.cast(step // epoch_steps, tf.int32)
        start = tf.cast(step % epoch_steps, tf.int32) * batch_size
        index = tf.random.experimental.index_shuffle(
            tf.range(start, start + batch_size),
            seed=tf.cast(randomness.fold(order_key, epoch), tf.int32),
            max_index=size - 1,
        )
        index = tf.ensure_shape(index, [batch_size])
        features, label, group, loss_weight = (tf.gather(column, index) for column in columns)
        turn = tf.gather(first_turn, index) + epoch
        features = augment(features, randomness.fold(augment_key, step), turn)
        return Batch(features, label, group, weight, index, loss_weight)

    steps = tf.data.Dataset.range(first_step, np.iinfo(np.int64).max)
    return steps.map(batch_at, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(
        tf.data.AUTOTUNE
    )


def replica_batches(
    batches: tf.data.Dataset, batch_size: int, context: tf.distribute.InputContext
) -> tf.data.Dataset:
    """What the replicas of one process take of every batch, one stretch after the other.

    Every process makes the whole batch: it is the same one, whoever takes part.

    Args:
      batches: of `training_batches`.
      batch_size: a multiple of the number of replicas.
      context: which process this is, of how many.

    Returns:
      A data set of `Batch`, `batch_size / replicas` examples each.
    """
    replicas = context.num_replicas_in_sync
    mine = replicas // context.num_input_pipelines
    first = context.input_pipeline_id * mine
    size = batch_size // replicas

    def stretches(batch: Batch) -> Batch:
        return Batch(
            *(tf.reshape(c, [replicas, size, *c.shape[1:]])[first : first + mine] for c in batch)
        )

    return batches.map(stretches, num_parallel_calls=tf.data.AUTOTUNE).unbatch()


def evaluation_batches(split: Split, batch_size: int) -> Iterable[Batch]:
    """Every example once, in order; the last batch padded with weight 0 to the same shape.

    A batch is at most the whole split. All examples count the same, however they are weighted in
    training.
    """
    size = len(split)
    batch_size = min(batch_size, size)
    columns = (*split.examples[:2], split.group)
    for start in range(0, size, batch_size):
        rows = np.arange(start, min(start + batch_size, size), dtype=np.int32)
        padding = batch_size - len(rows)
        source = np.concatenate([rows, np.zeros(padding, np.int32)])
        features, label, group = (tf.constant(column[source]) for column in columns)
        weight = tf.constant(np.arange(batch_size) < len(rows), tf.float32)
        index = tf.constant(np.concatenate([rows, np.full(padding, -1, np.int32)]))
        yield Batch(features, label, group, weight, index, loss_weight=weight)
