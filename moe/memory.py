"""Memory that is handed out alike in every process, so that equal programs are equally fast."""

from __future__ import annotations

import ctypes
import os
import platform

_M_ARENA_MAX = -8  # of malloc.h
_FEW_CPUS = 4


def use_one_arena() -> None:
    """Lets all threads take memory from one heap; call it before TensorFlow makes threads.

    By default glibc gives every thread a heap of its own, and which tensors come to share one is
    settled by chance: one process in three was a tenth slower than the next for all its life. On
    few CPUs the lock of a single heap costs nothing; on many it might, so there nothing changes.
    """
    if platform.libc_ver()[0] == "glibc" and (os.cpu_count() or 1) <= _FEW_CPUS:
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)
