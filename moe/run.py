"""`train.py`: one run from its configuration to its results."""

from __future__ import annotations

import contextlib
import functools
import pathlib
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from moe.config.choices import PART_MODES
from moe.config.identity import identity_differences
from moe.config.run import Config
from moe.data.pipeline import Split
from moe.errors import UserError, warn
from moe.evaluate import summary
from moe.evaluate.examine import architecture, asking, examine, header
from moe.evaluate.predict import predict_dense
from moe.evaluate.predictions import RUN_FILE, write_predictions
from moe.evaluate.present import results_text
from moe.files import (
    alone_in,
    choose_workdir,
    is_there,
    make_workdir,
    read_json_lines,
    sweep,
    write_json,
)
from moe.models import cost
from moe.models.mixture import MixtureOfExperts
from moe.models.normalization import check_fixed_shapes, check_replicas
from moe.models.routers import make_router
from moe.provenance import continue_command, evaluate_command, provenance
from moe.report.available import REPORT, report_wanted
from moe.report.write import write_report
from moe.run_files import read_results, read_run
from moe.serving import export_run
from moe.train.accounts import accounts
from moe.train.budget import allot
from moe.train.checkpoint import CheckpointStore
from moe.train.context import Context, Data, Progress
from moe.train.devices import choose_strategy, compute_deterministically, threads
from moe.train.meter import Meter
from moe.train.precision import choose_precision
from moe.train.progress import Reporter, Silent
from moe.train.signals import StopRequest, StopTraining, stop_on_signals
from moe.train.stages import (
    Stage,
    check_examples,
    filled_parts,
    leave_out,
    parts_of,
    stages_of,
)
from moe.train.state import model_variables
from moe.train.team import Workers, make_team
from moe.train.tensorboard import Board
from moe.train.trainer import train_stages
from moe.train.warm_start import count_starts, take_over
from moe.workspace import Workspace, open_workspace


class Finding(NamedTuple):
    """What the end of a run found out.

    Attributes:
      results: `results.json`.
      evaluation: `evaluation.json`.
      test: the split that both are about.
    """

    results: dict[str, Any]
    evaluation: dict[str, Any]
    test: Split


class Ready(NamedTuple):
    """A run that may train: whatever can be refused is behind it, and the folder is its own.

    Attributes:
      workspace: its data.
      context, stages: for `train_stages`.
      workdir: its folder.
      facts: what `provenance` says.
      wants_report: whether it ends with one.
    """

    workspace: Workspace
    context: Context
    stages: list[Stage]
    workdir: pathlib.Path
    facts: dict[str, Any]
    wants_report: bool


def train(
    config: Config,
    *,
    found_groups: Mapping[str, Sequence[str]] | None = None,
    part_of: pathlib.Path | None = None,
) -> int:
    """Trains (or continues, or just reports) a run.

    Args:
      config: as asked for.
      found_groups: `{group: classes}` of `--groups=auto:K`, where the run is not begun yet.
      part_of: the folder of the run that this one prepares. It then leaves nothing but its best
        weights: only the final evaluation of the whole may open the test split.

    Returns:
      The exit code.

    Raises:
      UserError: something the user can mend.
    """
    say, again = functools.partial(print, file=sys.stderr, flush=True), continue_command(part_of)
    with contextlib.ExitStack() as held, stop_on_signals() as stop:
        try:
            with stop.at_once():
                ready = _prepare(config, found_groups, stop, held)
            if ready is None:
                return 0
            say, again = ready.context.reporter.say, continue_command(part_of or ready.workdir)
            progress = train_stages(ready.context, ready.stages)
            with stop.at_once():
                _finish(ready, progress, evaluates=part_of is None)
            return 0
        except StopTraining as stopped:
            say(f"stopped ({stopped}); continue with: {again}")
            return stopped.exit_code
        except tf.errors.UnavailableError as error:
            raise UserError(
                "another worker is gone; start all of them again to go on from the last checkpoint."
            ) from error


def _prepare(
    config: Config,
    found_groups: Mapping[str, Sequence[str]] | None,
    stop: StopRequest,
    held: contextlib.ExitStack,
) -> Ready | None:
    """Opens the data, builds the networks and takes the folder.

    Args:
      config, found_groups: as in `train`.
      stop: heard while training.
      held: what is to be given back at the end.

    Returns:
      None: the run was finished before, and its table is printed.

    Raises:
      UserError: something the user can mend.
    """
    meter = Meter()
    if config.runtime.deterministic:
        compute_deterministically(config.train.seed)
    strategy = choose_strategy(config.runtime)
    precision = choose_precision(config.runtime.precision)
    with meter.preparing():
        workspace = open_workspace(config, found_groups or _noted_groups(config.runtime.workdir))
    config = workspace.config
    workdir, longer = _open_workdir(workspace, precision.policy)
    if is_there(workdir / "results.json") and not longer:
        is_chief = make_team(strategy).is_chief
        _hand_over(read_results(workdir), workdir, config.runtime.export and is_chief)
        if is_there(workdir / REPORT):
            print(f"report: {workdir / REPORT}")
        return None
    wants_report = report_wanted(config.runtime.report)
    mixture = workspace.build(strategy, precision.policy)
    stages = stages_of(config, workspace.groups, list(mixture.parts()))
    replicas = strategy.num_replicas_in_sync
    check_examples(
        stages,
        workspace.train,
        workspace.validation,
        config.train.batch_size,
        replicas,
        config.train.accumulate,
    )
    if replicas > 1:
        routed = config.model.routing != "soft" and stages[-1].kind == "joint"
        check_replicas(mixture.parts(), routed)
    if config.runtime.jit_compile:
        models = mixture.parts()
        filled = filled_parts(stages, config.model.routing)
        check_fixed_shapes({part: models[part] for part in filled})
    with meter.preparing():
        mixture.fit_inputs(workspace.train.examples.features)
    initial = _start_weights(workspace, mixture, parts_of(stages), workdir)
    stages = count_starts(leave_out(stages, config.train.skip_stages, initial), initial)
    stages = allot(config, mixture, stages, workspace.train)
    team = make_team(strategy)
    if isinstance(team, Workers) and stages[0].seconds:
        raise UserError(
            f"--budget={config.train.budget}: several workers have no clock in common; use a "
            "budget of epochs or macs."
        )
    facts = provenance()
    store = CheckpointStore(workdir / "checkpoints", config.runtime.keep)
    begun_before, never_saved = is_there(workdir / "config.json"), store.newest() is None
    if never_saved and _was_saved(workdir):
        raise UserError(
            f"{workdir}: trained before, and its checkpoints are gone; put them back into "
            "checkpoints/, or start again with another --workdir."
        )
    # From here on the folder belongs to this run: whatever can be refused was refused before.
    if team.is_chief:
        make_workdir(workdir)
        held.enter_context(alone_in(workdir))
        _begin(workspace, workdir, precision.policy, longer, facts | {"initial": initial})
    reporter = _reporter(workspace, workdir) if team.is_chief else Silent()
    held.callback(reporter.end_epoch)
    reporter.say(
        f"{config.mode} on {workspace.source.name}: {len(workspace.train):,} training and "
        f"{len(workspace.validation):,} validation examples; {facts['device']}; "
        f"{precision.policy} ({precision.reason}); {workdir}"
    )
    if workspace.source.note:
        reporter.say(workspace.source.note)
    if initial:
        sources = ", ".join(f"{part} from {source}" for part, source in initial.items())
        reporter.say(f"starts with weights of other runs: {sources}")
    if never_saved:
        unsaved = "this run was begun before but never saved: " if begun_before else ""
        reporter.say(f"{unsaved}starting from step 0")
    for part, model in mixture.parts().items():
        for layer in cost.uncounted_layers(model):
            warn(f"the MACs of layer {layer} of {part} are not known; the figures leave them out.")
    context = Context(
        config,
        precision.policy,
        mixture,
        workspace.groups,
        Data(workspace.train, workspace.validation),
        strategy,
        team,
        store,
        reporter,
        stop,
        meter,
        workdir / "tensorboard" if config.runtime.profile else None,
    )
    return Ready(workspace, context, stages, workdir, facts, wants_report)


def _finish(ready: Ready, progress: Progress, evaluates: bool) -> None:
    """Keeps the best weights, evaluates them and writes down what was found.

    Args:
      ready: the run.
      progress: behind its last stage.
      evaluates: False: the weights are all that is asked for.
    """
    _, context, stages, workdir, facts, wants_report = ready
    is_chief = context.team.is_chief
    if is_chief:
        _keep_best(context, parts_of(stages), workdir)
    if is_chief and evaluates:
        found = _conclude(context, ready.workspace, stages, progress, workdir)
        write_json(workdir / "evaluation.json", found.evaluation | facts)
        write_json(workdir / "results.json", found.results | facts)
    context.team.agree(0, stop=False)  # nobody leaves before the chief has written everything
    context.reporter.close()
    if is_chief and evaluates:
        _hand_over(found.results | facts, workdir, context.config.runtime.export)
        if wants_report:
            print(f"report: {write_report(workdir, found.test.examples.features)}")


def _noted_groups(workdir: str | None) -> Mapping[str, Sequence[str]] | None:
    """What a run that is continued was begun with, in case its groups file is gone."""
    if workdir is None or not is_there(pathlib.Path(workdir) / "config.json"):
        return None
    return read_run(pathlib.Path(workdir)).groups


def _reporter(workspace: Workspace, workdir: pathlib.Path) -> Reporter:
    """Says and writes what happens while the run trains."""
    board = None
    if workspace.config.runtime.tensorboard:
        board = Board(workdir / "tensorboard", workspace.groups.names)
    return Reporter(workdir / "metrics.jsonl", board=board)


def _was_saved(workdir: pathlib.Path) -> bool:
    """Whether something in a run's folder is only written after its first checkpoint."""
    metrics = workdir / "metrics.jsonl"
    records = read_json_lines(metrics) if is_there(metrics) else []
    # The first epoch is always the best so far, and is saved when it is closed.
    later = any(isinstance(r.get("epoch"), int) and r["epoch"] > 1 for r in records)
    return later or is_there(workdir / "best")


def _begin(
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


def _keep_best(context: Context, parts: list[str], workdir: pathlib.Path) -> None:
    """Writes the best weights of what was trained where evaluations find them."""
    CheckpointStore(workdir / "best", keep=1).save(
        1, model_variables(context.mixture, parts), {"parts": parts}
    )


def _conclude(
    context: Context,
    workspace: Workspace,
    stages: list[Stage],
    progress: Progress,
    workdir: pathlib.Path,
) -> Finding:
    """Evaluates the best weights and says what they cost."""
    found = _evaluate(workspace, context.mixture, stages, workdir, context.policy)
    results = found.results | {"health": progress.health} | accounts(context, progress.finished)
    results |= {"precision": context.policy, "seed": context.config.train.seed}
    # As the speed records count: from the first touch of the data to the last test answer.
    clock = ("prepare_seconds", "train_seconds", "test_seconds")
    results["clock_seconds"] = sum(results[name] for name in clock)
    results["wall_seconds"] = context.meter.seconds_since_start()
    return found._replace(results=results)


def _open_workdir(workspace: Workspace, policy: str) -> tuple[pathlib.Path, bool]:
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
    workspace.check_data(stored.data)
    workspace.check_groups(stored.groups)
    workspace.check_class_weights(stored.class_weights)
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


def _start_weights(
    workspace: Workspace, mixture: MixtureOfExperts, parts: list[str], workdir: pathlib.Path
) -> dict[str, str]:
    """Takes over what `--init_from` names, where no checkpoint of this run goes on from it.

    Returns:
      Where the weights of each part come from; parts that start at random are not there.
    """
    if not workspace.config.train.init_from:
        return {}
    if CheckpointStore(workdir / "checkpoints").newest():
        return read_run(workdir).initial or {}
    return take_over(workspace, mixture, parts)


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


def _evaluate(
    workspace: Workspace,
    mixture: MixtureOfExperts,
    stages: list[Stage],
    workdir: pathlib.Path,
    policy: str,
) -> Finding:
    """The final evaluation: the only place of a run that opens the test split."""
    config, groups = workspace.config, workspace.groups
    parts = parts_of(stages)
    mixture.mirrors = config.model.tta == "flip"
    test = workspace.open_test()
    evaluation = header(workspace, test, "test", policy, config.model.tta)
    results = {
        "dataset": workspace.source.name,
        "note": workspace.source.note,
        "mode": config.mode,
        "routing": config.model.routing,
        "tta": config.model.tta,
        "classes": list(workspace.source.classes),
        "groups": list(groups.names),
        "examples": {
            "train": len(workspace.train),
            "validation": len(workspace.validation),
            "test": len(test),
        },
    }
    test_seconds = 0.0  # of the answers alone, not of what is found out about them
    if config.mode in PART_MODES:
        evaluation |= {
            "parts": summary.evaluate_parts(mixture, test, groups, parts),
            "architecture": architecture(config, mixture, parts),
            "routings": {},
        }
        validation = on_test = summary.NO_METRICS
        spread: dict[str, Any] = {}
        if config.mode == "baseline":
            validation, _ = summary.evaluate_baseline(mixture, workspace.validation)
            started = time.perf_counter()
            on_test, answers = summary.evaluate_baseline(mixture, test)
            test_seconds = time.perf_counter() - started
            write_predictions(workdir / RUN_FILE, answers, test)
    else:
        name, top_k = config.model.routing, config.model.top_k
        router = make_router(name, top_k)
        validation, _ = summary.evaluate_mixture(mixture, workspace.validation, router)
        started = time.perf_counter()
        on_test, answers = summary.evaluate_mixture(mixture, test, router)
        test_seconds = time.perf_counter() - started
        write_predictions(workdir / RUN_FILE, answers, test)
        dense = predict_dense(mixture, test, summary.BATCH_SIZE)
        ask = asking(mixture, test, groups.names, config.train.seed, top_k=top_k)
        evaluation |= examine(workspace, mixture, test, dense, {name: answers}, ask)
        spread = evaluation["routings"][name]["routing_metrics"]
    results |= {
        "validation": validation,
        "test": on_test,
        "test_seconds": test_seconds,
        "parts": evaluation["parts"],
        "routing_metrics": spread,
    }
    return Finding(results, evaluation, test)


def _hand_over(results: dict[str, Any], workdir: pathlib.Path, export: bool) -> None:
    """The final table, how to go on, and the export that was asked for."""
    print(f"\n{results_text(results)}\n\ncontinue: {continue_command(workdir)}")
    print(f"evaluate: {evaluate_command(workdir)}")
    if export:
        print(f"exported: {export_run(workdir)}")
