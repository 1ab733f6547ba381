"""Flips bits of the newest checkpoint's files, one at a time.

    python -m tests.faults.byte_flips --count=300 --record

Each flip must be detected, so that the checkpoint before is taken, or must change nothing: neither
a value nor the position. A few of them are given to `train.py`, which must go on and end in the
same weights; every other one of these goes on at another interval, is killed after its next save
and finds the newest checkpoint flipped again.
"""

from __future__ import annotations

import os
import pathlib
import random
import re
import shutil
import signal
import sys
import time
from typing import Any

from tests.faults import record, runs, warm

_PATIENCE = 300
_OTHER_INTERVALS = (10, 6, 2)
"""After one of `runs.CHECKPOINT_STEPS`: the next number is above or below that of a damaged one."""
_RESUMED = 3
"""Flips, of each hundred, with which a run is really continued."""


def _begin(folder: pathlib.Path) -> None:
    """Leaves a run in `folder / "cut"` that was killed and has two checkpoints."""
    child = warm.start(runs.flags(folder, "cut"), folder / "notes" / "cut")
    checkpoints = folder / "cut" / "checkpoints"
    while not child.is_over() and len(list(checkpoints.glob("ckpt-*.json"))) < 2:
        time.sleep(0.001)
    child.send(signal.SIGKILL)
    child.wait(_PATIENCE)


def _die_after_a_save() -> None:
    """In a child: it ends as soon as its first save is complete."""
    from moe.train.checkpoint import CheckpointStore

    save = CheckpointStore.save

    def save_and_die(*args) -> None:
        save(*args)
        os.kill(os.getpid(), signal.SIGKILL)

    CheckpointStore.save = save_and_die


def _flip_the_next(rng: random.Random, folder: pathlib.Path, interval: int) -> str:
    """Continues `folder / "flipped"` at an interval, to its next save, and flips a bit of it.

    What is older than the checkpoint that was saved last must then be whole, one at least.

    Returns:
      The file and the byte.
    """
    checkpoints = folder / "flipped" / "checkpoints"
    flags = [*runs.flags(folder, "flipped"), f"--checkpoint_steps={interval}"]
    warm.run(flags, folder / "notes" / "flipped", before=_die_after_a_save)
    newest = max(checkpoints.glob("ckpt-*.json"), key=lambda path: path.stat().st_mtime_ns).stem
    path = checkpoints / f"{newest}.data-00000-of-00001"
    byte = rng.randrange(path.stat().st_size)
    flip(path, byte, rng.randrange(8))
    return f"{path.name}, byte {byte}"


def draw(rng: random.Random, folder: pathlib.Path) -> tuple[str, int, int]:
    """A file of the newest checkpoint, a byte and a bit: every file as often as every other."""
    newest = max(int(p.stem.removeprefix("ckpt-")) for p in folder.glob("ckpt-*.json"))
    path = rng.choice(sorted([*folder.glob(f"ckpt-{newest}.*"), folder / "checkpoint"]))
    return path.name, rng.randrange(path.stat().st_size), rng.randrange(8)


def flip(path: pathlib.Path, byte: int, bit: int) -> None:
    """Turns one bit around."""
    content = bytearray(path.read_bytes())
    content[byte] ^= 1 << bit
    path.write_bytes(content)


def look(folder: pathlib.Path, flips: list[tuple[str, int, int]]) -> list[str]:
    """What each flip does: `detected`, `harmless`, or what is wrong."""
    import tensorflow as tf

    from moe.train.checkpoint import CheckpointStore

    store = CheckpointStore(folder)

    def content() -> tuple[int, dict, dict[str, Any]]:
        saved = store.newest()
        reader = tf.train.load_checkpoint(str(saved.prefix))
        names = reader.get_variable_to_shape_map()
        values = {name: reader.get_tensor(name) for name in names if "VARIABLE" in name}
        return saved.number, saved.progress, {n: v.tobytes() for n, v in values.items()}

    before, found = content(), []
    for name, byte, bit in flips:
        flip(folder / name, byte, bit)
        try:
            after = content()
            if after == before:
                found.append("harmless")
            elif after[0] < before[0]:
                found.append("detected")
            else:
                found.append(f"{name}, byte {byte}, bit {bit}: other values are read")
        except Exception as error:
            found.append(f"{name}, byte {byte}, bit {bit}: {type(error).__name__}: {error}")
        flip(folder / name, byte, bit)
    return found


def main() -> int:
    options = record.parser(__doc__, count=20).parse_args()
    warm.load()
    folder = record.place("byte_flips", options)
    rng = random.Random(options.seed)
    _begin(folder)
    checkpoints = folder / "cut" / "checkpoints"
    flips = [draw(rng, checkpoints) for _ in range(options.count)]
    found = warm.ask(lambda: look(checkpoints, flips))
    faults = [text for text in found if text not in ("detected", "harmless")]
    runs.undisturbed(folder)
    resumed = max(1, _RESUMED * options.count // 100)
    for number, (name, byte, bit) in enumerate(flips[:resumed]):
        workdir = folder / "flipped"
        shutil.rmtree(workdir, ignore_errors=True)
        shutil.copytree(folder / "cut", workdir)
        flip(workdir / "checkpoints" / name, byte, bit)
        begun = f"{name}, byte {byte}"
        if number % 2 == 0:
            interval = _OTHER_INTERVALS[number // 2 % len(_OTHER_INTERVALS)]
            begun += f", and then {_flip_the_next(rng, folder, interval)}"
        ended = warm.run(runs.flags(folder, "flipped"), folder / "notes" / "flipped")
        if ended.code or not re.search(r"continuing from step [1-9]", ended.err):
            faults.append(f"{begun}: exit code {ended.code}: {ended.err[-300:]}")
            continue
        wrong = warm.ask(lambda: runs.differences(folder / "calm", folder / "flipped"))
        faults += [f"{begun}: the run ends in other {what}" for what in wrong]
    summary = {
        "flips": len(flips),
        "detected": found.count("detected"),
        "harmless": found.count("harmless"),
        "runs_continued": resumed,
    }
    return record.finish("byte_flips", options, summary, faults)


if __name__ == "__main__":
    sys.exit(main())
