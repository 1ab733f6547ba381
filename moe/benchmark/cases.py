"""What is measured on: generated images, forced assignments, and the case that sweeps vary."""

from __future__ import annotations

import dataclasses
import functools

import keras
import numpy as np
import tensorflow as tf

from moe.data.augment import unchanged
from moe.data.pipeline import Split, training_batches
from moe.data.source import Examples
from moe.routing import expert_capacity
from moe.types import Batch

INPUT_SHAPE = (32, 32, 3)
NUM_CLASSES = 10
KEY = (1, 2)
GROWTH_TITLE = "cost by number of experts: "
CROSSOVER_TITLE = "does routing pay"
"""How the titles of two suites' groups begin: what is made of their answers finds them by it."""


@dataclasses.dataclass(frozen=True)
class Case:
    """One mixture, and how it runs.

    Attributes:
      way: `mixture`; or the expert alone is trained as a plain network: `ours` (the framework's
        loop and layers), `stock` (that loop with Keras' layers) or `keras` (what `fit` runs).
      gate, expert, baseline: backbones; no baseline: no blend either.
      num_experts: E.
      batch_size: S.
      precision: Keras dtype policy.
      dispatch: `soft` (all experts run and are weighted), `dense` (all run, one is taken),
        `routed` (only the one that is taken runs) or `fixed` (the same in fixed shapes).
      load: which examples go to which expert, whatever the gate says; see `assignment`.
      phase: `train` or `evaluate`.
      steps_per_loop: steps in one traced loop.
      jit_compile: XLA.
    """

    way: str = "mixture"
    gate: str = "small"
    expert: str = "deep"
    baseline: str | None = "small"
    num_experts: int = 2
    batch_size: int = 128
    precision: str = "float32"
    dispatch: str = "routed"
    load: str = "balanced"
    phase: str = "train"
    steps_per_loop: int = 4
    jit_compile: bool = False


@functools.cache
def generated_split(size: int = 4_096) -> Split:
    """Random CIFAR-10-shaped examples: speed does not depend on what is in the pictures."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (size, *INPUT_SHAPE), dtype=np.uint8)
    label = rng.integers(0, NUM_CLASSES, size).astype(np.int32)
    return Split(Examples(images, label), (label % 2).astype(np.int32))


def one_batch(batch_size: int) -> Batch:
    """A batch that stays in memory."""
    batches = training_batches(generated_split(), batch_size, KEY, 0, unchanged)
    return next(iter(batches))


def two_batches(batch_size: int) -> tf.Tensor:
    """The images of two batches that stay in memory: `<uint8>[2, S, H, W, D]`."""
    images = one_batch(batch_size).features
    return tf.stack([images, tf.reverse(images, axis=[2])])


def assignment(load: str, size: int, num_experts: int) -> np.ndarray:
    """The expert of each of `size` examples.

    `balanced`: all experts get as many, give or take one. `zipf`: expert e gets a share that is
    proportional to 1 / (e + 1).
    """
    share = np.ones(num_experts) if load == "balanced" else 1 / np.arange(1, num_experts + 1)
    edges = np.cumsum(share / share.sum())
    expert = np.searchsorted(edges, (np.arange(size) + 0.5) / size)
    return np.random.default_rng(0).permutation(expert).astype(np.int32)


def load_of(expert: np.ndarray, num_experts: int) -> list[float]:
    """Share of the examples that each expert got."""
    return (np.bincount(expert, minlength=num_experts) / len(expert)).tolist()


def load_in_capacity(expert: np.ndarray, num_experts: int, factor: float) -> list[float]:
    """The same where each has room for `expert_capacity` alone; what is missing is dropped."""
    room = expert_capacity(len(expert), 1, num_experts, factor) / len(expert)
    return [min(share, room) for share in load_of(expert, num_experts)]


def in_compute_dtype(images: tf.Tensor, policy: str) -> tf.Tensor:
    """Raw images as a network takes them, roughly standardised."""
    return tf.cast(tf.cast(images, tf.float32) / 64 - 2, keras.DTypePolicy(policy).compute_dtype)
