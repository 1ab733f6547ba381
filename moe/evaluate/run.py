"""`eval.py`: one trained mixture under many routings."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from moe.config.choices import ROUTINGS, TOP_K_ROUTINGS
from moe.config.tools import EvalConfig
from moe.data.pipeline import Split
from moe.errors import UserError
from moe.evaluate import summary
from moe.evaluate.examine import architecture, asking, examine, header
from moe.evaluate.predict import Answers, predict_dense, predict_routed
from moe.evaluate.predictions import evaluation_file, write_predictions
from moe.evaluate.present import evaluation_text
from moe.evaluate.routings import check_routing
from moe.files import write_json
from moe.models.mixture import MixtureOfExperts
from moe.models.routers import EVERYONE, make_router
from moe.provenance import provenance
from moe.report.available import report_wanted
from moe.report.write import write_report
from moe.routing import asks_somebody, gating
from moe.run_files import StoredRun, find_run
from moe.train.devices import choose_device, on_one_device
from moe.train.precision import choose_precision
from moe.trained import Trained, restore_best
from moe.types import Gating
from moe.workspace import Workspace, open_workspace

DEFAULT_TOP_K = 2
"""Experts of top-k routings where the run itself routes otherwise: one would be `hard`."""


def evaluate(config: EvalConfig) -> int:
    """Evaluates one run as the flags ask; returns the exit code.

    Raises:
      UserError: something the user can mend.
    """
    workdir = pathlib.Path(config.workdir)
    wants_report = report_wanted(config.report)
    stored = _open_run(workdir, config)
    run = stored.config
    if config.tta is not None:
        run = dataclasses.replace(run, model=dataclasses.replace(run.model, tta=config.tta))
    strategy = choose_device(run.runtime)
    policy = choose_precision(config.precision or stored.precision).policy
    workspace = open_workspace(run, stored.groups)
    workspace.check_data(stored.data)
    workspace.check_groups(stored.groups)
    mixture = workspace.build(strategy, policy)
    parts = restore_best(mixture, workdir)
    tta = workspace.config.model.tta
    mixture.mirrors = tta == "flip"
    names, top_k = asked_routings(config, workspace, mixture, parts)
    split = workspace.open_test() if config.eval_split == "test" else workspace.validation
    answers: dict[str, Answers] = {}
    if names:
        found, answers = _route(workspace, mixture, split, names, top_k, config)
    else:
        found = {
            "parts": summary.evaluate_parts(mixture, split, workspace.groups, parts),
            "architecture": architecture(workspace.config, mixture, parts),
            "routings": {},
        }
    evaluation = {
        **header(workspace, split, config.eval_split, policy, tta),
        "top_k": top_k if _need_k(names) else None,
        "gate_threshold": config.gate_threshold,
        **found,
        **provenance(),
    }
    print(evaluation_text(evaluation))
    for name, under in answers.items():
        write_predictions(workdir / evaluation_file(name, config.eval_split), under, split)
    write_json(workdir / "evaluation.json", evaluation)
    if wants_report:
        print(f"\nreport: {write_report(workdir, split.examples.features)}")
    return 0


def _need_k(names: Sequence[str]) -> bool:
    return any(name in TOP_K_ROUTINGS for name in names)


def _open_run(workdir: pathlib.Path, config: EvalConfig) -> StoredRun:
    """The run, configured to be evaluated here and now."""
    stored = find_run(workdir)
    run = stored.config
    data_dir = config.data_dir or run.data.data_dir
    if not config.data_dir and not os.path.isdir(data_dir or ""):
        data_dir = os.environ.get("TFDS_DATA_DIR", data_dir)  # trained elsewhere, or moved
    data = dataclasses.replace(run.data, data_dir=data_dir)
    train = dataclasses.replace(run.train, class_weights=None)  # what is learned no more
    run = dataclasses.replace(run, data=data, train=train, runtime=on_one_device(run.runtime))
    return stored._replace(config=run)


def asked_routings(
    config: EvalConfig,
    workspace: Workspace | Trained,
    mixture: MixtureOfExperts,
    parts: Sequence[str],
) -> tuple[tuple[str, ...], int]:
    """The routings to try, none where there is nothing to route, and the K of top-k ones.

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
    if config.top_k and not _need_k(names):
        raise UserError(f"--top_k={config.top_k}: is for --routing=topk, not {', '.join(names)}.")
    own = model.top_k if model.routing in TOP_K_ROUTINGS else DEFAULT_TOP_K
    top_k = config.top_k or own
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
    ask = asking(
        mixture,
        split,
        workspace.groups.names,
        workspace.config.train.seed,
        top_k=top_k,
        gate_threshold=config.gate_threshold,
    )
    answers = {name: ask(name, dense) for name in names}
    bias = None if mixture.balance_bias is None else mixture.balance_bias.numpy()
    gate = gating(tf.constant(dense.gate_log_probs), bias)
    differences = {}
    for name in names:
        if name not in ROUTINGS:
            continue  # nothing of it is routed
        way = make_router(name, top_k, gate_threshold=config.gate_threshold).evaluate
        if way is EVERYONE:
            continue
        routed = predict_routed(mixture, split, config.batch_size, way)
        gap = np.abs(np.exp(routed.log_probs) - np.exp(answers[name].log_probs))
        differences[name] = float(gap.max())
    found = examine(workspace, mixture, split, dense, answers, ask) | {
        "routed_against_dense": differences,
        "experts_per_example": _experts_run(gate, config.gate_threshold)
        if config.gate_threshold
        else None,
    }
    return found, answers


def _experts_run(gate: Gating, gate_threshold: float) -> float:
    """How many experts soft routing runs for an example, on average."""
    chosen = make_router("soft", gate_threshold=gate_threshold).evaluate.choose(gate)
    return float(tf.reduce_sum(tf.cast(asks_somebody(chosen), tf.float32))) / len(chosen[0])
