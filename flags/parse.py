"""From the command line to a configuration: the only reader of flag values."""

from __future__ import annotations

import dataclasses
import itertools
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence

from absl import flags

from flags.define import eval_flags, train_flags
from moe.config.identity import ignored_losses
from moe.config.run import SECTIONS, Config
from moe.config.tools import BenchmarkConfig, CompareConfig, EvalConfig
from moe.errors import UserError, warn
from moe.train.signals import StopTraining, stop_on_signals

_ARMS_DECIDE = {"routing", "top_k", "export", "tensorboard"}
_HELP = ("--help", "-help", "-h", "--helpshort", "--helpfull")


def parse_train(argv: Sequence[str]) -> Config | CompareConfig | BenchmarkConfig:
    """The configuration that `argv` (program name first) asks `train.py` for.

    Raises:
      UserError: a flag is unknown or its value is not allowed.
      SystemExit: help was asked for and printed.
    """
    values = _parse(argv, train_flags(), "Trains a mixture of experts.", _TRAIN_EXAMPLES)
    sections = {name: _fill(kind, values) for name, kind in SECTIONS.items()}
    config = Config(mode=values["mode"].value, **sections)
    of_benchmark, of_compare = (
        {field.name for field in dataclasses.fields(kind)} - {"run"}
        for kind in (BenchmarkConfig, CompareConfig)
    )
    given = {name for name in values if values[name].present} - {"mode", "flagfile"}
    if config.mode == "benchmark":
        benchmark = _fill(BenchmarkConfig, values, run=config)
        useful = of_benchmark | _DEVICE | _STARTS_A_SWEEP
        _warn_ignored(given - useful, "--mode=benchmark measures without")
        if not benchmark.sweep:
            _warn_ignored(
                given & _STARTS_A_SWEEP, "a suite has its own; only a --sweep starts from"
            )
        return benchmark
    _warn_ignored(given & of_benchmark, "only --mode=benchmark has")
    if not _uses_capacity(config):
        why = "where experts run in shapes as they come (no --jit_compile) nothing depends on"
        _warn_ignored(given & {"capacity_factor"}, why)
    # Not of what a preset gave, which is for every mode.
    typed = {word.lstrip("-").partition("=")[0] for word in argv}
    if config.mode == "compare" and "steps" in given:
        raise UserError(
            f"--steps={config.train.steps}: arms of --mode=compare last as long as --budget "
            "says; use --budget=epochs:N, macs:N or seconds:N."
        )
    if config.train.budget:
        _warn_ignored(given & {"epochs", "steps"} & typed, "--budget says how long, in place of")
    if config.mode == "compare":
        _warn_ignored(given & _ARMS_DECIDE & typed, "the arms of --mode=compare have their own")
        if "arms" in given and not values["arms"].value:  # as from a shell variable that is not set
            raise UserError("--arms=: names no arm; leave it out to compare all of them.")
        return _fill(CompareConfig, values, run=config)
    _warn_ignored(given & of_compare, "only --mode=compare has")
    if config.mode == "gate":
        _warn_ignored(
            given & {"label_smoothing"}, "--mode=gate takes groups at their word, whatever"
        )
    _warn_ignored(ignored_losses(config), "only --mode=joint and staged have a joint loss:")
    return config


def parse_eval(argv: Sequence[str]) -> EvalConfig:
    """The same for `eval.py`."""
    values = _parse(
        argv, eval_flags(), "Evaluates, compares or uses finished runs.", _EVAL_EXAMPLES
    )
    return _fill(EvalConfig, values)


def run_program(main: Callable[[], int]) -> int:
    """Runs a program: a `UserError` becomes one line on stderr and exit code 2.

    So does a file or folder that the system does not give.

    Ctrl-C and SIGTERM become one line, and exit code 130 and 143.
    """
    try:
        with stop_on_signals() as stop, stop.at_once():
            return main()
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.filename is None:
            raise
        print(f"error: {error.filename!s:.200}: {error.strerror}", file=sys.stderr)
        return 2
    except StopTraining as stopped:
        print(f"stopped ({stopped}); give the same command again", file=sys.stderr)
        return stopped.exit_code


_TRAIN_EXAMPLES = """\
python train.py --mode=joint --gpus=1
python train.py --flagfile=flags/presets/lab.flags --mode=separate --workdir=runs/separate
python train.py --flagfile=flags/presets/tabular.flags --dataset=digits
python train.py --mode=compare --seeds=5 --budget=epochs:15 --workdir=runs/compare"""

_EVAL_EXAMPLES = """\
python eval.py --workdir=runs/joint --routing=hard,soft,oracle,baseline
python eval.py --workdir=runs/joint --predict='photos/*.png'
python eval.py --compare=runs/separate,runs/joint"""


_DEVICE = {"gpus", "require_gpus", "cpu_replicas", "precision", "workdir"}
_STARTS_A_SWEEP = {
    *("gate_backbone", "expert_backbone", "baseline_backbone", "baseline", "routing"),
    *("batch_size", "jit_compile", "steps_per_loop"),
}


def _uses_capacity(config: Config) -> bool:
    """Whether an expert may be full in training."""
    return bool(config.runtime.jit_compile) or config.model.routing == "expert_choice"


def _warn_ignored(names: Iterable[str], why: str) -> None:
    """One line about flags that were given and do nothing."""
    if names:
        warn(f"{why} {', '.join(f'--{name}' for name in sorted(names))}.")


def _fill(kind: type, values: flags.FlagValues, **given):
    """An instance of the dataclass with every field that is not given from the flag of its name."""
    fields = given
    for field in dataclasses.fields(kind):
        if field.name in given:
            continue
        value = values[field.name].value
        fields[field.name] = tuple(value) if isinstance(value, list) else value
    return kind(**fields)


def _parse(
    argv: Sequence[str], values: flags.FlagValues, summary: str, examples: str
) -> flags.FlagValues:
    if any(argument in _HELP for argument in argv[1:]):
        print(_help_page(values, summary, examples))
        raise SystemExit(0)
    try:
        rest = values(_files_first(argv))[1:]
    except (flags.CantOpenFlagFileError, OSError, UnicodeDecodeError) as error:
        reason = str(error).removeprefix("ERROR:: Unable to open flagfile: ")
        raise UserError(f"--flagfile: cannot be read ({reason}).") from error
    except flags.Error as error:
        raise UserError(f"{error} (see --help)") from error
    if rest:
        raise UserError(f"{rest[0]!r}: flags look like --name=value (see --help).")
    return values


def _files_first(argv: Sequence[str]) -> list[str]:
    """The same with all `--flagfile` in front: a preset must not undo what was typed before it."""
    files, others, words = [], [], iter(argv[1:])
    for word in words:
        name, _, value = word.lstrip("-").partition("=")
        if word.startswith("-") and name == "flagfile":
            files += [word] if value else [word, *itertools.islice(words, 1)]
        else:
            others.append(word)
    return [*argv[:1], *files, *others]


def _help_page(values: flags.FlagValues, summary: str, examples: str) -> str:
    lines = [summary, "", textwrap.indent(examples, "  ")]
    for heading, group in values.flags_by_module_dict().items():
        lines += ["", heading]
        for flag in group:
            default = flag.default_as_str.strip("'") if flag.default not in (None, [], "") else ""
            name = f"--[no]{flag.name}" if flag.boolean else f"--{flag.name}=…"
            text = flag.help + (f" [{default}]" if default else "")
            lines += [
                f"  {name}",
                textwrap.fill(text, 96, initial_indent=" " * 6, subsequent_indent=" " * 6),
            ]
    lines += [
        "",
        "  --flagfile=FILE",
        "      Flags from a file, one a line (see flags/presets/); others given beside it win.",
    ]
    return "\n".join(lines)
