"""`--mode=compare`: a queue of rows that may be stopped and continued at any point."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Collection

from moe.compare.arms import ARMS, check_seeds, in_order, in_parts
from moe.compare.plan import Setting, make_row
from moe.compare.queue import Queue, forget_networks
from moe.compare.record import Record
from moe.compare.report import write_files, write_report
from moe.compare.size import arms_for, check_whitened, members, wide_backbones
from moe.compare.summary import summarize
from moe.compare.words import comparison_text
from moe.config.run import Config
from moe.config.tools import CompareConfig
from moe.errors import UserError, warn
from moe.files import alone_in, choose_workdir, is_there, make_workdir
from moe.provenance import command_line, continue_command
from moe.report.available import report_wanted
from moe.train.devices import choose_device, on_one_device
from moe.train.stages import stages_of
from moe.train.team import workers_asked_for
from moe.workspace import Workspace, open_workspace


def compare(config: CompareConfig) -> int:
    """Makes the rows that are missing, one after the other, and puts all of them side by side.

    Every run is trained in this process: TensorFlow is loaded once. A run that fails costs its own
    rows, not the others.

    Returns:
      The exit code: 0; 2 if a row failed; that of a signal that stopped the queue.

    Raises:
      UserError: something the user can mend.
    """
    run = config.run
    if len(workers_asked_for()) > 1:
        raise UserError("--mode=compare: rows are made by one process; unset TF_CONFIG.")
    wants_report = report_wanted(run.runtime.report)
    workdir, results = _folders(config)
    workspace = _open(run)
    first = run.train.seed
    wanted = in_order(_asked(config.arms, workspace), range(first, first + config.seeds))
    queue = Queue(workspace, workdir, results)
    check_seeds(seed for _, seed in (*wanted, *queue.records))
    missing = [pair for pair in wanted if pair not in queue.records]
    if config.results:  # a mistyped one leaves no empty --workdir
        make_workdir(results, "results")
    make_workdir(workdir)
    make_workdir(results, "results")
    code, failed = 0, []
    with alone_in(workdir):
        if missing:
            there = len(wanted) - len(missing)
            print(f"{there} of {len(wanted)} rows are there; results in {results}")
            # Runs name those that they start from: however this folder was spelled.
            folder = workdir.absolute() / "runs"
            setting = _setting(workspace, folder, {name for name, _ in missing})
            code, failed = queue.make([make_row(*pair, setting) for pair in missing])
            queue.take_others()
        if queue.records:
            _show(list(queue.records.values()), workdir, wants_report)
    print(f"continue, or add --seeds: {continue_command(workdir)}")
    if failed:
        warn(f"{len(failed)} rows failed and are tried again next time: {', '.join(failed)}.")
    return code or (2 if failed else 0)


def _folders(config: CompareConfig) -> tuple[pathlib.Path, pathlib.Path]:
    """The folder of the comparison, and that of its rows.

    Raises:
      UserError: one is no place for them.
    """
    runtime = config.run.runtime
    workdir = choose_workdir(runtime.workdir, f"compare-{config.run.data.dataset}")
    if is_there(workdir / "config.json"):
        raise UserError(
            f"--workdir={workdir}: holds a run; a comparison needs a folder of its own."
        )
    results = pathlib.Path(config.results or workdir / "results")
    if results.resolve() == workdir.resolve():
        raise UserError(
            f"--results={results}: is --workdir, whose compare.json is no row; use a folder in it, "
            "or another one."
        )
    return workdir, results


def _open(run: Config) -> Workspace:
    """The data, and the configuration that all runs share, fully resolved."""
    runtime = dataclasses.replace(
        on_one_device(run.runtime), report=False, tensorboard=False, export=False
    )
    workspace = open_workspace(dataclasses.replace(run, mode="joint", runtime=runtime))
    base = workspace.config
    budget = base.train.budget or f"epochs:{base.train.epochs}"
    base = dataclasses.replace(
        base,
        model=dataclasses.replace(base.model, routing="hard", top_k=1),
        # Rows of any seed belong together.
        train=dataclasses.replace(base.train, budget=budget, steps=None, seed=0),
        runtime=dataclasses.replace(
            run.runtime, workdir=None, report=False, tensorboard=False, export=False
        ),
    )
    return dataclasses.replace(workspace, config=base)


def _asked(given: tuple[str, ...], workspace: Workspace) -> list[str]:
    """The arms to compare; where none is given, all that there are with these flags.

    Raises:
      UserError: there is no such arm.
    """
    model = workspace.config.model
    possible = arms_for(model, workspace.groups.named)
    if not any(ARMS[name].kind == "wide" for name in possible):
        network = model.expert_backbone
        warn(f"{network} has but one width: no control is a network as large as the mixture.")
    for name in given:
        if name not in possible:
            raise UserError(f"--arms={name}: must be among {', '.join(possible)}.")
    return list(given) or possible


def _setting(workspace: Workspace, folder: pathlib.Path, arms: Collection[str]) -> Setting:
    """What rows of these arms have in common; builds the mixture once, to weigh it."""
    base = workspace.config
    mixture = workspace.build(choose_device(base.runtime), "float32")
    stages = []
    if in_parts(base.model, workspace.groups.named):
        separate = dataclasses.replace(base, mode="separate")
        stages = stages_of(separate, workspace.groups, list(mixture.parts()))
    wide = wide_backbones(arms, base.model.expert_backbone, workspace.input_shape, mixture)
    if base.model.whiten:
        check_whitened(wide, workspace.input_shape, mixture.num_classes)
    setting = Setting(
        base,
        folder,
        wide,
        members(mixture),
        tuple(stage.name for stage in stages),
    )
    forget_networks()
    return setting


def _show(records: list[Record], workdir: pathlib.Path, wants_report: bool) -> None:
    """Says and writes what the rows that are there tell."""
    summary = summarize(records)
    print(f"\n{comparison_text(summary)}\n")
    write_files(workdir, records, summary)
    if wants_report:
        print(f"report: {write_report(workdir, summary, command_line())}")
