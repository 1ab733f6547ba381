"""Data-parallel training on two CPU replicas, and by two workers: the same as on one device.

Teams have processes of their own: devices are global.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import tensorflow as tf
from e2e.teams import ROOT, assert_close, end, start, start_two
from toy import toy_config

from flags.parse import parse_train
from moe import run
from moe.errors import UserError
from moe.train.guard import FINE, OVERFLOW

# No dropout: what is left does not depend on the number of replicas,
# the draw of an expert included.
FLAGS = [
    *("--flagfile=flags/presets/tabular.flags", "--dataset=digits", "--optimizer=sgd"),
    *("--learning_rate=0.05", "--balance_loss=0.1", "--steps=50", "--noreport"),
    "--precision=float32",
]
# With this seed no example is so near to two experts that rounding could send it to the other one.
CLEAR = ["--groups=none:3", "--seed=6"]
MARGIN = 1e-3


PARTS = ("gate", "expert", "baseline")
NORMALISED = [f"--{part}_backbone=my_networks:normalised" for part in PARTS]
CASES = {
    "soft": ["--routing=soft", *CLEAR],
    "hard": ["--routing=hard", *CLEAR],
    "importance": ["--routing=soft", "--importance_loss=0.1"],
    "noisy": ["--routing=noisy_topk", "--top_k=2", "--load_loss=0.1"],
    "balanced": ["--routing=topk", "--top_k=2", "--balance_bias=0.01"],
    "batch statistics": [
        *("--dataset=shapes", "--train_examples=400", "--groups=semantic", "--routing=soft"),
        *("--baseline", "--augment=none", "--learning_rate=0.01", "--ema_decay=0.9", *NORMALISED),
    ],
    "trunk": ["--trunk=1", "--optimizer=muon", "--muon_rate=0.01", "--lookahead=3"],
}
EVERY_DAY = [("replicas", "hard")]
TEAMS = [*(("replicas", case) for case in CASES), ("workers", "soft"), ("workers", "hard")]


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
    return [*FLAGS, f"--workdir={workdir / case}", *CASES[case]]


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Iterator[Callable[[str], pathlib.Path]]:
    """Gives a case's finished run on one device."""
    folder = tmp_path_factory.mktemp("alone")

    def give(case: str) -> pathlib.Path:
        if not (folder / case).exists():
            assert run.train(parse_train(["train.py", *_flags(folder, case)])) == 0
        return folder / case

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.syspath_prepend(ROOT / "tests" / "e2e")
        yield give


@pytest.mark.parametrize(
    ("team", "case"),
    [pytest.param(*t, marks=[] if t in EVERY_DAY else pytest.mark.slow) for t in TEAMS],
)
def test_a_team_equals_one_device(alone, tmp_path, team, case):
    workdir, flags = tmp_path / case, [*FLAGS, *CASES[case]]
    if team == "workers":
        processes = start_two(workdir, *flags)
    else:
        processes = [start(workdir, *flags, "--cpu_replicas=2")]
    said = [end(process)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), said
    assert_close(alone(case), workdir)
    if case == "hard":
        with np.load(workdir / "predictions.npz", allow_pickle=False) as stored:
            ordered = np.sort(stored["gate_probabilities"], axis=1)
        assert (ordered[:, -1] - ordered[:, -2]).min() > MARGIN


@pytest.mark.slow
def test_a_run_goes_on_with_fewer_replicas(alone, tmp_path):
    for flags in (["--steps=20", "--cpu_replicas=2"], []):
        answer = _python("train.py", *_flags(tmp_path, "hard"), *flags)
        assert answer.returncode == 0, answer.stderr
    assert "continuing from step 20" in answer.stderr
    assert_close(alone("hard"), tmp_path / "hard")


def test_fewer_gpus_than_asked_for(tmp_path, toy, capsys):
    if tf.config.list_physical_devices("GPU"):
        return
    asked = toy_config(tmp_path, "gate", epochs=1, gpus=1)
    required = dataclasses.replace(asked.runtime, require_gpus=True)
    with pytest.raises(UserError, match="--gpus=1: 0 visible"):
        run.train(dataclasses.replace(asked, runtime=required))
    assert run.train(asked) == 0
    said = capsys.readouterr().err
    assert said.count("warning: --gpus=1: 0 visible; going on with the CPU.") == 1


@pytest.mark.slow
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
