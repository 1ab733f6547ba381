"""The end of a run: its best weights, evaluated once, and what they cost."""

from __future__ import annotations

import pathlib
import time
from typing import Any, NamedTuple

from moe.config.choices import PART_MODES
from moe.data.pipeline import Split
from moe.evaluate import summary
from moe.evaluate.examine import architecture, asking, examine, header
from moe.evaluate.predict import predict_dense
from moe.evaluate.predictions import RUN_FILE, write_predictions
from moe.models.mixture import MixtureOfExperts
from moe.models.routers import make_router
from moe.train.accounts import accounts
from moe.train.checkpoint import CheckpointStore
from moe.train.context import Context, Progress
from moe.train.stages import Stage, parts_of
from moe.train.state import model_variables
from moe.workspace import Workspace


class Finding(NamedTuple):
    """What the end of a run found out.

    Attributes:
      results: `results.json`.
      evaluation: `evaluation.json`.
      test: the split that both are about.
    """

    results: dict[str, Any]
    evaluation: dict[str, Any]
    test: Split


def keep_best(context: Context, parts: list[str], workdir: pathlib.Path) -> None:
    """Writes the best weights of what was trained where evaluations find them."""
    CheckpointStore(workdir / "best", keep=1).save(
        1, model_variables(context.mixture, parts), {"parts": parts}
    )


def conclude(
    context: Context,
    workspace: Workspace,
    stages: list[Stage],
    progress: Progress,
    workdir: pathlib.Path,
) -> Finding:
    """Evaluates the best weights and says what they cost."""
    found = _evaluate(workspace, context.mixture, stages, workdir, context.policy)
    results = found.results | {"health": progress.health} | accounts(context, progress.finished)
    results |= {"precision": context.policy, "seed": context.config.train.seed}
    # As the speed records count: from the first touch of the data to the last test answer.
    clock = ("prepare_seconds", "train_seconds", "test_seconds")
    results["clock_seconds"] = sum(results[name] for name in clock)
    results["wall_seconds"] = context.meter.seconds_since_start()
    return found._replace(results=results)


def _evaluate(
    workspace: Workspace,
    mixture: MixtureOfExperts,
    stages: list[Stage],
    workdir: pathlib.Path,
    policy: str,
) -> Finding:
    """The final evaluation: the only place of a run that opens the test split."""
    config, groups = workspace.config, workspace.groups
    parts = parts_of(stages)
    mixture.mirrors = config.model.tta == "flip"
    watch = _Watch()
    with watch:
        test = workspace.open_test()
    evaluation = header(workspace, test, "test", policy, config.model.tta)
    results = {
        "dataset": workspace.source.name,
        "note": workspace.source.note,
        "mode": config.mode,
        "routing": config.model.routing,
        "tta": config.model.tta,
        "classes": list(workspace.source.classes),
        "groups": list(groups.names),
        "examples": {
            "train": len(workspace.train),
            "validation": len(workspace.validation),
            "test": len(test),
        },
    }
    if config.mode in PART_MODES:
        evaluation |= {
            "parts": summary.evaluate_parts(mixture, test, groups, parts),
            "architecture": architecture(config, mixture, parts),
            "routings": {},
        }
        validation = on_test = summary.NO_METRICS
        spread: dict[str, Any] = {}
        if config.mode == "baseline":
            validation, _ = summary.evaluate_baseline(mixture, workspace.validation)
            with watch:
                on_test, answers = summary.evaluate_baseline(mixture, test)
            write_predictions(workdir / RUN_FILE, answers, test)
    else:
        name, top_k = config.model.routing, config.model.top_k
        router = make_router(name, top_k)
        validation, _ = summary.evaluate_mixture(mixture, workspace.validation, router)
        with watch:
            on_test, answers = summary.evaluate_mixture(mixture, test, router)
        write_predictions(workdir / RUN_FILE, answers, test)
        dense = predict_dense(mixture, test, summary.BATCH_SIZE)
        ask = asking(mixture, test, groups.names, config.train.seed, top_k=top_k)
        evaluation |= examine(workspace, mixture, test, dense, {name: answers}, ask)
        spread = evaluation["routings"][name]["routing_metrics"]
    results |= {
        "validation": validation,
        "test": on_test,
        "test_seconds": watch.seconds,
        "parts": evaluation["parts"],
        "routing_metrics": spread,
    }
    return Finding(results, evaluation, test)


class _Watch:
    """The seconds that the test split takes: read and answered, without what is found out about the
    answers.
    """

    seconds = 0.0

    def __enter__(self) -> None:
        self._since = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._since
