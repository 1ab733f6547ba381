"""Training and validation examples out of the training split."""

from __future__ import annotations

import numpy as np

from moe.errors import UserError


def split_rows(
    label: np.ndarray, validation_fraction: float, train_examples: int | None, data_seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rows for training and for validation, disjoint, the same share of every class.

    Depends on `data_seed` only, so that all runs with one data seed select on the same examples.

    Args:
      label: `<int>[N]`, the labels of the whole training split.
      validation_fraction: share of each class that is kept for validation.
      train_examples: use this many examples of the split (training and validation together).
      data_seed: which examples.

    Returns:
      Two sorted `<int64>` arrays of rows.

    Raises:
      UserError: there are fewer examples than asked for, or none is left on one side.
    """
    total = len(label)
    if train_examples is not None and train_examples > total:
        raise UserError(
            f"--train_examples={train_examples}: the training split has {total} examples."
        )
    order = np.random.default_rng(data_seed).permutation(total)
    order = order[: train_examples or total]
    # Deal each class out along a line: example i of n sits at (i + 0.5) / n. Cutting the line at
    # the fraction takes the same share of every class.
    position = np.empty(len(order))
    for value in np.unique(label[order]):
        members = np.flatnonzero(label[order] == value)
        position[members] = (np.arange(len(members)) + 0.5) / len(members)
    validation = position < validation_fraction
    if not validation.any() or validation.all():
        raise UserError(
            f"--validation_fraction={validation_fraction} leaves {int(validation.sum())} of "
            f"{len(order)} examples for validation; both sides need some."
        )
    return np.sort(order[~validation]), np.sort(order[validation])
