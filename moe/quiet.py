"""Loads TensorFlow without the lines it writes before its own log level takes effect."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import tempfile
from collections.abc import Iterator

import absl.logging

from moe.memory import use_one_arena


@contextlib.contextmanager
def native_stderr_held_back() -> Iterator[None]:
    """Holds back what native code writes to stderr; shows it after all if the block fails."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as aside:
        real = os.dup(2)
        os.dup2(aside.fileno(), 2)
        try:
            yield
        except BaseException:
            os.dup2(real, 2)
            aside.seek(0)
            sys.stderr.write(aside.read().decode(errors="replace"))
            raise
        finally:
            sys.stderr.flush()
            os.dup2(real, 2)
            os.close(real)


@contextlib.contextmanager
def garbage_left_lying() -> Iterator[None]:
    """Looks for garbage once after the block, and in what stays then nevermore.

    Modules make some 400,000 objects that live as long as the process. To go through them again and
    again is a seventh of the time that loading takes.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
    gc.collect()
    gc.freeze()


def load_tensorflow() -> None:
    """Imports TensorFlow and lets it look for devices; later warnings and errors still show."""
    use_one_arena()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with native_stderr_held_back(), garbage_left_lying():
        import tensorflow as tf

        tf.config.list_physical_devices()
    absl.logging.set_verbosity(absl.logging.ERROR)
    # A stage traces its own functions, which TensorFlow takes for a mistake.
    tf.get_logger().setLevel("ERROR")
