"""scikit-learn's built-in classification sets, by name."""

from __future__ import annotations

import functools

import numpy as np

from moe.data.source import Examples, Source
from moe.data.splits import hold_out

SKLEARN_SETS = ("digits", "iris", "wine", "breast_cancer")


def sklearn_source(name: str) -> Source:
    """A built-in set of scikit-learn; the same 20 % of each class are always the test split."""
    import sklearn.datasets

    load = getattr(sklearn.datasets, f"load_{name}")
    classes = tuple(str(n) for n in load().target_names)

    @functools.cache
    def splits() -> tuple[Examples, Examples]:
        bunch = load()
        examples = Examples(bunch.data.astype(np.float32), bunch.target.astype(np.int32))
        train, test = hold_out(examples.label, classes, name)
        return examples.take(train), examples.take(test)

    return Source(
        name=name,
        classes=classes,
        train=lambda: splits()[0],
        test=lambda: splits()[1],
    )
