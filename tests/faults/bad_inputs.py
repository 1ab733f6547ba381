"""A hundred things that a user can get wrong, each given to the real programs.

    python -m tests.faults.bad_inputs --record

Each must end with exit code 2 and one line on stderr that says what is wrong, must print no
traceback, not hang (`runs.is_too_long`), and leave every file as it was. A cache that cannot be
written is all the same done without.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pathlib
import random
import re
import shutil
import sys
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image

from tests.faults import record, runs, warm

_PATIENCE = 180
_SHORT = [
    *("--dataset=digits", "--groups=none:3", "--nobaseline", "--noreport", "--notensorboard"),
    *("--gate_backbone=mlp-4", "--expert_backbone=mlp-4", "--steps=4", "--precision=float32"),
    *("--gpus=0", "--checkpoint_steps=2", "--steps_per_loop=1"),
]
_RUN = [*_SHORT, "--workdir=run"]


def _nothing() -> None:
    """The folder is all right as it is."""


class Case(NamedTuple):
    """Something wrong.

    Attributes:
      says: a regular expression that the line must match.
      flags: the command line, after what every run has; a list: all of it.
      make: what is done in the folder first; there are a finished run in `run` and a set of images
        in `tfds`.
      program: `train` or `eval`.
      code: the exit code; 0: what is wrong costs time and no more.
      cache: where decoded data shall be kept.
    """

    says: str
    flags: str | list[str]
    make: Callable[[], None] = _nothing
    program: str = "train"
    code: int = 2
    cache: str = ""


def _write(path: str, text: str | bytes) -> Callable[[], None]:
    def write() -> None:
        pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
        content = text if isinstance(text, bytes) else text.encode()
        pathlib.Path(path).write_bytes(content)

    return write


def _images(sizes: dict[str, list[int]]) -> Callable[[], None]:
    """Folders of images in `photos`, by class the edge of each."""

    def make() -> None:
        rng = np.random.default_rng(0)
        for name, edges in sizes.items():
            folder = pathlib.Path("photos", name)
            folder.mkdir(parents=True)
            for number, edge in enumerate(edges):
                pixels = rng.integers(0, 256, (edge, edge, 3)).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")

    return make


def _table(*lines: str) -> Callable[[], None]:
    rows = [f"{n},{n % 7},{'ab'[n % 2]}" for n in range(40)]
    return _write("table.csv", "\n".join(["x,z,y", *rows, *lines]) + "\n")


def _all(*makes: Callable[[], None]) -> Callable[[], None]:
    def make() -> None:
        for each in makes:
            each()

    return make


def _change(path: str, change: Callable[[dict], None]) -> Callable[[], None]:
    """Changes a JSON file of the run."""

    def make() -> None:
        content = json.loads(pathlib.Path(path).read_text())
        change(content)
        pathlib.Path(path).write_text(json.dumps(content))

    return make


def _remove(*patterns: str) -> Callable[[], None]:
    def make() -> None:
        for pattern in patterns:
            for path in pathlib.Path().glob(pattern):
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    return make


def _flip(pattern: str) -> Callable[[], None]:
    def make() -> None:
        for path in pathlib.Path().glob(pattern):
            content = bytearray(path.read_bytes())
            content[len(content) // 2] ^= 1
            path.write_bytes(content)

    return make


def _link() -> None:
    shutil.move("run/checkpoints", "elsewhere")
    os.symlink(os.path.abspath("elsewhere"), "run/checkpoints")


def _tiny_set(damage: Callable[[pathlib.Path], None]) -> Callable[[], None]:
    """Damages the training records of the set of TFDS in `tfds`."""

    def make() -> None:
        (records,) = pathlib.Path("tfds").glob("tiny/1.0.0/tiny-train.tfrecord*")
        damage(records)

    return make


def _cut(path: pathlib.Path) -> None:
    os.truncate(path, path.stat().st_size - 7)


def _cut_between(path: pathlib.Path) -> None:
    """Whole records, and fewer of them: one is 8 + 4 + its length + 4 bytes long."""
    size = int.from_bytes(path.read_bytes()[:8], "little")
    os.truncate(path, size + 16)


def _flip_in(place: float) -> Callable[[pathlib.Path], None]:
    def flip(path: pathlib.Path) -> None:
        content = bytearray(path.read_bytes())
        content[int(place * len(content))] ^= 1
        path.write_bytes(content)

    return flip


def _lock() -> None:
    """By this process, which is none of the program's."""
    fcntl.flock(os.open("run/.lock", os.O_RDWR | os.O_CREAT), fcntl.LOCK_EX)


_UNFINISHED = _remove("run/results.json", "run/best")
_GROUPS = {"low": list("01234"), "high": list("56789")}


def _groups(content: object) -> Callable[[], None]:
    text = content if isinstance(content, str) else json.dumps(content)
    return _write("groups.json", text)


_TINY = [
    *("--noreport", "--groups=none:3", "--gate_backbone=mlp-4", "--expert_backbone=mlp-4"),
    *(
        "--steps=2",
        "--batch_size=8",
        "--gpus=0",
        "--dataset=tiny",
        "--data_dir=tfds",
        "--nobaseline",
    ),
]
_RECORDS = r"tiny-train\.tfrecord"

CASES = {
    # --- one flag ---
    "mode": Case("--mode=x: must be one of", "--mode=x"),
    "unknown flag": Case("nonsense", "--nonsense=1"),
    "no number": Case("batch_size=many", "--batch_size=many"),
    "batch of none": Case("--batch_size=0: must be greater than 0", "--batch_size=0"),
    "rate nan": Case("--learning_rate=nan: must be", "--learning_rate=nan"),
    "rate inf": Case("--learning_rate=inf: must be", "--learning_rate=inf"),
    "rate negative": Case("--learning_rate=-1", "--learning_rate=-1"),
    "stray word": Case("'joint': flags look like", "joint"),
    "flagfile gone": Case("--flagfile: cannot be read .*nowhere", "--flagfile=nowhere.flags"),
    "flagfile of bytes": Case(
        "--flagfile: cannot be read", "--flagfile=a.flags", _write("a.flags", b"\xff\xfe\x00")
    ),
    "routing": Case("--routing=sideways: must be one of", "--routing=sideways"),
    "experts none": Case("--groups=none:0: must be", "--groups=none:0"),
    "experts many": Case("--groups=none:many: must be", "--groups=none:many"),
    "auto of one": Case("--groups=auto:1: must be", "--groups=auto:1"),
    "groups_from alone": Case("--groups_from names the baseline", "--groups_from=run"),
    "temperature": Case("--gate_temperature=0.0: must be", "--gate_temperature=0"),
    "all is validation": Case("--validation_fraction=1.0: must be", "--validation_fraction=1"),
    "no step": Case("--steps=0: must be greater", "--steps=0"),
    "epochs": Case("--epochs=-1: must be greater", "--epochs=-1"),
    "precision": Case("--precision=float64: must be one of", "--precision=float64"),
    "optimizer": Case("--optimizer=lion: must be one of", "--optimizer=lion"),
    "schedule": Case("--schedule=linear: must be one of", "--schedule=linear"),
    "monitor": Case("--monitor=luck: must be one of", "--monitor=luck"),
    "keep none": Case("--keep=0: must be greater", "--keep=0"),
    "interval": Case("--checkpoint_seconds=nan: must be", "--checkpoint_seconds=nan"),
    "on_nonfinite": Case("--on_nonfinite=pray: must be one of", "--on_nonfinite=pray"),
    "on_unhealthy": Case("--on_unhealthy=pray: must be one of", "--on_unhealthy=pray"),
    "seed": Case("--seed=-1: must be 0 or more", "--seed=-1"),
    "init_from": Case("--init_from=a->b: must be RUN", "--init_from=a->b"),
    # --- flags that do not go together ---
    "top_k of soft": Case("--top_k=2: must be 1", "--top_k=2"),
    "bias of soft": Case("--balance_bias=0.1: steers", "--balance_bias=.1"),
    "load without noise": Case("--load_loss=1.0: without noise", "--load_loss=1"),
    "boost of nothing": Case("--boost=scalar: must be none", "--boost=scalar"),
    "no baseline": Case("--mode=baseline trains", "--mode=baseline"),
    "expected of one": Case(
        "--mixture_loss=expected gives the gate no", "--mixture_loss=expected --routing=hard"
    ),
    "expected of groups": Case(
        "--mixture_loss=expected is infinite", "--mixture_loss=expected --expert_head=group"
    ),
    "adamw": Case("--optimizer=adamw: must be given", "--optimizer=adamw"),
    "export of a gate": Case("--export: --mode=gate trains", "--export --mode=gate"),
    "gpus forbidden": Case("--require_gpus asks for", "--require_gpus"),
    # --- flags that do not fit the data or the machine ---
    "too many chosen": Case("--top_k=9: there are 3 experts", "--routing=topk --top_k=9"),
    "noise decides nothing": Case("so noise decides nothing", "--routing=noisy_topk --top_k=3"),
    "gpus gone": Case("--gpus=7: 0 visible", "--require_gpus --gpus=7"),
    "xla of replicas": Case("--jit_compile: works on one", "--jit_compile --cpu_replicas=2"),
    "uneven replicas": Case("3 replicas cannot share it", "--cpu_replicas=3"),
    "uneven slices": Case("cannot be cut into --accumulate=3", "--accumulate=3"),
    "more than there is": Case("the training split has", "--train_examples=1000000"),
    "hardly any": Case("examples", "--train_examples=3"),
    "no validation": Case("leaves 0 of", "--validation_fraction=0.0001"),
    "large batch": Case("has only 1295 training", "--batch_size=100000"),
    "size of rows": Case("--image_size=9: digits has no images", "--image_size=9"),
    "unreadable rows": Case("--skip_unreadable: is for", "--skip_unreadable"),
    "flipped rows": Case("--augment=flip is for images", "--augment=flip"),
    "heads of nobody": Case("--expert_head=group needs named", "--expert_head=group"),
    "supervision": Case("--gate_supervision needs named", "--gate_supervision=1"),
    "separate of nobody": Case("--mode=separate trains on named", "--mode=separate"),
    "backbone": Case("nowhere", "--gate_backbone=nowhere"),
    "backbone module": Case("no.such", "--gate_backbone=no.such.module:function"),
    "backbone width": Case("mlp-0", "--expert_backbone=mlp-0"),
    "weights gone": Case("--class_weights=gone.json: cannot", "--class_weights=gone.json"),
    "weights of strangers": Case(
        "zebra", "--class_weights=w.json", _write("w.json", '{"zebra": 2}')
    ),
    "start gone": Case("--init_from=gone", "--init_from=gone"),
    # --- data sets ---
    "kind of data": Case("--dataset=what:1: must be auto", "--dataset=what:1"),
    "csv gone": Case("gone.csv", "--dataset=csv:gone.csv?label=y"),
    "csv without label": Case("--dataset=csv:table.csv", "--dataset=csv:table.csv", _table()),
    "csv other label": Case("w", "--dataset=csv:table.csv?label=w", _table()),
    "csv text": Case("line 42", "--dataset=csv:table.csv?label=y", _table("five,1,a")),
    "csv nan": Case(
        "column 'x' is empty",
        "--dataset=csv:t.csv?label=y",
        _write("t.csv", "x,y\n" + "nan,a\nnan,b\n" * 9),
    ),
    "csv inf": Case("line 42", "--dataset=csv:table.csv?label=y", _table("inf,1,a")),
    "csv ragged": Case("line 42", "--dataset=csv:table.csv?label=y", _table("1,1,1,a")),
    "csv no label there": Case("line 42", "--dataset=csv:table.csv?label=y", _table("1,1,")),
    "csv single": Case("needs two examples", "--dataset=csv:table.csv?label=y", _table("1,1,c")),
    "csv one class": Case(
        "has one class only", "--dataset=csv:t.csv?label=y", _write("t.csv", "x,y\n1,a\n2,a\n")
    ),
    "csv empty": Case("t.csv", "--dataset=csv:t.csv?label=y", _write("t.csv", "")),
    "csv of bytes": Case("t.csv", "--dataset=csv:t.csv?label=y", _write("t.csv", b"\xff\xfe,\x00")),
    "folder gone": Case("photos", "--dataset=folder:photos"),
    "folder empty": Case("photos", "--dataset=folder:photos", lambda: os.mkdir("photos")),
    "folder flat": Case("photos", "--dataset=folder:photos", _write("photos/a.png", b"")),
    "folder of no images": Case(
        "photos/a/x.png: is no image",
        "--dataset=folder:photos",
        _all(_images({"a": [8] * 5, "b": [8] * 5}), _write("photos/a/x.png", "no image")),
    ),
    "folder cut": Case(
        "photos/a/0.png: is no image",
        "--dataset=folder:photos",
        _all(
            _images({"a": [8] * 5, "b": [8] * 5}),
            lambda: os.truncate("photos/a/0.png", 60),
        ),
    ),
    "folder empty class": Case(
        "photos/b: is the folder of a class and empty",
        "--dataset=folder:photos",
        _all(_images({"a": [8] * 5}), lambda: os.mkdir("photos/b")),
    ),
    "folder sizes": Case(
        "use --image_size=N", "--dataset=folder:photos", _images({"a": [8, 9, 8], "b": [8] * 3})
    ),
    "records cut": Case(f"{_RECORDS}.*damaged or cut", _TINY, _tiny_set(_cut)),
    "records gone": Case(
        f"{_RECORDS}.*holds 1 records instead of 60", _TINY, _tiny_set(_cut_between)
    ),
    "records empty": Case(_RECORDS, _TINY, _tiny_set(lambda path: os.truncate(path, 0))),
    "no records": Case("tiny", _TINY, _tiny_set(lambda path: path.unlink())),
    "record flipped": Case(f"{_RECORDS}.*damaged or cut", _TINY, _tiny_set(_flip_in(0.5))),
    "length flipped": Case(f"{_RECORDS}.*damaged or cut", _TINY, _tiny_set(_flip_in(0))),
    "set described wrongly": Case(
        "tiny", _TINY, _tiny_set(lambda path: os.truncate(path.with_name("dataset_info.json"), 99))
    ),
    "no cache": Case("starting from step 0", [*_TINY, "--workdir=new"], code=0, cache="/proc/x"),
    "cache is a file": Case(
        "starting from step 0", [*_TINY, "--workdir=new"], _write("file", ""), code=0, cache="file"
    ),
    # --- groups ---
    "groups gone": Case("--groups=gone.json", "--groups=gone.json"),
    "groups no json": Case("cannot be read as JSON", "--groups=groups.json", _groups("{")),
    "groups list": Case("groups.json", "--groups=groups.json", _groups([["1"], ["2"]])),
    "group twice": Case(
        "is there twice", "--groups=groups.json", _groups('{"a": ["1"], "a": ["2"]}')
    ),
    "class twice": Case("'0'", "--groups=groups.json", _groups(_GROUPS | {"high": list("056789")})),
    "class of nobody": Case(
        "'9'", "--groups=groups.json", _groups(_GROUPS | {"high": list("5678")})
    ),
    "stranger": Case(
        "zebra", "--groups=groups.json", _groups(_GROUPS | {"high": [*"56789", "zebra"]})
    ),
    # --- the folder of the run ---
    "file for a folder": Case(
        "--workdir=file: cannot be made", "--workdir=file", _write("file", "")
    ),
    # Not even root may write there.
    "no place": Case("--workdir=/proc/no/run: cannot", "--workdir=/proc/no/run"),
    "read only": Case("--workdir=/sys/run: cannot", "--workdir=/sys/run"),
    "is read only": Case("/proc", "--workdir=/proc"),
    "file above": Case("cannot be made", "--workdir=file/run", _write("file", "")),
    "best is a file": Case("run/best: is a file", _RUN, _all(_UNFINISHED, _write("run/best", ""))),
    "checkpoints are a file": Case(
        "run/checkpoints",
        _RUN,
        _all(_UNFINISHED, _remove("run/checkpoints"), _write("run/checkpoints", "")),
    ),
    "other seed": Case(r"--seed=1 \(was 0\)", [*_RUN, "--seed=1"]),
    "other rate": Case(r"--learning_rate=0.5 \(was", [*_RUN, "--learning_rate=.5"]),
    "shorter": Case(r"--steps=2 \(was 4\)", [*_RUN, "--steps=2"]),
    "config damaged": Case(
        "run/config.json: is damaged", _RUN, lambda: os.truncate("run/config.json", 99)
    ),
    "config gone": Case("config.json is gone", _RUN, _remove("run/config.json")),
    "other version": Case(
        "does not fit this version",
        _RUN,
        _change("run/config.json", lambda c: c["config"]["train"].update(warp=9)),
    ),
    "other data": Case(
        "is no longer what the run was begun with",
        _RUN,
        _all(_UNFINISHED, _change("run/config.json", lambda c: c["data"]["classes"].reverse())),
    ),
    "results damaged": Case(
        "run/results.json: is damaged", _RUN, _change("run/results.json", lambda c: c.pop("test"))
    ),
    "checkpoints damaged": Case(
        "every checkpoint is damaged",
        _RUN,
        _all(_UNFINISHED, _flip("run/checkpoints/ckpt-*.data*")),
    ),
    "checkpoints gone": Case(
        "every checkpoint is gone", _RUN, _all(_UNFINISHED, _remove("run/checkpoints/ckpt-*"))
    ),
    "checkpoints linked": Case("is a link", _RUN, _all(_UNFINISHED, _link)),
    "in use": Case("is training in it", _RUN, _all(_UNFINISHED, _lock)),
    # --- eval.py ---
    "eval nothing": Case("give --workdir=RUN", [], program="eval"),
    "eval nowhere": Case("no run there", ["--workdir=nowhere"], program="eval"),
    "eval unfinished": Case("is not finished", ["--workdir=run"], _UNFINISHED, "eval"),
    "eval damaged": Case(
        "every checkpoint is damaged", ["--workdir=run"], _flip("run/best/ckpt-1.index"), "eval"
    ),
    "eval routing": Case(
        "--routing=best: must be among", ["--workdir=run", "--routing=best"], program="eval"
    ),
    "eval stranger": Case("nobody", ["--workdir=run", "--routing=expert:nobody"], program="eval"),
    "eval oracle": Case("oracle", ["--workdir=run", "--routing=oracle"], program="eval"),
    "eval baseline": Case("baseline", ["--workdir=run", "--routing=baseline"], program="eval"),
    "eval top_k": Case(
        "--top_k=99", ["--workdir=run", "--routing=topk", "--top_k=99"], program="eval"
    ),
    "eval threshold": Case(
        "--gate_threshold=2.0: must be", ["--workdir=run", "--gate_threshold=2"], program="eval"
    ),
    "eval split": Case(
        "--eval_split=train", ["--workdir=run", "--eval_split=train"], program="eval"
    ),
    "eval mirror": Case(
        "--tta=flip is for images", ["--workdir=run", "--tta=flip"], program="eval"
    ),
    "compare one": Case("name at least two", ["--compare=run"], program="eval"),
    "compare itself": Case("names a run twice", ["--compare=run,./run"], program="eval"),
    "compare nowhere": Case("nowhere", ["--compare=run,nowhere"], program="eval"),
    "predict nothing": Case("none.csv", ["--workdir=run", "--predict=none.csv"], program="eval"),
}


def try_case(name: str, finished: pathlib.Path, folder: pathlib.Path) -> list[str]:
    """What is wrong with the answer to a case.

    Args:
      name: of the case.
      finished: folder with a finished run in `run`.
      folder: where the case may take place; is made.
    """
    case = CASES[name]
    shutil.copytree(finished, folder)
    with contextlib.chdir(folder):
        case.make()
    before = runs.digests(folder)
    flags = case.flags if isinstance(case.flags, list) else [*_SHORT, *case.flags.split()]
    notes = folder.with_name(f"{folder.name}-notes")
    settings = {"XDG_CACHE_HOME": case.cache} if case.cache else {}
    try:
        ended = warm.run(
            flags,
            notes,
            _PATIENCE,
            program=case.program,
            folder=folder,
            before=lambda: os.environ.update(settings),
        )
    except TimeoutError as error:
        return [f"{name}: {error}"]
    lines = [line for line in ended.err.splitlines() if not line.startswith("warning: ")]
    faults = []
    if runs.is_too_long(ended):
        faults.append(f"{name}: took {ended.seconds:.0f} s, {ended.cpu_seconds:.0f} s of computing")
    if ended.code != case.code:
        faults.append(f"{name}: exit code {ended.code}")
    said = ended.err if case.code == 0 else lines[0] if lines else ""
    if not re.search(case.says, said):
        faults.append(f"{name}: says {said!r}, not {case.says!r}")
    if "Traceback" in ended.err:
        faults.append(f"{name}: says {ended.err[-500:]!r}")
    if case.code == 0:
        return faults
    if len(lines) != 1 or not lines[0].startswith("error: "):
        faults.append(f"{name}: says {ended.err[-500:]!r}")
    if runs.digests(folder) != before:
        faults.append(f"{name}: files are not what they were")
    return faults


def main() -> int:
    options = record.parser(__doc__, count=len(CASES)).parse_args()
    warm.load()
    folder = record.place("bad_inputs", options)
    finished = folder / "finished"
    finished.mkdir(parents=True)
    runs.prepare_tiny_set(finished / "tfds")
    ended = warm.run(_RUN, folder / "notes", folder=finished)
    if ended.code:
        print(ended.err, file=sys.stderr)
        return 1
    faults: list[str] = []
    names = list(CASES)
    if options.count < len(names):
        names = random.Random(options.seed).sample(names, options.count)
    for number, name in enumerate(names):
        faults += try_case(name, finished, folder / str(number))
        shutil.rmtree(folder / str(number), ignore_errors=True)
    wrong = {fault.split(":")[0] for fault in faults}
    right = [CASES[name] for name in names if name not in wrong]
    found = {
        "bad_inputs": len(names),
        "answered_in_one_line_with_exit_code_2": sum(case.code == 2 for case in right),
        "done_without_what_is_bad": sum(case.code == 0 for case in right),
    }
    return record.finish("bad_inputs", options, found, faults)


if __name__ == "__main__":
    sys.exit(main())
