"""scikit-learn's built-in classification sets, by name."""

from __future__ import annotations

import functools

import numpy as np

from moe.data.source import Examples, Source

SKLEARN_SETS = ("digits", "iris", "wine", "breast_cancer")
_TEST_SHARE = 0.2


def sklearn_source(name: str) -> Source:
    """A built-in set of scikit-learn; the same 20 % of each class are always the test split.

    These sets come without a split of their own, and a test split that moved with a seed would
    make results of different seeds incomparable.
    """
    import sklearn.datasets
    import sklearn.model_selection

    @functools.cache
    def splits() -> tuple[Examples, Examples]:
        bunch = getattr(sklearn.datasets, f"load_{name}")()
        x_train, x_test, y_train, y_test = sklearn.model_selection.train_test_split(
            bunch.data.astype(np.float32),
            bunch.target.astype(np.int32),
            test_size=_TEST_SHARE,
            stratify=bunch.target,
            random_state=0,
        )
        return Examples(x_train, y_train), Examples(x_test, y_test)

    names = getattr(sklearn.datasets, f"load_{name}")().target_names
    return Source(
        name=name,
        classes=tuple(str(n) for n in names),
        train=lambda: splits()[0],
        test=lambda: splits()[1],
    )
