"""`train.py`: one run from its configuration to its results."""

from __future__ import annotations

import contextlib
import functools
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from moe.config.run import Config
from moe.errors import UserError, warn
from moe.evaluate.present import results_text
from moe.files import (
    alone_in,
    is_there,
    make_workdir,
    write_json,
)
from moe.models import cost
from moe.models.mixture import MixtureOfExperts
from moe.models.normalization import check_fixed_shapes, check_replicas
from moe.models.starts import keeping_size
from moe.outcome import conclude, keep_best
from moe.provenance import continue_command, evaluate_command, provenance
from moe.report.available import REPORT, report_wanted
from moe.report.write import write_report
from moe.run_files import read_results, read_run
from moe.run_folder import begin, noted_groups, open_workdir, was_saved
from moe.serving import export_run
from moe.train.budget import allot
from moe.train.checkpoint import CheckpointStore
from moe.train.context import Context, Data, Progress
from moe.train.devices import choose_strategy, compute_deterministically
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
from moe.train.team import Workers, make_team
from moe.train.tensorboard import Board
from moe.train.trainer import train_stages
from moe.train.warm_start import count_starts, take_over
from moe.train.weight_groups import norm_offsets
from moe.workspace import Workspace, open_workspace


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
    queue: pathlib.Path | None = None,
) -> int:
    """Trains (or continues, or just reports) a run.

    Args:
      config: as asked for.
      found_groups: `{group: classes}` of `--groups=auto:K`, where the run is not begun yet.
      part_of: the folder of the run that this one prepares. It then leaves nothing but its best
        weights: only the final evaluation of the whole may open the test split.
      queue: the folder of the comparison that this run is a part of, and is continued with.

    Returns:
      The exit code.

    Raises:
      UserError: something the user can mend.
    """
    whole = part_of or queue
    say, again = functools.partial(print, file=sys.stderr, flush=True), continue_command(whole)
    with contextlib.ExitStack() as held, stop_on_signals() as stop:
        try:
            with stop.at_once():
                ready = _prepare(config, found_groups, stop, held)
            if ready is None:
                return 0
            say, again = ready.context.reporter.say, continue_command(whole or ready.workdir)
            progress = train_stages(ready.context, ready.stages)
            with stop.at_once():
                _finish(ready, progress, again, evaluates=part_of is None)
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
        workspace = open_workspace(config, found_groups or noted_groups(config.runtime.workdir))
    config = workspace.config
    workdir, longer = open_workdir(workspace, precision.policy)
    if is_there(workdir / "results.json") and not longer:
        is_chief = make_team(strategy).is_chief
        again = continue_command(workdir)
        _hand_over(read_results(workdir), workdir, again, config.runtime.export and is_chief)
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
    if never_saved and was_saved(workdir):
        raise UserError(
            f"{workdir}: trained before, and its checkpoints are gone; put them back into "
            "checkpoints/, or start again with another --workdir."
        )
    # From here on the folder belongs to this run: whatever can be refused was refused before.
    if team.is_chief:
        make_workdir(workdir)
        held.enter_context(alone_in(workdir))
        begin(workspace, workdir, precision.policy, longer, facts | {"initial": initial})
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
    _warn_without_effect(config, list(mixture.parts().values()))
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


def _finish(ready: Ready, progress: Progress, again: str, evaluates: bool) -> None:
    """Keeps the best weights, evaluates them and writes down what was found.

    Args:
      ready: the run.
      progress: behind its last stage.
      again: the command that continues it.
      evaluates: False: the weights are all that is asked for.
    """
    _, context, stages, workdir, facts, wants_report = ready
    is_chief = context.team.is_chief
    if is_chief:
        keep_best(context, parts_of(stages), workdir)
    if is_chief and evaluates:
        found = conclude(context, ready.workspace, stages, progress, workdir)
        write_json(workdir / "evaluation.json", found.evaluation | facts)
        write_json(workdir / "results.json", found.results | facts)
    context.team.agree(0, stop=False)  # nobody leaves before the chief has written everything
    context.reporter.close()
    if is_chief and evaluates:
        _hand_over(found.results | facts, workdir, again, context.config.runtime.export)
        if wants_report:
            print(f"report: {write_report(workdir, found.test.examples.features)}")


def _reporter(workspace: Workspace, workdir: pathlib.Path) -> Reporter:
    """Says and writes what happens while the run trains."""
    board = None
    if workspace.config.runtime.tensorboard:
        board = Board(workdir / "tensorboard", workspace.groups.names)
    return Reporter(workdir / "metrics.jsonl", board=board)


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


def _warn_without_effect(config: Config, networks: Sequence[keras.Model]) -> None:
    """Says which flags of recipes find nothing to work on."""
    if config.train.bias_lr_scale != 1 and not any(map(norm_offsets, networks)):
        warn("--bias_lr_scale: no network has a normalisation layer; it does nothing.")
    if config.model.identity_init and not any(map(keeping_size, networks)):
        warn("--identity_init: no network has a convolution that can be one; it does nothing.")


def _hand_over(results: dict[str, Any], workdir: pathlib.Path, again: str, export: bool) -> None:
    """The final table, how to go on, and the export that was asked for."""
    print(f"\n{results_text(results)}\n\ncontinue: {again}")
    print(f"evaluate: {evaluate_command(workdir)}")
    if export:
        print(f"exported: {export_run(workdir)}")
