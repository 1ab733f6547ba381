"""One trained mixture under many routings, without running a network twice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from moe import routing
from moe.errors import UserError
from moe.evaluate.predict import Answers, Dense, favourite
from moe.models.mixture import make_router
from moe.types import Routing


def answers_under(
    name: str,
    dense: Dense,
    *,
    label: np.ndarray,
    group: np.ndarray,
    expert_names: Sequence[str],
    group_of_class: Sequence[int] | None,
    blends: bool,
    top_k: int = 1,
    seed: int = 0,
) -> Answers:
    """The mixture's answers under the routing called `name`.

    `oracle` sends each example to the expert of its true group, `oracle_best` to the one that
    gives its true label the highest probability (an upper bound, no method), `random` anywhere,
    `expert:NAME` to that one; `uniform` weighs all alike; `baseline` asks no expert.

    Args:
      name: one of `moe.config.EVALUATION_ROUTINGS` or `expert:NAME`.
      dense: what every network says, N examples.
      label, group: `<int32>[N]`.
      expert_names: E names.
      group_of_class: `[L]`, only where experts have group heads.
      blends: whether a baseline is blended in.
      top_k: for `topk`.
      seed: for `random`.

    Raises:
      UserError: the mixture has no such expert, no baseline, or no known groups.
    """
    if name == "baseline":
        return _baseline(dense)
    gate = tf.constant(dense.gate_log_probs)
    chosen = _choose(name, gate, dense, label, group, expert_names, top_k, seed)
    picked = [
        tf.gather(tf.constant(values), chosen.expert_index, axis=1, batch_dims=1)
        for values in (dense.expert_log_probs, dense.blend_log_probs)
    ]
    best = routing.pool(chosen, picked[1])
    log_probs = best
    # Where every expert runs, or the one that can name the label, pooling leaves no label out.
    covered = name in ("soft", "uniform", "oracle", "oracle_best")
    if group_of_class is not None and not blends and not covered:
        log_probs = routing.pool_spread(
            chosen, gate, picked[0], tf.constant(group_of_class, tf.int32)
        )
    return Answers(
        log_probs=log_probs.numpy(),
        answer=tf.argmax(best, axis=1, output_type=tf.int32).numpy(),
        gate_log_probs=dense.gate_log_probs,
        expert=favourite(chosen).numpy(),
    )


def _choose(name, gate, dense, label, group, expert_names, top_k, seed) -> Routing:
    size, num_experts = dense.gate_log_probs.shape
    if name in ("soft", "hard", "topk"):
        if name == "topk" and top_k > num_experts:
            raise UserError(f"--top_k={top_k}: the mixture has {num_experts} experts.")
        return make_router(name, top_k).evaluate(gate)
    if name == "uniform":
        return routing.route_uniform(gate)
    if name == "random":
        draws = np.random.default_rng(seed).integers(num_experts, size=size)
        return routing.route_to(tf.constant(draws, tf.int32))
    if name == "oracle":
        if (group < 0).any() or group.max() >= num_experts:
            raise UserError("--routing=oracle needs examples whose expert is known by its group.")
        return routing.route_to(tf.constant(group, tf.int32))
    if name == "oracle_best":
        of_label = dense.blend_log_probs[np.arange(size), :, label]
        return routing.route_to(tf.constant(of_label.argmax(axis=1), tf.int32))
    expert = name.removeprefix("expert:")
    if expert not in expert_names:
        raise UserError(f"--routing={name}: the experts are {', '.join(expert_names)}.")
    return routing.route_to(tf.fill([size], list(expert_names).index(expert)))


def _baseline(dense: Dense) -> Answers:
    if dense.baseline_log_probs is None:
        raise UserError("--routing=baseline: this mixture was trained with --nobaseline.")
    return Answers(
        log_probs=dense.baseline_log_probs,
        answer=dense.baseline_log_probs.argmax(axis=1).astype(np.int32),
        gate_log_probs=dense.gate_log_probs,
        expert=np.full(len(dense.gate_log_probs), -1, np.int32),
    )
