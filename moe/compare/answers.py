"""What a row's networks answer, and what it has cost: its `Record`."""

from __future__ import annotations

import hashlib
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from moe.compare.plan import Row, Run, all_runs
from moe.compare.record import FORMAT, Record, pack, portable
from moe.compare.size import arms_for
from moe.data.pipeline import Split
from moe.evaluate import metrics, summary
from moe.evaluate.predict import Answers, answers_alone, predict_parts, predict_routed
from moe.models import cost
from moe.models.build import build_mixture
from moe.models.mixture import MixtureOfExperts
from moe.models.routers import Ways, make_router
from moe.provenance import provenance
from moe.run_files import read_results, read_run
from moe.trained import restore_best
from moe.workspace import Workspace


def make_record(row: Row, workspace: Workspace, test: Split) -> Record:
    """Evaluates the finished runs of a row.

    Args:
      row: whose runs are finished.
      workspace: the data, and the configuration that all rows share.
      test: the test split.

    Raises:
      UserError: files of a run are missing or damaged.
    """
    base = workspace.config
    mixtures = [_open(run, workspace) for run in row.runs]
    router = _router(row)
    on_validation = _answer(mixtures, workspace.validation, router)
    answers = _answer(mixtures, test, router)
    trained = {run.folder: read_results(run.folder) for run in all_runs(row.runs)}
    own = trained[row.runs[-1].folder]
    facts = provenance()
    return {
        "format": FORMAT,
        **describe_networks(row, mixtures, workspace),
        "seed": row.seed,
        **_data(workspace, test),
        "possible": arms_for(base.model, workspace.groups.named),
        "budget": base.train.budget,
        "validation": summary.summarize(on_validation, workspace.validation),
        "test": summary.summarize(answers, test),
        **_each_answer(answers, test, workspace.source.copies),
        "routing_metrics": _routing(answers, test) if router else {},
        **_training(trained),
        "parts": own["parts"],
        "precision": own["precision"],
        "config": portable(base),
        **{key: facts[key] for key in ("command", "versions", "revision")},
    }


def describe_networks(
    row: Row, networks: list[MixtureOfExperts], workspace: Workspace
) -> dict[str, Any]:
    """What a row's networks are, trained or not: part of its `Record`."""
    router = _router(row)
    named = {} if router else {"backbone": row.runs[0].config.model.baseline_backbone}
    return {
        "arm": row.name,
        **row.arm._asdict(),
        "groups": list(workspace.groups.names),
        "networks": len(networks),
        **named,
        **_size(networks, router),
    }


def build_networks(row: Row, workspace: Workspace) -> list[MixtureOfExperts]:
    """The networks of a row before they are trained, one mixture a run."""
    return [_build(run, workspace, "float32") for run in row.runs]


def identity_of(test: Split) -> dict[str, int | str]:
    """What tells whether rows were tested on the same examples: their number, and digests."""
    label = test.examples.label
    return {
        "count": len(label),
        "labels": hashlib.sha256(label.astype("<i4").tobytes()).hexdigest()[:16],
        "examples": test.examples.digest()[:16],
    }


def _data(workspace: Workspace, test: Split) -> dict[str, Any]:
    """What was learned from, and what was asked."""
    return {
        "dataset": workspace.source.name,
        "note": workspace.source.note,
        "data": workspace.digest(),
        "examples": {
            "train": len(workspace.train),
            "validation": len(workspace.validation),
            "test": len(test),
        },
    }


def _each_answer(answers: Answers, test: Split, copies: int) -> dict[str, Any]:
    """Which test examples were answered right, and how sure the answers were."""
    label = test.examples.label
    bits = pack(answers.answer == label)
    probabilities = np.exp(answers.log_probs.astype(np.float64))
    return {
        "correct": {"bits": bits, "copies": copies, **identity_of(test)},
        "calibration": metrics.calibration_bins(probabilities, label),
    }


def _routing(answers: Answers, test: Split) -> dict[str, Any]:
    gate = np.exp(answers.gate_log_probs)
    label = test.examples.label
    return metrics.routing_metrics(gate, answers.expert, label, test.group)


def _training(trained: Mapping[pathlib.Path, Mapping[str, Any]]) -> dict[str, Any]:
    """What the runs of a row took together, by folder: their results."""
    return {
        "macs_spent": sum(found["macs_spent"] for found in trained.values()),
        "train_seconds": sum(found["train_seconds"] for found in trained.values()),
        "device": " and ".join(sorted({found["device"] for found in trained.values()})),
        "runs": {
            folder.name: {key: found[key] for key in _OF_RUN} for folder, found in trained.items()
        },
        "stages": [
            {"run": folder.name} | {key: stage[key] for key in _OF_STAGE}
            for folder, found in trained.items()
            for stage in found["stages"]
        ],
    }


_OF_RUN = ("macs_spent", "train_seconds", "device", "revision")
_OF_STAGE = ("name", "epochs", "best_epoch", "steps", "seconds", "macs")


def _open(run: Run, workspace: Workspace) -> MixtureOfExperts:
    """The networks of a finished run with their best weights."""
    mixture = _build(run, workspace, read_run(run.folder).precision)
    restore_best(mixture, run.folder)
    return mixture


def _build(run: Run, workspace: Workspace, policy: str) -> MixtureOfExperts:
    classes = len(workspace.source.classes)
    mixture = build_mixture(run.config, workspace.groups, workspace.input_shape, classes, policy)
    mixture.mirrors = run.config.model.tta == "flip"
    return mixture


def _router(row: Row) -> Ways | None:
    """How a mixture routes; None for controls, whose baselines answer."""
    return make_router(row.arm.routing) if row.arm.kind == "mixture" else None


def _answer(mixtures: list[MixtureOfExperts], split: Split, router: Ways | None) -> Answers:
    """Of the mixture under a router, or of its baselines: the mean of what they say."""
    if router:
        (mixture,) = mixtures
        return predict_routed(mixture, split, summary.BATCH_SIZE, router.evaluate)
    says = [
        predict_parts(mixture, split, summary.BATCH_SIZE, ["baseline"])["baseline"]
        for mixture in mixtures
    ]
    together = np.logaddexp.reduce(np.asarray(says, np.float64)) - np.log(len(says))
    return answers_alone(together.astype(np.float32))


def _size(mixtures: list[MixtureOfExperts], router: Ways | None) -> dict[str, dict[str, int]]:
    """Parameters and MACs an example: of everything, and of what runs."""
    alone = ("trunk", "baseline")
    costs = [
        found
        for mixture in mixtures
        for part, found in cost.part_costs(mixture).items()
        if router or part in alone
    ]
    if router:
        (mixture,) = mixtures
        active = [cost.active_cost(mixture, router.evaluate.running(mixture.num_experts))]
    else:
        active = [cost.cost_alone(mixture, alone) for mixture in mixtures]
    views = mixtures[0].views
    return {
        "params": {
            "total": sum(found.parameters for found in costs),
            "active": sum(found.parameters for found in active),
        },
        "macs_per_example": {
            "total": views * sum(found.macs for found in costs),
            "active": sum(found.macs for found in active),
        },
    }
