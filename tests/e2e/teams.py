"""Runs in processes of their own, alone or as one of two workers that loopback connects."""

from __future__ import annotations

import json
import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
import tensorflow as tf

ROOT = pathlib.Path(__file__).parents[2]


def start(workdir: pathlib.Path, *flags: str, task: dict | None = None) -> subprocess.Popen:
    """Starts `train.py` with `flags`; `task` becomes its TF_CONFIG."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests' / 'e2e'}"}
    if task:
        environment["TF_CONFIG"] = json.dumps(task)
    return subprocess.Popen(
        [sys.executable, "train.py", *flags, f"--workdir={workdir}"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def start_two(workdir: pathlib.Path, *flags: str) -> list[subprocess.Popen]:
    """Starts two workers, the chief first."""
    with socket.socket() as one, socket.socket() as two:  # ports that are free now
        for taken in (one, two):
            taken.bind(("127.0.0.1", 0))
        workers = [f"127.0.0.1:{taken.getsockname()[1]}" for taken in (one, two)]
    return [
        start(
            workdir,
            *flags,
            task={"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}},
        )
        for index in range(2)
    ]


def end(process: subprocess.Popen, timeout: float = 600) -> tuple[str, str]:
    """Waits for the end of a process; what it wrote to stdout and stderr."""
    try:
        return process.communicate(timeout=timeout)
    finally:
        process.kill()


def assert_close(*workdirs: pathlib.Path) -> None:
    """Finished runs have the same weights."""
    weights = []
    for workdir in workdirs:
        reader = tf.train.load_checkpoint(str(workdir / "best" / "ckpt-1"))
        names = sorted(n for n in reader.get_variable_to_shape_map() if n.endswith("VALUE"))
        weights.append([reader.get_tensor(name) for name in names])
    for one, two in zip(*weights, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-5)
