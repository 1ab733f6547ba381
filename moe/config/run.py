"""The whole configuration of a run, and how it is stored."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any

from moe.config.sections import DataConfig, LossConfig, ModelConfig, RuntimeConfig, TrainConfig
from moe.config.validation import validate
from moe.errors import UserError
from moe.typed import check


@dataclasses.dataclass(frozen=True)
class Config:
    """A training run."""

    mode: str = "joint"
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    loss: LossConfig = dataclasses.field(default_factory=LossConfig)
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    runtime: RuntimeConfig = dataclasses.field(default_factory=RuntimeConfig)

    def __post_init__(self) -> None:
        validate(self.mode, self.data, self.model, self.loss, self.train, self.runtime)

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
