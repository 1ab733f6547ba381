"""Who is trained on, who selects, and who tests where a data set does not say."""

from __future__ import annotations

import math
from collections.abc import Sequence

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


_TEST_SHARE = 0.2


def hold_out(
    label: np.ndarray, classes: Sequence[str], origin: str
) -> tuple[np.ndarray, np.ndarray]:
    """Rows for training and for the test of a data set that comes without a test split.

    Always the same 20 % of each class, and one example of each class at least: a test split that
    moved with a seed would make results of different seeds incomparable.

    Args:
      label: `<int>[N]`, the labels of the whole data set.
      classes: the names of the classes.
      origin: what the data set is called, for the message.

    Returns:
      Two arrays of rows.

    Raises:
      UserError: a class has a single example.
    """
    import sklearn.model_selection

    check_classes(label, classes, origin)
    size = max(math.ceil(_TEST_SHARE * len(label)), len(np.unique(label)))
    train, test = sklearn.model_selection.train_test_split(
        np.arange(len(label)), test_size=size, stratify=label, random_state=0
    )
    return train, test


def check_classes(label: np.ndarray, classes: Sequence[str], origin: str) -> None:
    """Refuses a training split that nothing can be learned from.

    Raises:
      UserError: there is one class only, or a class with a single example.
    """
    counts = np.bincount(label, minlength=len(classes))
    if len(classes) < 2:
        raise UserError(f"{origin}: has one class only, {classes[0]!r}; a classifier needs two.")
    single = [repr(name) for name, count in zip(classes, counts, strict=True) if count == 1]
    if single:
        raise UserError(
            f"{origin}: a class needs two examples at least; {len(single)} of {len(classes)} have "
            f"a single one ({shortened(single)})."
        )


def shortened(names: Sequence[str], most: int = 10) -> str:
    """Some of them, for a message."""
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")
