"""Ctrl-C and SIGTERM: finish the running loop, save, say how to continue."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator

_NUMBERS = (signal.SIGINT, signal.SIGTERM)


class StopTraining(KeyboardInterrupt):
    """The program was asked to stop, and whatever had to be saved is.

    Attributes:
      exit_code: 128 + the signal's number, as a shell would report it.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


class StopRequest:
    """Remembers the first signal."""

    def __init__(self) -> None:
        self.number: int | None = None
        self._waits = True

    def note(self, number: int = signal.SIGTERM) -> None:
        """Asks for a stop, as the first signal does."""
        if self.number is None:
            self.number = number

    def check(self) -> None:
        """Raises `StopTraining` if a signal came. Call where everything is saved."""
        if self.number is not None:
            raise StopTraining(self.number)

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """While open there is nothing to finish or save: a signal raises `StopTraining`."""
        self.check()
        before, self._waits = self._waits, False
        try:
            yield
        finally:
            self._waits = before
        # An exception that a signal raises inside of a destructor or of a callback gets lost.
        self.check()

    def take(self, number: int) -> None:
        """What a signal handler does."""
        self.note(number)
        if not self._waits:
            self.check()


@contextlib.contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """While open, the first SIGINT or SIGTERM is noted, and the second ends the process.

    It does so at once, also in the middle of an operation of TensorFlow, during which no handler
    in Python runs: a thread hears of signals by a pipe. Only the main thread can do all this; in
    others signals stay what they are.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def take(number: int, frame: object) -> None:
        del frame
        for each in _NUMBERS:
            signal.signal(each, signal.SIG_DFL)
        request.take(number)

    heard, written = os.pipe()
    os.set_blocking(written, False)
    pipe_before = signal.set_wakeup_fd(written, warn_on_full_buffer=False)
    before = {number: signal.signal(number, take) for number in _NUMBERS}
    threading.Thread(target=_end_at_the_second, args=(heard,), daemon=True).start()
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(pipe_before)
        os.close(written)  # ends the thread


def hear_again() -> None:
    """Puts the handlers back that a library replaced underneath Python.

    Where workers are connected TensorFlow takes SIGTERM for itself: a notice of preemption that
    nobody reads. Python would go on saying that its own handler is there.
    """
    if threading.current_thread() is threading.main_thread():
        for number in _NUMBERS:
            if (handler := signal.getsignal(number)) is not None:
                signal.signal(number, handler)


def _end_at_the_second(pipe: int) -> None:
    """Reads numbers of signals until the other end is closed; the second one ends the process."""
    seen = 0
    while numbers := os.read(pipe, 64):
        for number in numbers:
            seen += number in _NUMBERS
            if seen > 1:
                os._exit(128 + number)
    os.close(pipe)
