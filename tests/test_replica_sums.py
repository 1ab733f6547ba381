"""Sums over replicas, on one: `test_replicas.py` has several."""

from __future__ import annotations

import gc
import weakref

import tensorflow as tf

from moe.replicas import sum_over_replicas


def test_a_sum_on_one_device_keeps_no_graph_alive():
    @tf.function
    def slope(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            (total,) = sum_over_replicas([x * x])
        return tape.gradient(total, x)

    assert slope(tf.constant(3.0)).numpy() == 6
    graph = weakref.ref(slope.get_concrete_function(tf.constant(3.0)).graph)
    del slope
    gc.collect()
    assert graph() is None
