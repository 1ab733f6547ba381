"""Fills the disk under a run, at random moments.

    python -m tests.faults.disk_full --count=20 --record

The run must end with one clear line and an exit code that is not 0, leave no temporary file, and
go on from the last whole checkpoint once there is room. The disk is a small tmpfs, where one can
be mounted; every other time, and elsewhere always, it is a limit on the size of a file.
"""

from __future__ import annotations

import contextlib
import functools
import os
import pathlib
import random
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator

from tests.faults import record, runs, warm

_SIZE = 8 * 2**20
_BLOCK = 4096


@contextlib.contextmanager
def _small_disk(folder: pathlib.Path) -> Iterator[bool]:
    """Mounts a tmpfs on `folder`; says whether that may be done here."""
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={_SIZE}", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(mount, capture_output=True).returncode == 0
    except OSError:
        mounted = False
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)


def _fill(folder: pathlib.Path, leave: int) -> None:
    """Writes until nothing more goes in, and gives some bytes back."""
    path = folder / "ballast"
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(_BLOCK))
    os.truncate(path, max(0, path.stat().st_size - leave))


def _limit(size: int) -> None:
    """No file of this process may grow beyond so many bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def _at_step(step: int, happens: Callable[[], None]) -> None:
    """In a child: has something happen after a step of the run; -1: before its evaluation."""
    from moe import run
    from moe.train.stage_run import StageRun

    run_loop, conclude, left = StageRun._run_loop, run.conclude, [happens]

    def noted_loop(stage, *args):
        seconds = run_loop(stage, *args)
        if left and 0 <= step <= stage._progress.total_steps:
            left.pop()()
        return seconds

    def noted_conclude(*args):
        if left:
            left.pop()()
        return conclude(*args)

    StageRun._run_loop, run.conclude = noted_loop, noted_conclude


def _try(folder: pathlib.Path, small: pathlib.Path | None, rng: random.Random, number: int):
    """One run whose disk fills up; what is wrong, and whether it ran out of room at all."""
    place = small or folder
    name = f"run-{number}"
    step = rng.choice([-1, *range(0, 480, 8)])
    if small:
        happens = functools.partial(_fill, small, rng.randrange(40) * _BLOCK)
    else:
        happens = functools.partial(_limit, rng.randrange(100, 20_000))
    flags = [*runs.flags(place, name), "--tensorboard"]
    notes = folder / "notes" / name
    ended = warm.run(flags, notes, before=functools.partial(_at_step, step, happens))
    lines = [line for line in ended.err.splitlines() if line.startswith("error: ")]
    where = f"{name}, full after step {step}, {happens.args}"
    faults = []
    if ended.code == 0:
        return [], False  # what was left was enough
    if ended.code != 2 or len(lines) != 1 or "Traceback" in ended.err:
        faults.append(f"{where}: exit code {ended.code}, {ended.err[-500:]}")
    elif not ended.err.rstrip().endswith(lines[0]):
        faults.append(f"{where}: the error is not the last line: {ended.err[-300:]}")
    faults += [f"{where}: {path} is left" for path in runs.leftovers(place / name)]
    if small:
        (small / "ballast").unlink()
    again = warm.run(flags, notes)
    if again.code or again.from_step() is None:
        faults.append(f"{where}: then exit code {again.code}: {again.err[-500:]}")
        return faults, True
    if step > 2 * runs.CHECKPOINT_STEPS and again.from_step() < step - runs.CHECKPOINT_STEPS - 2:
        faults.append(f"{where}: goes on from {again.from_step()}")
    wrong = warm.ask(lambda: runs.differences(folder / "calm", place / name))
    return faults + [f"{where}: other {what} than undisturbed" for what in wrong], True


def main() -> int:
    options = record.parser(__doc__, count=2).parse_args()
    warm.load()
    folder = record.place("disk_full", options)
    runs.undisturbed(folder, "--tensorboard")
    rng, faults = random.Random(options.seed), []
    ran_out = {"tmpfs": 0, "limit on files": 0}
    for number in range(options.count):
        with _small_disk(folder / f"disk-{number}") as mounted:
            small = folder / f"disk-{number}" if mounted and number % 2 == 0 else None
            found, full = _try(folder, small, rng, number)
            faults += found
            ran_out["tmpfs" if small else "limit on files"] += full
    found = {"runs": options.count, "that_ran_out_of_room": ran_out}
    return record.finish("disk_full", options, found, faults)


if __name__ == "__main__":
    sys.exit(main())
