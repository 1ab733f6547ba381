"""`eval.py`: one trained mixture under many routings, or finished runs side by side."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from moe.config import ROUTINGS, EvalConfig
from moe.data.pipeline import Split
from moe.errors import UserError
from moe.evaluate import metrics, summary
from moe.evaluate.compare import compare
from moe.evaluate.predict import Answers, Dense, predict_dense, predict_routed
from moe.evaluate.predictions import evaluation_file, write_predictions
from moe.evaluate.present import evaluation_text
from moe.evaluate.routings import answers_under, check_routing
from moe.evaluate.side_by_side import comparison_text
from moe.files import write_json
from moe.models.mixture import MixtureOfExperts, make_router
from moe.provenance import provenance
from moe.routing import asks_somebody
from moe.run_files import StoredRun
from moe.train.devices import choose_strategy, on_one_device
from moe.train.precision import choose_precision
from moe.trained import Trained, find_run, restore_best
from moe.workspace import Workspace, open_workspace

DEFAULT_TOP_K = 2
"""Experts of `--routing=topk` where the run itself routes otherwise: one would be `hard`."""


def evaluate(config: EvalConfig) -> int:
    """Runs what the flags ask for; returns the exit code.

    Raises:
      UserError: something the user can mend.
    """
    if config.compare:
        comparison = compare(config.compare)
        print(comparison_text(comparison))
        write_json(pathlib.Path(config.compare[0]) / "comparison.json", comparison)
        return 0
    workdir = pathlib.Path(config.workdir)
    stored = _open_run(workdir, config)
    run = stored.config
    strategy = choose_strategy(run.runtime)
    policy = choose_precision(config.precision or stored.precision).policy
    workspace = open_workspace(run, stored.groups)
    workspace.check_groups(stored.groups)
    mixture = workspace.build(strategy, policy)
    parts = restore_best(mixture, workdir)
    names, top_k = asked_routings(config, workspace, mixture, parts)
    split = workspace.open_test() if config.eval_split == "test" else workspace.validation
    if names:
        found, answers = _route(workspace, mixture, split, names, top_k, config)
    else:
        alone = summary.evaluate_parts(mixture, split, workspace.groups, parts)
        found, answers = (
            {"parts": alone, "routings": {}, "routed_against_dense": {}, "gate_threshold": 0.0},
            {},
        )
    evaluation = {
        "split": config.eval_split,
        "dataset": workspace.source.name,
        "note": workspace.source.note,
        "mode": run.mode,
        "seed": run.train.seed,
        "precision": policy,
        "examples": len(split),
        "classes": list(workspace.source.classes),
        "groups": list(workspace.groups.names),
        "top_k": top_k if "topk" in names else None,
        "gate_threshold": config.gate_threshold,
        **found,
        **provenance(),
    }
    print(evaluation_text(evaluation))
    for name, under in answers.items():
        write_predictions(workdir / evaluation_file(name, config.eval_split), under, split)
    write_json(workdir / "evaluation.json", evaluation)
    return 0


def _open_run(workdir: pathlib.Path, config: EvalConfig) -> StoredRun:
    """The run, configured to be evaluated here and now."""
    stored = find_run(workdir)
    run = stored.config
    data_dir = config.data_dir or run.data.data_dir
    if not config.data_dir and not os.path.isdir(data_dir or ""):
        data_dir = os.environ.get("TFDS_DATA_DIR", data_dir)  # trained elsewhere, or moved
    data = dataclasses.replace(run.data, data_dir=data_dir)
    run = dataclasses.replace(run, data=data, runtime=on_one_device(run.runtime))
    return stored._replace(config=run)


def asked_routings(
    config: EvalConfig,
    workspace: Workspace | Trained,
    mixture: MixtureOfExperts,
    parts: Sequence[str],
) -> tuple[tuple[str, ...], int]:
    """The routings to try, none where there is nothing to route, and the K of `topk`.

    Raises:
      UserError: the run cannot do one of them.
    """
    if len(parts) < len(mixture.parts()):
        if config.routing or config.top_k:
            raise UserError(
                f"--workdir={config.workdir} trained {', '.join(parts)} only: leave out --routing "
                "and --top_k, there is nothing to route."
            )
        return (), 0
    model = workspace.config.model
    names = config.routing or (model.routing,)
    if config.gate_threshold and "soft" not in names:
        raise UserError(
            f"--gate_threshold={config.gate_threshold}: is for --routing=soft, not "
            f"{', '.join(names)}."
        )
    if config.top_k and "topk" not in names:
        raise UserError(f"--top_k={config.top_k}: is for --routing=topk, not {', '.join(names)}.")
    top_k = config.top_k or (model.top_k if model.routing == "topk" else DEFAULT_TOP_K)
    for name in names:
        check_routing(
            name,
            expert_names=workspace.groups.names,
            named=workspace.groups.named,
            has_baseline=mixture.baseline is not None,
            top_k=top_k,
        )
    return names, top_k


def _route(
    workspace: Workspace,
    mixture: MixtureOfExperts,
    split: Split,
    names: Sequence[str],
    top_k: int,
    config: EvalConfig,
) -> tuple[dict[str, Any], dict[str, Answers]]:
    """What is found on `split` under the given routings, and the answers themselves."""
    dense = predict_dense(mixture, split, config.batch_size)
    answers = {
        name: answers_under(
            name,
            dense,
            label=split.examples.label,
            group=split.group,
            expert_names=workspace.groups.names,
            group_of_class=mixture.group_of_class,
            blends=mixture.blends,
            top_k=top_k,
            gate_threshold=config.gate_threshold,
            seed=workspace.config.train.seed,
        )
        for name in names
    }
    differences = {}
    for name in names:
        if name not in ROUTINGS or (name == "soft" and not config.gate_threshold):
            continue  # nothing of it is routed
        router = make_router(name, top_k, gate_threshold=config.gate_threshold)
        routed = predict_routed(mixture, split, config.batch_size, router.evaluate)
        gap = np.abs(np.exp(routed.log_probs) - np.exp(answers[name].log_probs))
        differences[name] = float(gap.max())
    favourite = dense.gate_log_probs.argmax(axis=1)
    found = {
        "parts": summary.evaluate_parts(
            mixture, split, workspace.groups, list(mixture.parts()), favourite
        ),
        "routings": {
            name: _describe(under, split, len(workspace.source.classes), name)
            for name, under in answers.items()
        },
        "routed_against_dense": differences,
        "experts_per_example": _experts_run(dense, config.gate_threshold)
        if config.gate_threshold
        else None,
    }
    return found, answers


def _experts_run(dense: Dense, gate_threshold: float) -> float:
    """How many experts soft routing runs for an example, on average."""
    router = make_router("soft", gate_threshold=gate_threshold)
    chosen = router.evaluate.choose(tf.constant(dense.gate_log_probs))
    return float(tf.reduce_sum(tf.cast(asks_somebody(chosen), tf.float32))) / len(chosen[0])


def _describe(answers: Answers, split: Split, num_classes: int, name: str) -> dict[str, Any]:
    """Everything that is reported about one routing."""
    label = split.examples.label
    asked = name != "baseline"
    named = bool((answers.expert >= 0).all())
    num_experts = answers.gate_log_probs.shape[1]
    return {
        **summary.summarize(answers, split),
        "confusion": metrics.confusion_matrix(answers.answer, label, num_classes).tolist(),
        "routing_metrics": metrics.routing_metrics(
            np.exp(answers.gate_log_probs), answers.expert, label, split.group
        )
        if asked
        else None,
        "expert_by_class": metrics.expert_by_class(
            answers.expert, answers.answer, label, num_experts, num_classes
        )
        if named
        else None,
    }
