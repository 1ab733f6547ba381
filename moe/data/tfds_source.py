"""Data sets prepared by TensorFlow Datasets, with an answer within seconds where there is none."""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import os
import pathlib
import urllib.error
import urllib.request
from collections.abc import Iterable

import numpy as np

from moe.data.cache import cached
from moe.data.source import Examples, Source
from moe.errors import UserError

# Class partitions that the field uses; the class names are those of the data set's label feature.
PARTITIONS = {
    "cifar10": {
        "artificial": ("airplane", "automobile", "ship", "truck"),
        "natural": ("bird", "cat", "deer", "dog", "frog", "horse"),
    }
}
_REACH_SECONDS = 5.0


def tfds_source(name: str, data_dir: str | None) -> Source:
    """The TFDS classification set `name`, downloaded first where that is possible.

    Raises:
      UserError: no such set, not an image classification set, or neither prepared nor
        downloadable (said within `2 * _REACH_SECONDS`; TFDS itself retries for minutes).
    """
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=data_dir, try_gcs=False)
    except tfds.core.DatasetNotFoundError as error:
        raise UserError(
            f"--dataset={name}: neither a built-in data set nor one that TFDS knows."
        ) from error
    except (OSError, ValueError, AssertionError, ImportError) as error:
        raise UserError(f"--dataset={name}: TFDS cannot open it ({_first_line(error)}).") from error
    if not builder.is_prepared():
        _download(builder)
    return _source(name, builder)


def is_available(name: str, data_dir: str | None) -> bool:
    """Whether the set is prepared, or its download servers answer."""
    import tensorflow_datasets as tfds

    builder = tfds.builder(name, data_dir=data_dir, try_gcs=False)
    return builder.is_prepared() or _reachable(builder.url_infos)


def _download(builder) -> None:
    root = pathlib.Path(builder.data_dir).parent.parent
    if not _reachable(builder.url_infos):
        raise UserError(
            f"--dataset={builder.name}: not prepared under {root} and its download servers do not "
            "answer; set --data_dir (or TFDS_DATA_DIR) to a folder where TFDS has prepared it, "
            "or use --dataset=shapes."
        )
    try:
        builder.download_and_prepare()
    except Exception as error:  # TFDS raises whatever its download, archive or disk layer does.
        raise UserError(
            f"--dataset={builder.name}: TFDS could not prepare it under {root} "
            f"({_first_line(error)})."
        ) from error


def _reachable(urls: Iterable[str]) -> bool:
    """Whether the first server answers at all, whatever it says."""
    url = next(iter(urls), None)
    if url is None:
        return False

    def ask() -> bool:
        request = urllib.request.Request(url, method="HEAD")
        try:
            with contextlib.closing(urllib.request.urlopen(request, timeout=_REACH_SECONDS)):
                return True
        except urllib.error.HTTPError:
            return True  # It answered; TFDS will say what it makes of that.
        except (OSError, ValueError):
            return False

    # Looking up a host name has no time-out of its own, hence the thread.
    pool = concurrent.futures.ThreadPoolExecutor(1)
    try:
        return pool.submit(ask).result(timeout=2 * _REACH_SECONDS)
    except concurrent.futures.TimeoutError:
        return False
    finally:
        pool.shutdown(wait=False)


def _source(name: str, builder) -> Source:
    info = builder.info
    keys = info.supervised_keys
    label = info.features[keys[1]] if keys else None
    if not hasattr(label, "names") or "train" not in info.splits or "test" not in info.splits:
        raise UserError(
            f"--dataset={name}: needs one labelled class an example and a train and a test split."
        )

    def read(split: str) -> Examples:
        files = [pathlib.Path(file) for file in info.splits[split].filepaths]
        decode = functools.partial(_decode, builder, split, *keys)
        return cached(f"{name.replace('/', '-')}-{split}", files, decode)

    return Source(
        name=name,
        classes=tuple(label.names),
        train=lambda: read("train"),
        test=lambda: read("test"),
        partition=PARTITIONS.get(name),
    )


def _decode(builder, split: str, feature_key: str, label_key: str) -> Examples:
    import tensorflow as tf
    import tensorflow_datasets as tfds

    expected = builder.info.splits[split].num_examples
    try:
        columns = tfds.as_numpy(builder.as_dataset(split=split, batch_size=-1, shuffle_files=False))
        features = np.asarray(columns[feature_key])
    except (tf.errors.OpError, ValueError, OSError) as error:
        raise UserError(
            f"{builder.data_dir}{os.sep} ({split}): cannot be read ({_first_line(error)}); "
            "prepare the data set again."
        ) from error
    if len(features) != expected:
        raise UserError(
            f"{builder.data_dir}{os.sep} ({split}): holds {len(features)} examples instead of "
            f"{expected}; prepare the data set again."
        )
    return Examples(features, np.asarray(columns[label_key], np.int32))


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0] or type(error).__name__
