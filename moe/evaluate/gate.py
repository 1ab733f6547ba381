"""What the gate says by itself, whatever is then done with it. NumPy only.

Axes: N examples, E experts, G groups, L classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from moe.evaluate.metrics import entropy

HISTOGRAM_BINS = 20


def gate_report(
    gate_probabilities: np.ndarray, group: np.ndarray, group_names: Sequence[str]
) -> dict[str, Any]:
    """How decided the gate is, and how it sends the examples of each known group.

    Args:
      gate_probabilities: `<float>[N, E]`.
      group: `<int>[N]`, -1 where none is known.
      group_names: G names.

    Returns:
      `entropy` (from 0 to log E, in nats) and `confidence` (the highest probability, from 0 to 1)
      as histograms, `{"edges": [B + 1], "count": [B]}`; and `confusion`, `{"groups": [G], "count":
      [G, E]}`, examples by group and favourite expert, or None where not every group is known.
    """
    num_experts = gate_probabilities.shape[1]
    exact = gate_probabilities.astype(np.float64)
    known = len(group_names) > 0 and bool((group >= 0).all())
    return {
        "entropy": _histogram(entropy(exact), math.log(num_experts) or 1.0),
        "confidence": _histogram(exact.max(axis=1), 1.0),
        "confusion": {
            "groups": list(group_names),
            "count": count_pairs(
                group, exact.argmax(axis=1), len(group_names), num_experts
            ).tolist(),
        }
        if known
        else None,
    }


def routing_state(
    gate_probabilities: np.ndarray, label: np.ndarray, num_classes: int
) -> dict[str, Any]:
    """How the gate stands at the end of an epoch.

    Args:
      gate_probabilities: `<float>[N, E]`.
      label: `<int>[N]`.
      num_classes: L.

    Returns:
      `load` (share of examples whose favourite is each expert), mean `entropy` in nats, mean
      `confidence` (the highest probability), and `expert_by_class`, `[E, L]` examples by favourite
      and class.
    """
    num_experts = gate_probabilities.shape[1]
    exact = gate_probabilities.astype(np.float64)
    count = count_pairs(exact.argmax(axis=1), label, num_experts, num_classes)
    return {
        "load": (count.sum(axis=1) / len(label)).tolist(),
        "entropy": float(entropy(exact).mean()),
        "confidence": float(exact.max(axis=1).mean()),
        "expert_by_class": count.tolist(),
    }


def flipped_share(before: np.ndarray, now: np.ndarray) -> float:
    """Share of examples whose favourite expert changed: `<int>[N]` both.

    The routing fluctuation of Dai et al. 2022 (StableMoE, 2204.08396).
    """
    return float((before != now).mean())


def count_pairs(a: np.ndarray, b: np.ndarray, num_a: int, num_b: int) -> np.ndarray:
    """How often each pair of two labellings occurs: `<int>[N]` both -> `<int>[num_a, num_b]`."""
    count = np.zeros((num_a, num_b), int)
    np.add.at(count, (a, b), 1)
    return count


def _histogram(values: np.ndarray, high: float) -> dict[str, list]:
    # Rounding may put a value just outside of its range.
    count, edges = np.histogram(values.clip(0, high), bins=HISTOGRAM_BINS, range=(0, high))
    return {"edges": edges.tolist(), "count": count.tolist()}
