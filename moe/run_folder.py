"""Whose a run's folder is: whether a run may begin, go on or grow in it."""

from __future__ import annotations

import pathlib
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from moe.config.identity import identity_differences
from moe.errors import UserError, warn
from moe.files import choose_workdir, is_there, read_json_lines, sweep, write_json
from moe.report.available import REPORT
from moe.run_files import read_run
from moe.train.checkpoint import CheckpointStore
from moe.train.devices import threads
from moe.workspace import Workspace


def open_workdir(workspace: Workspace, policy: str) -> tuple[pathlib.Path, bool]:
    """Finds the folder, and checks that a run in it is the same one.

    Returns:
      The folder, and whether the run in it is now to last longer.

    Raises:
      UserError: another run lives there.
    """
    config = workspace.config
    workdir = choose_workdir(config.runtime.workdir, f"{config.mode}-{config.data.dataset}")
    if not is_there(workdir / "config.json"):
        if is_there(workdir / "results.json") or is_there(workdir / "checkpoints"):
            raise UserError(
                f"--workdir={workdir}: holds a run whose config.json is gone, so nobody can tell "
                "which one; put it back, or use another --workdir."
            )
        return workdir, False
    stored = read_run(workdir)
    old = stored.config
    differences = identity_differences(old, config)
    if differences:
        raise UserError(
            f"--workdir={workdir} holds another run: {', '.join(differences)}; "
            "use another --workdir, or the flags of that run."
        )
    workspace.check_stored(stored)
    if stored.precision != policy:
        warn(
            f"--workdir={workdir} was begun in {stored.precision} and goes on in {policy}: "
            "not bit for bit what an unchanged run would give."
        )
    if stored.threads not in (None, threads()):
        warn(
            f"--workdir={workdir} was begun on {stored.threads} threads and goes on with "
            f"{threads()}: sums may be rounded differently."
        )
    longer = (old.train.epochs, old.train.steps) != (config.train.epochs, config.train.steps)
    saved = CheckpointStore(workdir / "checkpoints").newest() if longer else None
    if saved and saved.progress["stage"] > 0:
        raise UserError(
            f"--workdir={workdir}: its first stage has ended at --epochs={old.train.epochs}, "
            f"--steps={old.train.steps}; a longer run needs another --workdir."
        )
    return workdir, longer


def noted_groups(workdir: str | None) -> Mapping[str, Sequence[str]] | None:
    """What a run that is continued was begun with, in case its groups file is gone."""
    if workdir is None or not is_there(pathlib.Path(workdir) / "config.json"):
        return None
    return read_run(pathlib.Path(workdir)).groups


def was_saved(workdir: pathlib.Path) -> bool:
    """Whether something in a run's folder is only written after its first checkpoint."""
    metrics = workdir / "metrics.jsonl"
    records = read_json_lines(metrics) if is_there(metrics) else []
    # The first epoch is always the best so far, and is saved when it is closed.
    later = any(isinstance(r.get("epoch"), int) and r["epoch"] > 1 for r in records)
    return later or is_there(workdir / "best")


def begin(
    workspace: Workspace,
    workdir: pathlib.Path,
    policy: str,
    longer: bool,
    facts: Mapping[str, Any],
) -> None:
    """Tidies up after a start that was killed, and notes down what the run is.

    Raises:
      UserError: the folder cannot be written to.
    """
    for folder in (workdir, workdir / "figures"):
        sweep(folder)
    CheckpointStore(workdir / "best").sweep()
    if longer:
        _forget_outcome(workdir)
    write_json(
        workdir / "config.json",
        {
            "config": workspace.config.to_dict(),
            "groups": workspace.groups.members(workspace.source.classes),
            "class_weights": workspace.class_weights or {},
            "data": workspace.describe_data(),
            "precision": policy,
            **facts,
        },
    )


def _forget_outcome(workdir: pathlib.Path) -> None:
    """A run that grows is unfinished: what it found so far must not pass for its outcome."""
    for name in (
        *("results.json", "evaluation.json", "predictions*.npz", "predicted.csv"),
        *(REPORT, "figures/*.png"),
    ):
        for path in workdir.glob(name):
            path.unlink()
    for name in ("best", "export"):
        shutil.rmtree(workdir / name, ignore_errors=True)
