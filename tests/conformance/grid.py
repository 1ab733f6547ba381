"""Every kind of network under every router, in every precision, on one device and on two.

    python -m tests.conformance.grid --cover=pairs
    python -m tests.conformance.grid --cover=all --continued

Each combination trains a few steps in a process of its own. It must be traced once, end in finite
weights and in distributions that sum to 1, and evaluate. `pairs` is a set of combinations in which
any two values of two dimensions meet.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import pathlib
import sys
import tempfile
from collections.abc import Iterator

from tests.faults import warm

MODELS = {
    "dense": "mlp-8",
    "convolutions": "tiny",
    "foreign": "e2e.my_networks:with_foreign_dropout",
}
ROUTERS = {
    "soft": {},
    "hard": {"balance_bias": 0.01},
    "topk": {"top_k": 2},
    "noisy_topk": {"top_k": 2, "load_loss": 0.1},
    "expert_choice": {"importance_loss": 0.1},
}
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
REPLICAS = (1, 2)
DIMENSIONS = (tuple(MODELS), tuple(ROUTERS), PRECISIONS, REPLICAS)

Case = tuple[str, str, str, int]


def pairs_of(case: Case) -> set:
    """The values of every two dimensions that meet in a case."""
    return set(itertools.combinations(enumerate(case), 2))


def cover() -> list[Case]:
    """Few cases in which every pair is: always the one next that has the most new ones."""
    every = list(itertools.product(*DIMENSIONS))
    missing, chosen = set().union(*map(pairs_of, every)), []
    while missing:
        chosen.append(max(every, key=lambda case: len(pairs_of(case) & missing)))
        missing -= pairs_of(chosen[-1])
    return chosen


def _train(case: Case, workdir: pathlib.Path, **flags) -> list[int]:
    """Trains a case; how often each of its loops was traced."""
    from toy import toy_config

    from moe import run
    from moe.train import stage_run

    model, router, precision, replicas = case
    loops, make = [], stage_run.make_train_loop

    def spy(*args):
        loops.append(make(*args))
        return loops[-1]

    stage_run.make_train_loop = spy
    flags = {"steps": 4, "groups": "none:3", "tensorboard": False, "checkpoint_steps": 2} | flags
    flags |= {f"{part}_backbone": MODELS[model] for part in ("gate", "expert", "baseline")}
    flags |= {"routing": router, "precision": precision, "cpu_replicas": replicas}
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            run.train(toy_config(workdir, steps_per_loop=2, **flags, **ROUTERS[router]))
    finally:
        stage_run.make_train_loop = make
    return [loop.experimental_get_tracing_count() for loop in loops]


def check(case: Case, folder: pathlib.Path, continued: bool) -> list[str]:
    """What is wrong with a case. Computes."""
    import numpy as np
    import tensorflow as tf
    from toy import TEST, toy_source

    from moe.data import registry

    registry._GENERATED["toy"] = toy_source
    faults = []
    traces = _train(case, folder / "run")
    if traces != [1]:
        faults.append(f"traced {traces} times")
    results = json.loads((folder / "run" / "results.json").read_text())
    if not (np.isfinite(results["test"]["nll"]) and 0 <= results["test"]["accuracy"] <= 1):
        faults.append(f"found {results['test']}")
    if results["precision"] != case[2]:
        faults.append(f"ran in {results['precision']}")
    with np.load(folder / "run" / "predictions.npz", allow_pickle=False) as answers:
        for name in ("probabilities", "gate_probabilities"):
            sums = answers[name].sum(axis=1, dtype=np.float64)
            if len(sums) != TEST or np.abs(sums - 1).max() > 1e-5:
                faults.append(f"{name} do not sum to 1 ({np.abs(sums - 1).max()})")

    def state(name: str) -> dict[str, np.ndarray]:
        reader = tf.train.load_checkpoint(str(folder / name / "checkpoints" / "ckpt-4"))
        names = [n for n in reader.get_variable_to_shape_map() if n.endswith("VARIABLE_VALUE")]
        return {name: reader.get_tensor(name) for name in names}

    found = state("run")
    faults += [f"{name} is not finite" for name, v in found.items() if not np.isfinite(v).all()]
    if continued:
        for steps in (2, 4):
            _train(case, folder / "cut", steps=steps)
        other = state("cut")
        # A run of two steps is judged after them, and may have been at its best there.
        same = [name for name in found if not name.startswith("best.")]
        faults += [f"{n} is another one where cut" for n in same if (found[n] != other[n]).any()]
    return faults


def walk(cases: list[Case], folder: pathlib.Path, continued: bool) -> Iterator[str]:
    """What is wrong, case by case."""
    for number, case in enumerate(cases):
        place = folder / str(number)
        try:
            faults = warm.ask(lambda place=place, case=case: check(case, place, continued))
        except RuntimeError as error:
            faults = [str(error)]
        yield from (f"{', '.join(map(str, case))}: {fault}" for fault in faults)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--cover", choices=("pairs", "all"), default="pairs")
    options.add_argument("--continued", action="store_true", help="cut every run in two besides")
    options.add_argument("--part", type=int, default=0, help="which of --parts to walk")
    options.add_argument("--parts", type=int, default=1, help="how many shares the cases make")
    given = options.parse_args()
    warm.load()
    cases = cover() if given.cover == "pairs" else list(itertools.product(*DIMENSIONS))
    cases = cases[given.part :: given.parts]
    faults = 0
    with tempfile.TemporaryDirectory() as folder:
        for fault in walk(cases, pathlib.Path(folder), given.continued):
            print(fault, flush=True)
            faults += 1
    print(f"{len(cases)} combinations, {faults} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
