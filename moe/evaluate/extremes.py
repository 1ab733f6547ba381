"""The examples that each expert is given most and least confidently. NumPy only."""

from __future__ import annotations

from typing import Any

import numpy as np


def extremes(
    *,
    gate_probabilities: np.ndarray,
    expert_probabilities: np.ndarray,
    expert: np.ndarray,
    answer: np.ndarray,
    label: np.ndarray,
    size: int = 6,
) -> list[dict[str, list[dict[str, Any]]]]:
    """Picks examples by the gate's probability for the expert that answers them.

    Args:
      gate_probabilities: `<float>[N, E]`.
      expert_probabilities: `<float>[N, E]`, what each expert gives its own best class.
      expert: `<int>[N]`, who answers.
      answer, label: `<int>[N]`.
      size: how many of each kind; fewer where an expert answers fewer than twice as many, and of a
        single one no `least`.

    Returns:
      By expert the examples of the `most` and the `least` confident dispatch, the extreme ones
      first: `index`, `label`, `answer`, probability of the `gate` and of the `expert`.
    """

    def row(n: int) -> dict[str, Any]:
        return {
            "index": int(n),
            "label": int(label[n]),
            "answer": int(answer[n]),
            "gate": float(gate_probabilities[n, expert[n]]),
            "expert": float(expert_probabilities[n, expert[n]]),
        }

    found = []
    for e in range(gate_probabilities.shape[1]):
        mine = np.flatnonzero(expert == e)
        # Stable, so that equals stand in the order of the split.
        order = mine[np.argsort(-gate_probabilities[mine, e], kind="stable")]
        half = len(order) // 2  # no example is both; of an odd number the one between is "most"
        found.append(
            {
                "most": [row(n) for n in order[: min(size, len(order) - half)]],
                "least": [row(n) for n in order[::-1][: min(size, half)]],
            }
        )
    return found
