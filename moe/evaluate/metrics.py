"""Metrics of answers and of routing, in NumPy. Formulas: `docs/metrics.md`.

Axes: N examples, L classes, E experts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.stats
import sklearn.metrics

ECE_BINS = 15


def expected_calibration_error(
    probabilities: np.ndarray, label: np.ndarray, bins: int = ECE_BINS
) -> float:
    """`sum_b n_b / N * |accuracy_b - confidence_b|` over equal bins (Guo et al. 2017, 1706.04599).

    Args:
      probabilities: `<float>[N, L]`.
      label: `<int>[N]`.
      bins: number of equal-width bins of the highest probability.
    """
    _, right, confidence = _binned(probabilities, label, bins)
    return float(np.abs(right - confidence).sum() / len(label))


def calibration_bins(
    probabilities: np.ndarray, label: np.ndarray, bins: int = ECE_BINS
) -> dict[str, list]:
    """What the calibration error is summed up from, for a reliability diagram.

    Args:
      probabilities, label, bins: as for `expected_calibration_error`.

    Returns:
      By bin the `count` of examples, their `accuracy` and their mean `confidence` (the highest
      probability); the last two are None in an empty bin.
    """
    count, *sums = _binned(probabilities, label, bins)
    accuracy, confidence = (
        [s / n if n else None for s, n in zip(total.tolist(), count.tolist(), strict=True)]
        for total in sums
    )
    return {"count": count.tolist(), "accuracy": accuracy, "confidence": confidence}


def _binned(
    probabilities: np.ndarray, label: np.ndarray, bins: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each bin: number of examples, number of right ones, sum of the confidences."""
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == label
    # Bins are (low, high]: a confidence of exactly 1 belongs to the last one.
    number = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    return (
        np.bincount(number, minlength=bins),
        np.bincount(number, weights=correct, minlength=bins),
        np.bincount(number, weights=confidence, minlength=bins),
    )


def negative_log_likelihood(log_probs: np.ndarray, label: np.ndarray) -> float:
    """Mean of `-log p(label)`: `<float>[N, L]`, `<int>[N]`."""
    return float(-log_probs[np.arange(len(label)), label].astype(np.float64).mean())


def answer_metrics(
    log_probs: np.ndarray, answer: np.ndarray, label: np.ndarray
) -> dict[str, float]:
    """Accuracy of the answers; NLL and ECE of the distribution; macro-F1 of the answers."""
    return {
        "accuracy": float((answer == label).mean()),
        "nll": negative_log_likelihood(log_probs, label),
        "ece": expected_calibration_error(np.exp(log_probs.astype(np.float64)), label),
        "macro_f1": float(
            sklearn.metrics.f1_score(
                label,
                answer,
                average="macro",
                labels=np.arange(log_probs.shape[1]),
                zero_division=0,
            )
        ),
    }


def confusion_matrix(answer: np.ndarray, label: np.ndarray, num_classes: int) -> np.ndarray:
    """`<int>[L, L]`: rows are true classes, columns answers."""
    return sklearn.metrics.confusion_matrix(label, answer, labels=np.arange(num_classes))


def entropy(probabilities: np.ndarray) -> np.ndarray:
    """`-sum p log p` over the last axis, in nats."""
    return scipy.stats.entropy(probabilities, axis=-1)


def mutual_information(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Of two labellings, in nats, and normalised by `sqrt(H(a) H(b))` (0 where either is 0).

    Krishnamurthy et al. 2023, 2302.14703, use it between expert and class.
    """
    information = float(sklearn.metrics.mutual_info_score(a, b))
    if len(np.unique(a)) < 2 or len(np.unique(b)) < 2:
        return 0.0, 0.0
    normalised = sklearn.metrics.normalized_mutual_info_score(a, b, average_method="geometric")
    return information, float(normalised)


def dispatch_entropy(expert: np.ndarray, label: np.ndarray) -> float:
    """`H(Y|E) = -sum_ey n_ey / N log(n_ey / n_e)` in nats: 0 where each expert gets one class.

    Chen et al. 2022, 2208.02813. `<int>[N]` both.
    """
    count = sklearn.metrics.cluster.contingency_matrix(expert, label)
    return float((entropy(count) * count.sum(axis=1)).sum() / len(label))


def purity(expert: np.ndarray, label: np.ndarray) -> float:
    """Share of examples that are of the class which their expert gets most often: `<int>[N]`."""
    count = sklearn.metrics.cluster.contingency_matrix(expert, label)
    return float(count.max(axis=1).sum() / len(label))


def count_information(count: np.ndarray) -> float:
    """The `mutual_information`, in nats, of two labellings whose pairs were counted.

    Args:
      count: `<int>[E, L]`.
    """
    return float(sklearn.metrics.mutual_info_score(None, None, contingency=count))


def normalized_count_information(count: np.ndarray) -> float:
    """The normalised `mutual_information` of two labellings whose pairs were counted.

    Args:
      count: `<int>[E, L]`.
    """
    information = count_information(count)
    scale = np.sqrt(entropy(count.sum(axis=0)) * entropy(count.sum(axis=1)))
    return float(information / scale) if scale else 0.0


def routing_metrics(
    gate_probabilities: np.ndarray,
    expert: np.ndarray,
    label: np.ndarray,
    group: np.ndarray,
) -> dict[str, Any]:
    """How examples are spread over experts.

    Args:
      gate_probabilities: `<float>[N, E]`.
      expert: `<int>[N]`, the one with the highest weight; -1 where all weigh alike, which is an
        equal share for each.
      label, group: `<int>[N]`; a group of -1 is unknown.

    Returns:
      `load` (share of each expert), `load_cv` (its deviation over its mean), `max_overload` (its
      maximum over its mean), `max_violation` (MaxVio, the same less 1: Wang et al. 2024,
      2408.15664), `dead_experts` (share with no example), `entropy` (mean of a single
      example's gate), `usage_entropy` (of the mean gate) and `effective_experts` (its exp),
      `routing_information` (their difference), `confidence` (mean highest gate probability),
      `mutual_information` of expert and class with `normalized_mutual_information`,
      `dispatch_entropy`, `purity`, and, where groups are known,
      `group_normalized_mutual_information`.
    """
    num_experts = gate_probabilities.shape[1]
    load = np.bincount(expert[expert >= 0], minlength=num_experts) / len(expert)
    load += (expert < 0).mean() / num_experts
    single = float(entropy(gate_probabilities.astype(np.float64)).mean())
    usage = float(entropy(gate_probabilities.mean(axis=0, dtype=np.float64)))
    information, normalised = mutual_information(expert, label)
    metrics = {
        "load": load.tolist(),
        "load_cv": float(load.std() / load.mean()),
        "max_overload": float(load.max() / load.mean()),
        "max_violation": float(load.max() / load.mean() - 1),
        "dead_experts": float((load == 0).mean()),
        "entropy": single,
        "usage_entropy": usage,
        "effective_experts": float(np.exp(usage)),
        "routing_information": usage - single,
        "confidence": float(gate_probabilities.max(axis=1).mean()),
        "mutual_information": information,
        "normalized_mutual_information": normalised,
        "dispatch_entropy": dispatch_entropy(expert, label),
        "purity": purity(expert, label),
    }
    if (group >= 0).all():
        metrics["group_normalized_mutual_information"] = mutual_information(expert, group)[1]
    return metrics


def expert_by_class(
    expert: np.ndarray, answer: np.ndarray, label: np.ndarray, num_experts: int, num_classes: int
) -> dict[str, list[list]]:
    """`count` `[E, L]` of examples by chosen expert and class, and the `accuracy` there (or None).

    Args:
      expert, answer, label: `<int>[N]`.
      num_experts, num_classes: E and L.
    """
    count = np.zeros((num_experts, num_classes), int)
    right = np.zeros((num_experts, num_classes), int)
    np.add.at(count, (expert, label), 1)
    np.add.at(right, (expert, label), answer == label)
    accuracy = [
        [r / c if c else None for r, c in zip(rights, counts, strict=True)]
        for rights, counts in zip(right.tolist(), count.tolist(), strict=True)
    ]
    return {"count": count.tolist(), "accuracy": accuracy}


def mcnemar(correct_a: np.ndarray, correct_b: np.ndarray) -> dict[str, float]:
    """McNemar's exact test on two classifiers' `<bool>[N]` successes on the same examples.

    Returns:
      `only_a` and `only_b` (examples that one alone has right) and the two-sided `p_value`.
    """
    only_a = int((correct_a & ~correct_b).sum())
    only_b = int((~correct_a & correct_b).sum())
    trials = only_a + only_b
    p_value = scipy.stats.binomtest(only_a, trials, 0.5).pvalue if trials else 1.0
    return {"only_a": only_a, "only_b": only_b, "p_value": float(p_value)}
