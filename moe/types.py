"""The tuples that cross a `tf.function`, and the axis legend of the whole project.

Axes:
  S  examples in a batch
  E  experts
  L  classes
  K  chosen experts an example (soft routing: K = E)
  H, W, D  height, width, depth of an image;  F  columns of a table row

Everything with `log_probs` in its name is float32 and normalised over its last axis. Impossible
classes or experts carry `IMPOSSIBLE`, a finite stand-in for minus infinity, so that no gradient
ever meets `inf - inf`.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

IMPOSSIBLE = -1e30
"""Log-probability of what cannot be. `exp` of it is exactly 0 and its gradient is exactly 0."""


class Batch(NamedTuple):
    """One batch of examples.

    Attributes:
      features: `<uint8>[S, H, W, D]` images or `<float32>[S, F]` table rows.
      label: `<int32>[S]`, the class.
      group: `<int32>[S]`, the group the example belongs to, -1 where none is known.
      weight: `<float32>[S]`, 1 for an example, 0 for padding.
      index: `<int32>[S]`, the example's row in its split, -1 for padding.
      loss_weight: `<float32>[S]`, how much the example counts in the losses of training; 1 unless
        classes or examples are weighted, 0 for padding. Nothing but losses knows it.
    """

    features: tf.Tensor
    label: tf.Tensor
    group: tf.Tensor
    weight: tf.Tensor
    index: tf.Tensor
    loss_weight: tf.Tensor


class Gating(NamedTuple):
    """What the gate says about a batch: all that experts are chosen by.

    Attributes:
      log_probs: `<float32>[S, E]`, the gate's distribution.
      scores: `<float32>[S, E]`, the higher the sooner an expert is chosen: `log_probs`, or with a
        balance bias `routing.balanced_scores`. They say who answers, never with which weight.
      deviation: `<float32>[S, E]`, of the noise in training; None: the gate has no say in it.
    """

    log_probs: tf.Tensor
    scores: tf.Tensor
    deviation: tf.Tensor | None = None


class Routing(NamedTuple):
    """Which experts answer for an example, and with which weight.

    Attributes:
      expert_index: `<int32>[S, K]`, the chosen experts.
      log_weights: `<float32>[S, K]`, logarithm of each one's share; the shares sum to 1.
      chance: `<float32>[S, E]`, how likely learned noise was to have each expert chosen: a load
        that has a gradient; None without such noise.
    """

    expert_index: tf.Tensor
    log_weights: tf.Tensor
    chance: tf.Tensor | None = None


class MixtureOutput(NamedTuple):
    """All that a mixture knows about a batch.

    Attributes:
      log_probs: `<float32>[S, L]`, the mixture's class distribution.
      answer: `<int32>[S]`, the class the mixture names: the best of the chosen experts' pooled
        answers (with group heads, hard routing may name another class than `log_probs` favours).
      gate_logits: `<float32>[S, E]`, already divided by the temperature.
      gate_log_probs: `<float32>[S, E]`.
      gate_scores: `<float32>[S, E]`, what experts were chosen by, see `Gating`.
      routing: the `Routing` that was carried out.
      expert_log_probs: `<float32>[S, K, L]`, each chosen expert alone, over all classes.
      blend_log_probs: `<float32>[S, K, L]`, the same blended with the baseline.
      baseline_log_probs: `<float32>[S, L]`, or None without a baseline.
    """

    log_probs: tf.Tensor
    answer: tf.Tensor
    gate_logits: tf.Tensor
    gate_log_probs: tf.Tensor
    gate_scores: tf.Tensor
    routing: Routing
    expert_log_probs: tf.Tensor
    blend_log_probs: tf.Tensor
    baseline_log_probs: tf.Tensor | None
