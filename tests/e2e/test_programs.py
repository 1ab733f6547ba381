"""`train.py` and `eval.py` as a shell sees them: exit codes, what is on stdout and on stderr.

Wrong flags, which neither program needs TensorFlow to refuse, are in `tests/test_house.py`; runs
that are killed, in `test_resume.py`.
"""

from __future__ import annotations

import json
import os
import pathlib
import re
import shlex
import signal
import subprocess
import sys
import time

import pytest

from moe.train.checkpoint import CheckpointStore

ROOT = pathlib.Path(__file__).parents[2]
ENVIRONMENT = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
_PATIENCE = 600
"""Seconds after which a process counts as hanging, also on a machine that is busy."""
# The five experts on scikit-learn's digits: seconds.
TRAIN = f"train.py --flagfile={ROOT}/flags/presets/tabular.flags --dataset=digits --noreport"


def _start(command: str, folder: pathlib.Path) -> subprocess.Popen:
    """`python COMMAND` as from the checkout, but in a folder where it may leave files."""
    program, *arguments = shlex.split(command)
    return subprocess.Popen(
        [sys.executable, str(ROOT / program), *arguments],
        cwd=folder,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _run(command: str, folder: pathlib.Path) -> tuple[int, str, str]:
    """The exit code, stdout and stderr of `python COMMAND`."""
    process = _start(command, folder)
    out, err = process.communicate(timeout=_PATIENCE)
    return process.returncode, out, err


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Holds the finished run `finished`."""
    folder = tmp_path_factory.mktemp("programs")
    code, out, err = _run(f"{TRAIN} --epochs=1 --workdir=finished", folder)
    assert code == 0, err
    assert re.search(r"evaluate: \S*python \S*eval\.py --workdir=finished", out)
    return folder


def test_a_finished_run_is_evaluated_as_it_says(folder):
    code, out, err = _run("eval.py --workdir=finished --routing=soft,hard,expert:expert_1", folder)
    assert code == 0
    assert not err
    evaluation = json.loads((folder / "finished" / "evaluation.json").read_text())
    assert list(evaluation["routings"]) == ["soft", "hard", "expert:expert_1"]
    for name, found in evaluation["routings"].items():
        (row,) = (line for line in out.splitlines() if line.split()[:1] == [name])
        assert f"{100 * found['accuracy']:.2f}" in row
    assert out.splitlines()[-1] == "report: finished/report.html"


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (f"{TRAIN} --epochs=1 --workdir=finished --seed=1", r"seed=1 \(was 0\)"),
        pytest.param(
            *("eval.py --workdir=finished --routing=expert:natural", r"expert:natural"),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_what_the_user_can_mend_is_one_line_and_exit_code_2(folder, command, says):
    before = sorted(folder.rglob("*"))
    code, out, err = _run(command, folder)
    assert code == 2
    assert not out
    (line,) = err.splitlines()
    assert line.startswith("error: ")
    assert re.search(says, line)
    assert sorted(folder.rglob("*")) == before


def test_ctrl_c_saves_and_says_how_to_continue(tmp_path):
    command = f"{TRAIN} --epochs=100000 --checkpoint_seconds=100000"
    process = _start(command, tmp_path)
    _wait_for_the_first_epoch(tmp_path)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=_PATIENCE)
    assert process.returncode == 130
    assert not out
    assert "Traceback" not in err
    (workdir,) = (tmp_path / "runs").iterdir()
    (said,) = re.findall(r"stopped \(SIGINT\); continue with: \S*python \S*(train\.py .*)", err)
    assert said == f"{command} --workdir=runs/{workdir.name}"
    assert not (workdir / "results.json").exists()
    # The checkpoint is of the moment of the signal: nothing that was logged is behind it.
    saved = CheckpointStore(workdir / "checkpoints").newest()
    logged = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert saved.progress["total_steps"] >= logged[-1]["step"] > 0


def _wait_for_the_first_epoch(folder: pathlib.Path) -> None:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        if any(path.stat().st_size for path in folder.glob("runs/*/metrics.jsonl")):
            return
        time.sleep(0.01)
    raise AssertionError("no epoch was finished")
