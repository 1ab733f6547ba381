"""Whose fault an error is, and what each part of a mixture is worth to it. NumPy only.

Axes: N examples, E experts.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import scipy.special

from moe.types import IMPOSSIBLE

PARTS = ("baseline", "gate", "expert", "mixture")


def outcome_counts(
    *,
    mixture: np.ndarray,
    expert: np.ndarray,
    gate: np.ndarray | None = None,
    baseline: np.ndarray | None = None,
) -> list[dict[str, Any]]:
    """Counts examples by who was right about them.

    Args:
      mixture: `<bool>[N]`, whether the answer given was right.
      expert: `<bool>[N]`, whether the chosen expert is right by itself.
      gate: `<bool>[N]`, whether the gate's favourite is the group's expert; None: not known.
      baseline: `<bool>[N]`; None: there is none.

    Returns:
      One `{"baseline": …, "gate": …, "expert": …, "mixture": …, "count": n}` a combination, from
      all right to all wrong; a part that is not there is None.
    """
    right = {"baseline": baseline, "gate": gate, "expert": expert, "mixture": mixture}
    there = [part for part in PARTS if right[part] is not None]
    rows = []
    for combination in itertools.product((True, False), repeat=len(there)):
        wanted = dict(zip(there, combination, strict=True))
        match = np.all([right[part] == value for part, value in wanted.items()], axis=0)
        rows.append(
            dict.fromkeys(PARTS) | wanted | {"count": int(match.sum())},
        )
    return rows


def boost_counts(mixture: np.ndarray, baseline: np.ndarray) -> dict[str, int]:
    """What the experts do to the baseline's answers: `<bool>[N]` both, whether they were right.

    Returns:
      `baseline_errors`, how many of them the mixture has `mended`, and how many errors it has
      `made` where the baseline was right.
    """
    return {
        "baseline_errors": int((~baseline).sum()),
        "mended": int((mixture & ~baseline).sum()),
        "made": int((~mixture & baseline).sum()),
    }


def without_expert(gate_log_probs: np.ndarray, expert: int) -> np.ndarray:
    """The gate as if it did not know one expert: its share goes to the others in proportion.

    Args:
      gate_log_probs: `<float32>[N, E]`, E of 2 or more.
      expert: the one that is taken away.

    Returns:
      `<float32>[N, E]`, `IMPOSSIBLE` at that expert, normalised over the others.
    """
    others = np.arange(gate_log_probs.shape[1]) != expert
    rest = gate_log_probs[:, others].astype(np.float64)
    left = np.full_like(gate_log_probs, IMPOSSIBLE)
    left[:, others] = rest - scipy.special.logsumexp(rest, axis=1, keepdims=True)
    return left
