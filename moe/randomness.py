"""All randomness is a function of (seed, purpose, step): nothing to save, nothing to lose.

A *key* is a pair of integers, as TensorFlow's stateless random operations take it. The training
step opens a `key_scope`; every stochastic layer that is called inside takes its own key from it
with `next_key`, numbered in the order of the calls, which is the order of the code.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Callable, Iterator

import tensorflow as tf


def seed_pair(seed: int, *purpose: str | int) -> tuple[int, int]:
    """Two non-negative 31-bit integers that depend on `seed` and on every word of `purpose`."""
    digest = hashlib.sha256("/".join(map(str, (seed, *purpose))).encode()).digest()
    return (
        int.from_bytes(digest[:4], "little") & 0x7FFFFFFF,
        int.from_bytes(digest[4:8], "little") & 0x7FFFFFFF,
    )


def fold(key: tf.Tensor, number: tf.Tensor | int) -> tf.Tensor:
    """A new `<int32>[2]` key out of `key` and a number; unrelated for different numbers."""
    return tf.random.fold_in(tf.cast(key, tf.int32), tf.cast(number, tf.int32))


class _Scope:
    """What one step on one replica draws from.

    Attributes:
      shared: key of the step, the same on every replica.
      key: the replica's own.
      calls: how many keys were handed out.
    """

    def __init__(self, shared: tf.Tensor, replica: tf.Tensor | int, replicas: int) -> None:
        self.shared = shared
        self.key = fold(shared, replica)
        self.replica = replica
        self.replicas = replicas
        self.calls = 0

    def next_number(self) -> int:
        self.calls += 1
        return self.calls


class _Scopes(threading.local):
    """A stack for each thread (each replica traces in its own)."""

    def __init__(self) -> None:
        self.stack: list[_Scope] = []


_scopes = _Scopes()


@contextlib.contextmanager
def key_scope(key: tf.Tensor, replica: tf.Tensor | int = 0, replicas: int = 1) -> Iterator[None]:
    """Inside, `next_key` and the draws for examples come from `key` (`<int>[2]`).

    Args:
      key: the same on every replica.
      replica: number of this one; where a replica works in slices, of the slice among all.
      replicas: how many share the batch, each with an equal stretch of it, in their order; with
        slices, how many of those.
    """
    _scopes.stack.append(_Scope(key, replica, replicas))
    try:
        yield
    finally:
        _scopes.stack.pop()


def next_key() -> tf.Tensor:
    """The next key of the innermost scope, `<int32>[2]`, another one on every replica.

    Outside of any scope (under `Model.fit`, say) TensorFlow's global seed decides.
    """
    if not _scopes.stack:
        return tf.random.uniform([2], maxval=2**31 - 1, dtype=tf.int32)
    scope = _scopes.stack[-1]
    return fold(scope.key, scope.next_number())


def example_uniform(size: tf.Tensor | int, width: int) -> tf.Tensor:
    """Uniform draws in [0, 1) that do not depend on how many replicas share the batch.

    Every replica draws for the whole batch and takes its own stretch of it: meant for a few
    numbers an example, such as the draw of an expert.

    Args:
      size: examples on this replica.
      width: draws an example.

    Returns:
      `<float32>[size, width]`.
    """
    return _of_examples(tf.random.uniform, tf.random.stateless_uniform, size, width)


def example_normal(size: tf.Tensor | int, width: int) -> tf.Tensor:
    """The same, standard normal."""
    return _of_examples(tf.random.normal, tf.random.stateless_normal, size, width)


def _of_examples(draw: Callable, stateless: Callable, size: tf.Tensor | int, width: int):
    if not _scopes.stack:
        return draw([size, width])
    scope = _scopes.stack[-1]
    key = fold(scope.shared, scope.next_number())
    draws = stateless([scope.replicas * size, width], key)
    return tf.slice(draws, [scope.replica * size, 0], [size, width])
