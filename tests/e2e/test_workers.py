"""Two workers on this machine, connected by loopback: processes of their own."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf
from toy import untrained_run

from moe.config import BenchmarkConfig, EvalConfig, RuntimeConfig
from moe.errors import UserError
from moe.evaluate.run import evaluate
from moe.evaluate.use import use
from moe.train.devices import choose_device, choose_strategy
from moe.train.team import Alone, workers_asked_for

ROOT = pathlib.Path(__file__).parents[2]
FLAGS = (
    "--flagfile=flags/presets/tabular.flags --dataset=digits --optimizer=sgd --precision=float32 "
    "--learning_rate=0.05 --balance_loss=0.1 --steps_per_loop=5 --checkpoint_steps=10 "
    "--noreport"
)


def _start(workdir: pathlib.Path, *flags: str, task: dict | None = None) -> subprocess.Popen:
    environment = {**os.environ, "TF_CONFIG": json.dumps(task)} if task else None
    return subprocess.Popen(
        [sys.executable, "train.py", *FLAGS.split(), f"--workdir={workdir}", *flags],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _start_two(workdir: pathlib.Path, *flags: str) -> list[subprocess.Popen]:
    with socket.socket() as one, socket.socket() as two:  # ports that are free now
        for taken in (one, two):
            taken.bind(("127.0.0.1", 0))
        workers = [f"127.0.0.1:{taken.getsockname()[1]}" for taken in (one, two)]
    return [
        _start(
            workdir,
            *flags,
            task={"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}},
        )
        for index in range(2)
    ]


def _end(process: subprocess.Popen, timeout: float = 600) -> tuple[str, str]:
    try:
        return process.communicate(timeout=timeout)
    finally:
        process.kill()


def _weights(workdir: pathlib.Path) -> list[np.ndarray]:
    reader = tf.train.load_checkpoint(str(workdir / "best" / "ckpt-1"))
    names = sorted(n for n in reader.get_variable_to_shape_map() if n.endswith("VALUE"))
    return [reader.get_tensor(name) for name in names]


def test_two_workers_equal_one_device_also_after_one_was_killed(tmp_path):
    alone = _start(tmp_path / "alone", "--steps=200")
    _end(alone)
    assert alone.returncode == 0

    together = tmp_path / "together"
    chief, other = _start_two(together, "--steps=200")
    while not (together / "checkpoints" / "ckpt-10.json").exists():
        for process in (chief, other):
            assert process.poll() is None, _end(process)
        time.sleep(0.05)
    other.send_signal(signal.SIGKILL)
    _end(other)
    said = _end(chief, timeout=120)[1]
    assert chief.returncode == 2
    assert "error: another worker is gone" in said
    assert "Traceback" not in said

    both = _start_two(together, "--steps=200")
    out, err = zip(*(_end(process) for process in both), strict=True)
    assert [process.returncode for process in both] == [0, 0], err
    assert "mixture, soft routing" in out[0]
    assert out[1] == ""  # one of them speaks
    for said in err:
        assert re.search(r"^waiting for 2 workers: 127.0.0.1:\d+, 127.0.0.1:\d+$", said, re.M)
    for one, two in zip(_weights(tmp_path / "alone"), _weights(together), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-5)
    records = [json.loads(line) for line in (together / "metrics.jsonl").open()]
    steps = [record["step"] for record in records if record.get("split") == "train"]
    assert steps == sorted(set(steps))


@pytest.mark.slow
def test_a_signal_to_one_worker_stops_both_at_the_same_step(tmp_path):
    flags = ("--routing=hard", "--steps=100")
    alone = _start(tmp_path / "alone", *flags)
    _end(alone)
    together = tmp_path / "together"
    both = _start_two(together, *flags)
    while not (together / "checkpoints" / "ckpt-10.json").exists():
        for process in both:
            assert process.poll() is None, _end(process)
        time.sleep(0.01)
    both[1].send_signal(signal.SIGTERM)
    said = [_end(process, timeout=120)[1] for process in both]
    assert [process.returncode for process in both] == [143, 143], said
    assert "stopped (SIGTERM); continue with: " in said[0]
    assert "Traceback" not in said[0] + said[1]

    both = _start_two(together, *flags)
    said = [_end(process)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert re.search(r"continuing from step [1-9]", said[0])
    for one, two in zip(_weights(tmp_path / "alone"), _weights(together), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-5)


def test_workers_need_a_folder_that_all_see(tmp_path):
    cluster = {"worker": ["127.0.0.1:1", "127.0.0.1:2"]}
    task = {"cluster": cluster, "task": {"type": "worker", "index": 0}}
    process = subprocess.run(
        [sys.executable, "train.py", *FLAGS.split()],
        cwd=ROOT,
        env={**os.environ, "TF_CONFIG": json.dumps(task)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert process.returncode == 2
    assert "need a --workdir that all of them see" in process.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "TF_CONFIG: cannot be read"),
        ("[]", "TF_CONFIG: cannot be read"),
        ('{"cluster": {"worker": ["a:1"]}, "task": {"type": "ps", "index": 0}}', "needs a cluster"),
        ('{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}', "needs a"),
        (
            '{"cluster": {"worker": ["a:1"], "ps": []}, "task": {"type": "worker", "index": 0}}',
            "needs a cluster of workers",
        ),
    ],
)
def test_a_cluster_that_is_none(monkeypatch, text, message):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(UserError, match=message):
        workers_asked_for()


@pytest.fixture
def two_workers(monkeypatch) -> None:
    """This process is one of two, and the other will never come."""
    cluster = {"worker": ["127.0.0.1:1", "127.0.0.1:2"]}
    task = {"cluster": cluster, "task": {"type": "worker", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(task))


@pytest.fixture
def waited(monkeypatch) -> list[str]:
    """What was said whenever somebody would have begun to wait for the others."""
    waited = []

    def wait():
        waited.append("now")
        return tf.distribute.get_strategy()

    monkeypatch.setattr(tf.distribute, "MultiWorkerMirroredStrategy", wait)
    return waited


def test_who_waits_says_for_whom_first(two_workers, waited, capsys):
    choose_strategy(RuntimeConfig(workdir="somewhere"))
    assert waited
    assert capsys.readouterr().err == "waiting for 2 workers: 127.0.0.1:1, 127.0.0.1:2\n"


def test_one_device_waits_for_nobody(two_workers, waited, capsys):
    # What a run of a team has stored, as an evaluation finds it.
    assert choose_device(RuntimeConfig(workdir="somewhere")) is tf.distribute.get_strategy()
    assert not waited
    assert "TF_CONFIG does not count here" in capsys.readouterr().err


@pytest.mark.parametrize("answers", [{}, {"predict": "none.png"}])
def test_an_evaluation_waits_for_nobody(toy, two_workers, waited, tmp_path, answers):
    workdir = untrained_run(tmp_path / "run")
    program = use if answers else evaluate
    config = EvalConfig(workdir=str(workdir), report=False, **answers)
    with contextlib.ExitStack() as held:
        if answers:  # the devices are chosen before the files are looked for
            held.enter_context(pytest.raises(UserError, match=r"none\.png"))
        program(config)
    assert not waited


def test_a_benchmark_has_no_team(two_workers):
    with pytest.raises(UserError, match="TF_CONFIG: --mode=benchmark measures one device"):
        BenchmarkConfig()


def test_a_process_alone_agrees_with_itself(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert workers_asked_for() == []
    assert Alone().agree(7, stop=True) == (7, True)
