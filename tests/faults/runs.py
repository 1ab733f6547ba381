"""The small run that the harnesses disturb, and what two runs must have in common."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import pathlib
import sys
from typing import Any

import numpy as np

from tests.faults import warm

_SECONDS = 20
CHECKPOINT_STEPS = 4
FLAGS = [
    *("--mode=separate", "--dataset=digits", "--expert_head=full", "--noreport", "--notensorboard"),
    *("--gate_backbone=mlp-8", "--expert_backbone=mlp-16", "--baseline_backbone=mlp-16"),
    *("--precision=float32", "--gpus=0", "--steps_per_loop=2", "--checkpoint_seconds=100000"),
    *(f"--checkpoint_steps={CHECKPOINT_STEPS}", "--batch_size=32", "--steps=100"),
]
"""Five stages of 100 steps: baseline, gate, two experts, the blend; dropout in the last."""
GROUPS = {"low": [str(n) for n in range(5)], "high": [str(n) for n in range(5, 10)]}


def flags(folder: pathlib.Path, workdir: str) -> list[str]:
    """The command line of the run in `folder / workdir`."""
    groups = folder / "groups.json"
    if not groups.exists():
        folder.mkdir(parents=True, exist_ok=True)
        groups.write_text(json.dumps(GROUPS))
    return [*FLAGS, f"--groups={groups}", f"--workdir={folder / workdir}"]


def undisturbed(folder: pathlib.Path, *more: str) -> warm.Ended:
    """Trains `calm`, which the disturbed ones are compared with.

    Args:
      folder: where.
      more: flags besides.

    Raises:
      SystemExit: it failed, and what it said is printed.
    """
    ended = warm.run([*flags(folder, "calm"), *more], folder / "notes" / "calm")
    if ended.code:
        print(ended.err, file=sys.stderr)
        raise SystemExit(1)
    return ended


def is_too_long(ended: warm.Ended) -> bool:
    """Whether a command line that is to be short hung.

    It may take 20 seconds by the clock. Where others use the machine, too (the load average of the
    last minute, with the program's own share, is not below the number of cores), the clock says
    little, and the program may compute for 20 seconds, all its threads together.
    """
    is_calm = os.getloadavg()[0] < (os.cpu_count() or 1)
    return (ended.seconds if is_calm else ended.cpu_seconds) > _SECONDS


def digests(folder: pathlib.Path) -> dict[str, str]:
    """What every file below `folder` holds; the lock of a run is none of its content."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        if path.is_file()
        else "folder"
        for path in folder.rglob("*")
        if not path.name.endswith(".lock")
    }


def prepare_tiny_set(root: pathlib.Path) -> None:
    """Writes a set of images called `tiny` into `root`, as TFDS does, in a process of its own."""

    def prepare() -> None:
        import tensorflow_datasets as tfds
        import tfds_sets

        rng = np.random.default_rng(0)
        images = rng.integers(0, 256, (60, 8, 8, 3)).astype(np.uint8)
        drawn = [(image, number % 3) for number, image in enumerate(images)]
        splits = {"train": drawn, "test": drawn[:20]}
        image = tfds.features.Image(shape=(8, 8, 3))
        tfds.disable_progress_bar()
        with contextlib.redirect_stdout(io.StringIO()):
            tfds_sets.prepare(root, "tiny", splits, classes="abc", image=image)

    root.mkdir(parents=True)
    warm.ask(prepare)


def leftovers(workdir: pathlib.Path) -> list[str]:
    """Files and folders that only a process that was killed leaves behind."""
    checkpoints = workdir / "checkpoints"
    whole = {path.stem for path in checkpoints.glob("ckpt-*.json")}

    def is_left(path: pathlib.Path) -> bool:
        if path.parent == checkpoints and path.name.startswith("ckpt-"):
            return path.name.split(".")[0] not in whole
        return path.name == "incomplete" or path.name.endswith((".tmp", ".old"))

    return sorted(str(path.relative_to(workdir)) for path in workdir.rglob("*") if is_left(path))


def outcome(workdir: pathlib.Path) -> dict[str, Any]:
    """All of a finished run that must not depend on what happened to it, as bytes and numbers."""
    import tensorflow as tf

    reader = tf.train.load_checkpoint(str(workdir / "best" / "ckpt-1"))
    names = sorted(n for n in reader.get_variable_to_shape_map() if n.endswith("VARIABLE_VALUE"))
    with np.load(workdir / "predictions.npz", allow_pickle=False) as stored:
        predictions = {name: stored[name].tobytes() for name in sorted(stored)}
    results = json.loads((workdir / "results.json").read_text())
    records = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    for record in records:
        for clock in ("examples_per_second", "seconds"):
            record.pop(clock, None)
    return {
        "weights": {name: reader.get_tensor(name).tobytes() for name in names},
        "predictions": predictions,
        "results": {name: results[name] for name in ("validation", "test", "parts", "epochs")},
        "metrics": [record for record in records if "event" not in record],
    }


def differences(one: pathlib.Path, other: pathlib.Path) -> list[str]:
    """In what the outcomes of two finished runs differ."""
    first, second = outcome(one), outcome(other)
    return [name for name in first if first[name] != second[name]]
