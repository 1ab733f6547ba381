"""Validation names flag, value and rule; what identifies a run; storing and reading back."""

import dataclasses
import json
import subprocess
import sys

import pytest

from moe.config import choices
from moe.config.identity import identity_differences
from moe.config.run import SECTIONS, Config
from moe.config.sections import DataConfig, LossConfig, ModelConfig, RuntimeConfig, TrainConfig
from moe.config.specs import read_budget, read_init_from
from moe.config.tools import CompareConfig, EvalConfig
from moe.errors import UserError


def change(base, **values):
    """`base` with fields changed, whichever section they are in."""
    for name, value in values.items():
        if name == "mode":
            base = dataclasses.replace(base, mode=value)
            continue
        (section,) = (s for s, kind in SECTIONS.items() if name in {f.name for f in fields(kind)})
        inner = dataclasses.replace(getattr(base, section), **{name: value})
        base = dataclasses.replace(base, **{section: inner})
    return base


def fields(kind):
    return dataclasses.fields(kind)


def test_the_defaults_are_valid_and_frozen():
    default = Config()
    assert default.mode == "joint"
    with pytest.raises(dataclasses.FrozenInstanceError):
        default.mode = "gate"


def test_no_two_sections_share_a_field_name():
    names = [f.name for kind in SECTIONS.values() for f in fields(kind)]
    assert len(names) == len(set(names))
    assert {f.name for f in fields(Config)} == {"mode", *SECTIONS}


WRONG = [
    ("mode", "joined", "one of baseline, gate, experts, separate, joint, staged"),
    ("routing", "dense", "one of soft, hard, topk, noisy_topk, expert_choice"),
    ("routing", None, "one of soft, hard, topk, noisy_topk, expert_choice"),
    ("optimizer", None, "one of sgd, momentum"),
    ("expert_head", "half", "one of full, group"),
    ("mixture_loss", "nll", "one of likelihood, expected"),
    ("precision", "float16", "one of auto, float32"),
    ("optimizer", "lion", "one of sgd, momentum"),
    ("schedule", "linear", "one of constant, cosine"),
    ("tta", "crops", "one of none, flip"),
    ("monitor", "f1", "one of accuracy, loss"),
    ("boost", "vector", "one of none, scalar, per_class"),
    ("augment", "mixup", "one of none, flip"),
    ("validation_fraction", 0.0, "between 0 and 1"),
    ("validation_fraction", 1.0, "between 0 and 1"),
    ("validation_fraction", -0.1, "between 0 and 1"),
    ("validation_fraction", float("nan"), "between 0 and 1"),
    ("ema_decay", 1.0, "from 0 to below 1"),
    ("ema_decay", float("nan"), "from 0 to below 1"),
    ("lookahead", -1, "0 or more"),
    ("momentum", 1.0, "from 0 to below 1"),
    ("momentum", -0.5, "from 0 to below 1"),
    ("bias_lr_scale", 0.0, "greater than 0"),
    ("muon_rate", 0.0, "greater than 0"),
    ("label_smoothing", 1.0, "from 0 to below 1"),
    ("label_smoothing", -0.1, "from 0 to below 1"),
    ("train_examples", 0, "greater than 0"),
    ("image_size", 0, "greater than 0"),
    ("crop_reach", 0, "greater than 0"),
    ("top_k", 0, "greater than 0"),
    ("gate_temperature", 0.0, "from 1e-06 to 1e+06"),
    ("gate_temperature", float("inf"), "from 1e-06 to 1e+06"),
    ("epochs", 0, "greater than 0"),
    ("steps", -1, "greater than 0"),
    ("batch_size", 0, "greater than 0"),
    ("learning_rate", 0.0, "greater than 0"),
    ("learning_rate", float("nan"), "greater than 0"),
    ("cpu_replicas", 0, "greater than 0"),
    ("steps_per_loop", 0, "greater than 0"),
    ("checkpoint_seconds", 0.0, "greater than 0"),
    ("keep", 0, "greater than 0"),
    ("keep", 2**31, "at most 2147483647"),
    ("cpu_replicas", 17, "at most 16"),
    ("gate_supervision", -1.0, "0 or more"),
    ("baseline_loss", -1.0, "0 or more"),
    ("expert_loss", float("nan"), "0 or more"),
    ("balance_loss", -0.01, "0 or more"),
    ("z_loss", float("inf"), "0 or more"),
    ("importance_loss", -1.0, "0 or more"),
    ("load_loss", -1.0, "0 or more"),
    ("balance_bias", -0.1, "0 or more"),
    ("trunk", -1, "0 or more"),
    ("patience", -1, "0 or more"),
    ("weight_decay", -0.1, "0 or more"),
    ("seed", -1, "0 or more"),
    ("data_seed", -1, "0 or more"),
    ("gpus", -1, "0 or more"),
    ("checkpoint_steps", -1, "0 or more"),
    ("groups", "none:0", "none:K with K from 1 to 9999"),
    ("groups", "none:", "none:K with K from 1 to 9999"),
    ("groups", "none:2.5", "none:K with K from 1 to 9999"),
    ("groups", "none:10000", "none:K with K from 1 to 9999"),
    ("groups", "auto:1", "auto:K with K from 2 to 9999"),
    ("groups", "auto:", "auto:K with K from 2 to 9999"),
    ("top_k", 2, "1 with --routing=soft"),
]
WRONG += [
    ("budget", text, "epochs:N, seconds:N or macs:N, with N greater than 0")
    for text in (
        "15",
        "epochs",
        "epochs:",
        "epochs:0",
        "epochs:-1",
        "macs:inf",
        "hours:3",
        "macs:nan",
    )
]
NO_SOURCES = ["", "runs/a:", "runs/a:->gate", "runs/a->gate", "runs/a:gate->", "a:gate->b->c"]


@pytest.mark.parametrize(("name", "value", "rule"), WRONG, ids=lambda v: str(v))
def test_a_wrong_value_is_refused_with_flag_value_and_rule(name, value, rule):
    with pytest.raises(UserError) as caught:
        change(Config(), **{name: value})
    message = str(caught.value)
    assert message.startswith(f"--{name}={value}: must be ")
    assert rule in message
    assert "\n" not in message


@pytest.mark.parametrize("spec", NO_SOURCES)
def test_a_source_of_weights_that_cannot_be_read_is_refused(spec):
    with pytest.raises(UserError) as caught:
        change(Config(), init_from=("runs/b", spec))
    rule = "must be RUN, RUN:PART or 'RUN:PART->PART'."
    assert str(caught.value) == f"--init_from={spec}: {rule}"


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("runs/a", ("runs/a", None, None)),
        ("runs/a:gate", ("runs/a", "gate", None)),
        ("../a b/c-d:gate->expert_0", ("../a b/c-d", "gate", "expert_0")),
        ("runs/a:part-one->of two", ("runs/a", "part-one", "of two")),
        ("gs://bucket/a", ("gs://bucket/a", None, None)),
        ("gs://bucket/a:gate", ("gs://bucket/a", "gate", None)),
    ],
)
def test_a_source_of_weights_is_a_run_and_a_part(spec, expected):
    assert read_init_from(spec) == expected


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"baseline": False, "boost": "scalar"}, r"--boost=scalar.*--nobaseline"),
        ({"baseline": False, "mode": "baseline"}, r"--mode=baseline trains the baseline"),
        ({"expert_head": "group", "boost": "none", "mixture_loss": "expected"}, r"is infinite"),
        ({"expert_head": "group", "baseline": False, "mixture_loss": "expected"}, r"is infinite"),
        ({"routing": "hard", "top_k": 2}, r"--top_k=2: must be 1 with --routing=hard"),
        ({"mode": "baseline", "groups": "auto:2"}, r"--mode=baseline has no use for --groups=auto"),
        ({"groups": "semantic", "groups_from": "r"}, r"--groups_from names the baseline of"),
        ({"routing": "expert_choice", "top_k": 2}, r"--top_k=2: must be 1 with --routing=expert_"),
        ({"crop_reach": 2}, r"--crop_reach=2: is for --augment=crop, flip_crop or alternate_crop"),
        ({"crop_reach": 2, "augment": "flip"}, r"--crop_reach=2: is for --augment=crop"),
        ({"momentum": 0.5}, r"--momentum=0.5: is for --optimizer=momentum, nesterov, muon"),
        ({"ema_decay": 0.9, "lookahead": 5}, r"--ema_decay and --lookahead: .* give one of them"),
        ({"muon_rate": 0.5}, r"--muon_rate=0.5: is for --optimizer=muon"),
        ({"trunk": 2, "mode": "experts"}, r"--trunk=2: --mode=experts trains no trunk; use --mode"),
        ({"trunk": 2, "mode": "staged", "baseline": False}, r"--trunk=2: .* the baseline, which"),
        ({"balance_bias": 0.1}, r"--balance_bias=0.1: .* --routing=soft leaves no such choice"),
        ({"routing": "noisy_topk", "balance_bias": 0.1}, r"--routing=noisy_topk leaves no such"),
        ({"load_loss": 0.1}, r"--load_loss=0.1: .* counts have no gradient; use --routing=noisy_t"),
        ({"routing": "hard", "load_loss": 0.1}, r"--load_loss=0.1: .* counts have no gradient"),
        ({"mixture_loss": "expected", "routing": "hard"}, r"no gradient where one expert runs"),
        ({"mixture_loss": "expected", "routing": "noisy_topk"}, r"no gradient where one expert"),
        ({"mixture_loss": "expected", "routing": "expert_choice"}, r"no gradient where one exp"),
        ({"skip_stages": ("gate",)}, r"--skip_stages leaves out what --init_from has trained"),
        ({"budget": "seconds:9", "lookahead": 5}, r"--budget=seconds:9: --lookahead=5 must know"),
        ({"budget": "seconds:9", "schedule": "cosine"}, r"--budget=seconds:9: --schedule=cosine"),
        ({"expert_backbone": "tiny,mlp-0"}, r"--expert_backbone=tiny,mlp-0: must be one of small"),
        ({"expert_backbone": "tiny,deep", "trunk": 1}, r"--trunk is cut from one network"),
        ({"expert_backbone": "tiny,deep", "mode": "compare"}, r"--mode=compare weighs one"),
        ({"gate_backbone": "tiny,deep"}, r"--gate_backbone=tiny,deep: must be one of small"),
        ({"mode": "gate", "export": True}, r"--export: --mode=gate trains no network that answers"),
    ],
)
def test_values_that_exclude_each_other_are_refused(values, message):
    with pytest.raises(UserError, match=message):
        change(Config(), **values)


@pytest.mark.parametrize(
    "values",
    [
        {"baseline": False},
        {"baseline": False, "boost": "none"},
        {"routing": "topk", "top_k": 3},
        {"routing": "noisy_topk", "top_k": 2, "mixture_loss": "expected", "load_loss": 0.1},
        {"routing": "hard", "balance_bias": 0.01, "importance_loss": 0.1},
        {"expert_head": "group", "mixture_loss": "expected"},
        {"groups": "none:1"},
        {"groups": "none:9999"},
        {"groups": "my/groups.json"},
        {"gpus": 0},
        {"patience": 0, "z_loss": 0.5, "weight_decay": 0.0},
    ],
)
def test_unusual_but_right_values_are_accepted(values):
    change(Config(), **values)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("epochs:15", ("epochs", 15)),
        ("seconds:.5", ("seconds", 0.5)),
        ("macs:2e12", ("macs", 2e12)),
    ],
)
def test_a_budget_is_a_unit_and_an_amount(text, expected):
    assert read_budget(text) == expected


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"seeds": 0}, r"--seeds=0: must be greater than 0"),
        ({"seeds": 1_001}, r"--seeds=1001: must be at most 1000"),
        ({"run": {"seed": 2**31 - 1}}, "--seed=2147483647: must be at most 2146483647 with --mode"),
        ({"seeds": 10**400}, r"--seeds=10{199}: must be at most 2147483647"),
        ({"run": {"init_from": ("runs/a",)}}, r"--init_from: every arm .* starts from scratch"),
        ({"run": {"groups": "auto:2"}}, r"--groups=auto:2: find the groups with another --mode"),
        ({"run": {"mixture_loss": "expected"}}, r"expected: --mode=compare also routes to one ex"),
    ],
)
def test_a_wrong_comparison_is_refused(values, message):
    run = change(Config(mode="compare"), **values.pop("run", {}))
    with pytest.raises(UserError, match=message):
        CompareConfig(run=run, **values)


def some_config():
    return change(
        Config(mode="staged"),
        groups="none:7",
        routing="topk",
        top_k=2,
        z_loss=0.25,
        steps=12,
        init_from=("runs/a", "runs/b:gate->expert_0"),
        workdir="runs/x",
        jit_compile=False,
    )


def test_a_configuration_survives_json():
    original = some_config()
    assert Config.from_dict(json.loads(json.dumps(original.to_dict()))) == original


@pytest.mark.parametrize("where", ["mode", "data", ("data", "dropout"), ("train", "seed")])
def test_a_stored_configuration_of_another_version_is_refused(where):
    values = some_config().to_dict()
    if isinstance(where, str):
        del values[where]
    elif where[1] in values[where[0]]:
        values[where[0]][where[1]] = "seven"
    else:
        values[where[0]][where[1]] = 1
    with pytest.raises(UserError, match="does not fit this version"):
        Config.from_dict(values)


ANOTHER = {
    "dataset": "digits", "data_dir": "d", "groups": "none:3", "groups_from": "r",
    "validation_fraction": 0.2, "train_examples": 9, "data_seed": 1, "augment": "flip",
    "crop_reach": 2,
    "image_size": 9, "skip_unreadable": True, "class_weights": "balanced",
    "expert_head": "group", "baseline": False, "boost": "none", "gate_backbone": "tiny",
    "expert_backbone": "tiny",
    "baseline_backbone": "tiny", "routing": "topk", "top_k": 2, "gate_temperature": 2.0,
    "mixture_loss": "expected", "gate_supervision": 0.0, "baseline_loss": 0.0, "expert_loss": 0.0,
    "balance_loss": 1.0, "z_loss": 1.0, "importance_loss": 1.0, "load_loss": 1.0,
    "balance_bias": 1.0, "tta": "flip", "trunk": 2, "whiten": True, "identity_init": True,
    "epochs": 3, "steps": 3, "patience": 3, "monitor": "loss",
    "batch_size": 3, "optimizer": "sgd", "learning_rate": 1.0,
    "momentum": 0.5, "bias_lr_scale": 2.0, "muon_rate": 1.0, "schedule": "cosine",
    "weight_decay": 1.0, "label_smoothing": 0.1, "ema_decay": 0.9, "lookahead": 5,
    "accumulate": 2, "capacity_factor": 2.0, "seed": 1, "workdir": "w",
    "init_from": ("runs/a",), "budget": "epochs:3", "skip_stages": ("gate",), "gpus": 1,
    "require_gpus": True, "profile": True, "export": True,
    "tensorboard": False, "report": False,
    "cpu_replicas": 2, "precision": "float32", "steps_per_loop": 3, "jit_compile": False,
    "on_unhealthy": "stop", "on_nonfinite": "skip", "deterministic": True,
    "checkpoint_seconds": 1.0, "checkpoint_steps": 3, "keep": 3,
}  # fmt: skip
FREE = {f.name for f in fields(RuntimeConfig)} | {"data_dir", "groups_from"}
# What is valid together with something else only.
NEEDS = {
    "top_k": {"routing": "topk"},
    "load_loss": {"routing": "noisy_topk"},
    "balance_bias": {"routing": "hard"},
    "groups_from": {"groups": "auto:2"},
    "skip_stages": {"init_from": ("runs/a",)},
    "crop_reach": {"augment": "flip_crop"},
    "momentum": {"optimizer": "nesterov"},
    "muon_rate": {"optimizer": "muon"},
}


def test_the_table_of_other_values_is_complete():
    assert set(ANOTHER) == {f.name for kind in SECTIONS.values() for f in fields(kind)}


@pytest.mark.parametrize("name", ANOTHER)
def test_every_field_identifies_a_run_but_those_that_change_nothing_computed(name):
    base = change(Config(), **NEEDS.get(name, {}))
    differences = identity_differences(base, change(base, **{name: ANOTHER[name]}))
    if name in FREE:
        assert differences == []
    else:
        (difference,) = differences
        given = ",".join(value) if isinstance(value := ANOTHER[name], tuple) else value
        assert difference.startswith(f"--{name}={given} (was ")


def test_another_mode_is_another_run():
    assert identity_differences(Config(), Config(mode="gate")) == ["--mode=gate (was joint)"]


@pytest.mark.parametrize("length", ["epochs", "steps"])
def test_a_run_may_grow_but_not_shrink(length):
    short, long = (change(Config(), **{length: n}) for n in (10, 20))
    assert identity_differences(short, long) == []
    assert identity_differences(long, short) == [f"--{length}=10 (was 20)"]


def test_a_budget_decides_alone_how_long_a_run_is():
    short, long = (change(Config(), epochs=n, budget="epochs:5") for n in (10, 20))
    assert identity_differences(long, short) == []
    assert identity_differences(change(long, budget=None), short) == [
        "--epochs=10 (was 20)",
        "--budget=epochs:5 (was None)",
    ]


@pytest.mark.parametrize(
    "values", [{"schedule": "cosine"}, {"schedule": "triangular"}, {"lookahead": 5}]
)
def test_a_run_may_not_grow_where_a_schedule_depends_on_its_length(values):
    short, long = (change(Config(), epochs=n, **values) for n in (10, 20))
    assert identity_differences(short, long) == ["--epochs=20 (was 10)"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, r"give --workdir=RUN .* or --compare"),
        ({"workdir": "a", "compare": ("a", "b")}, r"give --workdir=RUN .* or --compare"),
        ({"compare": ("a",)}, r"--compare=a: name at least two"),
        ({"compare": ("a", "")}, r"--compare=a,: name at least two"),
        ({"compare": ("a", "b", "./a/")}, r"--compare=a,b,./a/: names a run twice"),
        ({"compare": ("a", "b"), "routing": ("soft",)}, r"give --routing with --workdir"),
        ({"compare": ("a", "b"), "top_k": 2}, r"give --top_k with --workdir"),
        ({"compare": ("a", "b"), "eval_split": "validation"}, r"give --eval_split with"),
        ({"compare": ("a", "b"), "data_dir": "d"}, r"give --data_dir with --workdir"),
        ({"compare": ("a", "b"), "batch_size": 8}, r"give --batch_size with --workdir"),
        ({"compare": ("a", "b"), "precision": "float32", "top_k": 2}, r"--top_k, --precision with"),
        ({"workdir": "a", "routing": ("soft", "best")}, r"--routing=best: must be among soft"),
        ({"workdir": "a", "routing": ("expert:",)}, r"--routing=expert:: must be among"),
        ({"workdir": "a", "eval_split": "train"}, r"--eval_split=train: .* test, validation"),
        ({"workdir": "a", "precision": "half"}, r"--precision=half: must be one of auto"),
        ({"workdir": "a", "tta": "crops"}, r"--tta=crops: must be one of none, flip"),
        ({"compare": ("a", "b"), "tta": "flip"}, r"give --tta with --workdir"),
        ({"workdir": "a", "batch_size": 0}, r"--batch_size=0: must be greater than 0"),
        ({"workdir": "a", "top_k": 0}, r"--top_k=0: must be greater than 0"),
        ({"compare": ("a", "b"), "export": True}, r"give --export with --workdir"),
        ({"workdir": "a", "predict_to": "b"}, r"--predict_to=b: is for --predict"),
        ({"workdir": "a", "skip_unreadable": True}, r"--skip_unreadable: is for --predict"),
        ({"workdir": "a", "predict": ""}, r"--predict=: must be a file, or a pattern"),
        ({"workdir": "a", "predict": "b", "routing": ("hard", "soft")}, r"--predict: takes one"),
        ({"workdir": "a", "predict": "b", "routing": ("oracle",)}, r"--routing=oracle: needs lab"),
        ({"workdir": "a", "predict": "b", "routing": ("oracle_best",)}, r"oracle_best: needs lab"),
        (
            {"workdir": "a", "predict": "b", "eval_split": "validation"},
            r"--predict: reads no split",
        ),
        ({"workdir": "a", "export": True, "routing": ("hard", "soft")}, r"--export: takes one"),
        ({"workdir": "a", "export": True, "routing": ("random",)}, r"random: an export routes by"),
        ({"workdir": "a", "export": True, "eval_split": "validation"}, r"--export: reads no split"),
        ({"workdir": "a", "export": True, "precision": "mixed_bfloat16"}, r"float32 with --export"),
    ],
)
def test_a_wrong_evaluation_is_refused(values, message):
    with pytest.raises(UserError, match=message):
        EvalConfig(**values)


@pytest.mark.parametrize("name", [*choices.EVALUATION_ROUTINGS, "expert:natural"])
def test_every_evaluation_routing_is_accepted(name):
    assert EvalConfig(workdir="a", routing=(name,)).routing == (name,)


def test_configuration_and_flags_need_no_tensorflow():
    # A wrong flag must be answered at once.
    code = "import sys, flags.parse, moe.config; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_sections_are_the_classes_that_the_configuration_holds():
    default = Config()
    assert [type(getattr(default, name)) for name in SECTIONS] == [
        DataConfig, ModelConfig, LossConfig, TrainConfig, RuntimeConfig,
    ]  # fmt: skip
