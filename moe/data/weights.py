"""How much each class counts in the losses of training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from moe.errors import UserError
from moe.files import read_own_json
from moe.typed import check

_MOST = 1e30
"""Weights are float32, and multiplied."""


def class_weights(spec: str, classes: Sequence[str], label: np.ndarray) -> dict[str, float]:
    """Reads `--class_weights`: `balanced` or the path of a JSON file `{"class": weight}`.

    Balanced weights are `N / (L n_c)` (King & Zeng 2001, as in scikit-learn): every class has the
    same sum of weights, and an example weighs 1 on average. A file's are taken as they are; a class
    that it leaves out weighs 1.

    Args:
      spec: the value of the flag.
      classes: the `L` class names.
      label: `<int>[N]`, of the examples that are trained on.

    Returns:
      `{class: weight}` for all classes, in order.

    Raises:
      UserError: the file cannot be read, names no class, or holds no weight for it.
    """
    if spec == "balanced":
        from sklearn.utils.class_weight import compute_class_weight

        there = np.unique(label)
        values = np.ones(len(classes))
        values[there] = compute_class_weight("balanced", classes=there, y=label)
        return dict(zip(classes, values.tolist(), strict=True))
    given = read_own_json(spec, "class_weights")
    origin = f"--class_weights={spec}"
    try:
        check(given, dict[str, float], "content")
    except ValueError as error:
        raise UserError(f'{origin}: must look like {{"class": weight, …}} ({error}).') from error
    for name, weight in given.items():
        if name not in classes:
            raise UserError(
                f"{origin}: {name!r} is no class of the data set ({', '.join(classes)})."
            )
        if not 0 <= weight <= _MOST:
            raise UserError(
                f"{origin}: class {name!r} weighs {weight!s:.20}; must be from 0 to {_MOST:g}."
            )
    found = {name: float(given.get(name, 1.0)) for name in classes}
    if not any(found[classes[c]] for c in np.unique(label)):
        raise UserError(f"{origin}: every class weighs 0.")
    return found


def example_weights(
    by_class: Mapping[str, float], label: np.ndarray, own: np.ndarray | None
) -> np.ndarray:
    """The weight of each example: its class' times its own, `<float32>[N]`.

    Args:
      by_class: as `class_weights` returns it.
      label: `<int>[N]`.
      own: `<float32>[N]`, as the data set brings it; None: 1.
    """
    weight = np.array(list(by_class.values()), np.float32)[label]
    return weight if own is None else weight * own
