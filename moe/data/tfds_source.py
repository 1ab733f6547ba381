"""Data sets prepared by TensorFlow Datasets, with an answer within seconds where there is none."""

from __future__ import annotations

import contextlib
import functools
import http.client
import pathlib
import threading
import urllib.request
from collections.abc import Iterable, Sequence

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
_REACH_SECONDS = 3.5


def tfds_source(name: str, data_dir: str | None) -> Source:
    """The TFDS classification set `name`, downloaded first where that is possible.

    Raises:
      UserError: no such set, not an image classification set, or neither prepared nor
        downloadable (said within `2 * _REACH_SECONDS`; TFDS itself retries for minutes).
    """
    builder = _open(name, data_dir)
    if not builder.is_prepared():
        _download(builder)
    return _source(name, builder)


def is_available(name: str, data_dir: str | None) -> bool:
    """Whether the set is prepared or can be downloaded.

    Raises:
      UserError: it is prepared, but damaged: nothing may stand in for it unasked.
    """
    builder = _open(name, data_dir)
    return builder.is_prepared() or _reachable(builder.url_infos)


def _open(name: str, data_dir: str | None):
    """TFDS' builder of the set, prepared or not."""
    import tensorflow_datasets as tfds

    folder = pathlib.Path(data_dir or tfds.core.constants.DATA_DIR) / name
    try:
        return tfds.builder(name, data_dir=data_dir, try_gcs=False)
    except tfds.core.DatasetNotFoundError as error:
        raise UserError(
            f"--dataset={name}: neither a built-in data set, nor one that TFDS knows or has "
            f"prepared whole in {folder}."
        ) from error
    except Exception as error:  # Damaged metadata raise whatever JSON, protobuf or TFDS do.
        raise UserError(
            f"--dataset={name}: TFDS cannot open it ({_first_line(error)}); is a prepared copy in "
            f"{folder} damaged (dataset_info.json, features.json)?"
        ) from error


def _download(builder) -> None:
    root = pathlib.Path(builder.data_dir).parent.parent
    if not _reachable(builder.url_infos):
        raise UserError(
            f"--dataset={builder.name}: not prepared under {root} and not to be downloaded from "
            "here; set --data_dir (or TFDS_DATA_DIR) to a folder where TFDS has prepared it, or "
            "use --dataset=shapes."
        )
    try:
        builder.download_and_prepare()
    except Exception as error:  # TFDS raises whatever its download, archive or disk layer does.
        raise UserError(
            f"--dataset={builder.name}: TFDS could not prepare it under {root} "
            f"({_first_line(error)})."
        ) from error


def _reachable(urls: Iterable[str]) -> bool:
    """Whether the first of them is given out, or at least begun, within seconds."""
    url = next(iter(urls), None)
    if url is None:
        return False
    answered = threading.Event()

    def ask() -> None:
        # A GET, as the download will be, closed unread: to HEAD a server may say 403, 405 or 501
        # and still give out the file. Any error status, also of a proxy, is an OSError here.
        try:
            request = urllib.request.Request(url, headers={"Range": "bytes=0-0"})
            with contextlib.closing(urllib.request.urlopen(request, timeout=_REACH_SECONDS)):
                answered.set()
        except (OSError, ValueError, http.client.HTTPException):
            pass

    # Looking up a host name has no time-out of its own; a daemon, so that one which hangs does
    # not keep the program from ending.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(timeout=2 * _REACH_SECONDS)
    return answered.is_set()


def _source(name: str, builder) -> Source:
    info = builder.info
    try:
        keys = info.supervised_keys
        _, label = (info.features[key] for key in keys)
        classes = tuple(label.names)
        splits = {split: info.splits[split] for split in ("train", "test")}
        files = {split: [pathlib.Path(f) for f in splits[split].filepaths] for split in splits}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"--dataset={name}: needs one labelled class an example and a train and a test split; "
            f"{builder.data_dir} describes none ({_first_line(error)})."
        ) from error
    partition = PARTITIONS.get(name)
    known = set(sum(partition.values(), ())) if partition else set(classes)
    if set(classes) != known or len(known) != label.num_classes:  # or a name is there twice
        raise UserError(
            f"{builder.data_dir}: its class names (*.labels.txt) are damaged; prepare the data set "
            "again."
        )

    def read(split: str) -> Examples:
        decode = functools.partial(_decode, builder, split, files[split], *keys)
        try:
            return cached(f"{name.replace('/', '-')}-{split}", files[split], decode)
        except OSError as error:
            raise UserError(
                f"{error.filename}: cannot be read ({error.strerror}); prepare the data set again."
            ) from error

    return Source(
        name=name,
        classes=classes,
        train=lambda: read("train"),
        test=lambda: read("test"),
        partition=partition,
    )


def _decode(
    builder, split: str, files: Sequence[pathlib.Path], feature_key: str, label_key: str
) -> Examples:
    import tensorflow_datasets as tfds

    expected = builder.info.splits[split]
    if builder.info.file_format is tfds.core.FileFormat.TFRECORD:
        for file, records in zip(files, expected.shard_lengths, strict=True):
            _check_records(file, records)
    try:
        columns = tfds.as_numpy(builder.as_dataset(split=split, batch_size=-1, shuffle_files=False))
        features, label = np.asarray(columns[feature_key]), np.asarray(columns[label_key], np.int32)
    except Exception as error:  # Whatever TFDS' decoders raise.
        raise UserError(
            f"{builder.data_dir} ({split}): cannot be read ({_first_line(error)}); prepare the "
            "data set again."
        ) from error
    if len(features) != expected.num_examples:
        raise UserError(
            f"{builder.data_dir} ({split}): holds {len(features)} examples instead of "
            f"{expected.num_examples}; prepare the data set again."
        )
    return Examples(features, label)


def _check_records(file: pathlib.Path, expected: int) -> None:
    """Checks every record's checksum and their number; TFDS would not say which file is bad.

    Raises:
      UserError: the file is damaged or cut short.
    """
    import tensorflow as tf

    try:
        found = int(tf.data.TFRecordDataset(str(file)).reduce(np.int64(0), lambda n, _: n + 1))
    except tf.errors.OpError as error:
        raise UserError(
            f"{file}: a record is damaged or cut short; prepare the data set again."
        ) from error
    if found != expected:
        raise UserError(
            f"{file}: holds {found} records instead of {expected}; prepare the data set again."
        )


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0] or type(error).__name__
