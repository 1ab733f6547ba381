"""What a person sees while a run trains, and the same numbers in `metrics.jsonl`."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TextIO

import tqdm

from moe.errors import UserError
from moe.files import read_json_lines, write_whole
from moe.train.tensorboard import Board

_LINE_SECONDS = 30.0


class Reporter:
    """A bar with speed and time left on a terminal, plain lines elsewhere.

    Args:
      metrics_path: where the JSON lines go.
      board: where they go besides, for TensorBoard.
      stream: where the bar and the lines go.
      clock: seconds; an argument so that tests need not wait.

    Raises:
      UserError: in `log` and `drop` too: the file cannot be read or written.
    """

    def __init__(
        self,
        metrics_path: pathlib.Path,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
        board: Board | None = None,
    ) -> None:
        self._path = metrics_path
        self._board = board
        self._append("")
        self._stream = stream or sys.stderr
        self._clock = clock
        self._bar: tqdm.tqdm | None = None
        self._title = ""
        self._spoke_at = clock()

    def close(self) -> None:
        """Ends the bar and the files."""
        self.end_epoch()
        if self._board is not None:
            self._board.close()

    def log(self, record: Mapping[str, Any]) -> None:
        """Appends one JSON object to `metrics.jsonl`."""
        self._append(json.dumps(record) + "\n")
        if self._board is not None:
            self._board.add(record)

    def drop(self, unwanted: Callable[[Mapping[str, Any]], bool]) -> None:
        """Takes records out of `metrics.jsonl`, and whatever else is no JSON object in a line."""
        kept = [record for record in read_json_lines(self._path) if not unwanted(record)]
        write_whole(self._path, "".join(json.dumps(record) + "\n" for record in kept).encode())
        if self._board is not None:
            self._board.restart(kept)

    def say(self, line: str) -> None:
        """Prints a line, above the bar if there is one."""
        if self._bar is not None:
            self._bar.clear()
        print(line, file=self._stream, flush=True)
        self._spoke_at = self._clock()

    def start_epoch(self, title: str, done: int, steps: int, batch_size: int) -> None:
        """Opens the bar of an epoch of which `done` steps are behind already."""
        self._title, self._steps = title, steps
        self._bar = tqdm.tqdm(
            desc=title,
            total=steps * batch_size,
            initial=done * batch_size,
            unit="ex",
            unit_scale=True,
            file=self._stream,
            leave=False,
            disable=not self._stream.isatty(),
            dynamic_ncols=True,
        )

    def advance(self, done: int, examples: int, loss: float) -> None:
        """Moves the bar; where there is no terminal, says something every half minute."""
        if self._bar is not None and not self._bar.disable:
            self._bar.set_postfix_str(f"loss {loss:.4f}", refresh=False)
            self._bar.update(examples)
        elif self._clock() - self._spoke_at >= _LINE_SECONDS:
            self.say(f"{self._title}: step {done}/{self._steps}, loss {loss:.4f}")

    def end_epoch(self) -> None:
        """Takes the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _append(self, text: str) -> None:
        with _user_error(self._path), self._path.open("a", encoding="utf-8") as file:
            file.write(text)


@contextlib.contextmanager
def _user_error(path: pathlib.Path) -> Iterator[None]:
    """What the disk refuses the user can mend."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot be read or written ({error.strerror}).") from error


class Silent(Reporter):
    """For a worker that is not the chief: says and writes nothing."""

    def __init__(self) -> None:
        super().__init__(pathlib.Path(os.devnull), open(os.devnull, "w"))  # noqa: SIM115

    def log(self, record: Mapping[str, Any]) -> None:
        """Nothing."""

    def drop(self, unwanted: Callable[[Mapping[str, Any]], bool]) -> None:
        """Nothing."""
