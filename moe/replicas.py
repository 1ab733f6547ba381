"""Sums over the replicas that compute a step together."""

from __future__ import annotations

from typing import TypeVar

import tensorflow as tf

Values = TypeVar("Values")


def sum_over_replicas(values: Values) -> Values:
    """The sums of every replica's tensors, on each of them; differentiable.

    On a single one it is the tensors themselves: TensorFlow's own sum would keep the graph of every
    function that it stands in until the process ends, because it registers a gradient in its name.

    Args:
      values: any structure of tensors.
    """
    replica = tf.distribute.get_replica_context()
    if replica.num_replicas_in_sync == 1:
        return values
    return replica.all_reduce(tf.distribute.ReduceOp.SUM, values)
