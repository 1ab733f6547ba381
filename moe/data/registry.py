"""From the value of `--dataset` to a `Source`."""

from __future__ import annotations

from moe.data import tfds_source
from moe.data.clusters import clusters
from moe.data.shapes import shapes
from moe.data.source import Source
from moe.data.tabular import SKLEARN_SETS, sklearn_source
from moe.errors import UserError, warn

_GENERATED = {"shapes": shapes, "clusters": clusters}
BUILT_IN = (*_GENERATED, *SKLEARN_SETS)


def open_source(name: str, data_dir: str | None) -> Source:
    """The data set called `name`; only `auto` may stand for more than one.

    Raises:
      UserError: there is no such set, or it cannot be had here.
    """
    if name == "auto":
        return _automatic(data_dir)
    if name in _GENERATED:
        return _GENERATED[name]()
    if name in SKLEARN_SETS:
        return sklearn_source(name)
    if ":" in name:
        raise UserError(
            f"--dataset={name}: must be auto, one of {', '.join(BUILT_IN)}, or a name that TFDS "
            "knows."
        )
    return tfds_source.tfds_source(name, data_dir)


def _automatic(data_dir: str | None) -> Source:
    if tfds_source.is_available("cifar10", data_dir):
        return tfds_source.tfds_source("cifar10", data_dir)
    warn(
        "CIFAR-10 is not prepared here and cannot be downloaded: using the SYNTHETIC data set "
        "'shapes' instead. Set --data_dir (or TFDS_DATA_DIR) to train on CIFAR-10."
    )
    return shapes()
