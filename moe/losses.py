"""Losses of a mixture: pure functions on tensors; axes as in `moe.types`, everything float32.

Each returns one number an example (`[S]`) or, for statistics of a batch, a scalar made from sums
that the caller has already added up over all replicas.
"""

from __future__ import annotations

import tensorflow as tf

from moe.replicas import sum_over_replicas
from moe.routing import asks_somebody, expert_counts, route_hard, slots_by_expert
from moe.types import IMPOSSIBLE, MixtureOutput, Routing


def pick(log_probs: tf.Tensor, label: tf.Tensor) -> tf.Tensor:
    """The entry of the label: `[S, ..., L]`, `<int32>[S]` -> `[S, ...]`."""
    middle = len(log_probs.shape) - 2
    index = tf.reshape(label, tf.concat([tf.shape(label), tf.ones([middle + 1], tf.int32)], axis=0))
    index = tf.broadcast_to(index, tf.concat([tf.shape(log_probs)[:-1], [1]], axis=0))
    return tf.squeeze(tf.gather(log_probs, index, axis=-1, batch_dims=1 + middle), axis=-1)


def pick_smoothed(log_probs: tf.Tensor, label: tf.Tensor, smoothing: float) -> tf.Tensor:
    """What is expected of `log_probs` where the label is not taken at its word.

    The label has the weight `1 - smoothing`, and all classes share the rest evenly (Szegedy et al.
    2015, 1512.00567): those that are possible, for a group head knows no others.

    Args:
      log_probs: `<float32>[S, ..., L]`.
      label: `<int32>[S]`.
      smoothing: 0: the label alone counts.

    Returns:
      `<float32>[S, ...]`.
    """
    named = pick(log_probs, label)
    if not smoothing:
        return named
    possible = log_probs > IMPOSSIBLE / 2
    total = tf.reduce_sum(tf.where(possible, log_probs, 0.0), axis=-1)
    mean = total / tf.reduce_sum(tf.cast(possible, tf.float32), axis=-1)
    return (1 - smoothing) * named + smoothing * mean


def cross_entropy(log_probs: tf.Tensor, label: tf.Tensor, smoothing: float = 0.0) -> tf.Tensor:
    """`-log p(label)`: `<float32>[S, L]`, `<int32>[S]` -> `<float32>[S]`; see `pick_smoothed`."""
    return -pick_smoothed(log_probs, label, smoothing)


def expected_loss(
    routing: Routing, blend_log_probs: tf.Tensor, label: tf.Tensor, smoothing: float = 0.0
) -> tf.Tensor:
    """`sum_k w_k * -log q_k(label)` (each expert is paid for its own answer): `<float32>[S]`."""
    picked = pick_smoothed(blend_log_probs, label, smoothing)
    return -tf.reduce_sum(tf.exp(routing.log_weights) * picked, axis=1)


def stand_in_log_probs(
    routing: Routing,
    gate_log_probs: tf.Tensor,
    expert_log_probs: tf.Tensor,
    fallback_log_probs: tf.Tensor,
) -> tf.Tensor:
    """`log sum_e g_e (q_e(y) if e ran, else r(y))`: a fallback `r` stands in for who did not run.

    With one expert it is `log[g q(y) + (1 - g) r(y)]`. As a likelihood it has the gate learn from
    the experts that ran: it is right to insist on one (`g` up) that beats the fallback. Where
    nobody ran it is `log r`.

    Args:
      routing: the assignment, `[S, K]`, no expert twice; its weights are of no account.
      gate_log_probs: `<float32>[S, E]`.
      expert_log_probs: `<float32>[S, K, L]`, blended.
      fallback_log_probs: `<float32>[S, L]`, the same of the baseline, or uniform.

    Returns:
      `<float32>[S, L]`; sums to 1 as the others do.
    """
    asked = slots_by_expert(routing, gate_log_probs.shape[1])[..., tf.newaxis]  # [S, K, E, 1]
    answers = tf.reduce_sum(tf.where(asked, expert_log_probs[:, :, tf.newaxis], 0.0), axis=1)
    says = tf.where(tf.reduce_any(asked, axis=1), answers, fallback_log_probs[:, tf.newaxis])
    return tf.reduce_logsumexp(gate_log_probs[..., tf.newaxis] + says, axis=1)


def stood_in_log_probs(output: MixtureOutput) -> tf.Tensor:
    """The same of a mixture's output: the baseline stands in, or else the uniform distribution."""
    fallback = output.baseline_log_probs
    if fallback is None:
        uniform = -tf.math.log(float(output.log_probs.shape[1]))
        fallback = tf.fill(tf.shape(output.log_probs), uniform)
    return stand_in_log_probs(
        output.routing, output.gate_log_probs, output.blend_log_probs, fallback
    )


def expert_cross_entropy(
    routing: Routing,
    expert_log_probs: tf.Tensor,
    label: tf.Tensor,
    own_expert: tf.Tensor,
    smoothing: float = 0.0,
) -> tf.Tensor:
    """Cross-entropy of the expert that an example belongs to, 0 where that one did not run.

    Args:
      routing: the assignment, `[S, K]`.
      expert_log_probs: `<float32>[S, K, L]`.
      label: `<int32>[S]`.
      own_expert: `<int32>[S]`, the expert that should learn the example.
      smoothing: as in `pick_smoothed`.

    Returns:
      `<float32>[S]`.
    """
    own = asks_somebody(routing) & (routing.expert_index == own_expert[:, tf.newaxis])
    # A group head cannot name a foreign class at all: where() keeps that from reaching the sum.
    losses = tf.where(own, -pick_smoothed(expert_log_probs, label, smoothing), 0.0)
    return tf.reduce_sum(losses, axis=1)


def load_balancing_loss(counts: tf.Tensor, importance: tf.Tensor) -> tf.Tensor:
    """`E * sum_e f_e P_e`: 1 when uniform, E at collapse (GShard 2006.16668, Switch 2101.03961).

    Args:
      counts: `<float32>[E]`, examples whose favourite is e, over the global batch; no gradient.
      importance: `<float32>[E]`, the gate's probabilities summed over the global batch.

    Returns:
      `<float32>[]`.
    """
    counts = tf.stop_gradient(counts)
    num_experts = tf.cast(tf.size(counts), tf.float32)
    load = tf.math.divide_no_nan(counts, tf.reduce_sum(counts))
    share = tf.math.divide_no_nan(importance, tf.reduce_sum(importance))
    return num_experts * tf.reduce_sum(load * share)


def variation_loss(amounts: tf.Tensor) -> tf.Tensor:
    """`CV^2`, variance over squared mean: 0 when even, E - 1 at collapse (Shazeer et al. 2017).

    Args:
      amounts: `<float32>[E]`, summed over the global batch. Importance: the gate's probabilities
        (all of them, as in V-MoE, 2106.05974; the paper adds up what is left of the K best). Load:
        `Routing.chance`.

    Returns:
      `<float32>[]`.
    """
    mean = tf.reduce_mean(amounts)
    return tf.math.divide_no_nan(tf.math.reduce_variance(amounts), tf.square(mean))


def statistic_losses(
    gate_log_probs: tf.Tensor, weight: tf.Tensor | None = None, chance: tf.Tensor | None = None
) -> dict[str, tf.Tensor]:
    """Losses of the global batch by name: sums first, over replicas, then what is made of them.

    In a replica context.

    Args:
      gate_log_probs: `<float32>[S, E]`, of the replica's own examples.
      weight: `<float32>[S]`, 0 for padding; None: there is none.
      chance: `Routing.chance`, or None.

    Returns:
      `balance_loss`, `importance_loss` and, with a chance, `load_loss`: `<float32>[]` each.
    """
    of_experts = {"importance_loss": tf.exp(gate_log_probs)}
    if chance is not None:
        of_experts["load_loss"] = chance
    if weight is not None:
        of_experts = {name: v * weight[:, tf.newaxis] for name, v in of_experts.items()}
    sums = {name: tf.reduce_sum(values, axis=0) for name, values in of_experts.items()}
    sums["counts"] = expert_counts(route_hard(gate_log_probs), gate_log_probs.shape[1])
    sums = sum_over_replicas(sums)
    balance = load_balancing_loss(sums.pop("counts"), sums["importance_loss"])
    variations = {name: variation_loss(amounts) for name, amounts in sums.items()}
    return {"balance_loss": balance} | variations


def z_loss(gate_logits: tf.Tensor) -> tf.Tensor:
    """`logsumexp(logits)^2`, keeps gate logits small (ST-MoE 2202.08906): `[S, E]` -> `[S]`."""
    return tf.square(tf.reduce_logsumexp(tf.cast(gate_logits, tf.float32), axis=1))
