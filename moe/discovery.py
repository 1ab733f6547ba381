"""Groups out of what a baseline confuses: classes that it takes for each other belong together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import sklearn.cluster
import sklearn.metrics

from moe.errors import UserError

_FAINT = 1e-6
"""Likeness of classes that are never confused: keeps the graph of classes in one piece."""


def confusion_affinity(probabilities: np.ndarray, label: np.ndarray) -> np.ndarray:
    """How much a classifier takes classes for each other, `<float64>[L, L]`, symmetric.

    Entry (i, j) is the mean of the probability that it gives j on examples of i and the other way
    round; the diagonal is 0. Probabilities say more than counts of wrong answers where those are
    few.

    Args:
      probabilities: `<float>[N, L]`, of examples that it was not trained on.
      label: `<int>[N]`; every class has an example.
    """
    classes = range(probabilities.shape[1])
    taken_for = np.stack([probabilities[label == c].mean(axis=0, dtype=float) for c in classes])
    affinity = (taken_for + taken_for.T) / 2
    np.fill_diagonal(affinity, 0.0)
    return affinity


def cluster_classes(affinity: np.ndarray, count: int) -> tuple[int, ...]:
    """The group of each class, by spectral clustering (Shi & Malik 2000).

    Args:
      affinity: `<float>[L, L]`.
      count: number of groups; each gets at least one class.

    Returns:
      `[L]` numbers, in the order in which the groups first occur.

    Raises:
      UserError: there are fewer classes than groups.
    """
    size = len(affinity)
    if count > size:
        raise UserError(f"--groups=auto:{count}: there are only {size} classes.")
    if count == size:
        return tuple(range(size))
    # `cluster_qr` (Damle et al. 2019) needs no random start.
    clusters = sklearn.cluster.SpectralClustering(
        count, affinity="precomputed", assign_labels="cluster_qr"
    ).fit_predict(affinity + _FAINT)
    number = {cluster: n for n, cluster in enumerate(dict.fromkeys(clusters.tolist()))}
    if len(number) < count:
        raise UserError(
            f"--groups=auto:{count}: the baseline's confusions fall into {len(number)} groups "
            "only; ask for fewer."
        )
    return tuple(number[cluster] for cluster in clusters.tolist())


def as_members(group_of_class: Sequence[int], classes: Sequence[str]) -> dict[str, list[str]]:
    """`{group_N: [classes]}`, what a groups file holds."""
    members: dict[str, list[str]] = {f"group_{n}": [] for n in sorted(set(group_of_class))}
    for group, name in zip(group_of_class, classes, strict=True):
        members[f"group_{group}"].append(name)
    return members


def agreement(
    found: Mapping[str, Sequence[str]], named: Mapping[str, Sequence[str]]
) -> dict[str, float]:
    """How alike two partitions of the same classes are: 1 if equal, about 0 if by chance.

    Returns:
      `adjusted_rand_index` (Hubert & Arabie 1985) and `normalized_mutual_information` (geometric
      mean), over classes.
    """
    found_of, named_of = (
        {name: group for group, names in groups.items() for name in names}
        for groups in (found, named)
    )
    pair = [[groups[name] for name in sorted(found_of)] for groups in (found_of, named_of)]
    return {
        "adjusted_rand_index": float(sklearn.metrics.adjusted_rand_score(*pair)),
        "normalized_mutual_information": float(
            sklearn.metrics.normalized_mutual_info_score(*pair, average_method="geometric")
        ),
    }
