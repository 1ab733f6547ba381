"""Ctrl-C and SIGTERM: finish the running loop, save, say how to continue."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator


class StopTraining(Exception):  # noqa: N818 - a request, not an error
    """Training was asked to stop, and the checkpoint is written.

    Attributes:
      exit_code: 128 + the signal's number, as a shell would report it.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


class StopRequest:
    """Remembers the first signal; the second one acts at once."""

    def __init__(self) -> None:
        self.number: int | None = None

    def note(self, number: int = signal.SIGTERM) -> None:
        """Asks for a stop, as the first signal does."""
        if self.number is None:
            self.number = number

    def check(self) -> None:
        """Raises `StopTraining` if a signal came. Call where everything is saved."""
        if self.number is not None:
            raise StopTraining(self.number)


@contextlib.contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """While open, the first SIGINT or SIGTERM is only noted."""
    request = StopRequest()
    numbers = (signal.SIGINT, signal.SIGTERM)

    def note(number: int, frame: object) -> None:
        del frame
        request.note(number)
        signal.signal(number, signal.SIG_DFL)

    before = {number: signal.signal(number, note) for number in numbers}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
