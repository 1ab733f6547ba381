"""Two workers on this machine, connected by loopback: processes of their own."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import time

import pytest
import tensorflow as tf
from e2e.teams import assert_close, end, start, start_two
from toy import untrained_run

from moe.config.sections import RuntimeConfig
from moe.config.tools import BenchmarkConfig, EvalConfig
from moe.errors import UserError
from moe.evaluate.run import evaluate
from moe.evaluate.use import use
from moe.train.devices import choose_device, choose_strategy
from moe.train.team import Alone, workers_asked_for

FLAGS = [
    *("--flagfile=flags/presets/tabular.flags", "--dataset=digits", "--optimizer=sgd"),
    *("--learning_rate=0.05", "--balance_loss=0.1", "--steps_per_loop=5", "--checkpoint_steps=10"),
    *("--precision=float32", "--noreport"),
]


@pytest.mark.slow
def test_two_workers_equal_one_device_also_after_one_was_killed(tmp_path):
    alone = start(tmp_path / "alone", *FLAGS, "--steps=200")
    end(alone)
    assert alone.returncode == 0

    together = tmp_path / "together"
    chief, other = start_two(together, *FLAGS, "--steps=200")
    while not (together / "checkpoints" / "ckpt-10.json").exists():
        for process in (chief, other):
            assert process.poll() is None, end(process)
        time.sleep(0.05)
    other.send_signal(signal.SIGKILL)
    end(other)
    said = end(chief, timeout=120)[1]
    assert chief.returncode == 2
    assert "error: another worker is gone" in said
    assert "Traceback" not in said

    both = start_two(together, *FLAGS, "--steps=200")
    out, err = zip(*(end(process) for process in both), strict=True)
    assert [process.returncode for process in both] == [0, 0], err
    assert "mixture, soft routing" in out[0]
    assert out[1] == ""  # one of them speaks
    for said in err:
        assert re.search(r"^waiting for 2 workers: 127.0.0.1:\d+, 127.0.0.1:\d+$", said, re.M)
    assert_close(tmp_path / "alone", together)
    records = [json.loads(line) for line in (together / "metrics.jsonl").open()]
    steps = [record["step"] for record in records if record.get("split") == "train"]
    assert steps == sorted(set(steps))


@pytest.mark.slow
def test_a_signal_to_one_worker_stops_both_at_the_same_step(tmp_path):
    flags = ("--routing=hard", "--steps=400")
    alone = start(tmp_path / "alone", *FLAGS, *flags)
    end(alone)
    together = tmp_path / "together"
    both = start_two(together, *FLAGS, *flags)
    while not (together / "checkpoints" / "ckpt-10.json").exists():
        for process in both:
            assert process.poll() is None, end(process)
        time.sleep(0.01)
    both[1].send_signal(signal.SIGTERM)
    said = [end(process, timeout=120)[1] for process in both]
    assert [process.returncode for process in both] == [143, 143], said
    assert "stopped (SIGTERM); continue with: " in said[0]
    assert "Traceback" not in said[0] + said[1]

    both = start_two(together, *FLAGS, *flags)
    said = [end(process)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert re.search(r"continuing from step [1-9]", said[0])
    assert_close(tmp_path / "alone", together)


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


def test_workers_need_a_folder_that_all_see(two_workers, waited):
    with pytest.raises(UserError, match="need a --workdir that all of them see"):
        choose_strategy(RuntimeConfig())
    assert not waited


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
