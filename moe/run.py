"""`train.py`: one run from its configuration to its results."""

from __future__ import annotations

import pathlib
import shutil
import signal
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from moe.config import Config, identity_differences
from moe.errors import UserError, warn
from moe.evaluate import metrics, summary
from moe.evaluate.predictions import RUN_FILE, write_predictions
from moe.evaluate.present import results_text
from moe.files import choose_workdir, make_workdir, write_json
from moe.models import cost
from moe.models.mixture import MixtureOfExperts, make_router
from moe.models.normalization import check_replicas
from moe.provenance import continue_command, evaluate_command, provenance
from moe.run_files import read_results, read_run
from moe.serving import export_run
from moe.train.accounts import accounts
from moe.train.checkpoint import CheckpointStore
from moe.train.context import Context, Data
from moe.train.devices import choose_strategy
from moe.train.meter import Meter
from moe.train.precision import choose_precision
from moe.train.progress import Reporter, Silent
from moe.train.signals import StopTraining, stop_on_signals
from moe.train.stages import Stage, check_examples, parts_of, stages_of
from moe.train.state import model_variables
from moe.train.team import make_team
from moe.train.trainer import train_stages
from moe.train.warm_start import count_starts, take_over
from moe.workspace import Workspace, open_workspace


def train(config: Config) -> int:
    """Trains (or continues, or just reports) a run.

    Returns:
      The exit code.

    Raises:
      UserError: something the user can mend.
    """
    meter = Meter()
    strategy = choose_strategy(config.runtime)
    precision = choose_precision(config.runtime.precision)
    workspace = open_workspace(config)
    config = workspace.config
    workdir, longer = _open_workdir(workspace, precision.policy)
    if (workdir / "results.json").exists() and not longer:
        export = config.runtime.export and make_team(strategy).is_chief
        _hand_over(read_results(workdir), workdir, export)
        return 0
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
    initial = _start_weights(workspace, mixture, parts_of(stages), workdir)
    stages = count_starts(stages, initial)
    # From here on the folder belongs to this run: whatever can be refused was refused before.
    facts = provenance()
    team = make_team(strategy)
    if team.is_chief:
        _begin(workspace, workdir, precision.policy, longer, facts | {"initial": initial})
    reporter = Reporter(workdir / "metrics.jsonl") if team.is_chief else Silent()
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
    for part, model in mixture.parts().items():
        for layer in cost.uncounted_layers(model):
            warn(f"the MACs of layer {layer} of {part} are not known; the figures leave them out.")
    mixture.standardize.fit(workspace.train.examples.features)
    with stop_on_signals() as stop:
        context = Context(
            config,
            precision.policy,
            mixture,
            workspace.groups,
            Data(workspace.train, workspace.validation),
            strategy,
            team,
            CheckpointStore(workdir / "checkpoints", config.runtime.keep),
            reporter,
            stop,
            meter,
            workdir / "tensorboard" if config.runtime.profile else None,
        )
        try:
            finished = train_stages(context, stages)
            stop.check()
        except StopTraining as stopped:
            reporter.end_epoch()
            reporter.say(f"stopped ({stopped}); continue with: {continue_command(workdir)}")
            return stopped.exit_code
        except tf.errors.UnavailableError as error:
            raise UserError(
                "another worker is gone; start all of them again to go on from the last checkpoint."
            ) from error
    if team.is_chief:
        try:
            results = _conclude(context, workspace, stages, finished, workdir) | facts
        except KeyboardInterrupt:
            reporter.say(f"stopped; evaluate it with: {continue_command(workdir)}")
            return 128 + signal.SIGINT
        write_json(workdir / "results.json", results)
    team.agree(0, stop=False)  # nobody leaves before the chief has written everything
    reporter.close()
    if team.is_chief:
        _hand_over(results, workdir, config.runtime.export)
    return 0


def _begin(
    workspace: Workspace,
    workdir: pathlib.Path,
    policy: str,
    longer: bool,
    facts: Mapping[str, Any],
) -> None:
    """Makes the folder and notes down what the run is.

    Raises:
      UserError: the folder cannot be made or written to.
    """
    make_workdir(workdir)
    if longer:
        _forget_outcome(workdir)
    write_json(
        workdir / "config.json",
        {
            "config": workspace.config.to_dict(),
            "groups": workspace.groups.members(workspace.source.classes),
            "classes": list(workspace.source.classes),
            "input_shape": list(workspace.input_shape),
            "precision": policy,
            **facts,
        },
    )


def _conclude(
    context: Context,
    workspace: Workspace,
    stages: list[Stage],
    finished: list[dict[str, Any]],
    workdir: pathlib.Path,
) -> dict[str, Any]:
    """Keeps the best weights, evaluates them and says what they cost."""
    parts = parts_of(stages)
    CheckpointStore(workdir / "best", keep=1).save(
        1, model_variables(context.mixture, parts), {"parts": parts}
    )
    results = _evaluate(workspace, context.mixture, stages, workdir)
    results |= accounts(context, finished)
    results |= {"precision": context.policy, "seed": context.config.train.seed}
    results["wall_seconds"] = context.meter.seconds_since_start()
    return results


def _open_workdir(workspace: Workspace, policy: str) -> tuple[pathlib.Path, bool]:
    """Finds the folder, and checks that a run in it is the same one.

    Returns:
      The folder, and whether the run in it is now to last longer.

    Raises:
      UserError: another run lives there.
    """
    config = workspace.config
    workdir = choose_workdir(config.runtime.workdir, f"{config.mode}-{config.data.dataset}")
    if not (workdir / "config.json").exists():
        if (workdir / "results.json").exists() or (workdir / "checkpoints").exists():
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
    workspace.check_groups(stored.groups)
    if stored.precision != policy:
        warn(
            f"--workdir={workdir} was begun in {stored.precision} and goes on in {policy}: "
            "not bit for bit what an unchanged run would give."
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
    for name in ("results.json", "evaluation.json", "predictions*.npz", "predicted.csv"):
        for path in workdir.glob(name):
            path.unlink()
    for name in ("best", "export"):
        shutil.rmtree(workdir / name, ignore_errors=True)


def _evaluate(
    workspace: Workspace, mixture: MixtureOfExperts, stages: list[Stage], workdir: pathlib.Path
) -> dict[str, Any]:
    """The final evaluation: the only place of a run that opens the test split."""
    config, groups = workspace.config, workspace.groups
    parts = parts_of(stages)
    test = workspace.open_test()
    results = {
        "dataset": workspace.source.name,
        "note": workspace.source.note,
        "mode": config.mode,
        "routing": config.model.routing,
        "classes": list(workspace.source.classes),
        "groups": list(groups.names),
        "examples": {
            "train": len(workspace.train),
            "validation": len(workspace.validation),
            "test": len(test),
        },
    }
    if config.mode in ("gate", "experts"):
        return results | {
            "validation": summary.NO_METRICS,
            "test": summary.NO_METRICS,
            "parts": summary.evaluate_parts(mixture, test, groups, parts),
            "routing_metrics": {},
        }
    if config.mode == "baseline":
        validation, _ = summary.evaluate_baseline(mixture, workspace.validation)
        on_test, answers = summary.evaluate_baseline(mixture, test)
        spread = {}
    else:
        router = make_router(config.model.routing, config.model.top_k)
        validation, _ = summary.evaluate_mixture(mixture, workspace.validation, router)
        on_test, answers = summary.evaluate_mixture(mixture, test, router)
        spread = metrics.routing_metrics(
            np.exp(answers.gate_log_probs), answers.expert, test.examples.label, test.group
        )
    write_predictions(workdir / RUN_FILE, answers, test)
    return results | {
        "validation": validation,
        "test": on_test,
        "parts": summary.evaluate_parts(mixture, test, groups, parts, answers.expert),
        "routing_metrics": spread,
    }


def _hand_over(results: dict[str, Any], workdir: pathlib.Path, export: bool) -> None:
    """The final table, how to go on, and the export that was asked for."""
    print(f"\n{results_text(results)}\n\ncontinue: {continue_command(workdir)}")
    print(f"evaluate: {evaluate_command(workdir)}")
    if export:
        print(f"exported: {export_run(workdir)}")
