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

from moe.train.guard import FINE, OVERFLOW

ROOT = pathlib.Path(__file__).parents[2]
# No dropout: what is left does not depend on the number of replicas,
# the draw of an expert included.
FLAGS = (
    "--flagfile=flags/presets/tabular.flags --dataset=digits --optimizer=sgd "
    "--learning_rate=0.05 --balance_loss=0.1 --steps=50 --noreport --precision=float32"
)


PARTS = ("gate", "expert", "baseline")
NORMALISED = [f"--{part}_backbone=my_networks:normalised" for part in PARTS]
CASES = {
    "soft": ["--routing=soft", "--importance_loss=0.1"],
    "hard": ["--routing=hard"],
    "noisy": ["--routing=noisy_topk", "--top_k=2", "--load_loss=0.1"],
    "balanced": ["--routing=topk", "--top_k=2", "--balance_bias=0.01"],
    "batch statistics": [
        *("--dataset=shapes", "--train_examples=400", "--groups=semantic", "--routing=soft"),
        *("--baseline", "--augment=none", "--learning_rate=0.01", "--ema_decay=0.9", *NORMALISED),
    ],
    "trunk": ["--trunk=1", "--optimizer=muon", "--muon_rate=0.01", "--lookahead=3"],
}
# On one device all in one process: most of a short run is loading TensorFlow. Two strategies with
# replicas would mistake each other's sums.
PROGRAM = """
import json, sys
from flags.parse import parse_train
from moe import run
for flags in json.loads(sys.argv[1]):
    assert run.train(parse_train(["train.py", *flags])) == 0
"""


def _python(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests' / 'e2e'}"},
        capture_output=True,
        text=True,
        timeout=1_200,
    )


def _flags(workdir: pathlib.Path, case: str) -> list[str]:
    return [*FLAGS.split(), f"--workdir={workdir / case}", *CASES[case]]


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> pathlib.Path:
    """A folder with every case's finished run on one device."""
    folder = tmp_path_factory.mktemp("alone")
    answer = _python("-c", PROGRAM, json.dumps([_flags(folder, case) for case in CASES]))
    assert answer.returncode == 0, answer.stderr
    return folder


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=[] if case == "batch statistics" else pytest.mark.slow)
        for case in CASES
    ],
)
def test_two_replicas_equal_one_device(alone, tmp_path, case):
    answer = _python("train.py", *_flags(tmp_path, case), "--cpu_replicas=2")
    assert answer.returncode == 0, answer.stderr
    _assert_close(alone / case, tmp_path / case)


@pytest.mark.slow
def test_a_run_goes_on_with_fewer_replicas(alone, tmp_path):
    for flags in (["--steps=20", "--cpu_replicas=2"], []):
        answer = _python("train.py", *_flags(tmp_path, "hard"), *flags)
        assert answer.returncode == 0, answer.stderr
    assert "continuing from step 20" in answer.stderr
    _assert_close(alone / "hard", tmp_path / "hard")


def _assert_close(*runs: pathlib.Path) -> None:
    weights = []
    for workdir in runs:
        reader = tf.train.load_checkpoint(str(workdir / "best" / "ckpt-1"))
        names = sorted(n for n in reader.get_variable_to_shape_map() if n.endswith("VALUE"))
        weights.append([reader.get_tensor(name) for name in names])
    for one, two in zip(*weights, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-5)


def test_fewer_gpus_than_asked_for(tmp_path):
    if tf.config.list_physical_devices("GPU"):
        return
    command = ["train.py", *FLAGS.split(), f"--workdir={tmp_path / 'a'}", "--gpus=1"]
    answer = _python(*command, "--require_gpus")
    assert answer.returncode == 2
    assert "--gpus=1: 0 visible" in answer.stderr
    answer = _python(*command)
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
    for what in ("weights", "statistics"):
        assert skipped[what] == before[what]
    assert (skipped["factor"], skipped["fault"]) == (before["factor"] / 2, OVERFLOW)
    # The next step goes ahead, and both replicas still have the same weights.
    for what in ("weights", "statistics"):
        assert stepped[what][0] == stepped[what][1] != before[what][0]
        assert np.isfinite(stepped[what]).all()
    assert (stepped["factor"], stepped["fault"]) == (before["factor"] / 2, FINE)
