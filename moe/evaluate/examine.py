"""Everything that is found out about a trained mixture on one split: `evaluation.json`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from moe.config.choices import ROUTINGS, TOP_K_ROUTINGS
from moe.config.run import Config
from moe.data.pipeline import Split
from moe.evaluate import attribution, metrics, summary
from moe.evaluate.extremes import extremes
from moe.evaluate.gate import gate_report
from moe.evaluate.predict import Answers, Dense
from moe.evaluate.routings import answers_under
from moe.models import cost
from moe.models.mixture import MixtureOfExperts
from moe.models.routers import make_router
from moe.workspace import Workspace

Ask = Callable[[str, Dense], Answers]
"""From the name of a routing and what every network says to the mixture's answers."""
_ABLATION_SIZE = 1e9
"""Numbers that may be pooled to try the mixture without each of its experts: some seconds."""


def asking(
    mixture: MixtureOfExperts,
    split: Split,
    expert_names: Sequence[str],
    seed: int,
    *,
    top_k: int = 1,
    gate_threshold: float = 0.0,
) -> Ask:
    """`answers_under` for one mixture on one split."""
    return functools.partial(
        answers_under,
        label=split.examples.label,
        group=split.group,
        expert_names=expert_names,
        group_of_class=mixture.group_of_class,
        blends=mixture.blends,
        balance_bias=None if mixture.balance_bias is None else mixture.balance_bias.numpy(),
        top_k=top_k,
        gate_threshold=gate_threshold,
        seed=seed,
    )


def header(
    workspace: Workspace, split: Split, split_name: str, policy: str, tta: str
) -> dict[str, Any]:
    """Whose evaluation it is and on what; nothing was asked for that the run does not do itself."""
    config = workspace.config
    return {
        "split": split_name,
        "dataset": workspace.source.name,
        "note": workspace.source.note,
        "mode": config.mode,
        "routing": config.model.routing,
        "seed": config.train.seed,
        "precision": policy,
        "tta": tta,
        "examples": len(split),
        "classes": list(workspace.source.classes),
        "groups": list(workspace.groups.names),
        "class_groups": _class_groups(workspace),
        "top_k": config.model.top_k if config.model.routing in TOP_K_ROUTINGS else None,
        "gate_threshold": 0.0,
        "routed_against_dense": {},
        "experts_per_example": None,
    }


def _class_groups(workspace: Workspace) -> list[str] | None:
    """The group of each class: the run's own or else the data set's; None: classes have none."""
    groups, source = workspace.groups, workspace.source
    if groups.group_of_class is not None:
        return [groups.names[g] for g in groups.group_of_class]
    if source.partition is None:
        return None
    group_of = {name: group for group, names in source.partition.items() for name in names}
    return [group_of[name] for name in source.classes]


def architecture(
    config: Config, mixture: MixtureOfExperts, parts: Collection[str] | None = None
) -> dict[str, Any]:
    """Parameters and MACs of the networks, all of them or `parts`, under the test-time views that
    are looked at; whether experts are blended with the baseline, and how many of them answer an
    example in this run.
    """
    way = make_router(config.model.routing, config.model.top_k).evaluate
    return {
        "parts": {
            name: {"parameters": found.parameters, "macs": mixture.views * found.macs}
            for name, found in cost.part_costs(mixture).items()
            if parts is None or name in parts
        },
        "blends": mixture.blends,
        "experts_per_example": way.running(mixture.num_experts),
    }


def examine(
    workspace: Workspace,
    mixture: MixtureOfExperts,
    split: Split,
    dense: Dense,
    answers: Mapping[str, Answers],
    ask: Ask,
) -> dict[str, Any]:
    """What is found on `split` under each of some routings.

    Args:
      workspace: the run's.
      mixture: trained.
      split: the examples.
      dense: what every network says about them.
      answers: the mixture's, by the name of the routing.
      ask: for routings besides these.

    Returns:
      `parts` as in `results.json`, `architecture`, the `gate` by itself, and `routings` by name.
    """
    groups, label = workspace.groups, split.examples.label
    oracles = ("oracle", "oracle_best") if groups.named else ("oracle_best",)
    best = {name: _accuracy(ask(name, dense), label) for name in oracles}
    # What the gate prefers as the run itself routes: a balance bias has its say.
    preferred = ask(workspace.config.model.routing, dense).expert
    return {
        "parts": summary.part_accuracies(_says(dense), split, groups, preferred),
        "architecture": architecture(workspace.config, mixture),
        "gate": gate_report(
            np.exp(dense.gate_log_probs),
            preferred,
            split.group,
            groups.names if groups.named else workspace.source.example_groups,
        ),
        "routings": {
            name: _describe(name, under, split, len(workspace.source.classes))
            | _attribute(
                under,
                dense,
                split,
                # An oracle has asked no gate.
                (under.expert if name in ROUTINGS else preferred) if groups.named else None,
            )
            | {
                "oracle_gap": {
                    oracle: accuracy - _accuracy(under, label) for oracle, accuracy in best.items()
                },
                # A balance bias would go on asking for an expert that is taken away.
                "ablation": _ablate(name, dense, label, ask)
                if mixture.balance_bias is None
                else None,
                "extremes": _extremes(under, dense, label),
            }
            for name, under in answers.items()
        },
    }


def _says(dense: Dense) -> dict[str, np.ndarray]:
    """What each network says by itself, by the name of the part."""
    says = {"gate": dense.gate_log_probs}
    if dense.baseline_log_probs is not None:
        says["baseline"] = dense.baseline_log_probs
    num_experts = dense.expert_log_probs.shape[1]
    return says | {f"expert_{e}": dense.expert_log_probs[:, e] for e in range(num_experts)}


def _describe(name: str, answers: Answers, split: Split, num_classes: int) -> dict[str, Any]:
    """The answers under one routing, and how it spreads the examples."""
    label = split.examples.label
    num_experts = answers.gate_log_probs.shape[1]
    return {
        **summary.summarize(answers, split),
        "confusion": metrics.confusion_matrix(answers.answer, label, num_classes).tolist(),
        "calibration": metrics.calibration_bins(
            np.exp(answers.log_probs.astype(np.float64)), label
        ),
        "routing_metrics": metrics.routing_metrics(
            np.exp(answers.gate_log_probs), answers.expert, label, split.group
        )
        if name != "baseline"
        else None,
        "expert_by_class": metrics.expert_by_class(
            answers.expert, answers.answer, label, num_experts, num_classes
        )
        if _one_answers(answers)
        else None,
    }


def _attribute(
    answers: Answers, dense: Dense, split: Split, preferred: np.ndarray | None
) -> dict[str, Any]:
    """Who was right where the mixture was right or wrong; None where that cannot be said.

    Args:
      answers: under one routing.
      dense: what every network says.
      split: the examples.
      preferred: `<int32>[N]`, the expert that the gate prefers; None: no group says who is right.
    """
    label = split.examples.label
    mixture = answers.answer == label
    baseline = None
    if dense.baseline_log_probs is not None:
        baseline = dense.baseline_log_probs.argmax(axis=1) == label
    found: dict[str, Any] = {
        "boost": None if baseline is None else attribution.boost_counts(mixture, baseline),
        "attribution": None,
    }
    if _one_answers(answers):
        chosen = dense.expert_log_probs[np.arange(len(label)), answers.expert]
        found["attribution"] = attribution.outcome_counts(
            mixture=mixture,
            expert=chosen.argmax(axis=1) == label,
            gate=None if preferred is None else preferred == split.group,
            baseline=baseline,
        )
    return found


def _ablate(name: str, dense: Dense, label: np.ndarray, ask: Ask) -> list[float] | None:
    """By how much accuracy drops when each expert is taken away from the gate; None: not tried."""
    num_experts = dense.expert_log_probs.shape[1]
    too_large = dense.expert_log_probs.size * num_experts > _ABLATION_SIZE
    if name not in ROUTINGS or num_experts < 2 or too_large:
        return None
    whole = _accuracy(ask(name, dense), label)
    drops = []
    for e in range(num_experts):
        gate = attribution.without_expert(dense.gate_log_probs, e)
        drops.append(whole - _accuracy(ask(name, dense._replace(gate_log_probs=gate)), label))
    return drops


def _extremes(answers: Answers, dense: Dense, label: np.ndarray) -> list[dict[str, Any]] | None:
    if not _one_answers(answers):
        return None
    return extremes(
        gate_probabilities=np.exp(dense.gate_log_probs),
        expert_probabilities=np.exp(dense.expert_log_probs.max(axis=2)),
        expert=answers.expert,
        answer=answers.answer,
        label=label,
    )


def _one_answers(answers: Answers) -> bool:
    """Whether one expert has the highest weight for every example."""
    return bool((answers.expert >= 0).all())


def _accuracy(answers: Answers, label: np.ndarray) -> float:
    return float((answers.answer == label).mean())
