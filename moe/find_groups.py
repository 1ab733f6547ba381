"""`--groups=auto:K`: trains or takes a baseline, finds groups in its confusions, then trains."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import shutil
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from moe.config.run import Config
from moe.config.sections import LossConfig, ModelConfig
from moe.discovery import agreement, as_members, cluster_classes, confusion_affinity
from moe.errors import UserError, warn
from moe.evaluate import summary
from moe.files import alone_in, choose_workdir, is_there, make_workdir, write_json
from moe.provenance import provenance
from moe.run import train
from moe.run_files import find_run
from moe.train.devices import choose_device, on_one_device
from moe.train.team import workers_asked_for
from moe.trained import restore_best
from moe.workspace import Workspace, open_workspace

GROUPS_FILE = "groups.json"
"""The partition found, as `--groups` takes it: to be edited and used."""
REPORT_FILE = "discovery.json"
_LOCK = ".search.lock"
"""Not that of the run that follows in the same folder."""
_CONFUSED = 0.01
"""Likeness of two classes below which it is more noise than confusion."""


def find_and_train(config: Config) -> int:
    """`moe.run.train` on groups that are found first; returns the exit code.

    The baseline that finds them is a run of its own in `WORKDIR/baseline`, unless `--groups_from`
    names a finished one. A run that is continued keeps the groups it was begun with.

    Raises:
      UserError: something the user can mend.
    """
    workdir = choose_workdir(config.runtime.workdir, f"{config.mode}-{config.data.dataset}")
    config = _in_folder(config, workdir)
    if is_there(workdir / "config.json"):
        return train(config)
    with _alone_in(workdir):
        if config.data.groups_from:
            teacher = pathlib.Path(config.data.groups_from)
        else:
            teacher = workdir / "baseline"
            code = train(_baseline_run(config, teacher), part_of=workdir)
            if code:
                return code
        report = _discover(teacher, config)
        write_json(workdir / GROUPS_FILE, report["found"])
        write_json(workdir / REPORT_FILE, report)
        print("\n".join(_as_text(report, workdir)), flush=True)
        return train(config, found_groups=report["found"])


@contextlib.contextmanager
def _alone_in(workdir: pathlib.Path) -> Iterator[None]:
    """While open, nobody else finds groups in the folder; what is refused leaves none behind.

    Raises:
      UserError: another process is at it, or there can be no such folder.
    """
    if len(workers_asked_for()) > 1:  # they do it together
        yield
        return
    is_new = not is_there(workdir)
    make_workdir(workdir)
    with alone_in(workdir, _LOCK):
        try:
            yield
        except UserError:
            if is_new and [path.name for path in workdir.iterdir()] == [_LOCK]:
                shutil.rmtree(workdir, ignore_errors=True)
            raise


def _in_folder(config: Config, workdir: pathlib.Path) -> Config:
    runtime = dataclasses.replace(config.runtime, workdir=str(workdir))
    return dataclasses.replace(config, runtime=runtime)


def _baseline_run(config: Config, workdir: pathlib.Path) -> Config:
    """The run of the baseline alone that `config` would train."""
    return dataclasses.replace(
        _in_folder(config, workdir),
        mode="baseline",
        data=dataclasses.replace(config.data, groups=None),
        model=ModelConfig(
            baseline_backbone=config.model.baseline_backbone,
            whiten=config.model.whiten,
            identity_init=config.model.identity_init,
        ),
        loss=LossConfig(),
        # Both name parts of the mixture.
        train=dataclasses.replace(config.train, init_from=(), skip_stages=()),
    )


def _discover(teacher: pathlib.Path, config: Config) -> dict[str, Any]:
    """The groups in the validation confusions of the baseline in `teacher`.

    Raises:
      UserError: there is no finished baseline, or it saw other examples.
    """
    stored = find_run(teacher, "groups_from")
    run = dataclasses.replace(stored.config, runtime=on_one_device(config.runtime))
    workspace = open_workspace(run, stored.groups)
    _check_examples(workspace, config, teacher)
    strategy = choose_device(run.runtime)
    mixture = workspace.build(strategy, stored.precision)
    if "baseline" not in restore_best(mixture, teacher, "groups_from"):
        raise UserError(f"--groups_from={teacher}: has no baseline.")
    metrics, answers = summary.evaluate_baseline(mixture, workspace.validation)
    label, classes = workspace.validation.examples.label, workspace.source.classes
    unseen = sorted(set(range(len(classes))) - set(label.tolist()))
    if unseen:
        raise UserError(
            f"--groups={config.data.groups}: no validation example of {classes[unseen[0]]!r}; "
            "raise --validation_fraction."
        )
    affinity = confusion_affinity(np.exp(answers.log_probs), label)
    if affinity.max() < _CONFUSED:
        warn(
            f"--groups={config.data.groups}: the baseline confuses next to nothing on validation "
            "(no two classes get 1 % of each other's probability), so the groups found are nearly "
            "arbitrary; name groups, or raise --validation_fraction."
        )
    count = int(config.data.groups.removeprefix("auto:"))
    found = as_members(cluster_classes(affinity, count), classes)
    named = workspace.source.partition
    return {
        "dataset": workspace.source.name,
        "seed": run.train.seed,
        "baseline": str(teacher),
        "validation_accuracy": metrics["accuracy"],
        "classes": list(classes),
        "affinity": affinity.tolist(),
        "found": found,
        "named": {group: list(names) for group, names in named.items()} if named else None,
        "agreement": agreement(found, named) if named else None,
        **provenance(),
    }


def _check_examples(workspace: Workspace, config: Config, teacher: pathlib.Path) -> None:
    """A baseline that was trained on some of our validation examples would confuse too little."""
    mine = dataclasses.replace(config.data, dataset=workspace.source.name)
    wanted = ("validation_fraction", "train_examples", "data_seed")
    if config.data.dataset not in ("auto", workspace.source.name):
        wanted, mine = (*wanted, "dataset"), config.data
    for name in wanted:
        theirs = getattr(workspace.config.data, name)
        if theirs != getattr(mine, name):
            raise UserError(
                f"--groups_from={teacher}: was trained with --{name}={theirs}, this run has "
                f"{getattr(mine, name)}; take one with the same examples."
            )


def _as_text(report: dict[str, Any], workdir: pathlib.Path) -> Sequence[str]:
    lines = [f"\ngroups found in what the baseline in {report['baseline']} confuses:"]
    lines += [f"  {group}: {', '.join(names)}" for group, names in report["found"].items()]
    if report["agreement"]:
        lines.append("named groups:")
        lines += [f"  {group}: {', '.join(names)}" for group, names in report["named"].items()]
        lines.append(
            "adjusted Rand index {adjusted_rand_index:.3f}, normalised mutual information "
            "{normalized_mutual_information:.3f}".format(**report["agreement"])
        )
    return [*lines, f"to edit and use: --groups={workdir / GROUPS_FILE}\n"]
