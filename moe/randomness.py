"""All randomness is a function of (seed, purpose, step): nothing to save, nothing to lose.

A *key* is a pair of integers, as TensorFlow's stateless random operations take it. The training
step opens a `key_scope`; every stochastic layer that is called inside takes its own key from it
with `next_key`, numbered in the order of the calls, which is the order of the code.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Iterator

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


class _Scopes(threading.local):
    """A stack of [key, calls so far] for each thread (each replica traces in its own)."""

    def __init__(self) -> None:
        self.stack: list[list] = []


_scopes = _Scopes()


@contextlib.contextmanager
def key_scope(key: tf.Tensor) -> Iterator[None]:
    """Inside, `next_key` hands out keys derived from `key` (`<int>[2]`)."""
    _scopes.stack.append([key, 0])
    try:
        yield
    finally:
        _scopes.stack.pop()


def next_key() -> tf.Tensor:
    """The next key of the innermost scope, `<int32>[2]`; a random one outside of any scope.

    Outside of a scope (under `Model.fit`, say) TensorFlow's global seed decides.
    """
    if not _scopes.stack:
        return tf.random.uniform([2], maxval=2**31 - 1, dtype=tf.int32)
    scope = _scopes.stack[-1]
    scope[1] += 1
    return fold(scope[0], scope[1])
