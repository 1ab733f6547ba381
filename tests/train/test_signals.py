"""Signals that end a program: when they wait, when they do not, and what the second one does."""

from __future__ import annotations

import ctypes
import pathlib
import signal
import subprocess
import sys
import threading

import pytest

from moe.train.signals import StopRequest, StopTraining, hear_again, stop_on_signals

ROOT = pathlib.Path(__file__).parents[2]
NUMBERS = (signal.SIGINT, signal.SIGTERM)


@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_waits_until_everything_is_saved(number):
    before = [signal.getsignal(n) for n in NUMBERS]
    with stop_on_signals() as stop:
        stop.check()
        signal.raise_signal(number)
        assert stop.number == number
        with pytest.raises(StopTraining, match=signal.Signals(number).name) as stopped:
            stop.check()
    assert stopped.value.exit_code == 128 + number
    assert [signal.getsignal(n) for n in NUMBERS] == before
    assert signal.set_wakeup_fd(-1) == -1


@pytest.mark.parametrize("number", NUMBERS)
def test_where_nothing_is_under_way_it_acts_at_once(number):
    with stop_on_signals() as stop:
        with pytest.raises(StopTraining), stop.at_once():
            signal.raise_signal(number)
        assert stop.number == number


def test_a_signal_that_gets_lost_is_heard_at_the_end_or_at_the_next_beginning():
    stop = StopRequest()
    with pytest.raises(StopTraining), stop.at_once():
        stop.note()  # as if a destructor had swallowed the exception
    with pytest.raises(StopTraining), stop.at_once():
        raise AssertionError("went on")


@pytest.mark.parametrize("number", NUMBERS)
def test_a_library_that_takes_a_signal_underneath_python_has_to_give_it_back(number):
    ignore = ctypes.c_void_p(1)  # SIG_IGN
    with stop_on_signals() as stop:
        ctypes.CDLL(None).signal(ctypes.c_int(number), ignore)
        signal.raise_signal(number)
        assert stop.number is None
        hear_again()
        signal.raise_signal(number)
        assert stop.number == number


def test_no_library_that_catches_exceptions_keeps_a_program_from_ending():
    assert not issubclass(StopTraining, Exception)


def test_other_threads_leave_signals_alone():
    before = [signal.getsignal(n) for n in NUMBERS]
    found = []

    def work() -> None:
        with stop_on_signals() as stop:
            stop.check()
            found.append([signal.getsignal(n) for n in NUMBERS])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [before]


@pytest.mark.parametrize(
    "busy", ["time.sleep(60)", "hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)"]
)
@pytest.mark.parametrize("number", NUMBERS)
def test_the_second_signal_ends_the_process_also_while_no_handler_can_run(number, busy):
    """A call into native code stands for an operation of TensorFlow."""
    code = f"""
import hashlib, time
from moe.train.signals import stop_on_signals
with stop_on_signals() as stop:
    print("ready", flush=True)
    for _ in range(9):
        {busy}
"""
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE)
    process.stdout.readline()
    process.send_signal(number)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.3)
    process.send_signal(number)
    assert process.wait(30) in (128 + number, -number)
