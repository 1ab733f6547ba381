"""What the gate says by itself, whatever is then done with it. NumPy only.

Axes: N examples, E experts, G groups, L classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from moe.evaluate.metrics import count_information, entropy

HISTOGRAM_BINS = 20


def gate_report(
    gate_probabilities: np.ndarray,
    favourite: np.ndarray,
    group: np.ndarray,
    group_names: Sequence[str],
) -> dict[str, Any]:
    """How decided the gate is, and how it sends the examples of each known group.

    Args:
      gate_probabilities: `<float>[N, E]`.
      favourite: `<int>[N]`, the expert that it prefers; a balance bias may have its say.
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
            "count": count_pairs(group, favourite, len(group_names), num_experts).tolist(),
        }
        if known
        else None,
    }


def routing_state(
    gate_probabilities: np.ndarray,
    *,
    favourite: np.ndarray,
    load: np.ndarray,
    importance: np.ndarray,
    label: np.ndarray,
    group: np.ndarray,
    num_classes: int,
) -> dict[str, Any]:
    """How examples are routed at the end of an epoch.

    Args:
      gate_probabilities: `<float>[N, E]`.
      favourite: `<int>[N]`, the expert whose answer weighs most.
      load, importance: `<float>[N, E]`, the share of each example that an expert is asked for, and
        the weight that its answer has.
      label, group: `<int>[N]`; a group of -1 is unknown.
      num_classes: L.

    Returns:
      Means by expert of `load` and `importance`; mean `entropy` in nats and mean `confidence` (the
      highest probability) of the gate; `effective_experts`, `dead_experts` and `mutual_information`
      as in `moe.evaluate.metrics.routing_metrics`; `expert_by_class`, `[E, L]` examples by
      favourite and class, and, where all groups are known, `expert_by_group`, `[E, G]`.
    """
    num_experts = gate_probabilities.shape[1]
    exact = gate_probabilities.astype(np.float64)
    asked = load.mean(axis=0, dtype=np.float64)
    by_class = count_pairs(favourite, label, num_experts, num_classes)
    state = {
        "load": asked.tolist(),
        "importance": importance.mean(axis=0, dtype=np.float64).tolist(),
        "entropy": float(entropy(exact).mean()),
        "confidence": float(exact.max(axis=1).mean()),
        "effective_experts": float(np.exp(entropy(exact.mean(axis=0)))),
        "dead_experts": float((asked == 0).mean()),
        "mutual_information": count_information(by_class),
        "expert_by_class": by_class.tolist(),
    }
    if (group >= 0).all():
        by_group = count_pairs(favourite, group, num_experts, int(group.max()) + 1)
        state["expert_by_group"] = by_group.tolist()
    return state


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
