"""Figures about the answers: confusion of classes, calibration, who is to blame for errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from moe.evaluate.attribution import PARTS
from moe.evaluate.present import boost_sentence
from moe.report.drawing import (
    BLUE,
    GREEN,
    GREY,
    RED,
    Picture,
    class_order,
    heat_map,
    new_figure,
    row_height,
    subject,
)

Evaluation = Mapping[str, Any]


def confusion(evaluation: Evaluation, routing: str) -> Picture:
    """Which class is taken for which."""
    order, groups = class_order(evaluation)
    classes = [evaluation["classes"][n] for n in order]
    count = np.array(evaluation["routings"][routing]["confusion"], float)[np.ix_(order, order)]
    share = count / np.maximum(count.sum(axis=1, keepdims=True), 1)
    title = "Confusion of classes"
    figure = new_figure(row_height(len(classes)) + 0.9, title, subject(evaluation, routing))
    axes = figure.subplots()
    texts = [[f"{value:.2f}" if value >= 0.005 else "" for value in row] for row in share]
    heat_map(axes, share, classes, classes, texts=texts, row_groups=groups, column_groups=groups)
    axes.set(xlabel="answer", ylabel="true class")
    wrong = share - np.diag(np.diag(share))
    true, said = np.unravel_index(wrong.argmax(), wrong.shape)
    return Picture(
        "confusion",
        title,
        figure,
        f"Heat map of true classes by answers. Most frequent confusion: {classes[true]} is taken "
        f"for {classes[said]} in {wrong.max():.0%}.",
        f"Rows sum to 1. {_whose(evaluation)}".rstrip(),
    )


def _whose(evaluation: Evaluation) -> str:
    """Whose errors these are, where experts have classes of their own."""
    groups = evaluation.get("class_groups")
    if groups is None:
        return ""
    if not set(groups) <= set(evaluation["groups"]):  # those of the data set; experts have others
        return "Lines part the groups of the data set, which these experts were not told."
    return (
        "Lines part the groups. An error inside of one is an expert's, or the blend's; one across "
        "groups may be the gate's, or that of an expert or a baseline that knows all classes: "
        "“Whose errors” tells."
    )


def calibration(evaluation: Evaluation, routing: str) -> Picture:
    """Accuracy by confidence: a reliability diagram."""
    found = evaluation["routings"][routing]
    bins = found["calibration"]
    count = np.array(bins["count"])
    accuracy = np.array(bins["accuracy"], float)
    edges = np.linspace(0, 1, len(count) + 1)
    title = "Calibration"
    figure = new_figure(4.2, title, subject(evaluation, routing))
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.bar(
        edges[:-1],
        np.nan_to_num(accuracy),
        np.diff(edges),
        align="edge",
        color=BLUE,
        edgecolor="w",
        label="accuracy",
    )
    upper.plot((0, 1), (0, 1), "--", color=GREY, lw=1, label="calibrated")
    upper.set(ylabel="share right", xlim=(0, 1), ylim=(0, 1.03))
    upper.legend(loc="upper left")
    lower.bar(edges[:-1], count / count.sum(), np.diff(edges), align="edge", color=GREY)
    lower.set(xlabel="highest probability", ylabel="examples")
    return Picture(
        "calibration",
        title,
        figure,
        f"Accuracy by confidence in {len(count)} bins; expected calibration error "
        f"{found['ece']:.3f}, accuracy {found['accuracy']:.1%}.",
        "Bars below the dashed line: surer than it is right. Below, how many examples each bar "
        f"stands for. The error summed up over the bins (ECE) is {found['ece']:.4f}.",
    )


def attribution(evaluation: Evaluation, routing: str) -> Picture | None:
    """Examples by who was right about them."""
    found = evaluation["routings"][routing]
    rows = found["attribution"]
    if rows is None:
        return None
    parts = [part for part in PARTS[:-1] if rows[0][part] is not None]
    bars: dict[str, dict[bool, int]] = {}
    for row in rows:
        name = "   ".join(f"{part} {'✓' if row[part] else '✗'}" for part in parts)
        bars.setdefault(name, {})[row["mixture"]] = row["count"]
    bars = {name: counts for name, counts in bars.items() if sum(counts.values())}
    right, wrong = (np.array([c[key] for c in bars.values()]) for key in (True, False))
    title = "Whose errors"
    figure = new_figure(0.36 * len(bars) + 1.1, title, subject(evaluation, routing))
    axes = figure.subplots()
    places = np.arange(len(bars))
    axes.barh(places, right, color=GREEN, label="mixture right")
    drawn = axes.barh(places, wrong, left=right, color=RED, label="mixture wrong")
    texts = [f"{r:,} right, {w:,} wrong" for r, w in zip(right, wrong, strict=True)]
    axes.bar_label(drawn, texts, padding=3, fontsize=8)
    axes.set_yticks(places, list(bars), fontsize=9)
    axes.invert_yaxis()
    axes.set_xlabel("examples")
    axes.set_xlim(0, 1.35 * (right + wrong).max())
    figure.legend(loc="outside lower center", ncols=2, fontsize=9)
    boost = found["boost"]
    said = "." if boost is None else f": {boost_sentence(boost)}."
    return Picture(
        "attribution",
        title,
        figure,
        "Bars by which parts were right: "
        + "; ".join(f"{' '.join(n.split())}: {t}" for n, t in zip(bars, texts, strict=True))
        + ".",
        "Each bar is a combination of parts that are right (✓) or wrong (✗) by themselves; its "
        f"colours say what became of it in the mixture{said}",
    )
