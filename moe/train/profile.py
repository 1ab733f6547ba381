"""A profile of a training loop for TensorBoard: `--profile`."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Iterator

import tensorflow as tf


@contextlib.contextmanager
def profiling(folder: pathlib.Path | None) -> Iterator[None]:
    """Profiles what happens inside into `folder`, or does nothing if that is None."""
    if folder is None:
        yield
        return
    tf.profiler.experimental.start(str(folder))
    try:
        yield
    finally:
        tf.profiler.experimental.stop()
