"""`--mode=compare`: a queue of rows that may be stopped and continued at any point."""

from __future__ import annotations

import dataclasses
import gc
import pathlib
from collections.abc import Collection, Mapping, Sequence

import keras
import tensorflow as tf

from moe.compare.answers import build_networks, describe, identity_of, make_record
from moe.compare.arms import ARMS, in_order, in_parts
from moe.compare.plan import Row, Run, Setting, all_runs, make_row
from moe.compare.record import Record, write_record
from moe.compare.report import write_files, write_report
from moe.compare.rows import check_same_arm, check_same_test, read_rows
from moe.compare.size import arms_for, check_whitened, members, wide_backbones
from moe.compare.summary import summarize
from moe.compare.words import comparison_text
from moe.config.identity import identity_differences
from moe.config.run import Config
from moe.config.tools import CompareConfig
from moe.data.pipeline import Split
from moe.errors import UserError, warn
from moe.files import alone_in, choose_workdir, is_there, make_workdir
from moe.provenance import command_line, continue_command
from moe.report.available import report_wanted
from moe.run import train
from moe.run_files import read_run
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
    workdir = choose_workdir(run.runtime.workdir, f"compare-{run.data.dataset}")
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
    workspace = _open(run)
    base = workspace.config
    possible = arms_for(base.model, workspace.groups.named)
    if not any(ARMS[name].kind == "wide" for name in possible):
        network = base.model.expert_backbone
        warn(f"{network} has but one width: no control is a network as large as the mixture.")
    arms = _asked(config.arms, possible)
    first = run.train.seed
    wanted = in_order(arms, range(first, first + config.seeds))
    records = _read(results, workspace)
    missing = [pair for pair in wanted if pair not in records]
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
            rows = [make_row(*pair, setting) for pair in missing]
            code, failed = _make(rows, workspace, workdir, results, records)
        if records:
            _show(list(records.values()), workdir, wants_report)
    print(f"continue, or add --seeds: {continue_command(workdir)}")
    if failed:
        warn(f"{len(failed)} rows failed and are tried again next time: {', '.join(failed)}.")
    return code or (2 if failed else 0)


def _make(
    rows: Sequence[Row],
    workspace: Workspace,
    workdir: pathlib.Path,
    results: pathlib.Path,
    records: dict[tuple[str, int], Record],
) -> tuple[int, list[str]]:
    """Makes rows, and adds them to `records` and to the folder `results`.

    Returns:
      The exit code of the signal that stopped the queue, else 0; and the rows that failed.
    """
    test = None
    if records:
        test = workspace.open_test()
        _check_tested(test, workspace, records)
    failed = []
    for number, row in enumerate(rows, start=1):
        print(f"\n=== {row.label} ({number} of {len(rows)})", flush=True)
        path = results / f"{row.label}.json"
        try:
            if is_there(path):
                found = _read(results, workspace)
                test = test or workspace.open_test()
                _check_tested(test, workspace, found)
                records |= found
                print(f"{row.label}: was made by another queue meanwhile", flush=True)
                continue
            _check_networks(row, workspace, records)
            code = _train_runs(row, workspace, workdir)
            if code:
                return code, failed
            test = test or workspace.open_test()
            record = make_record(row, workspace.config, workspace, test)
        except (UserError, tf.errors.OpError) as error:
            warn(f"{row.label}: failed: {' '.join(str(error).split())[:500]}")
            failed.append(row.label)
            continue
        finally:
            _forget_networks()
        write_record(path, record)
        records[row.name, row.seed] = record
        print(f"{row.label}: test {100 * record['test']['accuracy']:.2f} %", flush=True)
    return 0, failed


def _read(results: pathlib.Path, workspace: Workspace) -> dict[tuple[str, int], Record]:
    """The rows that are there, by arm and seed.

    Raises:
      UserError: one is damaged, or of another comparison.
    """
    found = read_rows(results, workspace.config, workspace.digest())
    return {(record["arm"], record["seed"]): record for record in found}


def _labelled(records: Mapping[tuple[str, int], Record]) -> dict[str, Record]:
    return {f"{name}-seed{seed}": record for (name, seed), record in records.items()}


def _show(records: list[Record], workdir: pathlib.Path, wants_report: bool) -> None:
    """Says and writes what the rows that are there tell."""
    summary = summarize(records)
    print(f"\n{comparison_text(summary)}\n")
    write_files(workdir, records, summary)
    if wants_report:
        print(f"report: {write_report(workdir, summary, command_line())}")


def _check_tested(
    test: Split, workspace: Workspace, records: Mapping[tuple[str, int], Record]
) -> None:
    """Refuses rows that were tested on other examples than those of the test split now.

    Raises:
      UserError: names one.
    """
    now = {"copies": workspace.source.copies, **identity_of(test)}
    tested = {name: record["correct"] for name, record in _labelled(records).items()}
    check_same_test({f"what --dataset={workspace.source.name} has now": now} | tested)


def _check_networks(
    row: Row, workspace: Workspace, records: Mapping[tuple[str, int], Record]
) -> None:
    """Refuses, before it is trained, a row whose networks are others than those of its arm's rows.

    Raises:
      UserError: they are.
    """
    if any(name == row.name for name, _ in records):
        networks = build_networks(row, workspace)
        check_same_arm(_labelled(records) | {row.label: describe(row, networks, workspace)})
        _forget_networks()


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


def _asked(given: tuple[str, ...], possible: list[str]) -> list[str]:
    """The arms to compare.

    Raises:
      UserError: there is no such arm.
    """
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
    _forget_networks()
    return setting


def _train_runs(row: Row, workspace: Workspace, queue: pathlib.Path) -> int:
    """Trains what is not finished of the row's runs; returns the exit code of the last one.

    Args:
      row: whose runs they are.
      workspace: the data of all of them.
      queue: the folder of the comparison.

    Raises:
      UserError: in the place of one is another run.
    """
    for run in all_runs(row.runs):
        if is_there(run.folder / "results.json"):
            check_finished(run, workspace)
            continue
        print(f"--- {run.folder}", flush=True)
        code = train(run.config, queue=queue)
        _forget_networks()
        if code:
            return code
    return 0


def check_finished(run: Run, workspace: Workspace) -> None:
    """Refuses a finished run that is another than the one planned for its folder.

    One trained by itself, with `--epochs=N` in place of a budget of as many, is the same; so is one
    that starts from runs of the same names in another place.

    Raises:
      UserError: it is another.
    """
    stored, planned = read_run(run.folder), run.config
    found = stored.config
    if found.train.budget is None and found.train.steps is None:
        length = {"budget": f"epochs:{found.train.epochs}", "epochs": planned.train.epochs}
        found = dataclasses.replace(found, train=dataclasses.replace(found.train, **length))
    differences = identity_differences(_portable(found), _portable(planned))
    if differences:
        raise UserError(
            f"{run.folder}: holds another run: {', '.join(differences)}; use another --workdir, "
            "or the flags of that run."
        )
    workspace.check_stored(stored)


def _portable(config: Config) -> Config:
    """The same wherever the runs are that it starts from."""
    sources = tuple(pathlib.Path(source).name for source in config.train.init_from)
    return dataclasses.replace(config, train=dataclasses.replace(config.train, init_from=sources))


def _forget_networks() -> None:
    """Frees the networks and data of a run; what TensorFlow keeps of its graphs, some 30 MB a
    stage, stays until the process ends.
    """
    keras.backend.clear_session()
    gc.collect()
