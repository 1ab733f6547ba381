"""The records of `metrics.jsonl` as TensorBoard shows them: `WORKDIR/tensorboard`.

A run a split, so that training and validation share their charts; tags are `STAGE/NAME`, lists are
`STAGE/NAME/EXPERT`. The files say what `metrics.jsonl` says and nothing else: a continued run
writes them anew from the records that it keeps, so that no step is there twice.
"""

from __future__ import annotations

import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from moe.errors import UserError

_POSITION = frozenset({"step", "epoch", "seconds", "stage", "split"})
_HEAT_MAPS = ("expert_by_class", "expert_by_group")
_CELL = 16
"""Pixels of a cell of the heat map."""


class Board:
    """Writes event files.

    Args:
      folder: `WORKDIR/tensorboard`.
      experts: E names.
    """

    def __init__(self, folder: pathlib.Path, experts: Sequence[str]) -> None:
        self._folder = folder
        self._experts = experts
        self._writers: dict[str, tf.summary.SummaryWriter] = {}

    def restart(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Takes away what was written before and writes `records` in its place.

        Raises:
          UserError: the folder cannot be written to.
        """
        self.close()
        try:
            for path in self._folder.glob("*/events.out.tfevents.*"):
                path.unlink()
        except OSError as error:
            raise UserError(f"{self._folder}: cannot be cleared ({error.strerror}).") from error
        for record in records:
            self.add(record)

    def add(self, record: Mapping[str, Any]) -> None:
        """Writes one record; one that has no numbers (that a run was continued) is left out.

        Raises:
          UserError: the folder cannot be written to.
        """
        if "split" not in record:
            return
        summary = tf.compat.v1.Summary()
        for name, value in record.items():
            if name not in _POSITION:
                self._put(summary, f"{record['stage']}/{name}", name, value)
        try:
            writer = self._writer(record["split"])
            with writer.as_default():
                tf.summary.experimental.write_raw_pb(summary.SerializeToString(), record["step"])
            # A killed run has said what it knew; once an epoch that costs nothing.
            writer.flush()
        except tf.errors.OpError as error:
            raise UserError(f"{self._folder}: cannot be written to ({error.message}).") from error

    def close(self) -> None:
        """Ends the files."""
        for writer in self._writers.values():
            writer.close()
        self._writers = {}

    def _writer(self, split: str) -> tf.summary.SummaryWriter:
        if split not in self._writers:
            self._writers[split] = tf.summary.create_file_writer(str(self._folder / split))
        return self._writers[split]

    def _put(self, summary: tf.compat.v1.Summary, tag: str, name: str, value: Any) -> None:
        if name in _HEAT_MAPS:
            summary.value.add(tag=tag, image=_heat_map(np.asarray(value)))
        elif isinstance(value, list):
            for expert, number in zip(self._experts, value, strict=True):
                summary.value.add(tag=f"{tag}/{expert}", simple_value=number)
        else:
            summary.value.add(tag=tag, simple_value=value)


def _heat_map(count: np.ndarray) -> tf.compat.v1.Summary.Image:
    """`<int>[E, L]` as a picture: rows are experts, columns classes or groups; white: all of it."""
    share = count / np.maximum(count.sum(axis=0, keepdims=True), 1)
    grey = np.rint(255 * share).astype(np.uint8)
    pixels = grey.repeat(_CELL, axis=0).repeat(_CELL, axis=1)
    return tf.compat.v1.Summary.Image(
        height=pixels.shape[0],
        width=pixels.shape[1],
        colorspace=1,
        encoded_image_string=tf.io.encode_png(pixels[..., np.newaxis]).numpy(),
    )
