"""Figures about where examples go: heat map, load, gate against groups, how decided the gate is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from moe.report.drawing import (
    BLUE,
    GREY,
    ORANGE,
    RED,
    Picture,
    class_order,
    heat_map,
    new_figure,
    row_height,
    short,
    subject,
)

Evaluation = Mapping[str, Any]


def expert_by_class(evaluation: Evaluation, routing: str) -> Picture | None:
    """Share of each class that each expert answers, and how well it does there."""
    table = evaluation["routings"][routing]["expert_by_class"]
    if table is None:
        return None
    order, groups = class_order(evaluation)
    experts, classes = evaluation["groups"], [evaluation["classes"][n] for n in order]
    count = np.array(table["count"], float).T[order]  # [L, E]
    share = count / np.maximum(count.sum(axis=1, keepdims=True), 1)
    accuracy = np.array(table["accuracy"], float).T[order]
    title = "Experts by class"
    figure = new_figure(row_height(len(classes)) + 0.5, title, subject(evaluation, routing))
    left, right = figure.subplots(1, 2, sharey=True)
    heat_map(left, share, classes, experts, row_groups=groups)
    left.set_title("share of the class that the expert answers")
    heat_map(right, accuracy, classes, experts, colours="Greens", row_groups=groups)
    right.set_title("accuracy on what it answers")
    right.tick_params(labelleft=False)
    most = share.argmax(axis=1)
    named = "; ".join(
        f"{expert}: {', '.join(c for c, e in zip(classes, most, strict=True) if e == n) or 'none'}"
        for n, expert in enumerate(experts)
    )
    return Picture(
        "expert_by_class",
        title,
        figure,
        f"Heat map of {len(classes)} classes by {len(experts)} experts. "
        f"Classes that each expert answers most of: {named}.",
        "A row with one dark cell is a class that one expert owns; an evenly pale row is a class "
        "that the gate cannot place. Beside it, how often the answer is right there; grey: nothing "
        "is sent there.",
    )


def load(evaluation: Evaluation, routing: str, records: Sequence[Mapping]) -> Picture | None:
    """Share of examples of each expert: on the split, and in the last epoch of training."""
    spread = evaluation["routings"][routing]["routing_metrics"]
    if spread is None:
        return None
    experts = evaluation["groups"]
    bars = {f"{evaluation['split']} split": (spread["load"], BLUE)}
    trained = [r for r in records if r.get("split") == "train" and "load" in r]
    if trained:
        asked, left = trained[-1]["load"], trained[-1]["load_after_capacity"]
        bars["last training epoch"] = (asked, ORANGE)
        if not np.allclose(asked, left):
            bars["the same, after capacity"] = (left, GREY)
    title = "Load of the experts"
    height = max(1.6, 0.15 * len(bars) * len(experts) + 0.9)
    figure = new_figure(min(height, 10), title, subject(evaluation, routing))
    axes = figure.subplots()
    thickness = 0.8 / len(bars)
    for n, (name, (values, colour)) in enumerate(bars.items()):
        places = np.arange(len(experts)) + (n - (len(bars) - 1) / 2) * thickness
        drawn = axes.barh(places, values, thickness, color=colour, label=name)
        if len(experts) <= 20:
            axes.bar_label(drawn, [f"{value:.2f}" for value in values], padding=2, fontsize=8)
    due = _group_shares(evaluation)
    if due is None:
        axes.axvline(1 / len(experts), color=RED, ls="--", lw=1, label="an equal share")
    else:
        low, high = np.arange(len(experts)) - 0.45, np.arange(len(experts)) + 0.45
        axes.vlines(due, low, high, color=RED, ls="--", lw=1, label="the share of its group")
    every = -(-len(experts) // 60)
    axes.set_yticks(range(0, len(experts), every), [short(e) for e in experts[::every]], size=9)
    axes.invert_yaxis()
    axes.set_xlabel("share of examples")
    axes.margins(x=0.1)
    figure.legend(loc="outside lower center", ncols=2, fontsize=9)
    listed = ", ".join(f"{e} {v:.2f}" for e, v in zip(experts, spread["load"], strict=True))
    return Picture(
        "load",
        title,
        figure,
        f"Bars of each expert's share of the {evaluation['split']} split: {listed}; "
        f"largest over mean less 1: {spread['max_violation']:.2f}.",
        (
            "Without names, a bar near 0 is a dead expert and one near 1 a collapsed gate. "
            if due is None
            else "Named groups have the load that the data has: a bar ends at its dashed line. "
        )
        + "Evaluation drops nothing; where training in fixed "
        "shapes did, a grey bar shows what was left.",
    )


def _group_shares(evaluation: Evaluation) -> list[float] | None:
    """Share of the examples that belong to each expert; None where experts have no groups."""
    confusion = (evaluation.get("gate") or {}).get("confusion")
    if confusion is None or confusion["groups"] != evaluation["groups"]:
        return None
    size = np.sum(confusion["count"], axis=1)
    return (size / size.sum()).tolist()


def gate_confusion(evaluation: Evaluation) -> Picture | None:
    """Which expert the gate prefers for the examples of each known group."""
    confusion = (evaluation.get("gate") or {}).get("confusion")
    if confusion is None:
        return None
    groups, experts = confusion["groups"], evaluation["groups"]
    count = np.array(confusion["count"], float)  # [G, E]
    share = count / np.maximum(count.sum(axis=1, keepdims=True), 1)
    title = "Gate against groups"
    figure = new_figure(row_height(len(groups)) + 0.6, title, subject(evaluation))
    axes = figure.subplots()
    texts = [
        [f"{s:.2f}\n({int(c):,})" if len(experts) <= 8 else f"{s:.2f}" for s, c in pairs]
        for pairs in (zip(*both, strict=True) for both in zip(share, count, strict=True))
    ]
    heat_map(axes, share, groups, experts, texts=texts)
    axes.set(xlabel="the gate's favourite expert", ylabel="group of the example")
    listed = "; ".join(
        f"{group} goes to {experts[row.argmax()]} in {row.max():.0%}"
        for group, row in zip(groups, share, strict=True)
    )
    return Picture(
        "gate_confusion",
        title,
        figure,
        f"Heat map of {len(groups)} groups by {len(experts)} experts: {listed}.",
        "Named experts: what lies off the diagonal is sent to the wrong one. Experts that found "
        "their own regions: one dark cell a row says that the gate has found the groups again, "
        "in whatever order.",
    )


def gate_histograms(evaluation: Evaluation) -> Picture | None:
    """How decided the gate is, over the examples."""
    gate = evaluation.get("gate")
    if gate is None or len(evaluation["groups"]) < 2:
        return None
    title = "How decided the gate is"
    figure = new_figure(2.5, title, subject(evaluation))
    panels = figure.subplots(1, 2, sharey=True)
    for axes, name, label in (
        (panels[0], "confidence", "highest gate probability"),
        (panels[1], "entropy", "entropy of the gate, nats"),
    ):
        edges, count = gate[name]["edges"], np.array(gate[name]["count"])
        axes.bar(edges[:-1], count / count.sum(), np.diff(edges), align="edge", color=BLUE)
        axes.set(xlabel=label, xlim=(edges[0], edges[-1]))
    panels[0].axvline(1 / len(evaluation["groups"]), color=RED, ls="--", lw=1)
    panels[0].set_ylabel("share of examples")
    sure = np.array(gate["confidence"]["count"])
    share = sure[-2:].sum() / sure.sum()
    return Picture(
        "gate_histograms",
        title,
        figure,
        f"Two histograms. The gate gives its favourite 0.9 or more for {share:.0%} of the "
        "examples.",
        "Mass on the right of the first panel and on the left of the second: decided. The dashed "
        "line is a gate that knows nothing. A gate that is sure of everything from the first "
        "epoch on leaves the other experts nothing to learn from.",
    )
