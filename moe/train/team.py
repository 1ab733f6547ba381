"""Processes that train one model together: who writes files, and how all stay in step.

Every worker runs the same program on the same data. What depends on a clock or on a signal is
therefore decided by the chief and agreed on; everything else follows from the same numbers.
"""

from __future__ import annotations

import os
from typing import Protocol

import tensorflow as tf

from moe.errors import UserError, reason
from moe.files import parse_json
from moe.replicas import sum_over_replicas


class Team(Protocol):
    """What a run needs to know of the other workers.

    Attributes:
      is_chief: whether this process writes the run's files.
      is_alone: whether there are no others.
    """

    is_chief: bool
    is_alone: bool

    def agree(self, number: int, stop: bool) -> tuple[int, bool]:
        """The chief's `number`, and whether anybody wants to stop. Waits for all workers."""


class Alone:
    """A single process."""

    is_chief = True
    is_alone = True

    def agree(self, number: int, stop: bool) -> tuple[int, bool]:
        """What it says itself."""
        return number, stop


class Workers:
    """Several processes under `tf.distribute.MultiWorkerMirroredStrategy`."""

    is_alone = False

    def __init__(self, strategy: tf.distribute.Strategy) -> None:
        self.is_chief = strategy.cluster_resolver.task_id == 0

        def on_replica(number: tf.Tensor, stop: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            context = tf.distribute.get_replica_context()
            # Only the first replica of all speaks for the chief.
            mine = tf.where(context.replica_id_in_sync_group == 0, number, tf.zeros_like(number))
            return sum_over_replicas([mine, tf.identity(stop)])

        @tf.function(autograph=False)
        def agree(number: tf.Tensor, stop: tf.Tensor) -> list[tf.Tensor]:
            sums = strategy.run(on_replica, args=(number, stop))
            return [strategy.experimental_local_results(value)[0] for value in sums]

        self._agree = agree

    def agree(self, number: int, stop: bool) -> tuple[int, bool]:
        """One small sum over all workers."""
        said, stops = self._agree(tf.constant(number, tf.int32), tf.constant(int(stop), tf.int32))
        return int(said), int(stops) > 0


def workers_asked_for() -> list[str]:
    """The addresses (`host:port`) of the workers that `TF_CONFIG` names; none without it.

    Raises:
      UserError: it cannot be read.
    """
    text = os.environ.get("TF_CONFIG")
    if not text:
        return []
    try:
        config = parse_json(text)
        workers, task = config["cluster"]["worker"], config["task"]
        fits = task["type"] == "worker" and 0 <= task["index"] < len(workers)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"TF_CONFIG: cannot be read ({reason(error)}).") from error
    if not fits or set(config["cluster"]) != {"worker"}:
        raise UserError('TF_CONFIG: needs a cluster of workers and a task of type "worker" in it.')
    return [str(worker) for worker in workers]


def make_team(strategy: tf.distribute.Strategy) -> Team:
    """The team behind a strategy."""
    if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return Workers(strategy)
    return Alone()
