"""Flags and configuration name the same things; errors are one line, help is complete."""

import dataclasses
import pathlib
import signal

import pytest

from flags.define import eval_flags, train_flags
from flags.parse import parse_eval, parse_train, run_program
from moe.config.run import SECTIONS, Config
from moe.config.tools import BenchmarkConfig, CompareConfig, EvalConfig
from moe.errors import UserError

# What absl itself brings into every set of flags.
OWN_OF_ABSL = {"flagfile", "undefok"}
PRESETS = sorted((pathlib.Path(__file__).parents[1] / "flags" / "presets").glob("*.flags"))


def train(*arguments):
    return parse_train(["train.py", *arguments])


def evaluate(*arguments):
    return parse_eval(["eval.py", *arguments])


def train_fields():
    kinds = [*SECTIONS.values(), BenchmarkConfig, CompareConfig]
    return {f.name for kind in kinds for f in dataclasses.fields(kind)} - {"run"} | {"mode"}


def eval_fields():
    return {f.name for f in dataclasses.fields(EvalConfig)}


@pytest.mark.parametrize(
    ("values", "names"),
    [(train_flags(), train_fields()), (eval_flags(), eval_fields())],
    ids=["train", "eval"],
)
def test_every_field_has_a_flag_and_every_flag_a_field(values, names):
    assert set(values) - OWN_OF_ABSL == names


def test_without_flags_the_defaults_of_the_configuration_hold():
    assert train() == Config()
    assert evaluate("--workdir=x") == EvalConfig(workdir="x")


def test_values_arrive_in_their_sections():
    config = train(
        "--mode=staged",
        "--dataset=digits",
        "--validation_fraction=.25",
        "--routing=topk",
        "--top_k=2",
        "--nobaseline",
        "--z_loss=1e-3",
        "--seed=7",
        "--keep=5",
        "--nojit_compile",
    )
    assert config.mode == "staged"
    assert (config.data.dataset, config.data.validation_fraction) == ("digits", 0.25)
    assert (config.model.routing, config.model.top_k, config.model.baseline) == ("topk", 2, False)
    assert config.loss.z_loss == 1e-3
    assert config.train.seed == 7
    assert (config.runtime.keep, config.runtime.jit_compile) == (5, False)


def test_lists_become_tuples():
    assert evaluate("--compare=a,b").compare == ("a", "b")
    assert evaluate("--workdir=x", "--routing=hard,expert:natural").routing == (
        "hard",
        "expert:natural",
    )


def test_parsing_twice_does_not_remember_the_first_time():
    assert train("--seed=3").train.seed == 3
    assert train().train.seed == 0


@pytest.mark.parametrize("preset", PRESETS, ids=lambda p: p.stem)
def test_every_preset_parses_and_a_later_flag_wins(preset):
    config = train(f"--flagfile={preset}", "--epochs=1234")
    assert config.train.epochs == 1234
    assert config != Config()


@pytest.mark.parametrize("name", ["lab_2017", "lab_quick"])
def test_a_lab_trains_its_parts_one_by_one_unless_told_otherwise(name):
    (preset,) = (path for path in PRESETS if path.stem == name)
    assert train(f"--flagfile={preset}").mode == "separate"
    assert train(f"--flagfile={preset}", "--mode=joint").mode == "joint"
    # A preset does not undo what was typed before it.
    assert train("--mode=joint", f"--flagfile={preset}").mode == "joint"
    assert train("--mode=joint", "--flagfile", str(preset)).mode == "joint"


def test_there_are_presets():
    names = {preset.stem for preset in PRESETS}
    assert {"lab", "lab_2017", "lab_quick", "tabular"} <= names


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epoch=3"], r"epoch"),
        (["--nonsense=3"], r"nonsense"),
        (["--epochs=many"], r"epochs.*many"),
        (["--epochs=1.5"], r"epochs"),
        (["--epochs"], r"epochs"),
        (["--baseline=perhaps"], r"baseline"),
        (["--learning_rate=-1"], r"--learning_rate=-1.0: must be greater than 0"),
        (["--learning_rate=nan"], r"--learning_rate=nan: must be greater than 0"),
        (["--mode=everything"], r"--mode=everything: must be one of baseline"),
        (["stray"], r"'stray': flags look like --name=value"),
        (["--seed=1", "stray", "--epochs=1"], r"'stray': flags look like --name=value"),
        (["--flagfile=/nowhere/at.all"], r"^--flagfile: cannot be read \(.*/nowhere/at.all'\)\.$"),
        (["--dataset="], r"--dataset=: must be the name of a data set"),
        (["--gate_temperature=1e-40"], r"--gate_temperature=1e-40: must be from 1e-06 to 1e\+06"),
        (["--gate_temperature=1e40"], r"--gate_temperature=1e\+40: must be from"),
        (["--gate_temperature=nan"], r"--gate_temperature=nan: must be from"),
        (["--mode=compare", "--arms="], "--arms=: names no arm; leave it out to compare all"),
        (["--mode=compare", "--steps=9"], r"--steps=9: arms .* last as long as --budget says; use"),
    ],
)
def test_a_wrong_flag_is_one_line_and_exit_code_2(capsys, arguments, message):
    with pytest.raises(UserError, match=message):
        train(*arguments)
    assert run_program(lambda: train(*arguments) and 0) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")


def test_a_flagfile_that_is_no_text_is_one_line(tmp_path, capsys):
    path = tmp_path / "binary.flags"
    path.write_bytes(b"\xff\xfe--seed=1\n")
    assert run_program(lambda: train(f"--flagfile={path}") and 0) == 2
    assert run_program(lambda: train(f"--flagfile={tmp_path}") and 0) == 2
    assert capsys.readouterr().err.count("\n") == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], r"give --workdir=RUN"),
        (["--workdir=x", "--routing=soft,best"], r"--routing=best: must be among"),
        (["--compare=a"], r"name at least two"),
        (["--mode=joint"], r"mode"),
    ],
)
def test_a_wrong_evaluation_flag_is_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        evaluate(*arguments)


def test_a_program_that_ends_well_returns_its_own_code(capsys):
    assert run_program(lambda: 0) == 0
    assert run_program(lambda: 3) == 3
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_one_line_and_its_exit_code(capsys, number):
    assert run_program(lambda: signal.raise_signal(number) or 0) == 128 + number
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"stopped ({signal.Signals(number).name}); give the same command again"


def test_other_exceptions_are_not_hidden():
    def fail():
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        run_program(fail)


def indentation(line):
    return len(line) - len(line.lstrip())


@pytest.mark.parametrize("flag", ["--help", "-h", "--helpshort", "--helpfull"])
@pytest.mark.parametrize(
    ("parse", "values"), [(train, train_flags()), (evaluate, eval_flags())], ids=["train", "eval"]
)
def test_the_help_page_names_and_explains_every_flag(capsys, parse, values, flag):
    with pytest.raises(SystemExit) as caught:
        parse("--seed=notanumber", flag)
    assert caught.value.code == 0
    page = capsys.readouterr().out.splitlines()
    for name in {*values} - {"undefok"}:
        (position,) = (
            n
            for n, line in enumerate(page)
            if line.strip() == f"--[no]{name}" or line.strip().startswith(f"--{name}=")
        )
        heading, text = page[position : position + 2]
        assert text.strip()
        assert indentation(text) > indentation(heading)
    assert all(len(line) <= 100 for line in page)


# --- benchmark ----------------------------------------------------------------------------------


def test_a_benchmark_has_options_of_its_own():
    found = train(
        "--mode=benchmark",
        "--sweep=batch_size=8,32",
        "--sweep=load=zipf",
        "--suite=growth,crossover",
        "--expert_backbone=tiny",
        "--routing=hard",
    )
    assert isinstance(found, BenchmarkConfig)
    assert found.sweep == ("batch_size=8,32", "load=zipf")
    assert found.suite == ("growth", "crossover")
    assert found.run.model.expert_backbone == "tiny"
    assert train("--mode=benchmark") == BenchmarkConfig()


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--suite=all", "--suite=all: must be one of figures"),
        ("--rounds=6", "--rounds=6: must be at least 7"),
        ("--window_seconds=0", "--window_seconds=0.0: must be above 0"),
        ("--routing=topk", "--routing=topk: must be soft or hard"),
        ("--routing=expert_choice", "--routing=expert_choice: must be soft or hard"),
        ("--cpu_replicas=2", "measures one device"),
        ("--gpus=2", "measures one device"),
    ],
)
def test_what_a_benchmark_refuses(flag, message):
    with pytest.raises(UserError, match=message):
        train("--mode=benchmark", flag)


def test_what_does_nothing_is_said(capsys):
    train("--mode=benchmark", "--epochs=3", "--rounds=9", "--precision=float32")
    assert capsys.readouterr().err == "warning: --mode=benchmark measures without --epochs.\n"
    sweep = ("--batch_size=8", "--nobaseline", "--routing=hard", "--steps_per_loop=2")
    train("--mode=benchmark", *sweep)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("starts from --baseline, --batch_size, --routing, --steps_per_loop.")
    train("--mode=benchmark", "--sweep=load=zipf", *sweep)
    assert capsys.readouterr().err == ""
    train("--mode=gate", "--routing=hard", "--balance_bias=.1", "--importance_loss=.1")
    said = capsys.readouterr().err
    assert said.endswith("have a joint loss: --balance_bias, --importance_loss.\n")
    train("--mode=gate", "--label_smoothing=.1")
    said = capsys.readouterr().err
    assert said == "warning: --mode=gate takes groups at their word, whatever --label_smoothing.\n"
    train("--mode=compare", "--balance_bias=.1", "--routing=hard")
    said = capsys.readouterr().err
    assert said == "warning: the arms of --mode=compare have their own --routing.\n"
    train("--mode=joint", "--epochs=3", "--budget=epochs:2")
    said = capsys.readouterr().err
    assert said == "warning: --budget says how long, in place of --epochs.\n"
    train("--mode=joint", "--steps=3", "--budget=epochs:2", "--flagfile=flags/presets/lab.flags")
    said = capsys.readouterr().err
    assert said == "warning: --budget says how long, in place of --steps.\n"
    (lab,) = (preset for preset in PRESETS if preset.stem == "lab")
    train("--mode=compare", f"--flagfile={lab}")  # which has one, too
    assert capsys.readouterr().err == ""
    train("--rounds=9")
    assert capsys.readouterr().err == "warning: only --mode=benchmark has --rounds.\n"


@pytest.mark.parametrize(
    ("flags", "warns"),
    [
        (["--routing=hard"], True),
        (["--routing=hard", "--jit_compile"], False),
        (["--routing=expert_choice"], False),
    ],
)
def test_room_that_no_expert_is_short_of_is_said(capsys, flags, warns):
    train("--capacity_factor=2", *flags)
    said = capsys.readouterr().err
    assert ("nothing depends on --capacity_factor" in said) == warns
    train(*flags)
    assert capsys.readouterr().err == ""
