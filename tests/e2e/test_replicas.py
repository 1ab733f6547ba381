"""Data-parallel training on two CPU replicas, in processes of their own (devices are global)."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

ROOT = pathlib.Path(__file__).parents[2]
# No dropout: what is left does not depend on the number of replicas,
# the draw of an expert included.
FLAGS = (
    "--flagfile=flags/presets/tabular.flags --dataset=digits --optimizer=sgd "
    "--learning_rate=0.05 --balance_loss=0.1 --steps=20"
)


def _train(workdir: pathlib.Path, *flags: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "train.py", *FLAGS.split(), f"--workdir={workdir}", *flags],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests" / "e2e")},
        capture_output=True,
        text=True,
        timeout=300,
    )


PARTS = ("gate", "expert", "baseline")
NORMALISED = [f"--{part}_backbone=my_networks:normalised" for part in PARTS]
CASES = {
    "soft": ["--routing=soft"],
    "hard": ["--routing=hard"],
    "batch statistics": [
        *("--dataset=shapes", "--train_examples=400", "--groups=semantic", "--routing=soft"),
        *("--baseline", "--augment=none", "--learning_rate=0.01", *NORMALISED),
    ],
}


@pytest.mark.parametrize(
    "flags",
    [
        pytest.param(flags, id=name, marks=[] if name == "batch statistics" else pytest.mark.slow)
        for name, flags in CASES.items()
    ],
)
def test_two_replicas_equal_one_device(tmp_path, flags):
    weights = []
    for replicas in (1, 2):
        workdir = tmp_path / str(replicas)
        answer = _train(workdir, f"--cpu_replicas={replicas}", *flags)
        assert answer.returncode == 0, answer.stderr
        reader = tf.train.load_checkpoint(str(workdir / "best" / "ckpt-1"))
        names = sorted(n for n in reader.get_variable_to_shape_map() if n.endswith("VALUE"))
        weights.append([reader.get_tensor(name) for name in names])
    for one, two in zip(*weights, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-5)


def test_fewer_gpus_than_asked_for(tmp_path):
    if tf.config.list_physical_devices("GPU"):
        return
    answer = _train(tmp_path / "a", "--gpus=1", "--require_gpus")
    assert answer.returncode == 2
    assert "--gpus=1: 0 visible" in answer.stderr
    answer = _train(tmp_path / "a", "--gpus=1")
    assert answer.returncode == 0
    assert answer.stderr.count("warning: --gpus=1: 0 visible; going on with the CPU.") == 1


def test_an_overflow_on_replica_1_alone_is_skipped_by_both():
    answer = subprocess.run(
        [sys.executable, "-m", "tests.e2e.one_overflow"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert answer.returncode == 0, answer.stderr
    before, skipped, stepped = json.loads(answer.stdout)
    assert skipped["weights"] == before["weights"]
    assert (skipped["factor"], skipped["skipped"]) == (before["factor"] / 2, 1)
    assert skipped["examples"] == 0
    # The next step goes ahead, and both replicas still have the same weights.
    assert stepped["weights"][0] == stepped["weights"][1] != before["weights"][0]
    assert (stepped["factor"], stepped["skipped"]) == (before["factor"] / 2, 1)
    assert stepped["examples"] == 8
