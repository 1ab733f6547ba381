"""The whole configuration of a run as frozen dataclasses. No TensorFlow here.

`None` means "by data set" or "by mode"; `moe.defaults.resolve` fills it in once the data set is
known. Field names are flag names. A field whose metadata says `identity=False` may change when a
run is continued; all others identify the run.
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
import typing
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from moe.backbone_names import backbone_problem
from moe.errors import UserError
from moe.sweep_axes import check_sweep, parse_sweep
from moe.typed import check

MODES = ("baseline", "gate", "experts", "separate", "joint", "staged", "compare", "benchmark")
PART_MODES = ("baseline", "gate", "experts")
"""Modes that train networks by themselves and no mixture."""
BUDGETS = ("epochs", "seconds", "macs")
"""What training may be given."""
SUITES = ("figures", "growth", "crossover", "aa")
ROUTINGS = ("soft", "hard", "topk", "noisy_topk", "expert_choice")
TOP_K_ROUTINGS = ("topk", "noisy_topk")
"""Those that choose --top_k experts."""
BALANCED_ROUTINGS = ("hard", "topk")
"""Those that --balance_bias can balance."""
EVALUATION_ROUTINGS = (*ROUTINGS, "oracle", "oracle_best", "random", "uniform", "baseline")
LABEL_ROUTINGS = ("oracle", "oracle_best")
"""Routings that ask for the truth."""
EXPERT_HEADS = ("full", "group")
BOOSTS = ("none", "scalar", "per_class")
MIXTURE_LOSSES = ("likelihood", "expected")
PRECISIONS = ("auto", "float32", "mixed_bfloat16", "mixed_float16")
OPTIMIZERS = ("sgd", "momentum", "nesterov", "adam", "adamw", "muon")
MOMENTUM_OPTIMIZERS = ("momentum", "nesterov", "muon")
"""Those that --momentum is for."""
SCHEDULES = ("constant", "cosine", "triangular")
AUGMENTATIONS = ("none", "flip", "flip_crop", "alternate", "alternate_crop")
TEST_TIME_AUGMENTATIONS = ("none", "flip")
MONITORS = ("accuracy", "loss")
SPLITS = ("test", "validation")
ON_UNHEALTHY = ("warn", "stop")
ON_NONFINITE = ("stop", "skip", "rollback")
_TEMPERATURES = (1e-6, 1e6)
"""Of the gate: its logits divided by one of these stay finite, and apart, in float32."""
_LARGEST = 2**31 - 1
_MOST_REPLICAS = 16
_LONGEST_WINDOW = 3_600
"""On a CPU: each holds all weights and gets threads of its own, and nothing becomes faster."""


def _free(default: Any) -> Any:
    """A field that may change when a run is continued."""
    return dataclasses.field(default=default, metadata={"identity": False})


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which examples."""

    dataset: str = "auto"
    data_dir: str | None = _free(None)
    groups: str | None = None
    groups_from: str | None = _free(None)
    validation_fraction: float = 0.1
    train_examples: int | None = None
    data_seed: int = 0
    augment: str | None = None
    crop_reach: int = 4
    image_size: int | None = None
    skip_unreadable: bool = False


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Which networks, and how they are put together."""

    expert_head: str = "full"
    baseline: bool = True
    boost: str | None = None
    gate_backbone: str | None = None
    expert_backbone: str | None = None
    baseline_backbone: str | None = None
    trunk: int = 0
    whiten: bool = False
    identity_init: bool = False
    routing: str = "soft"
    top_k: int = 1
    gate_temperature: float = 1.0
    balance_bias: float = 0.0
    tta: str = "none"


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """Weights of the joint loss."""

    mixture_loss: str = "likelihood"
    gate_supervision: float | None = None
    baseline_loss: float | None = None
    expert_loss: float | None = None
    balance_loss: float | None = None
    importance_loss: float = 0.0
    load_loss: float = 0.0
    z_loss: float = 0.0


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How it is trained."""

    epochs: int | None = None
    steps: int | None = None
    patience: int | None = None
    monitor: str = "accuracy"
    class_weights: str | None = None
    batch_size: int | None = None
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    momentum: float = 0.9
    bias_lr_scale: float = 1.0
    muon_rate: float = 0.02
    schedule: str = "constant"
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    ema_decay: float = 0.0
    lookahead: int = 0
    accumulate: int = 1
    capacity_factor: float = 1.25
    seed: int = 0
    init_from: tuple[str, ...] = ()
    budget: str | None = None
    skip_stages: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class RuntimeConfig:
    """Where it runs, how fast, and where it writes."""

    workdir: str | None = _free(None)
    gpus: int | None = _free(None)
    require_gpus: bool = _free(False)
    cpu_replicas: int = _free(1)
    precision: str = _free("auto")
    steps_per_loop: int | None = _free(None)
    jit_compile: bool | None = _free(None)
    deterministic: bool = _free(False)
    profile: bool = _free(False)
    tensorboard: bool = _free(True)
    report: bool | None = _free(None)
    on_unhealthy: str = _free("warn")
    on_nonfinite: str = _free("stop")
    checkpoint_seconds: float = _free(60.0)
    checkpoint_steps: int = _free(0)
    keep: int = _free(2)
    export: bool = _free(False)


@dataclasses.dataclass(frozen=True)
class Config:
    """A training run."""

    mode: str = "joint"
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    train: TrainConfig = TrainConfig()
    runtime: RuntimeConfig = RuntimeConfig()

    def __post_init__(self) -> None:
        validate(self)

    def to_dict(self) -> dict[str, Any]:
        """Plain nested dictionaries, ready for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Config:
        """The inverse of `to_dict`. A field that is missing has its default.

        Raises:
          UserError: a section is missing, a field is unknown or its value is wrong (another version
            wrote it, or the file is damaged).
        """
        try:
            for name, kind in SECTIONS.items():
                hints = typing.get_type_hints(kind)
                for field, value in values[name].items():
                    check(value, hints[field], field)
            sections = {
                name: kind(**{field: _frozen(value) for field, value in values[name].items()})
                for name, kind in SECTIONS.items()
            }
            return cls(mode=values["mode"], **sections)
        except (AttributeError, KeyError, TypeError, ValueError, UserError) as error:
            raise UserError(
                f"the stored configuration does not fit this version ({error}); "
                "use the version that wrote it, or another --workdir."
            ) from error


def _frozen(value: Any) -> Any:
    """JSON has no tuples, and a configuration no lists."""
    return tuple(value) if isinstance(value, list) else value


SECTIONS = {
    "data": DataConfig,
    "model": ModelConfig,
    "loss": LossConfig,
    "train": TrainConfig,
    "runtime": RuntimeConfig,
}


@dataclasses.dataclass(frozen=True)
class CompareConfig:
    """What --mode=compare puts side by side.

    `run` is what all arms have in common; its mode, routing and seed are those of the first arm.
    """

    run: Config = dataclasses.field(default_factory=lambda: Config(mode="compare"))
    seeds: int = 3
    arms: tuple[str, ...] = ()
    results: str | None = None

    def __post_init__(self) -> None:
        _check_sizes(self)
        _positive("seeds", self.seeds)
        train = self.run.train
        for name in ("init_from", "skip_stages"):
            if getattr(train, name):
                raise UserError(f"--{name}: every arm of --mode=compare starts from scratch.")
        if (self.run.data.groups or "").startswith("auto:"):
            raise UserError(
                f"--groups={self.run.data.groups}: find the groups with another --mode first, and "
                "compare with the file that it writes."
            )


@dataclasses.dataclass(frozen=True)
class BenchmarkConfig:
    """What --mode=benchmark measures.

    The fields of `run` that name networks, batch size, routing and device are what a sweep starts
    from; data and losses are of no account.
    """

    run: Config = dataclasses.field(default_factory=lambda: Config(mode="benchmark"))
    suite: tuple[str, ...] = ()
    sweep: tuple[str, ...] = ()
    rounds: int = 41
    window_seconds: float = 0.4

    def __post_init__(self) -> None:
        _check_sizes(self)
        for name in self.suite:
            _one_of("suite", name, SUITES)
        if self.rounds < 7:
            _fail("rounds", self.rounds, "at least 7")
        if not 0 < self.window_seconds <= _LONGEST_WINDOW:
            _fail("window_seconds", self.window_seconds, f"above 0 and at most {_LONGEST_WINDOW}")
        if os.environ.get("TF_CONFIG"):
            raise UserError("TF_CONFIG: --mode=benchmark measures one device; unset it.")
        runtime, routing = self.run.runtime, self.run.model.routing
        if runtime.cpu_replicas > 1 or (runtime.gpus or 0) > 1:
            raise UserError(
                "--mode=benchmark measures one device: leave out --cpu_replicas, --gpus."
            )
        if routing not in ("soft", "hard"):
            _fail("routing", routing, "soft or hard with --mode=benchmark, which forces the load")
        if self.sweep:
            check_sweep(parse_sweep(self.sweep), self.dispatch, bool(runtime.jit_compile))

    @property
    def dispatch(self) -> str:
        """How a sweep runs the experts where no axis says so."""
        return "soft" if self.run.model.routing == "soft" else "routed"


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """An evaluation of finished runs."""

    workdir: str | None = None
    compare: tuple[str, ...] = ()
    routing: tuple[str, ...] = ()
    gate_threshold: float = 0.0
    top_k: int | None = None
    tta: str | None = None
    eval_split: str = "test"
    data_dir: str | None = None
    precision: str | None = None
    batch_size: int = 512
    report: bool | None = None
    export: bool = False
    predict: str | None = None
    predict_to: str | None = None
    skip_unreadable: bool = False

    def __post_init__(self) -> None:
        _check_sizes(self)
        if bool(self.workdir) == bool(self.compare):
            raise UserError("give --workdir=RUN to evaluate a run, or --compare=RUN_A,RUN_B.")
        if self.compare:
            self._check_comparison()
        for name in self.routing:
            if name not in EVALUATION_ROUTINGS and not re.fullmatch(r"expert:.+", name):
                raise UserError(
                    f"--routing={name}: must be among {', '.join(EVALUATION_ROUTINGS)}, "
                    "expert:NAME."
                )
        _one_of("eval_split", self.eval_split, SPLITS)
        if self.precision is not None:
            _one_of("precision", self.precision, PRECISIONS)
        if self.tta is not None:
            _one_of("tta", self.tta, TEST_TIME_AUGMENTATIONS)
        _positive("batch_size", self.batch_size)
        _positive("top_k", self.top_k)
        if not 0 <= self.gate_threshold <= 1:
            _fail("gate_threshold", self.gate_threshold, "from 0 to 1")
        if self.predict_to is not None and self.predict is None:
            raise UserError(f"--predict_to={self.predict_to}: is for --predict.")
        if self.skip_unreadable and self.predict is None:
            raise UserError("--skip_unreadable: is for --predict.")
        if self.predict is not None and not self.predict:
            _fail("predict", self.predict, "a file, or a pattern such as 'photos/*.png'")
        if self.export or self.predict:
            self._check_use()

    def _check_use(self) -> None:
        """What --export and --predict cannot do, for they have one routing and no labels."""
        asked = "--export" if self.export else "--predict"
        if len(self.routing) > 1:
            raise UserError(f"{asked}: takes one --routing, not {', '.join(self.routing)}.")
        for name in self.routing:
            if self.export and name not in ROUTINGS:
                raise UserError(
                    f"--routing={name}: an export routes by its gate; use one of "
                    f"{', '.join(ROUTINGS)}."
                )
            if name in LABEL_ROUTINGS:
                raise UserError(f"--routing={name}: needs labels, which --predict has none of.")
        if self.eval_split != "test":
            raise UserError(f"{asked}: reads no split of the data; leave out --eval_split.")
        if self.report:
            raise UserError(f"{asked}: evaluates nothing; leave out --report.")
        if self.export and self.precision not in (None, "float32"):
            _fail("precision", self.precision, "float32 with --export, which always is")

    def _check_comparison(self) -> None:
        given = f"--compare={','.join(self.compare)}"
        if len(self.compare) < 2 or not all(self.compare):
            raise UserError(f"{given}: name at least two runs: RUN_A,RUN_B.")
        if len({os.path.realpath(run) for run in self.compare}) < len(self.compare):
            raise UserError(f"{given}: names a run twice.")
        others = [f for f in dataclasses.fields(self) if f.name not in ("workdir", "compare")]
        ignored = [f"--{f.name}" for f in others if getattr(self, f.name) != f.default]
        if ignored:
            raise UserError(
                f"--compare reads what the runs themselves wrote; give {', '.join(ignored)} with "
                "--workdir."
            )


def _fail(name: str, value: Any, rule: str) -> None:
    raise UserError(f"--{name}={value!s:.200}: must be {rule}.")


def _check_sizes(section: Any) -> None:
    """Refuses integers that no 32 bits hold, before anything computes with them."""
    for field in dataclasses.fields(section):
        value = getattr(section, field.name)
        if isinstance(value, int) and abs(value) > _LARGEST:
            _fail(field.name, value, f"at most {_LARGEST}")


def _one_of(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        _fail(name, value, "one of " + ", ".join(choices))


def _positive(name: str, value: float | None) -> None:
    if value is not None and not (math.isfinite(value) and value > 0):
        _fail(name, value, "greater than 0")


def _not_negative(name: str, value: float | None) -> None:
    if value is not None and not (math.isfinite(value) and value >= 0):
        _fail(name, value, "0 or more")


def validate(config: Config) -> None:
    """Checks every value by itself and those that depend on each other.

    Raises:
      UserError: names the flag, its value and the rule.
    """
    data, model, loss, train, runtime = sections = [getattr(config, s) for s in SECTIONS]
    for section in sections:
        _check_sizes(section)
    _one_of("mode", config.mode, MODES)
    _one_of("routing", model.routing, ROUTINGS)
    _one_of("expert_head", model.expert_head, EXPERT_HEADS)
    _one_of("mixture_loss", loss.mixture_loss, MIXTURE_LOSSES)
    _one_of("precision", runtime.precision, PRECISIONS)
    _one_of("optimizer", train.optimizer, OPTIMIZERS)
    _one_of("schedule", train.schedule, SCHEDULES)
    _one_of("monitor", train.monitor, MONITORS)
    _one_of("tta", model.tta, TEST_TIME_AUGMENTATIONS)
    _one_of("on_unhealthy", runtime.on_unhealthy, ON_UNHEALTHY)
    _one_of("on_nonfinite", runtime.on_nonfinite, ON_NONFINITE)
    if model.boost is not None:
        _one_of("boost", model.boost, BOOSTS)
    if data.augment is not None:
        _one_of("augment", data.augment, AUGMENTATIONS)
    for part in ("gate", "expert", "baseline"):
        backbone = getattr(model, f"{part}_backbone")
        # Experts may each have one of their own.
        names = [] if backbone is None else backbone.split(",") if part == "expert" else [backbone]
        for problem in filter(None, map(backbone_problem, names)):
            _fail(f"{part}_backbone", backbone, problem)
    if "," in (model.expert_backbone or ""):
        _check_unlike_experts(config)
    if not data.dataset:
        _fail("dataset", data.dataset, "the name of a data set, or auto")
    low, high = _TEMPERATURES
    if not low <= model.gate_temperature <= high:
        _fail("gate_temperature", model.gate_temperature, f"from {low:g} to {high:g}")
    if not 0 < data.validation_fraction < 1:
        _fail("validation_fraction", data.validation_fraction, "between 0 and 1")
    if not 0 <= train.momentum < 1:
        _fail("momentum", train.momentum, "from 0 to below 1")
    for name in ("label_smoothing", "ema_decay"):
        if not 0 <= getattr(train, name) < 1:
            _fail(name, getattr(train, name), "from 0 to below 1")
    for section, names in (
        (data, ("train_examples", "image_size", "crop_reach")),
        (model, ("top_k",)),
        (
            train,
            (
                *("epochs", "steps", "batch_size", "learning_rate", "bias_lr_scale", "muon_rate"),
                *("accumulate", "capacity_factor"),
            ),
        ),
        (runtime, ("cpu_replicas", "steps_per_loop", "checkpoint_seconds", "keep")),
    ):
        for name in names:
            _positive(name, getattr(section, name))
    for section, names in (
        (
            loss,
            [field.name for field in dataclasses.fields(loss) if field.name != "mixture_loss"],
        ),
        (model, ("trunk", "balance_bias")),
        (train, ("patience", "weight_decay", "lookahead", "seed")),
        (data, ("data_seed",)),
        (runtime, ("gpus", "checkpoint_steps")),
    ):
        for name in names:
            _not_negative(name, getattr(section, name))
    if re.match(r"none:(?![1-9]\d{0,3}$)", data.groups or ""):
        _fail(
            "groups", data.groups, "semantic, none:K with K from 1 to 9999, auto:K, or a JSON file"
        )
    finds_groups = re.match(r"auto:", data.groups or "")
    if finds_groups and not re.fullmatch(r"auto:([2-9]|[1-9]\d{1,3})", data.groups):
        _fail("groups", data.groups, "auto:K with K from 2 to 9999")
    if finds_groups and config.mode in ("baseline", "benchmark"):
        raise UserError(f"--mode={config.mode} has no use for --groups={data.groups}.")
    if data.groups_from and not finds_groups:
        raise UserError("--groups_from names the baseline of --groups=auto:K; give both.")
    if train.momentum != TrainConfig.momentum and train.optimizer not in MOMENTUM_OPTIMIZERS:
        raise UserError(
            f"--momentum={train.momentum}: is for --optimizer={', '.join(MOMENTUM_OPTIMIZERS)}."
        )
    if train.muon_rate != TrainConfig.muon_rate and train.optimizer != "muon":
        raise UserError(f"--muon_rate={train.muon_rate}: is for --optimizer=muon.")
    if train.ema_decay and train.lookahead:
        raise UserError("--ema_decay and --lookahead: each averages the weights; give one of them.")
    if data.crop_reach != DataConfig.crop_reach and not (data.augment or "").endswith("_crop"):
        raise UserError(
            f"--crop_reach={data.crop_reach}: is for --augment=flip_crop or alternate_crop."
        )
    if not model.baseline and model.boost not in (None, "none"):
        _fail("boost", model.boost, "none where there is no baseline (--nobaseline)")
    if model.trunk and config.mode in ("gate", "experts"):
        raise UserError(
            f"--trunk={model.trunk}: --mode={config.mode} trains no trunk; use --mode=baseline, "
            "separate, staged or joint."
        )
    if model.trunk and not model.baseline and config.mode in ("separate", "staged"):
        raise UserError(
            f"--trunk={model.trunk}: --mode={config.mode} trains it with the baseline, which "
            "--nobaseline leaves out; use --mode=joint."
        )
    if config.mode == "baseline" and not model.baseline:
        raise UserError("--mode=baseline trains the baseline, which --nobaseline leaves out.")
    if model.routing not in TOP_K_ROUTINGS and model.top_k != 1:
        _fail("top_k", model.top_k, f"1 with --routing={model.routing}; use --routing=topk")
    if model.balance_bias and model.routing not in BALANCED_ROUTINGS:
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
    blends = model.baseline and model.boost != "none"
    if loss.mixture_loss == "expected" and model.expert_head == "group" and not blends:
        raise UserError(
            "--mixture_loss=expected is infinite where an expert cannot name the class "
            "(--expert_head=group without a blended baseline); use --mixture_loss=likelihood."
        )
    for spec in train.init_from:
        read_init_from(spec)
    by_clock = train.budget is not None and read_budget(train.budget).unit == "seconds"
    if by_clock and train.schedule != "constant":
        raise UserError(
            f"--budget={train.budget}: --schedule={train.schedule} must know its length in steps; "
            "use --schedule=constant, or a budget of epochs or macs."
        )
    if by_clock and train.lookahead:
        raise UserError(
            f"--budget={train.budget}: --lookahead={train.lookahead} must know its length in steps;"
            " use a budget of epochs or macs."
        )
    if train.skip_stages and not train.init_from:
        raise UserError("--skip_stages leaves out what --init_from has trained already; give both.")
    if runtime.export and config.mode in ("gate", "experts"):
        raise UserError(f"--export: --mode={config.mode} trains no network that answers alone.")
    if runtime.cpu_replicas > _MOST_REPLICAS:
        _fail("cpu_replicas", runtime.cpu_replicas, f"at most {_MOST_REPLICAS}")
    if runtime.jit_compile and runtime.cpu_replicas > 1:
        raise UserError(
            f"--jit_compile: works on one device, not on {runtime.cpu_replicas} replicas."
        )
    if runtime.require_gpus and runtime.gpus == 0:
        raise UserError("--require_gpus asks for what --gpus=0 forbids; leave one of them out.")
    if train.optimizer == "adamw" and not train.weight_decay:
        _fail("optimizer", "adamw", "given a --weight_decay; without one it is adam")
    one_runs = model.routing in ("hard", "expert_choice") or (
        model.routing in TOP_K_ROUTINGS and model.top_k == 1
    )
    if loss.mixture_loss == "expected" and one_runs:
        raise UserError(
            "--mixture_loss=expected gives the gate no gradient where one expert runs; use "
            "--mixture_loss=likelihood, --routing=soft or --top_k=2."
        )


def _check_unlike_experts(config: Config) -> None:
    """What one network for all experts is needed for."""
    given = f"--expert_backbone={config.model.expert_backbone}"
    if config.model.trunk:
        raise UserError(f"{given}: --trunk is cut from one network; name one for all experts.")
    if config.mode in ("compare", "benchmark"):
        raise UserError(f"{given}: --mode={config.mode} weighs one network; name one for all.")


class Budget(NamedTuple):
    """What a run may spend on training.

    Attributes:
      unit: one of `BUDGETS`.
      amount: how many of them.
    """

    unit: str
    amount: float


def read_budget(text: str) -> Budget:
    """Reads `epochs:N`, `seconds:N` or `macs:N`.

    Raises:
      UserError: it is none of these.
    """
    unit, _, amount = text.partition(":")
    try:
        found = Budget(unit, float(amount))
    except ValueError:
        found = Budget(unit, math.nan)
    if unit not in BUDGETS or not (math.isfinite(found.amount) and found.amount > 0):
        _fail("budget", text, "epochs:N, seconds:N or macs:N, with N greater than 0")
    return found


class InitFrom(NamedTuple):
    """One --init_from.

    Attributes:
      run: the folder of a finished run.
      part: the network there; None: every one that fits by name.
      to: the network here that starts from it; None: the one of the same name.
    """

    run: str
    part: str | None
    to: str | None


def read_init_from(spec: str) -> InitFrom:
    """Reads `RUN`, `RUN:PART` or `RUN:PART->PART`.

    Raises:
      UserError: it is none of these.
    """
    part = r"\w[\w .-]*?"
    found = re.fullmatch(rf"(.+?)(?::({part})(?:->({part}))?)?", spec)
    if found is None or found[1].endswith(":") or "->" in found[1]:
        _fail("init_from", spec, "RUN, RUN:PART or 'RUN:PART->PART'")
    return InitFrom(*found.groups())


def ignored_losses(config: Config) -> list[str]:
    """Names of the loss flags that were given although the mode has no joint loss.

    The balance bias is one of them: it stands in for such a loss.
    """
    if config.mode in ("joint", "staged", "compare"):
        return []
    fields = dataclasses.fields(LossConfig)
    given = [field.name for field in fields if getattr(config.loss, field.name) != field.default]
    return [*given, "balance_bias"] if config.model.balance_bias else given


def _shown(value: Any) -> str:
    """As one would type it."""
    return ",".join(value) if isinstance(value, tuple) else str(value)


def identity_differences(old: Config, new: Config) -> list[str]:
    """How `new` differs from `old` in what identifies a run, one phrase a field.

    The length of a run may grow, unless the shape of a schedule depends on it.
    """
    differences = []
    if old.mode != new.mode:
        differences.append(f"--mode={new.mode} (was {old.mode})")
    for section in SECTIONS:
        for field in dataclasses.fields(SECTIONS[section]):
            before = getattr(getattr(old, section), field.name)
            after = getattr(getattr(new, section), field.name)
            if before == after or not field.metadata.get("identity", True):
                continue
            grows = before is not None and after is not None and after > before
            shape = old.train.schedule != "constant" or old.train.lookahead
            may_grow = field.name in ("epochs", "steps") and not shape
            if grows and may_grow:
                continue
            differences.append(f"--{field.name}={_shown(after)} (was {_shown(before)})")
    routed = new.model.routing != "soft" or new.mode in ("separate", "staged")
    if routed and bool(old.runtime.jit_compile) != bool(new.runtime.jit_compile):
        # In fixed shapes a full expert drops examples.
        now, before = bool(new.runtime.jit_compile), bool(old.runtime.jit_compile)
        differences.append(f"--jit_compile={now} (was {before}, and routes differently)")
    return differences
