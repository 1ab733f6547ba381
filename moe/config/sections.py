"""The sections of a run's configuration.

`None` means "by data set" or "by mode"; `moe.defaults.resolve` fills it in once the data set is
known. Field names are flag names. A field whose metadata says `identity=False` may change when a
run is continued; all others identify the run.
"""

from __future__ import annotations

import dataclasses
from typing import Any


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
