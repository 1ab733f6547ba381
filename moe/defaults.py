"""What "by data set" and "by mode" mean: fills in every value that was left open."""

from __future__ import annotations

import dataclasses

from moe.config.run import Config
from moe.data.source import Source
from moe.errors import UserError

_IMAGES = {
    "groups": "semantic",
    "augment": "flip",
    "baseline_backbone": "small",
    "gate_backbone": "small",
    "expert_backbone": "deep",
    "epochs": 15,
    "patience": 5,
    "batch_size": 128,
}
_SHAPES = _IMAGES | {
    "gate_backbone": "tiny",
    "expert_backbone": "tiny",
    "epochs": 6,
    "patience": 0,
}
_CLUSTERS = _IMAGES | {
    "baseline_backbone": "pooled",
    "gate_backbone": "pooled",
    "expert_backbone": "pooled",
    "epochs": 12,
    "patience": 0,
    "batch_size": 64,
}
_TABULAR = {
    "groups": "none:5",
    "augment": "none",
    "baseline_backbone": "mlp-64-32",
    "gate_backbone": "mlp-32",
    "expert_backbone": "mlp-64-32",
    "epochs": 30,
    "patience": 0,
    "batch_size": 32,
}
_BY_NAME = {"shapes": _SHAPES, "clusters": _CLUSTERS}


def check_images(flag: str, value: str | None, image: bool, mirrors: bool, dataset: str) -> None:
    """Refuses a flag that asks of images what these, or no images, cannot give.

    Args:
      flag: its name.
      value: what was given; `none` and None ask for nothing.
      image: whether examples are images.
      mirrors: as of `moe.data.source.Source`.
      dataset: its name.

    Raises:
      UserError: it does.
    """
    if value in (None, "none"):
        return
    if not image:
        raise UserError(f"--{flag}={value} is for images; {dataset} has none.")
    if not mirrors and value != "crop":
        raise UserError(
            f"--{flag}={value}: mirrors images, and a mirrored one of {dataset} is of another "
            f"group or class; use --{flag}=none{' or crop' * (flag == 'augment')}."
        )


def resolve(config: Config, source: Source, num_features: int) -> Config:
    """The same configuration with nothing left open.

    Args:
      config: as parsed.
      source: the data set that is really used.
      num_features: how many axes the features of one example have (3: an image, 1: a row).

    Raises:
      UserError: a choice does not fit the data set or the mode.
    """
    image = num_features == 3
    defaults = _BY_NAME.get(source.name, _IMAGES if image else _TABULAR)
    if image and source.partition is None and not source.example_groups:
        defaults = defaults | {"groups": "none:4"}
    if not source.mirrors:
        defaults = defaults | {"augment": "none"}
    for flag, value in (("augment", config.data.augment), ("tta", config.model.tta)):
        check_images(flag, value, image, source.mirrors, source.name)
    data = _fill(dataclasses.replace(config.data, dataset=source.name), defaults)
    model = _fill(config.model, defaults)
    if model.boost is None:
        model = dataclasses.replace(model, boost="per_class" if model.baseline else "none")
    train = _fill(config.train, defaults)
    named = not data.groups.startswith("none:")
    if not named and config.mode not in ("joint", "baseline"):
        raise UserError(
            f"--mode={config.mode} trains on named groups, and --groups={data.groups} has none; "
            "use --mode=joint, or name groups: semantic, auto:K, a JSON file."
        )
    if not named and model.expert_head == "group":
        raise UserError(f"--expert_head=group needs named groups, not --groups={data.groups}.")
    if not named and config.loss.gate_supervision:
        raise UserError(f"--gate_supervision needs named groups, not --groups={data.groups}.")
    by_mode = {
        "gate_supervision": 1.0 if named else 0.0,
        "baseline_loss": 0.5,
        "expert_loss": 0.5,
        "balance_loss": 0.0 if named else 0.01,
    }
    loss = _fill(config.loss, by_mode)
    return dataclasses.replace(config, data=data, model=model, train=train, loss=loss)


def _fill(section, defaults):
    """`section` with the open fields that `defaults` knows filled in."""
    values = {
        field.name: defaults[field.name]
        for field in dataclasses.fields(section)
        if getattr(section, field.name) is None and field.name in defaults
    }
    return dataclasses.replace(section, **values)
