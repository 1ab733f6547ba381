"""The best weights of a stage so far."""

from __future__ import annotations

from collections.abc import Mapping

import keras
import tensorflow as tf

from moe.train.checkpoint import Variables
from moe.train.state import part_variables


class BestWeights:
    """A second copy of the networks that a stage trains.

    It is part of the checkpoint, so that one file tells it all. Made under the run's strategy.

    Args:
      models: the networks, by part.
    """

    def __init__(self, models: Mapping[str, keras.Model]) -> None:
        self._now = {part: part_variables(model) for part, model in models.items()}
        self._best = {
            part: [tf.Variable(v, trainable=False) for v in variables]
            for part, variables in self._now.items()
        }

    def state(self) -> Variables:
        """The copy, by checkpoint name."""
        return {f"best.{part}": best for part, best in self._best.items()}

    def keep(self) -> None:
        """Copies the networks as they are."""
        for part, best in self._best.items():
            _assign(best, self._now[part])

    def take(self) -> None:
        """Gives the networks the copied weights."""
        for part, best in self._best.items():
            _assign(self._now[part], best)


def _assign(to: list[tf.Variable], values: list[tf.Variable]) -> None:
    for variable, value in zip(to, values, strict=True):
        variable.assign(value)
