"""Command lines put together by chance, given to the real programs.

    python -m tests.faults.fuzz --count=500 --record

Each must train (or compare, measure, evaluate) and end with exit code 0, or end with exit code 2
and one line that says what is wrong; none may print a traceback, hang (`runs.is_too_long`), or
damage a folder: the same command must end alike a second time, and the finished run that lies
there must still evaluate. As valid ones count the command lines of `train.py` that trained two
steps or more in their own process. Benchmarks are of networks and a matrix of almost no size.
"""

from __future__ import annotations

import contextlib
import json
import pathlib
import random
import re
import shutil
import sys

import numpy as np
from PIL import Image

from tests.faults import record, runs, warm

_PATIENCE = 180
_HERE = "here/below"
"""Programs run so deep that `../..` is still a place of ours."""
_SMALL = [
    *("--noreport", "--steps=2", "--gpus=0", "--precision=float32", "--batch_size=8"),
    *("--gate_backbone=mlp-4", "--expert_backbone=mlp-4", "--baseline_backbone=mlp-4"),
]
_TRAINING = {
    "mode": ["joint", "joint", "separate", "staged", "baseline", "gate", "experts"],
    "dataset": [
        *("digits", "iris", "wine", "breast_cancer", "csv:table.csv?label=y", "folder:photos"),
        *("tiny", "rotate:folder:photos"),
    ],
    "data_dir": ["tfds", "gone"],
    "groups": ["none:2", "none:3", "semantic", "halves.json", "auto:2"],
    "groups_from": ["run"],
    "routing": ["soft", "hard", "topk", "noisy_topk", "expert_choice"],
    "top_k": ["1", "2"],
    "expert_head": ["full", "group"],
    "baseline": ["true", "false"],
    "boost": ["none", "scalar", "per_class"],
    "gate_temperature": ["0.5", "2"],
    "balance_bias": ["0", "0.01"],
    "trunk": ["0", "1", "2"],
    "whiten": ["true"],
    "identity_init": ["true"],
    "tta": ["none", "flip"],
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
    "augment": ["none", "flip", "flip_crop", "alternate", "alternate_crop", "crop"],
    "crop_reach": ["1", "2", "9"],
    "steps": ["1", "2"],
    "epochs": ["1"],
    "patience": ["0", "1"],
    "monitor": ["accuracy", "loss"],
    "class_weights": ["balanced"],
    "batch_size": ["4", "8", "16"],
    "optimizer": ["sgd", "momentum", "nesterov", "adam", "adamw", "muon"],
    "momentum": ["0", "0.5", "0.99"],
    "muon_rate": ["0.01", "1e30", "1e39"],
    "bias_lr_scale": ["2", "64"],
    "ema_decay": ["0", "0.5", "0.999"],
    "lookahead": ["0", "1", "3"],
    "label_smoothing": ["0", "0.2"],
    "budget": ["epochs:1", "epochs:0.1", "seconds:0.2", "macs:1e5", "macs:1", "steps:2"],
    "skip_stages": ["gate", "baseline", "baseline,gate", "joint", "expert_0", "nothing"],
    "learning_rate": ["0.1", "1e-4", "1e6"],
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
    "gpus": ["0", "1"],
    "require_gpus": ["true"],
    "export": ["true"],
    "report": ["true", "false"],
    "baseline_backbone": ["mlp-8-4", "tiny"],
}
_COMPARING = {
    "arms": ["baseline", "joint-hard", "wide-hard,joint-soft", "average-soft", "separate-soft"],
    "seeds": ["1", "2", "0"],
    "results": ["rows", "new/results", "table.csv", "run"],
}
_MEASURING = {
    "suite": ["aa", "figure"],
    "sweep": [
        *("dispatch=routed,dense", "load=balanced,zipf", "batch_size=1,2", "precision=float32"),
        *("way=ours,keras", "phase=train", "num_experts=0", "gate=mlp-4", "speed=1", "load="),
    ],
    "rounds": ["7", "8", "1"],
    "window_seconds": ["0.001", "1e-9"],
}
NOT_GIVEN = {
    "profile": "a process that was forked cannot start TensorFlow's profiler safely",
}
"""Flags that no command line here has, and why."""
_EVALUATION = {
    "workdir": ["run", "run", "run"],
    "routing": ["soft", "hard", "topk", "uniform,random", "oracle_best", "expert:expert_1"],
    "top_k": ["1", "2"],
    "gate_threshold": ["0.1"],
    "eval_split": ["test", "validation"],
    "precision": ["float32", "mixed_bfloat16"],
    "batch_size": ["64"],
    "data_dir": ["tfds", "gone"],
    "tta": ["none", "flip"],
    "report": ["false", "true"],
    "export": ["true"],
    "skip_unreadable": ["true"],
    "predict_to": ["answers.csv", "gone/answers.csv", "run/answers.csv", "photos"],
    "predict": ["table.csv", "photos/a/*.png"],
    "compare": ["run,run"],
}
_COMPANIONS = [
    *(("muon_rate", "optimizer", "muon"), ("momentum", "optimizer", "nesterov")),
    *(("whiten", "dataset", "folder:photos"), ("tta", "dataset", "folder:photos")),
    *(("crop_reach", "augment", "flip_crop"), ("crop_reach", "dataset", "folder:photos")),
    *(("whiten", "gate_backbone", "tiny"), ("whiten", "expert_backbone", "tiny")),
    *(("trunk", "gate_backbone", "mlp-8-4"), ("trunk", "expert_backbone", "mlp-8-4")),
    *(("data_dir", "dataset", "tiny"), ("groups_from", "groups", "auto:2")),
    *(("skip_stages", "init_from", "run"), ("skip_stages", "mode", "staged")),
    *(("predict_to", "predict", "table.csv"),),
    ("skip_stages", "groups", "halves.json"),
]
"""A flag, and another with its value that it needs."""
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
        "/proc",
        "gone",
        "1,2",
        "%s%n",
        "=",
        "--",
    ),
    *(str(2**70), "-" + str(2**31), "9" * 400, "1e30"),
    *("Ünïcödé", "x" * 300, "[1]", "{}", "null", " ", "none:1000000", "csv:", "folder:", "a:b->c"),
]


def given_flags(program: str) -> set[str]:
    """The names of all flags that command lines of `train` or `eval` may have."""
    if program == "eval":
        return {*_EVALUATION}
    return {*_TRAINING, *_COMPARING, *_MEASURING}


def command_line(rng: random.Random) -> tuple[str, list[str]]:
    """A program and its arguments: sane ones, or with something wild among them."""
    kind = rng.choices(["train", "eval", "compare", "benchmark"], [30, 6, 2, 2])[0]
    own = {"compare": _COMPARING, "benchmark": _MEASURING}.get(kind, {})
    values = _EVALUATION if kind == "eval" else {**_TRAINING, **own}
    given = {"dataset": "digits", "groups": "none:3", "workdir": "new"}
    if rng.random() < 0.7:
        given["baseline"] = "false"
    if kind == "eval":
        given = {"workdir": "run", "report": "false"}
    if kind == "compare":
        given |= {"mode": kind, "budget": "epochs:1", "train_examples": "90", "seeds": "1"}
        given["arms"] = rng.choice(own["arms"])
    if kind == "benchmark":
        given = {"mode": kind, "workdir": "new", "rounds": "7", "window_seconds": "0.001"}
        given["suite"] = "aa"
    is_wild = rng.random() < 0.35
    names = rng.sample(sorted(values.keys() - {"mode"} if own else values), rng.randint(1, 6))
    for name in [*names, *rng.sample(sorted(own), min(2, len(own)))]:
        given[name] = rng.choice(values[name])
        if is_wild and rng.random() < 0.4:
            given[name] = rng.choice(_WILD)
    if rng.random() < 0.8:  # what only goes with something else mostly has it
        fit = [each for each in _COMPANIONS if each[0] in given and each[1] in values]
        given |= {name: value for _, name, value in fit}
    flags = [f"--{name}={value}" for name, value in given.items()]
    if is_wild and rng.random() < 0.2:
        flags.insert(
            rng.randint(0, len(flags)), rng.choice([*_WILD, "--nonsense", "--seed", "-h="])
        )
    if kind == "eval":
        return "eval", flags
    # A budget is in place of steps.
    small = [flag for flag in _SMALL if "budget" not in given or not flag.startswith("--steps")]
    return "train", [*small, *flags]


def _prepare(folder: pathlib.Path) -> None:
    """Data of one's own to name in a flag."""
    rng = np.random.default_rng(0)
    rows = [f"{n},{n % 7},{'ab'[n % 2]}" for n in range(90)]
    (folder / "table.csv").write_text("\n".join(["x,z,y", *rows]) + "\n")
    (folder / "halves.json").write_text(json.dumps(runs.GROUPS))
    runs.prepare_tiny_set(folder / "tfds")
    for name in "abc":
        (folder / "photos" / name).mkdir(parents=True)
        for number in range(40):
            pixels = rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "photos" / name / f"{number}.png")


def _spy(steps: warm.Shared) -> None:
    """In the process of a command line: counts the steps that are trained."""
    from moe.benchmark import suites
    from moe.benchmark.training import network_arm
    from moe.train import meter

    meter._MATRIX = 16
    suites.network_arm = lambda name, network, **more: network_arm(name, "mlp-4", **more)
    warm_up, add = meter.Meter.warm_up, meter.Meter.add

    def first(self, seconds: float) -> None:
        steps.value += 1
        warm_up(self, seconds)

    def later(self, number: int, seconds: float) -> None:
        steps.value += number
        add(self, number, seconds)

    meter.Meter.warm_up, meter.Meter.add = first, later


def _last_line(ended: warm.Ended) -> str:
    return ended.err.strip().splitlines()[-1] if ended.err.strip() else ""


class _Place:
    """A folder in which command lines are tried.

    Args:
      folder: where all is kept.
    """

    def __init__(self, folder: pathlib.Path) -> None:
        self._folder = folder
        self._origin, self.place = folder / "origin", folder / "place"
        origin = self._origin / _HERE
        origin.mkdir(parents=True)
        _prepare(origin)
        first = ["--dataset=digits", "--groups=none:3", "--workdir=run"]
        ended = warm.run([*_SMALL, *first], folder / "notes", folder=origin)
        assert ended.code == 0, ended.err
        self._before = runs.digests(self._origin)

    def renew(self) -> None:
        """Everything as it was."""
        self.remove()
        shutil.copytree(self._origin, self.place)

    def remove(self) -> None:
        """Nothing is there."""
        shutil.rmtree(self.place, ignore_errors=True)

    def run(self, program: str, flags: list[str], steps: warm.Shared | None = None) -> warm.Ended:
        """Runs a program there.

        Raises:
          TimeoutError: it takes minutes.
        """
        steps = steps or warm.Shared(0)
        return warm.run(
            flags,
            self._folder / "notes",
            _PATIENCE,
            program=program,
            folder=self.place / _HERE,
            before=lambda: _spy(steps),
        )

    def changed(self) -> set[str]:
        """Files that are new, gone or others than before."""
        now = runs.digests(self.place)
        return {name for name, _ in now.items() ^ self._before.items()}

    def fault(self, program: str, flags: list[str], ended: warm.Ended) -> str:
        """What is wrong with an answer, or with what it leaves; else nothing."""
        lines = [line for line in ended.err.splitlines() if not line.startswith("warning: ")]
        if "Traceback" in ended.err + ended.out:
            return ended.err[-800:]
        if runs.is_too_long(ended):
            return f"took {ended.seconds:.0f} s, {ended.cpu_seconds:.0f} s of computing"
        if ended.code not in (0, 2):
            return f"exit code {ended.code}: {ended.err[-300:]}"
        # A comparison whose rows failed says so in a warning.
        is_told = "rows failed" in ended.err or any(s.startswith("error: ") for s in lines[-1:])
        if ended.code == 2 and not is_told:
            return f"exit code 2, and says {ended.err[-300:]!r}"
        changed = self.changed()
        # One that was begun says what it does before it fails; one that is refused says nothing.
        if ended.code == 2 and len(lines) == 1 and not ended.out and changed:
            return f"was refused ({lines[0]}), and changed {sorted(changed)[:5]}"
        new = self.place / _HERE / "new"
        if ended.code == 0 and (new / "evaluation.json").exists():
            for name in ("config.json", "results.json", "evaluation.json"):
                json.loads((new / name).read_text())
            left = runs.leftovers(new)
            if left:
                return f"leaves {left}"
        return self._damage(program, flags, ended.code) if changed else ""

    def _damage(self, program: str, flags: list[str], code: int) -> str:
        """What no longer works after a command that changed something."""
        again = self.run(program, flags)
        if again.code != code or "Traceback" in again.err:
            return f"exit code {code}, and then {again.code}: {again.err[-500:]}"
        if re.search(r"damaged| (is|are) gone", _last_line(again)):
            return f"leaves something that it says of: {_last_line(again)}"
        if any(name.startswith(f"{_HERE}/run/") for name in self.changed()):
            evaluated = self.run("eval", ["--workdir=run", "--noreport"])
            if evaluated.code:
                return f"the run that was there is no longer evaluated: {evaluated.err[-300:]}"
        return ""


def main() -> int:
    options = record.parser(__doc__, count=20).parse_args()
    warm.load()
    folder = record.place("fuzz", options)
    place = _Place(folder)
    rng = random.Random(options.seed)
    faults: list[str] = []
    codes: dict[int, int] = {}
    longest = most = 0.0
    trained = 0
    for number in range(options.count):
        program, flags = command_line(rng)
        place.renew()
        steps = warm.Shared(0)
        try:
            ended = place.run(program, flags, steps)
            wrong = place.fault(program, flags, ended)
        except TimeoutError as error:
            wrong = str(error)
        else:
            longest, most = max(longest, ended.seconds), max(most, ended.cpu_seconds)
            codes[ended.code] = codes.get(ended.code, 0) + 1
            trained += program == "train" and ended.code == 0 and steps.value >= 2
        if wrong:
            faults.append(f"{number}: {program}.py {' '.join(flags)}: {wrong}")
            print(faults[-1], file=sys.stderr, flush=True)
    found = {
        "command_lines": options.count,
        "valid_ones_that_trained": trained,
        "others_with_exit_code_0": codes.get(0, 0) - trained,
        "refused_with_exit_code_2": codes.get(2, 0),
        "longest_seconds": round(longest, 1),
        "most_cpu_seconds": round(most, 1),
    }
    with contextlib.suppress(OSError):
        place.remove()
    return record.finish("fuzz", options, found, faults)


if __name__ == "__main__":
    sys.exit(main())
