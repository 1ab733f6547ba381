"""Where a run computes: one device (no strategy) or several replicas."""

from __future__ import annotations

import dataclasses
import os
import sys

import tensorflow as tf

from moe.config.sections import RuntimeConfig
from moe.errors import UserError, warn
from moe.train.signals import hear_again
from moe.train.team import workers_asked_for


def choose_strategy(runtime: RuntimeConfig, team: bool = True) -> tf.distribute.Strategy:
    """The strategy for `--gpus`, `--cpu_replicas` and the workers that `TF_CONFIG` names.

    One device gets TensorFlow's default one. Must be called before TensorFlow has initialised its
    devices.

    Args:
      runtime: what the flags ask for.
      team: False: this process works by itself, whatever `TF_CONFIG` says. Else it waits here for
        the other workers.

    Raises:
      UserError: fewer GPUs than asked for and `--require_gpus`, or devices were already set up.
    """
    gpus = tf.config.list_physical_devices("GPU")
    at_least = 1 if runtime.require_gpus else 0
    wanted = max(at_least, len(gpus)) if runtime.gpus is None else runtime.gpus
    if wanted > len(gpus):
        message = f"--gpus={wanted}: {len(gpus)} visible"
        if runtime.require_gpus:
            raise UserError(f"{message}; lower --gpus, or leave out --require_gpus.")
        warn(f"{message}; going on with {f'{len(gpus)} GPUs' if gpus else 'the CPU'}.")
    gpus = gpus[:wanted]
    if gpus and runtime.cpu_replicas > 1:
        raise UserError(f"--cpu_replicas={runtime.cpu_replicas}: needs --gpus=0 on this machine.")
    try:
        tf.config.set_visible_devices(gpus, "GPU")
        for gpu in gpus:
            tf.config.experimental.set_memory_growth(gpu, True)
        if not gpus and runtime.cpu_replicas > 1:
            _split_cpu(runtime.cpu_replicas)
    except RuntimeError as error:
        raise UserError(f"the devices cannot be set up any more ({error}).") from error
    addresses = workers_asked_for() if team else []
    workers = max(1, len(addresses))
    replicas = workers * (len(gpus) or runtime.cpu_replicas)
    if workers > 1 and runtime.cpu_replicas > 1:
        raise UserError(f"--cpu_replicas={runtime.cpu_replicas}: not with several workers.")
    if workers > 1 and not runtime.workdir:
        raise UserError("several workers (TF_CONFIG) need a --workdir that all of them see.")
    if runtime.jit_compile and replicas > 1:
        raise UserError(f"--jit_compile: works on one device, not on {replicas} replicas.")
    if workers > 1:
        # It waits for all of them, and says nothing meanwhile.
        print(f"waiting for {workers} workers: {', '.join(addresses)}", file=sys.stderr, flush=True)
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
        hear_again()
        return strategy
    if len(gpus) > 1:
        return tf.distribute.MirroredStrategy([f"GPU:{n}" for n in range(len(gpus))])
    if not gpus and runtime.cpu_replicas > 1:
        return tf.distribute.MirroredStrategy([f"CPU:{n}" for n in range(runtime.cpu_replicas)])
    return tf.distribute.get_strategy()


def _split_cpu(replicas: int) -> None:
    cpu = tf.config.list_physical_devices("CPU")[0]
    if len(tf.config.get_logical_device_configuration(cpu) or []) != replicas:
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * replicas
        )


def compute_deterministically(seed: int) -> None:
    """Has every operation give the same bits each time, for the rest of the process.

    What has no deterministic form raises an error. On a CPU little changes: there operations are
    deterministic anyway, for a given number of threads.

    Args:
      seed: for layers of others that draw without a key of their own.
    """
    tf.config.experimental.enable_op_determinism()
    tf.random.set_seed(seed)


def choose_device(runtime: RuntimeConfig) -> tf.distribute.Strategy:
    """The strategy of an evaluation: the default one, on what `on_one_device` chooses.

    Raises:
      UserError: devices were already set up.
    """
    if os.environ.get("TF_CONFIG"):
        warn("TF_CONFIG does not count here: one process answers, on one device.")
    return choose_strategy(on_one_device(runtime), team=False)


def on_one_device(runtime: RuntimeConfig) -> RuntimeConfig:
    """`runtime` for an evaluation: one GPU where there is one and the run was not kept off it.

    Without a warning: what a run asked for in vain was said when it was trained.
    """
    visible = len(tf.config.list_physical_devices("GPU"))
    gpus = 0 if runtime.gpus == 0 else min(1, visible)
    return dataclasses.replace(runtime, gpus=gpus, cpu_replicas=1, require_gpus=False)


def describe_device() -> str:
    """What computes, in words: `CPU AMD EPYC, 2 threads` or `2 x NVIDIA H100`."""
    gpus = tf.config.get_visible_devices("GPU")
    if gpus:
        name = tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU")
        return name if len(gpus) == 1 else f"{len(gpus)} x {name}"
    return f"CPU {_cpu_name()}, {threads()} threads"


def threads() -> int:
    """How many threads one operation may use."""
    return tf.config.threading.get_intra_op_parallelism_threads() or len(os.sched_getaffinity(0))


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(ln.partition(":")[2].strip() for ln in lines if ln.startswith("model name"))
    except (OSError, StopIteration):
        return "unknown"
