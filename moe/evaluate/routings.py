"""One trained mixture under many routings, without running a network twice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from moe import routing
from moe.config.choices import ROUTINGS, TOP_K_ROUTINGS
from moe.errors import UserError
from moe.evaluate.predict import Answers, Dense, answers_alone, favourite, nobody
from moe.models.routers import EVERYONE, make_router
from moe.types import Gating, Routing


def check_routing(
    name: str, *, expert_names: Sequence[str], named: bool, has_baseline: bool, top_k: int
) -> None:
    """Refuses a routing that the mixture cannot do, before anything is computed for it.

    Args:
      name: one of `moe.config.choices.EVALUATION_ROUTINGS` or `expert:NAME`.
      expert_names: E names.
      named: whether they are those of the examples' groups.
      has_baseline: whether there is a baseline.
      top_k: for `topk` and `noisy_topk`.

    Raises:
      UserError: the mixture has no such expert, no baseline, or no known groups.
    """
    if name in TOP_K_ROUTINGS and top_k > len(expert_names):
        raise UserError(f"--top_k={top_k}: the mixture has {len(expert_names)} experts.")
    if name == "baseline" and not has_baseline:
        raise UserError("--routing=baseline: this mixture was trained with --nobaseline.")
    if name == "oracle" and not named:
        # Also where examples have a known group: expert 0 of none:K need not be that of group 0.
        raise UserError(
            "--routing=oracle: these experts found their own regions, no group says which one is "
            "right; use oracle_best, an expert that has the label right where there is one."
        )
    expert = name.removeprefix("expert:")
    if expert != name and expert not in expert_names:
        raise UserError(f"--routing={name}: the experts are {', '.join(expert_names)}.")


def answers_under(
    name: str,
    dense: Dense,
    *,
    label: np.ndarray,
    group: np.ndarray,
    expert_names: Sequence[str],
    group_of_class: Sequence[int] | None,
    blends: bool,
    balance_bias: np.ndarray | None = None,
    top_k: int = 1,
    gate_threshold: float = 0.0,
    seed: int = 0,
) -> Answers:
    """The mixture's answers under the routing called `name`.

    `oracle` sends each example to the expert of its true group, `oracle_best` to one whose answer
    is right, if there is one, and among several to the one that gives the label the highest
    probability (an upper bound, no method), `random` anywhere, `expert:NAME` to that one;
    `uniform` weighs all alike; `baseline` asks no expert.

    Args:
      name: a routing that `check_routing` lets pass.
      dense: what every network says, N examples.
      label: `<int32>[N]`.
      group: `<int32>[N]`, for `oracle` the expert of each example.
      expert_names: E names.
      group_of_class: `[L]`, only where experts have group heads.
      blends: whether a baseline is blended in.
      balance_bias: `<float32>[E]`, where the gate keeps one.
      top_k: for `topk` and `noisy_topk`.
      gate_threshold: for `soft`, see `moe.routing.route_above`.
      seed: for `random`.
    """
    if name == "baseline":
        return answers_alone(dense.baseline_log_probs)._replace(gate_log_probs=dense.gate_log_probs)
    gating = routing.gating(tf.constant(dense.gate_log_probs), balance_bias)
    # Where all weigh alike, or the one that can name the label answers, no label is left out.
    covered = name in ("uniform", "oracle", "oracle_best")
    if name in ROUTINGS:
        way = make_router(name, top_k, gate_threshold=gate_threshold).evaluate
        chosen, covered = way.choose(gating), way is EVERYONE
    else:
        chosen = _choose(name, gating, dense, label, group, expert_names, seed)
    picked = [
        tf.gather(tf.constant(values), chosen.expert_index, axis=1, batch_dims=1)
        for values in (dense.expert_log_probs, dense.blend_log_probs)
    ]
    best = routing.pool(chosen, picked[1])
    log_probs = best
    if group_of_class is not None and not blends and not covered:
        log_probs = routing.pool_spread(
            chosen, gating.log_probs, picked[0], tf.constant(group_of_class, tf.int32)
        )
    return Answers(
        log_probs=log_probs.numpy(),
        answer=tf.argmax(best, axis=1, output_type=tf.int32).numpy(),
        gate_log_probs=dense.gate_log_probs,
        expert=nobody(len(label)) if name == "uniform" else favourite(chosen).numpy(),
    )


def _choose(name, gating: Gating, dense, label, group, expert_names, seed) -> Routing:
    """Routings that no gate would come up with."""
    size, num_experts = dense.gate_log_probs.shape
    if name == "uniform":
        return routing.route_uniform(gating.log_probs)
    if name == "random":
        draws = np.random.default_rng(seed).integers(num_experts, size=size)
        return routing.route_to(tf.constant(draws, tf.int32))
    if name == "oracle":
        return routing.route_to(tf.constant(group, tf.int32))
    if name == "oracle_best":
        of_label = dense.blend_log_probs[np.arange(size), :, label]
        right = dense.blend_log_probs.argmax(axis=2) == np.asarray(label)[:, np.newaxis]
        # Where one is right, who is not is no candidate.
        out = right.any(axis=1, keepdims=True) & ~right
        best = np.where(out, -np.inf, of_label).argmax(axis=1)
        return routing.route_to(tf.constant(best, tf.int32))
    expert = list(expert_names).index(name.removeprefix("expert:"))
    return routing.route_to(tf.fill([size], expert))
