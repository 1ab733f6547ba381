"""Which numbers to compute with: `--precision`."""

from __future__ import annotations

import functools
import pathlib
from typing import NamedTuple

import tensorflow as tf


class Precision(NamedTuple):
    """A Keras dtype policy and the reason it was picked."""

    policy: str
    reason: str


@functools.cache
def cpu_flags() -> frozenset[str]:
    """The instruction sets that the kernel reports; empty where it does not say."""
    try:
        text = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return frozenset()
    return frozenset(
        flag
        for line in text.splitlines()
        if line.startswith(("flags", "Features"))
        for flag in line.partition(":")[2].split()
    )


def choose_precision(requested: str) -> Precision:
    """Resolves `auto` by the device: bfloat16 only where the hardware multiplies it faster."""
    if requested != "auto":
        return Precision(requested, "asked for")
    gpus = tf.config.get_visible_devices("GPU")
    if gpus:
        details = (tf.config.experimental.get_device_details(gpu) for gpu in gpus)
        capability = min(d.get("compute_capability", (0, 0)) for d in details)
        reason = f"auto: GPU of compute capability {capability[0]}.{capability[1]}"
        if capability >= (8, 0):
            return Precision("mixed_bfloat16", reason)
        if capability >= (7, 0):
            return Precision("mixed_float16", reason)
        return Precision("float32", reason)
    if "amx_bf16" in cpu_flags():
        return Precision("mixed_bfloat16", "auto: CPU with amx_bf16")
    reason = "auto: CPU without amx_bf16"
    if "avx512_bf16" in cpu_flags():
        reason += "; it has avx512_bf16, so --precision=mixed_bfloat16 may be faster"
    return Precision("float32", reason)
