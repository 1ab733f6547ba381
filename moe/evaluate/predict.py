"""Runs a mixture over a whole split, every example exactly once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from moe import routing
from moe.data.pipeline import Split, evaluation_batches
from moe.models.mixture import MixtureOfExperts
from moe.models.routers import Way
from moe.types import Batch


class Answers(NamedTuple):
    """A mixture's answers on N examples under one routing.

    Attributes:
      log_probs: `<float32>[N, L]`.
      answer: `<int32>[N]`.
      gate_log_probs: `<float32>[N, E]`, or None where no gate was trained.
      expert: `<int32>[N]`, the chosen expert with the highest weight; -1 where no one expert has.
    """

    log_probs: np.ndarray
    answer: np.ndarray
    gate_log_probs: np.ndarray | None
    expert: np.ndarray


class Dense(NamedTuple):
    """Everything that every network says about N examples; any routing can be made of it.

    Attributes:
      gate_log_probs: `<float32>[N, E]`.
      expert_log_probs: `<float32>[N, E, L]`, each expert alone.
      blend_log_probs: `<float32>[N, E, L]`, each expert blended with the baseline.
      baseline_log_probs: `<float32>[N, L]`, or None.
    """

    gate_log_probs: np.ndarray
    expert_log_probs: np.ndarray
    blend_log_probs: np.ndarray
    baseline_log_probs: np.ndarray | None


def run_on_split(
    function: Callable[[Batch], dict[str, tf.Tensor]], split: Split, batch_size: int
) -> dict[str, np.ndarray]:
    """Calls `function` on every batch and puts the real examples' rows together, in order.

    Raises:
      AssertionError: an example was lost or counted twice.
    """
    traced = tf.function(function, autograph=False)
    columns: dict[str, list[np.ndarray]] = {}
    seen = []
    for batch in evaluation_batches(split, batch_size):
        real = batch.weight.numpy() > 0
        seen.append(batch.index.numpy()[real])
        for name, values in traced(batch).items():
            columns.setdefault(name, []).append(values.numpy()[real])
    if not np.array_equal(np.concatenate(seen), np.arange(len(split))):
        raise AssertionError("evaluation lost or repeated an example")
    return {name: np.concatenate(values) for name, values in columns.items()}


def predict_routed(mixture: MixtureOfExperts, split: Split, batch_size: int, way: Way) -> Answers:
    """The mixture as it would be served: only the experts that the routing needs are run."""

    def function(batch: Batch) -> dict[str, tf.Tensor]:
        output = mixture.forward(batch.features, way, reference=False)
        return {
            "log_probs": output.log_probs,
            "answer": output.answer,
            "gate_log_probs": output.gate_log_probs,
            "expert": favourite(output.routing),
        }

    return Answers(**run_on_split(function, split, batch_size))


def predict_dense(mixture: MixtureOfExperts, split: Split, batch_size: int) -> Dense:
    """Every network on every example."""

    def function(batch: Batch) -> dict[str, tf.Tensor]:
        output = mixture.forward(batch.features)
        columns = {
            "gate_log_probs": output.gate_log_probs,
            "expert_log_probs": output.expert_log_probs,
            "blend_log_probs": output.blend_log_probs,
        }
        if output.baseline_log_probs is not None:
            columns["baseline_log_probs"] = output.baseline_log_probs
        return columns

    columns = run_on_split(function, split, batch_size)
    return Dense(**{"baseline_log_probs": None} | columns)


def predict_parts(
    mixture: MixtureOfExperts, split: Split, batch_size: int, parts: Sequence[str]
) -> dict[str, np.ndarray]:
    """The given networks by themselves: `<float32>[N, L]` log-probabilities (gate: `[N, E]`)."""

    def function(batch: Batch) -> dict[str, tf.Tensor]:
        x = mixture.encode(batch.features)
        return {part: mixture.part_log_probs(part, x) for part in parts}

    return run_on_split(function, split, batch_size)


def favourite(chosen: routing.Routing) -> tf.Tensor:
    """The chosen expert with the highest weight: `[S, K]` -> `<int32>[S]`."""
    best = tf.argmax(chosen.log_weights, axis=1, output_type=tf.int32)
    return tf.gather(chosen.expert_index, best, axis=1, batch_dims=1)


def answers_alone(log_probs: np.ndarray) -> Answers:
    """The answers of one network by itself, `<float32>[N, L]`: no gate and no expert is asked."""
    return Answers(
        log_probs=log_probs,
        answer=log_probs.argmax(axis=1).astype(np.int32),
        gate_log_probs=None,
        expert=nobody(len(log_probs)),
    )


def nobody(size: int) -> np.ndarray:
    """The column `expert` where no one expert has the highest weight."""
    return np.full(size, -1, np.int32)
