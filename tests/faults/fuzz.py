"""Command lines put together by chance, given to the real programs.

    python -m tests.faults.fuzz --count=500 --record

Each must train (or evaluate) and end with exit code 0, or end with exit code 2 and one line that
says what is wrong; none may print a traceback, take longer than 20 seconds, or damage a folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import pathlib
import random
import shutil
import sys
import tempfile

import numpy as np
from PIL import Image

from tests.faults import record, runs, warm

_SECONDS = 20
_PATIENCE = 180
"""On a machine that others use too: what counts are the seconds that a program computes."""
_SMALL = [
    *("--noreport", "--steps=2", "--gpus=0", "--precision=float32", "--batch_size=8"),
    *("--gate_backbone=mlp-4", "--expert_backbone=mlp-4", "--baseline_backbone=mlp-4"),
]
_TRAINING = {
    "mode": ["joint", "joint", "separate", "staged", "baseline", "gate", "experts"],
    "dataset": ["digits", "iris", "wine", "csv:table.csv?label=y", "folder:photos"],
    "groups": ["none:2", "none:3", "semantic", "halves.json", "auto:2"],
    "routing": ["soft", "hard", "topk", "noisy_topk", "expert_choice"],
    "top_k": ["1", "2"],
    "expert_head": ["full", "group"],
    "baseline": ["true", "false"],
    "boost": ["none", "scalar", "per_class"],
    "gate_temperature": ["0.5", "2"],
    "balance_bias": ["0", "0.01"],
    "mixture_loss": ["likelihood", "expected"],
    "gate_supervision": ["0", "1"],
    "baseline_loss": ["0", "1"],
    "expert_loss": ["0", "1"],
    "balance_loss": ["0", "0.1"],
    "importance_loss": ["0.1"],
    "load_loss": ["0.1"],
    "z_loss": ["0.001"],
    "validation_fraction": ["0.2", "0.5"],
    "train_examples": ["60", "90"],
    "data_seed": ["0", "7"],
    "seed": ["0", "12345"],
    "augment": ["none", "flip", "flip_crop"],
    "steps": ["1", "2"],
    "epochs": ["1"],
    "patience": ["0", "1"],
    "monitor": ["accuracy", "loss"],
    "class_weights": ["balanced"],
    "batch_size": ["4", "8", "16"],
    "optimizer": ["sgd", "momentum", "nesterov", "adam", "adamw"],
    "learning_rate": ["0.1", "1e-4"],
    "schedule": ["constant", "cosine", "triangular"],
    "weight_decay": ["0.01"],
    "accumulate": ["1", "2"],
    "capacity_factor": ["0.5", "2"],
    "cpu_replicas": ["1", "2"],
    "precision": ["float32", "mixed_bfloat16", "mixed_float16", "auto"],
    "steps_per_loop": ["1", "2"],
    "jit_compile": ["false"],
    "tensorboard": ["false"],
    "deterministic": ["true"],
    "on_unhealthy": ["warn", "stop"],
    "on_nonfinite": ["stop", "skip", "rollback"],
    "checkpoint_steps": ["0", "1"],
    "checkpoint_seconds": ["1"],
    "keep": ["1", "3"],
    "gate_backbone": ["mlp-4", "mlp-8-4", "tiny"],
    "expert_backbone": ["mlp-4", "tiny"],
    "init_from": ["run", "run:gate"],
    "skip_unreadable": ["true"],
    "image_size": ["8"],
    "workdir": ["new", "run"],
}
_EVALUATION = {
    "workdir": ["run", "run", "run"],
    "routing": ["soft", "hard", "topk", "uniform,random", "oracle_best", "expert:expert_1"],
    "top_k": ["1", "2"],
    "gate_threshold": ["0.1"],
    "eval_split": ["test", "validation"],
    "precision": ["float32", "mixed_bfloat16"],
    "batch_size": ["64"],
    "report": ["false"],
    "predict": ["table.csv", "photos/a/*.png"],
    "compare": ["run,run"],
}
_WILD = [
    *(
        "",
        "0",
        "-1",
        "1e999",
        "nan",
        "None",
        "many",
        "../..",
        "/",
        "gone",
        "1,2",
        "%s%n",
        "=",
        "--",
    ),
    *("Ünïcödé", "x" * 300, "[1]", "{}", "null", " ", "none:1000000", "csv:", "folder:", "a:b->c"),
]


def command_line(rng: random.Random) -> tuple[str, list[str]]:
    """A program and its arguments: sane ones, or with something wild among them."""
    program = rng.choices(["train", "eval"], [5, 1])[0]
    values = _TRAINING if program == "train" else _EVALUATION
    given = {"dataset": "digits", "groups": "none:3", "workdir": "new"}
    if rng.random() < 0.7:
        given["baseline"] = "false"
    if program == "eval":
        given = {"workdir": "run", "report": "false"}
    is_wild = rng.random() < 0.35
    for name in rng.sample(sorted(values), rng.randint(1, 6)):
        given[name] = rng.choice(values[name])
        if is_wild and rng.random() < 0.4:
            given[name] = rng.choice(_WILD)
    flags = [f"--{name}={value}" for name, value in given.items()]
    if is_wild and rng.random() < 0.2:
        flags.insert(
            rng.randint(0, len(flags)), rng.choice([*_WILD, "--nonsense", "--seed", "-h="])
        )
    return program, [*_SMALL, *flags] if program == "train" else flags


def _prepare(folder: pathlib.Path) -> None:
    """Data of one's own to name in a flag."""
    rng = np.random.default_rng(0)
    rows = [f"{n},{n % 7},{'ab'[n % 2]}" for n in range(90)]
    (folder / "table.csv").write_text("\n".join(["x,z,y", *rows]) + "\n")
    (folder / "halves.json").write_text(json.dumps(runs.GROUPS))
    for name in "abc":
        (folder / "photos" / name).mkdir(parents=True)
        for number in range(40):
            pixels = rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "photos" / name / f"{number}.png")


def _digests(folder: pathlib.Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith(".lock")
    }


def _check(program: str, ended: warm.Ended, folder: pathlib.Path, before: dict[str, str]) -> str:
    """What is wrong with an answer, or nothing."""
    lines = [line for line in ended.err.splitlines() if not line.startswith("warning: ")]
    if "Traceback" in ended.err + ended.out:
        return ended.err[-800:]
    if ended.cpu_seconds > _SECONDS:
        return f"took {ended.cpu_seconds:.0f} s of computing"
    if ended.code == 2:
        if not lines or not lines[-1].startswith("error: "):
            return f"exit code 2, and says {ended.err[-300:]!r}"
        # One that was begun says what it does before it fails; one that is refused says nothing.
        if len(lines) == 1 and _digests(folder) != before:
            return f"was refused ({lines[0]}), and changed files"
    elif ended.code:
        return f"exit code {ended.code}: {ended.err[-300:]}"
    elif program == "train" and (folder / "new" / "config.json").exists():
        for name in ("config.json", "results.json", "evaluation.json"):
            json.loads((folder / "new" / name).read_text())
        left = runs.leftovers(folder / "new")
        return f"leaves {left}" if left else ""
    return ""


def main() -> int:
    options = record.parser(__doc__, count=20).parse_args()
    warm.load()
    folder = options.folder or pathlib.Path(tempfile.mkdtemp(prefix="fuzz-"))
    origin = folder / "origin"
    origin.mkdir(parents=True)
    _prepare(origin)
    first = ["--dataset=digits", "--groups=none:3", "--workdir=run"]
    ended = warm.run([*_SMALL, *first], folder / "notes", folder=origin)
    if ended.code:
        print(ended.err, file=sys.stderr)
        return 1
    before = _digests(origin)
    rng = random.Random(options.seed)
    faults: list[str] = []
    codes: dict[int, int] = {}
    longest = most = 0.0
    for number in range(options.count):
        program, flags = command_line(rng)
        place = folder / "place"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(origin, place)
        try:
            ended = warm.run(flags, folder / "notes", _PATIENCE, program=program, folder=place)
        except TimeoutError as error:
            faults.append(f"{number}: {program}.py {' '.join(flags)}: {error}")
            continue
        longest, most = max(longest, ended.seconds), max(most, ended.cpu_seconds)
        codes[ended.code] = codes.get(ended.code, 0) + 1
        wrong = _check(program, ended, place, before)
        if wrong:
            faults.append(f"{number}: {program}.py {' '.join(flags)}: {wrong}")
            print(faults[-1], file=sys.stderr, flush=True)
    found = {
        "command_lines": options.count,
        "valid_ones_that_ran": codes.get(0, 0),
        "refused_with_exit_code_2": codes.get(2, 0),
        "longest_seconds": round(longest, 1),
        "most_cpu_seconds": round(most, 1),
    }
    with contextlib.suppress(OSError):
        shutil.rmtree(folder / "place")
    return record.finish("fuzz", options, found, faults)


if __name__ == "__main__":
    sys.exit(main())
