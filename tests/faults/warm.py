"""The programs in processes of their own that need not load TensorFlow again.

A process that has loaded TensorFlow and computed nothing with it is forked, and the child runs
`train.py` or `eval.py` from the reading of the flags to the exit code. It is a process like any
other: it can be killed, stopped and run out of disk. A whole one would spend most of its life
loading.
"""

from __future__ import annotations

import importlib
import json
import mmap
import os
import pathlib
import re
import signal
import struct
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

ROOT = pathlib.Path(__file__).parents[2]


class Ended(NamedTuple):
    """How a child ended.

    Attributes:
      code: its exit code; minus the number of the signal that ended it.
      out, err: what it wrote.
      seconds: how long it lived.
      cpu_seconds: how long it computed, of all threads together.
    """

    code: int
    out: str
    err: str
    seconds: float
    cpu_seconds: float

    def from_step(self) -> int | None:
        """The step from which it said it goes on."""
        found = re.search(r"(?:continuing|starting) from step (\d+)", self.err)
        return int(found[1]) if found else None


class Shared:
    """A whole number in memory that a child shares with its parent."""

    def __init__(self, value: int) -> None:
        self._memory = mmap.mmap(-1, 8)
        self.value = value

    @property
    def value(self) -> int:
        return struct.unpack("q", self._memory[:8])[0]

    @value.setter
    def value(self, value: int) -> None:
        self._memory[:8] = struct.pack("q", value)


class Child:
    """A running program.

    Args:
      pid: of the process.
      notes: folder with what it writes.
    """

    def __init__(self, pid: int, notes: pathlib.Path) -> None:
        self.pid = pid
        self._notes = notes
        self._started = time.monotonic()
        self._status: int | None = None
        self._cpu_seconds = 0.0

    def is_over(self) -> bool:
        """Whether it has ended."""
        if self._status is None:
            pid, status, used = os.wait4(self.pid, os.WNOHANG)
            if pid:
                self._status, self._cpu_seconds = status, used.ru_utime + used.ru_stime
        return self._status is not None

    def send(self, number: int) -> None:
        """Sends a signal, unless it has ended."""
        if not self.is_over():
            os.kill(self.pid, number)

    def said(self) -> str:
        """What it has written to stderr so far."""
        return (self._notes / "err").read_text(errors="replace")

    def wait(self, seconds: float = 600) -> Ended:
        """Waits for its end; a child that lives longer is killed.

        Raises:
          TimeoutError: it was.
        """
        deadline = self._started + seconds
        while not self.is_over():
            if time.monotonic() > deadline:
                self.send(signal.SIGKILL)
                os.waitpid(self.pid, 0)
                raise TimeoutError(f"still running after {seconds} s:\n{self.said()}")
            time.sleep(0.002)
        return Ended(
            os.waitstatus_to_exitcode(self._status),
            (self._notes / "out").read_text(errors="replace"),
            self.said(),
            time.monotonic() - self._started,
            self._cpu_seconds,
        )


def load() -> None:
    """Loads all that the programs load. Compute nothing afterwards: threads do not survive a fork.

    Raises:
      RuntimeError: something was computed already.
    """
    sys.path[:0] = [path for path in (str(ROOT), str(ROOT / "tests")) if path not in sys.path]
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    from moe.quiet import load_tensorflow

    load_tensorflow()
    for module in ("train", "eval", "moe.run", "moe.find_groups", "moe.evaluate.run", "sklearn"):
        importlib.import_module(module)
    from tensorflow.python.eager import context

    if context.context()._initialized:
        raise RuntimeError("TensorFlow has computed something: a fork of this process would hang")


def start(
    arguments: Sequence[str],
    notes: pathlib.Path,
    *,
    program: str = "train",
    folder: pathlib.Path = ROOT,
    before: Callable[[], None] | None = None,
) -> Child:
    """Starts `python PROGRAM.py ARGUMENTS`.

    Args:
      arguments: the command line.
      notes: folder for what it writes.
      program: `train` or `eval`.
      folder: where it runs.
      before: called in the child first, to spy on it or to take something away from it.
    """
    notes.mkdir(parents=True, exist_ok=True)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    pid = os.fork()
    if pid:
        return Child(pid, notes)
    code = 70
    try:
        for number, name in ((1, "out"), (2, "err")):
            opened = os.open(notes / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(opened, number)
            os.close(opened)
        os.chdir(folder)
        sys.argv = [str(ROOT / f"{program}.py"), *arguments]
        if before:
            before()
        code = _run(program)
    finally:
        os._exit(code)


def _run(program: str) -> int:
    from flags.parse import run_program

    try:
        return run_program(importlib.import_module(program).main)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def ask(function: Callable[[], Any]) -> Any:
    """What `function` returns, as JSON knows it, in a child: there it may compute.

    Raises:
      RuntimeError: it failed; what it said is on stderr.
    """
    read, write = os.pipe()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    pid = os.fork()
    if not pid:
        try:
            os.close(read)
            with open(write, "w", encoding="utf-8") as answer:
                json.dump(function(), answer)
            os._exit(0)
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(1)
    os.close(write)
    with open(read, encoding="utf-8") as answer:
        text = answer.read()
    if os.waitpid(pid, 0)[1]:
        raise RuntimeError(f"{function} failed in its process")
    return json.loads(text)


def run(arguments: Sequence[str], notes: pathlib.Path, seconds: float = 600, **more) -> Ended:
    """`start` and `wait`."""
    return start(arguments, notes, **more).wait(seconds)
