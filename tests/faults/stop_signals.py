"""Sends SIGTERM and Ctrl-C to training, in every phase of it.

    python -m tests.faults.stop_signals --count=28 --record

Each time the run must end with exit code 143 or 130 within seconds, say how to go on, and end in
the same weights as an undisturbed one. Every fourth time a second signal follows at once.
"""

from __future__ import annotations

import functools
import random
import signal
import sys
import time
from collections.abc import Callable

from tests.faults import record, runs, warm

_PATIENCE = 300
_MOST_SECONDS = 5.0
PHASES = ("data", "build", "compile", "train", "validate", "save", "evaluate")
_WIDTH = 0.2
"""Seconds that each phase is made to last longer, so that a signal surely falls into it."""


def _enter(phase: str, passes: int, entered: warm.Shared) -> None:
    """In a child: marks that it is in a phase, at the so manieth time."""
    from moe import run
    from moe.train import checkpoint, stage_run, validation
    from moe.workspace import Workspace

    owner, name = {
        "data": (run, "open_workspace"),
        "build": (Workspace, "build"),
        "compile": (stage_run, "make_train_loop"),
        "train": (stage_run.StageRun, "_run_loop"),
        "validate": (validation.Validation, "_judge"),
        "save": (checkpoint, "digest_of"),
        "evaluate": (run, "conclude"),
    }[phase]
    left = [passes]

    def marked(original: Callable) -> Callable:
        def entering(*args, **kwargs):
            left[0] -= 1
            if left[0] == 0:
                entered.value = 1
                until = time.monotonic() + _WIDTH
                while time.monotonic() < until:  # a sleep would be cut short by the signal
                    pass
            return original(*args, **kwargs)

        return entering

    if phase == "validate":  # an attribute of the object
        start = owner.__init__

        def init(self, *args):
            start(self, *args)
            self._judge = marked(self._judge)

        owner.__init__ = init
    else:
        setattr(owner, name, marked(getattr(owner, name)))


def main() -> int:
    options = record.parser(__doc__, count=7).parse_args()
    warm.load()
    folder = record.place("stop_signals", options)
    runs.undisturbed(folder)
    rng, faults = random.Random(options.seed), []
    stopped: dict[str, int] = dict.fromkeys(PHASES, 0)
    longest, twice, workdir, number = 0.0, 0, 0, 0
    while number < options.count:
        phase = PHASES[number % len(PHASES)]
        sent = (signal.SIGTERM, signal.SIGINT)[number // len(PHASES) % 2]
        second = number % 4 == 3
        passes = {"train": rng.randint(1, 9), "save": rng.randint(1, 12)}.get(phase, 1)
        name = f"run-{workdir}"
        where = f"{number}: {name}, {sent.name} in {phase}"
        entered = warm.Shared(0)
        child = warm.start(
            runs.flags(folder, name),
            folder / "notes" / str(number),
            before=functools.partial(_enter, phase, passes, entered),
        )
        while not entered.value and not child.is_over():
            time.sleep(0.001)
        time.sleep(rng.uniform(0, _WIDTH / 2))
        at = time.monotonic()
        child.send(sent)
        if second:
            time.sleep(0.02)
            child.send(sent)
            twice += 1
        ended = child.wait(_PATIENCE)
        seconds = time.monotonic() - at
        number += 1
        longest = max(longest, seconds)
        if ended.code not in ((128 + sent, -sent) if second else (128 + sent,)):
            faults.append(f"{where}: exit code {ended.code}: {ended.err[-500:]}")
        said = f"stopped ({sent.name}); continue with: "
        if not second and said not in ended.err:
            faults.append(f"{where}: does not say how to go on: {ended.err[-500:]}")
        if "Traceback" in ended.err:
            faults.append(f"{where}: {ended.err[-800:]}")
        if seconds > _MOST_SECONDS:
            faults.append(f"{where}: took {seconds:.1f} s to end")
        stopped[phase] += 1
        if phase == "evaluate" or number == options.count:
            ended = warm.run(runs.flags(folder, name), folder / "notes" / "end")
            if ended.code:
                faults.append(f"{name}: exit code {ended.code}: {ended.err[-500:]}")
            else:
                wrong = warm.ask(lambda name=name: runs.differences(folder / "calm", folder / name))
                faults += [f"{name}: other {what} than undisturbed" for what in wrong]
            workdir += 1
    found = {
        "signals_by_phase": stopped,
        "second_signals": twice,
        "longest_seconds_to_the_end": round(longest, 2),
    }
    return record.finish("stop_signals", options, found, faults)


if __name__ == "__main__":
    sys.exit(main())
