"""Kills training with signal 9 again and again, a third of the times during a save.

    python -m tests.faults.kill_storm --count=100 --record

One run is killed and started again until it was killed often enough, then left to finish; then the
next one begins. Every start must say from which step it goes on, lose no more than one checkpoint
interval and tidy up; every finished run must equal one that nobody disturbed, bit for bit.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import pathlib
import random
import signal
import sys
import time

from tests.faults import record, runs, warm

_KILLS_A_RUN = 20
_PATIENCE = 300
_MOMENTS = {"save": 0.004, "step": 0.03, "any": 0.0}
"""Kinds of moments, and the seconds that may pass after one before the kill."""


def _spy(steps: warm.Shared, workdir: pathlib.Path, notes: pathlib.Path) -> None:
    """Has this process note the steps it has done, and what lies about when it begins to train."""
    from moe.train.stage_run import StageRun

    run_loop, train = StageRun._run_loop, StageRun.train
    found = notes / "leftovers.json"

    def noted_loop(stage, *args):
        seconds = run_loop(stage, *args)
        steps.value = stage._progress.total_steps
        return seconds

    def noted_train(stage):
        if not found.exists():
            found.write_text(json.dumps(runs.leftovers(workdir)))
        train(stage)

    StageRun._run_loop, StageRun.train = noted_loop, noted_train


@dataclasses.dataclass
class Storm:
    """The whole of it, and what it found."""

    folder: pathlib.Path
    rng: random.Random
    life_seconds: float
    steps: warm.Shared = dataclasses.field(default_factory=lambda: warm.Shared(-1))
    kills: dict[str, int] = dataclasses.field(default_factory=lambda: dict.fromkeys(_MOMENTS, 0))
    in_save: int = 0
    starts: int = 0
    above_0: int = 0
    most_lost: int = 0
    differ: int = 0
    faults: list[str] = dataclasses.field(default_factory=list)

    def disturb(self, name: str, kills: int) -> None:
        """Kills one run so many times, unless it ends before, and then leaves it alone."""
        workdir, done = self.folder / name, 0
        for life in range(kills + 1):
            notes = self.folder / "notes" / f"{name}-{life}"
            self.steps.value = -1
            child = warm.start(
                runs.flags(self.folder, name),
                notes,
                before=functools.partial(_spy, self.steps, workdir, notes),
            )
            moment = self._moment()
            if life < kills:
                self._kill(child, moment, workdir)
            ended = child.wait(_PATIENCE)
            self._check(f"{name}, life {life}", ended, notes, done)
            if ended.code != -signal.SIGKILL:
                break
            if self.steps.value >= 0:
                done = self.steps.value
            self.kills[moment] += 1
            self.in_save += bool(runs.leftovers(workdir))
        if ended.code:
            self.faults.append(f"{name}: exit code {ended.code}: {ended.err[-500:]}")
            return
        calm = self.folder / "calm"
        wrong = warm.ask(lambda: runs.differences(calm, workdir))
        self.differ += bool(wrong)
        self.faults += [f"{name}: other {what} than undisturbed" for what in wrong]

    def _moment(self) -> str:
        """A third of the kills must really have hit a save; the other moments follow by chance."""
        if self.in_save * 3 <= sum(self.kills.values()):
            return "save"
        return self.rng.choice(["step", "any"])

    def _kill(self, child: warm.Child, moment: str, workdir: pathlib.Path) -> None:
        """Waits for a moment of a kind and kills the child, unless it ends before."""
        aside = workdir / "checkpoints" / "incomplete"
        at = time.monotonic() + self.rng.uniform(0, self.life_seconds)
        left, was_there, steps = self.rng.randint(1, 6), False, -1
        while not child.is_over() and left > 0:
            if moment == "any":
                left = at > time.monotonic()
            elif moment == "save":
                is_there = aside.exists()
                left -= is_there and not was_there
                was_there = is_there
            elif self.steps.value > steps:
                left, steps = left - 1, self.steps.value
            time.sleep(0.0003)
        time.sleep(self.rng.uniform(0, _MOMENTS[moment]))
        child.send(signal.SIGKILL)

    def _check(self, where: str, ended: warm.Ended, notes: pathlib.Path, done: int) -> None:
        if "Traceback" in ended.err:
            self.faults.append(f"{where}: {ended.err[-500:]}")
        step = ended.from_step()
        if step is not None:
            self.starts += 1
            self.above_0 += step > 0
            self.most_lost = max(self.most_lost, done - step)
            if done - step > runs.CHECKPOINT_STEPS:
                self.faults.append(f"{where}: {done} steps were done, it went on from {step}")
        elif self.steps.value >= 0:
            self.faults.append(f"{where}: does not say from which step it goes on")
        if (notes / "leftovers.json").exists():
            found = json.loads((notes / "leftovers.json").read_text())
            self.faults += [f"{where}: {path} is still there" for path in found]


def main() -> int:
    options = record.parser(__doc__, count=5).parse_args()
    warm.load()
    folder = record.place("kill_storm", options)
    calm = runs.undisturbed(folder)
    storm = Storm(folder, random.Random(options.seed), calm.seconds)
    number = 0
    while (left := options.count - sum(storm.kills.values())) > 0 and not storm.faults:
        storm.disturb(f"run-{number}", min(_KILLS_A_RUN, left))
        number += 1
    found = {
        "kills": sum(storm.kills.values()),
        "kills_aimed_at": storm.kills,
        "kills_during_a_save": storm.in_save,
        "starts_that_said_their_step": storm.starts,
        "starts_above_step_0": storm.above_0,
        "checkpoint_steps": runs.CHECKPOINT_STEPS,
        "most_steps_lost": storm.most_lost,
        "runs_finished": number,
        "runs_other_than_undisturbed": storm.differ,
    }
    return record.finish("kill_storm", options, found, storm.faults)


if __name__ == "__main__":
    sys.exit(main())
