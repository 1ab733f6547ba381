"""What every stage of a run works with, and where the run stands."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from moe.config.run import Config
from moe.data.pipeline import Split
from moe.errors import UserError
from moe.models.mixture import MixtureOfExperts
from moe.taxonomy import Groups
from moe.train.checkpoint import CheckpointStore
from moe.train.meter import Meter
from moe.train.progress import Reporter
from moe.train.signals import StopRequest
from moe.train.team import Team


@dataclasses.dataclass
class Progress:
    """Where a run stands; stored with every checkpoint, so plain numbers and lists only.

    Attributes:
      stage: number of the running stage.
      step: steps done in it; with the seed this is the whole position in the data.
      total_steps: steps done in all stages.
      sums: metric sums over the running epoch.
      closed_at: how many of them were done when the last epoch was validated and reported.
      best_score, best_epoch: of the running stage, by validation; the first difference counts.
      seconds: spent in training loops of the running stage.
      rate: factor of the running stage's learning rate, halved by every rollback.
      rollbacks, skipped, overflows: how often the running stage went back to a checkpoint, and how
        many of its steps changed nothing because a number was not finite, or because float16
        gradients overflowed.
      health: what went wrong in all stages, in order, see `note`.
      symptoms: what was wrong at the last look, see `moe.train.health.Symptom.key`.
      finished: one record a finished stage.
    """

    stage: int = 0
    step: int = 0
    total_steps: int = 0
    sums: list[float] = dataclasses.field(default_factory=list)
    closed_at: int = 0
    best_score: list[float] | None = None
    best_epoch: int = 0
    seconds: float = 0.0
    rate: float = 1.0
    rollbacks: int = 0
    skipped: int = 0
    overflows: int = 0
    health: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    symptoms: list[list[str]] = dataclasses.field(default_factory=list)
    finished: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    @property
    def is_open(self) -> bool:
        """Whether the epoch that the last step belongs to is still to be validated."""
        return self.step > self.closed_at

    def epoch(self, epoch_steps: int) -> int:
        """Number of the epoch that the next step belongs to, from 1."""
        return self.step // epoch_steps + 1

    def enter_next_stage(self) -> None:
        """Stands before the first step of the stage after the running one."""
        kept = ("total_steps", "health", "symptoms", "finished")
        fresh = Progress(self.stage + 1, **{name: getattr(self, name) for name in kept})
        vars(self).update(vars(fresh))

    def note(
        self, stage: str, epoch: int, condition: str, expert: str, message: str
    ) -> dict[str, Any]:
        """Writes down that something is wrong, for the `health` of `results.json`.

        Args:
          stage: its name.
          epoch: from 1.
          condition: what is wrong, in a word or two.
          expert: which expert, or other network, is concerned, or "".
          message: a sentence, and what to try.
        """
        entry = {"epoch": epoch, "stage": stage, "condition": condition, "expert": expert}
        self.health.append(entry | {"message": message})
        return self.health[-1]

    def note_fault(self, stage: str, epoch: int, part: str, message: str) -> None:
        """Writes down, once a stage and part, that a number was none and the run went on.

        Args:
          stage, epoch, message: as for `note`.
          part: where it came from.
        """
        condition = "not finite"
        if (stage, condition, part) not in [
            (entry["stage"], entry["condition"], entry["expert"]) for entry in self.health
        ]:
            self.note(stage, epoch, condition, part, message)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Progress:
        """The inverse of `dataclasses.asdict`.

        Raises:
          UserError: another version wrote it.
        """
        if set(values) != {field.name for field in dataclasses.fields(cls)}:
            raise UserError(
                "the checkpoints were written by another version; use that one, or another "
                "--workdir."
            )
        return cls(**values)


@dataclasses.dataclass(frozen=True)
class Data:
    """The examples of a run; the test split is not among them."""

    train: Split
    validation: Split


@dataclasses.dataclass(frozen=True)
class Context:
    """Everything that stages share.

    Attributes:
      config: fully resolved.
      policy: the Keras dtype policy of the networks.
      mixture: built under `strategy`.
      groups: one expert each.
      data: training and validation examples.
      strategy: the default one on a single device.
      team: the other workers, if there are any.
      store: where checkpoints go.
      reporter: what a person sees.
      stop: looked at wherever everything is saved.
      meter: speed, filled while training.
      profile_to: where a profile of one loop goes, or None.
    """

    config: Config
    policy: str
    mixture: MixtureOfExperts
    groups: Groups
    data: Data
    strategy: tf.distribute.Strategy
    team: Team
    store: CheckpointStore
    reporter: Reporter
    stop: StopRequest
    meter: Meter = dataclasses.field(default_factory=Meter)
    profile_to: pathlib.Path | None = None

    def at_once(self) -> contextlib.AbstractContextManager[None]:
        """Where a signal ends the run without another word: several workers must first agree."""
        return self.stop.at_once() if self.team.is_alone else contextlib.nullcontext()
