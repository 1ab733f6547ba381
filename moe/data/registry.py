"""From the value of `--dataset` to a `Source`."""

from __future__ import annotations

from moe.data import rotate, tfds_source
from moe.data.clusters import clusters
from moe.data.csv_source import FORM as CSV_FORM
from moe.data.csv_source import csv_source
from moe.data.folder_source import folder_source
from moe.data.shapes import shapes
from moe.data.source import Source
from moe.data.tabular import SKLEARN_SETS, sklearn_source
from moe.errors import UserError, warn

_GENERATED = {"shapes": shapes, "clusters": clusters}
BUILT_IN = (*_GENERATED, *SKLEARN_SETS)


def open_source(
    name: str,
    data_dir: str | None,
    image_size: int | None = None,
    skip_unreadable: bool = False,
) -> Source:
    """The data set called `name`; only `auto` may stand for more than one.

    Args:
      name: the value of `--dataset`.
      data_dir: where TFDS keeps its sets; None: its own default.
      image_size: makes every image of a folder or a TFDS set a square of this size.
      skip_unreadable: leaves out what is no image in a folder.

    Raises:
      UserError: there is no such set, it cannot be had here, or an option is not for it.
    """
    if name == "auto":
        name = _automatic(data_dir)
    kind, _, place = name.partition(":")
    if kind == "rotate":
        turning = rotate.parse(place)
        inner = open_source(turning.name, data_dir, image_size, skip_unreadable)
        return rotate.rotate(inner, turning._replace(name=inner.name))
    if skip_unreadable and kind != "folder":
        raise UserError(f"--skip_unreadable: is for --dataset=folder:PATH, not {name}.")
    if image_size and (kind == "csv" or name in BUILT_IN):
        raise UserError(f"--image_size={image_size}: {name} has no images of a size to choose.")
    if name in _GENERATED:
        return _GENERATED[name]()
    if name in SKLEARN_SETS:
        return sklearn_source(name)
    if kind == "folder":
        return folder_source(place, image_size, skip_unreadable)
    if kind == "csv" and place:
        return csv_source(place)
    if ":" in name:
        raise UserError(
            f"--dataset={name}: must be auto, one of {', '.join(BUILT_IN)}, folder:PATH, "
            f"{CSV_FORM}, {rotate.FORM}, or a name that TFDS knows."
        )
    return tfds_source.tfds_source(name, data_dir, image_size)


def _automatic(data_dir: str | None) -> str:
    if tfds_source.is_available("cifar10", data_dir):
        return "cifar10"
    warn(
        "CIFAR-10 is not prepared here and cannot be downloaded: using the SYNTHETIC data set "
        "'shapes' instead. Set --data_dir (or TFDS_DATA_DIR) to train on CIFAR-10."
    )
    return "shapes"
