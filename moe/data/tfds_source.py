"""Data sets prepared by TensorFlow Datasets, with an answer within seconds where there is none."""

from __future__ import annotations

import contextlib
import http.client
import pathlib
import threading
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from moe.data.cache import cached
from moe.data.images import stack
from moe.data.partitions import PARTITIONS
from moe.data.source import Examples, Source
from moe.data.splits import hold_out
from moe.errors import UserError, first_line

_REACH_SECONDS = 3.5
_AT_ONCE = 1_000
"""Examples decoded in one go: no signal is heard meanwhile."""


def tfds_source(name: str, data_dir: str | None, image_size: int | None = None) -> Source:
    """The TFDS classification set `name`, downloaded first where that is possible.

    Args:
      name: as TFDS calls it.
      data_dir: where TFDS keeps its sets; None: its own default.
      image_size: makes every image a square of this size; None: they must have one size.

    Raises:
      UserError: no such set, not an image classification set, or neither prepared nor
        downloadable (said within `2 * _REACH_SECONDS`; TFDS itself retries for minutes).
    """
    builder = _open(name, data_dir)
    if not builder.is_prepared():
        _download(builder)
    return _source(name, builder, image_size)


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
            f"--dataset={name}: TFDS cannot open it ({first_line(error)}); is a prepared copy in "
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
            f"({first_line(error)})."
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


class _Keys(NamedTuple):
    """Where an example has its image and its label."""

    image: str
    label: str


def _source(name: str, builder, image_size: int | None) -> Source:
    info = builder.info
    try:
        keys = _Keys(*info.supervised_keys)
        image, label = (info.features[key] for key in keys)
        if image.np_dtype != np.uint8 or len(image.shape) != 3:
            raise TypeError(f"{keys.image} is {image.np_dtype}, {list(image.shape)}")
        classes = tuple(label.names)
        test_split = next((s for s in ("test", "validation") if s in info.splits), None)
        splits = {split: info.splits[split] for split in ("train", test_split) if split}
        files = {split: [pathlib.Path(f) for f in splits[split].filepaths] for split in splits}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"--dataset={name}: needs images of 8 bits with one labelled class each, and a train "
            f"split; {builder.data_dir} describes none ({first_line(error)})."
        ) from error
    partition = PARTITIONS.get(name)
    known = set(sum(partition.values(), ())) if partition else set(classes)
    if set(classes) != known or len(known) != label.num_classes:  # or a name is there twice
        raise UserError(
            f"{builder.data_dir}: its class names (*.labels.txt) are damaged; prepare the data set "
            "again."
        )

    def read(split: str) -> Examples:
        choices = [] if image_size is None else [f"--image_size={image_size}"]
        try:
            examples = cached(
                f"{name.replace('/', '-')}-{split}",
                files[split],
                lambda: _decode(name, builder, split, files[split], keys, image_size),
                choices=choices,
            )
        except OSError as error:
            raise UserError(
                f"{error.filename}: cannot be read ({error.strerror}); prepare the data set again."
            ) from error
        _check_labels(name, split, examples.label, len(classes))
        return examples

    def part(number: int) -> Examples:
        """Training or test examples out of the one split that there is."""
        whole = read("train")
        return whole.take(hold_out(whole.label, classes, f"--dataset={name}")[number])

    note = {
        "test": "",
        "validation": f"{name} has no test split: its validation split stands in for it.",
        None: f"{name} has no test split: the same 20 % of each class are kept for it.",
    }[test_split]
    return Source(
        name=name,
        classes=classes,
        train=lambda: read("train") if test_split else part(0),
        test=lambda: read(test_split) if test_split else part(1),
        partition=partition,
        note=note,
    )


def _check_labels(name: str, split: str, label: np.ndarray, num_classes: int) -> None:
    """Refuses labels that name no class: -1 is TFDS' way to say that there is none.

    Raises:
      UserError: names split, row and label of the first one.
    """
    bad = np.flatnonzero((label < 0) | (label >= num_classes))
    if len(bad):
        raise UserError(
            f"--dataset={name}: split {split}, example {bad[0]} has the label {label[bad[0]]}, and "
            f"classes are 0 to {num_classes - 1} ({len(bad)} of {len(label)} labels are none of "
            "them)."
        )


def _decode(
    name: str,
    builder,
    split: str,
    files: Sequence[pathlib.Path],
    keys: _Keys,
    image_size: int | None,
) -> Examples:
    import tensorflow_datasets as tfds

    expected = builder.info.splits[split]
    if builder.info.file_format is tfds.core.FileFormat.TFRECORD:
        for file, records in zip(files, expected.shard_lengths, strict=True):
            _check_records(file, records)
    one_size = image_size is None and None not in builder.info.features[keys.image].shape
    try:
        examples = tfds.as_numpy(
            builder.as_dataset(
                split=split,
                shuffle_files=False,
                decoders=tfds.decode.PartialDecoding(dict.fromkeys(keys, True)),
                batch_size=_AT_ONCE if one_size else None,
            )
        )
        if one_size:
            pieces = [[piece[key] for key in keys] for piece in examples]
            features, label = map(np.concatenate, zip(*pieces, strict=True))
        else:
            origin = f"--dataset={name}"
            features, label = _one_by_one(examples, expected.num_examples, keys, image_size, origin)
    except UserError:
        raise
    except Exception as error:  # Whatever TFDS' decoders raise.
        raise UserError(
            f"{builder.data_dir} ({split}): cannot be read ({first_line(error)}); prepare the "
            "data set again."
        ) from error
    if len(features) != expected.num_examples:
        raise UserError(
            f"{builder.data_dir} ({split}): holds {len(features)} examples instead of "
            f"{expected.num_examples}; prepare the data set again."
        )
    return Examples(features, label.astype(np.int32))


def _one_by_one(
    examples: Iterable, count: int, keys: _Keys, image_size: int | None, origin: str
) -> tuple[np.ndarray, np.ndarray]:
    """Images that may differ in size, `<uint8>[N, H, W, D]`, and their labels."""
    label = []

    def images() -> Iterator[np.ndarray]:
        for example in examples:
            label.append(example[keys.label])
            yield example[keys.image]

    return stack(images(), count, image_size, origin), np.array(label)


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
