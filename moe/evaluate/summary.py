"""What a trained mixture is worth: the numbers of `results.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from moe.data.pipeline import Split
from moe.evaluate import metrics
from moe.evaluate.predict import Answers, answers_alone, predict_parts, predict_routed
from moe.models.mixture import MixtureOfExperts
from moe.models.routers import Ways
from moe.taxonomy import Groups

BATCH_SIZE = 512
NO_METRICS = {"accuracy": None, "nll": None, "ece": None}


def summarize(answers: Answers, split: Split) -> dict[str, Any]:
    """Accuracy, NLL, ECE and macro-F1 of answers."""
    return metrics.answer_metrics(answers.log_probs, answers.answer, split.examples.label)


def evaluate_mixture(
    mixture: MixtureOfExperts, split: Split, router: Ways
) -> tuple[dict[str, Any], Answers]:
    """Runs the mixture as it would be served and sums it up."""
    answers = predict_routed(mixture, split, BATCH_SIZE, router.evaluate)
    return summarize(answers, split), answers


def evaluate_baseline(mixture: MixtureOfExperts, split: Split) -> tuple[dict[str, Any], Answers]:
    """The same for the baseline by itself."""
    answers = answers_alone(predict_parts(mixture, split, BATCH_SIZE, ["baseline"])["baseline"])
    return summarize(answers, split), answers


def evaluate_parts(
    mixture: MixtureOfExperts,
    split: Split,
    groups: Groups,
    parts: Sequence[str],
) -> dict[str, Any]:
    """Runs the given networks by themselves and sums up what they are worth."""
    heads = [part for part in parts if not part.startswith(("combiner_", "trunk"))]
    return part_accuracies(predict_parts(mixture, split, BATCH_SIZE, heads), split, groups)


def part_accuracies(
    says: Mapping[str, np.ndarray],
    split: Split,
    groups: Groups,
    routed_to: np.ndarray | None = None,
) -> dict[str, Any]:
    """The accuracy of every network by itself: the `parts` entry of `results.json`.

    An expert is judged on its own group's examples; one without a named group on those that the
    gate sends it (`routed_to`, `<int32>[N]`), and `None` where there is none.

    Args:
      says: log-probabilities `<float32>[N, L]` (gate: `[N, E]`) by the name of the part.
      split: the N examples.
      groups: one expert each.
      routed_to: the gate's favourites, with a balance bias if it keeps one; by default those of
        its distribution. Needed for unnamed experts.
    """
    label = split.examples.label
    right = {part: log_probs.argmax(axis=1) == label for part, log_probs in says.items()}
    result: dict[str, Any] = {}
    if "baseline" in right:
        result["baseline"] = {"accuracy": float(right["baseline"].mean())}
    if "gate" in says:
        preferred = says["gate"].argmax(axis=1) if routed_to is None else routed_to
        correct = preferred == split.group
        result["gate"] = {"accuracy": float(correct.mean()) if groups.named else None}
    own = split.group if groups.named else routed_to
    experts = {}
    for e, name in enumerate(groups.names):
        if f"expert_{e}" in right:
            mine = right[f"expert_{e}"][own == e]
            experts[name] = {"accuracy": float(mine.mean()) if mine.size else None}
    if experts:
        result["experts"] = experts
    return result
