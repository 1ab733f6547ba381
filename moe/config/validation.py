"""Which configurations make sense: every value by itself, and those that depend on each other."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from moe.backbone_names import backbone_problem
from moe.config import choices
from moe.config.checks import check_sizes, fail, not_negative, one_of, positive
from moe.config.sections import DataConfig, LossConfig, ModelConfig, RuntimeConfig, TrainConfig
from moe.config.specs import read_budget, read_init_from
from moe.errors import UserError

_CHOICES = {
    "routing": choices.ROUTINGS,
    "expert_head": choices.EXPERT_HEADS,
    "mixture_loss": choices.MIXTURE_LOSSES,
    "precision": choices.PRECISIONS,
    "optimizer": choices.OPTIMIZERS,
    "schedule": choices.SCHEDULES,
    "monitor": choices.MONITORS,
    "tta": choices.TEST_TIME_AUGMENTATIONS,
    "on_unhealthy": choices.ON_UNHEALTHY,
    "on_nonfinite": choices.ON_NONFINITE,
    "boost": choices.BOOSTS,
    "augment": choices.AUGMENTATIONS,
}
_OPEN = ("boost", "augment")
"""Of these, those that a data set may decide: None until then."""
_POSITIVE = (
    *("train_examples", "image_size", "crop_reach", "top_k"),
    *("epochs", "steps", "batch_size", "learning_rate", "bias_lr_scale", "muon_rate"),
    *("accumulate", "capacity_factor"),
    *("cpu_replicas", "steps_per_loop", "checkpoint_seconds", "keep"),
)
_NOT_NEGATIVE = (
    *(field.name for field in dataclasses.fields(LossConfig) if field.name != "mixture_loss"),
    *("trunk", "balance_bias", "patience", "weight_decay", "lookahead", "seed", "data_seed"),
    *("gpus", "checkpoint_steps"),
)
_BELOW_ONE = ("momentum", "label_smoothing", "ema_decay")
_TEMPERATURES = (1e-6, 1e6)
"""Of the gate: its logits divided by one of these stay finite, and apart, in float32."""
_MOST_REPLICAS = 16
"""On a CPU: each holds all weights and gets threads of its own, and nothing becomes faster."""


def validate(
    mode: str,
    data: DataConfig,
    model: ModelConfig,
    loss: LossConfig,
    train: TrainConfig,
    runtime: RuntimeConfig,
) -> None:
    """Checks every value by itself and those that depend on each other.

    Raises:
      UserError: names the flag, its value and the rule.
    """
    sections = (data, model, loss, train, runtime)
    for section in sections:
        check_sizes(section)
    one_of("mode", mode, choices.MODES)
    _check_values({k: v for section in sections for k, v in dataclasses.asdict(section).items()})
    _check_data(mode, data)
    _check_networks(mode, model)
    _check_routing(mode, model, loss)
    _check_training(train)
    _check_device(mode, runtime)


def _check_values(flags: Mapping[str, Any]) -> None:
    """Those that have a rule for themselves."""
    for name, allowed in _CHOICES.items():
        if flags[name] is not None or name not in _OPEN:
            one_of(name, flags[name], allowed)
    for name in _POSITIVE:
        positive(name, flags[name])
    for name in _NOT_NEGATIVE:
        not_negative(name, flags[name])
    for name in _BELOW_ONE:
        if not 0 <= flags[name] < 1:
            fail(name, flags[name], "from 0 to below 1")
    low, high = _TEMPERATURES
    if not low <= flags["gate_temperature"] <= high:
        fail("gate_temperature", flags["gate_temperature"], f"from {low:g} to {high:g}")
    if not 0 < flags["validation_fraction"] < 1:
        fail("validation_fraction", flags["validation_fraction"], "between 0 and 1")


def _check_data(mode: str, data: DataConfig) -> None:
    if not data.dataset:
        fail("dataset", data.dataset, "the name of a data set, or auto")
    groups = data.groups or ""
    if re.match(r"none:(?![1-9]\d{0,3}$)", groups):
        fail("groups", groups, "semantic, none:K with K from 1 to 9999, auto:K, or a JSON file")
    finds_groups = groups.startswith("auto:")
    if finds_groups and not re.fullmatch(r"auto:([2-9]|[1-9]\d{1,3})", groups):
        fail("groups", groups, "auto:K with K from 2 to 9999")
    if finds_groups and mode in ("baseline", "benchmark"):
        raise UserError(f"--mode={mode} has no use for --groups={groups}.")
    if data.groups_from and not finds_groups:
        raise UserError("--groups_from names the baseline of --groups=auto:K; give both.")
    if data.crop_reach != DataConfig.crop_reach and not (data.augment or "").endswith("crop"):
        raise UserError(
            f"--crop_reach={data.crop_reach}: is for --augment=crop, flip_crop or alternate_crop."
        )


def _check_networks(mode: str, model: ModelConfig) -> None:
    for part in ("gate", "expert", "baseline"):
        backbone = getattr(model, f"{part}_backbone")
        # Experts may each have one of their own.
        names = [] if backbone is None else backbone.split(",") if part == "expert" else [backbone]
        for problem in filter(None, map(backbone_problem, names)):
            fail(f"{part}_backbone", backbone, problem)
    if "," in (model.expert_backbone or ""):
        _check_unlike_experts(mode, model)
    if mode == "baseline" and not model.baseline:
        raise UserError("--mode=baseline trains the baseline, which --nobaseline leaves out.")
    if not model.baseline and model.boost not in (None, "none"):
        fail("boost", model.boost, "none where there is no baseline (--nobaseline)")
    if model.trunk and mode in ("gate", "experts"):
        raise UserError(
            f"--trunk={model.trunk}: --mode={mode} trains no trunk; use --mode=baseline, "
            "separate, staged or joint."
        )
    if model.trunk and not model.baseline and mode in ("separate", "staged"):
        raise UserError(
            f"--trunk={model.trunk}: --mode={mode} trains it with the baseline, which "
            "--nobaseline leaves out; use --mode=joint."
        )


def _check_unlike_experts(mode: str, model: ModelConfig) -> None:
    """What one network for all experts is needed for."""
    given = f"--expert_backbone={model.expert_backbone}"
    if model.trunk:
        raise UserError(f"{given}: --trunk is cut from one network; name one for all experts.")
    if mode in ("compare", "benchmark"):
        raise UserError(f"{given}: --mode={mode} weighs one network; name one for all.")


def _check_routing(mode: str, model: ModelConfig, loss: LossConfig) -> None:
    """What a router can do, and which losses reach it."""
    chooses_k = model.routing in choices.TOP_K_ROUTINGS
    if model.top_k != 1 and not chooses_k:
        fail("top_k", model.top_k, f"1 with --routing={model.routing}; use --routing=topk")
    steers = model.routing in choices.BALANCED_ROUTINGS or mode == "compare"  # some of its arms
    if model.balance_bias and not steers:
        raise UserError(
            f"--balance_bias={model.balance_bias}: steers who is chosen, and "
            f"--routing={model.routing} leaves no such choice to it; use --routing=hard or topk, "
            "or --balance_loss."
        )
    if loss.load_loss and model.routing != "noisy_topk":
        raise UserError(
            f"--load_loss={loss.load_loss}: without noise a load is counted, and counts have no "
            "gradient; use --routing=noisy_topk, --balance_loss or --importance_loss."
        )
    if loss.mixture_loss != "expected":
        return
    if model.expert_head == "group" and not (model.baseline and model.boost != "none"):
        raise UserError(
            "--mixture_loss=expected is infinite where an expert cannot name the class "
            "(--expert_head=group without a blended baseline); use --mixture_loss=likelihood."
        )
    if model.routing in ("hard", "expert_choice") or (chooses_k and model.top_k == 1):
        raise UserError(
            "--mixture_loss=expected gives the gate no gradient where one expert runs; use "
            "--mixture_loss=likelihood, --routing=soft or --top_k=2."
        )


def _check_training(train: TrainConfig) -> None:
    if train.momentum != TrainConfig.momentum and train.optimizer not in choices.WITH_MOMENTUM:
        allowed = ", ".join(choices.WITH_MOMENTUM)
        raise UserError(f"--momentum={train.momentum}: is for --optimizer={allowed}.")
    if train.muon_rate != TrainConfig.muon_rate and train.optimizer != "muon":
        raise UserError(f"--muon_rate={train.muon_rate}: is for --optimizer=muon.")
    if train.optimizer == "adamw" and not train.weight_decay:
        fail("optimizer", "adamw", "given a --weight_decay; without one it is adam")
    if train.ema_decay and train.lookahead:
        raise UserError("--ema_decay and --lookahead: each averages the weights; give one of them.")
    for spec in train.init_from:
        read_init_from(spec)
    if train.skip_stages and not train.init_from:
        raise UserError("--skip_stages leaves out what --init_from has trained already; give both.")
    if train.budget is None or read_budget(train.budget).unit != "seconds":
        return
    if train.schedule != "constant":
        raise UserError(
            f"--budget={train.budget}: --schedule={train.schedule} must know its length in steps; "
            "use --schedule=constant, or a budget of epochs or macs."
        )
    if train.lookahead:
        raise UserError(
            f"--budget={train.budget}: --lookahead={train.lookahead} must know its length in steps;"
            " use a budget of epochs or macs."
        )


def _check_device(mode: str, runtime: RuntimeConfig) -> None:
    if runtime.export and mode in ("gate", "experts"):
        raise UserError(f"--export: --mode={mode} trains no network that answers alone.")
    if runtime.cpu_replicas > _MOST_REPLICAS:
        fail("cpu_replicas", runtime.cpu_replicas, f"at most {_MOST_REPLICAS}")
    if runtime.jit_compile and runtime.cpu_replicas > 1:
        raise UserError(
            f"--jit_compile: works on one device, not on {runtime.cpu_replicas} replicas."
        )
    if runtime.require_gpus and runtime.gpus == 0:
        raise UserError("--require_gpus asks for what --gpus=0 forbids; leave one of them out.")
