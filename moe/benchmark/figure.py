"""The figure of `--mode=benchmark`: what an example costs as the number of experts grows."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from moe.benchmark.cases import GROWTH_TITLE


def write_growth_figure(
    rows: Sequence[Mapping[str, Any]], path: pathlib.Path
) -> pathlib.Path | None:
    """Draws milliseconds an example against the number of experts, a panel a phase.

    Args:
      rows: of `benchmark.json`.
      path: of the picture.

    Returns:
      `path`, or None where nothing of that kind was measured or matplotlib is not installed.
    """
    measured = [row for row in rows if row["group"].startswith(GROWTH_TITLE) and "dispatch" in row]
    if not measured:
        return None
    try:
        import matplotlib

        matplotlib.use("agg")
        import matplotlib.pyplot as plt
    except ImportError:
        print('no figure: install matplotlib (pip install --editable ".[report]").')
        return None
    groups = list(dict.fromkeys(row["group"] for row in measured))
    figure, panels = plt.subplots(
        1, len(groups), figsize=(5 * len(groups), 4), squeeze=False, layout="constrained"
    )
    for panel, group in zip(panels[0], groups, strict=True):
        mine = [row for row in measured if row["group"] == group]
        for dispatch, style in (("soft", "o-"), ("dense", "s--"), ("routed", "^-")):
            line = [row for row in mine if row["dispatch"] == dispatch]
            cost = [1e3 / row["examples_per_second"] for row in line]
            panel.plot([row["num_experts"] for row in line], cost, style, label=dispatch)
        panel.set(
            title=group.removeprefix(GROWTH_TITLE),
            xlabel="experts",
            ylabel="milliseconds an example",
            xscale="log",
            yscale="log",
        )
        panel.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path
