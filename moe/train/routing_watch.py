"""How the validation split is routed, and how much of that changed since the last time."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from moe.evaluate.gate import flipped_share, routing_state


class Routed(NamedTuple):
    """How examples were routed: what was really carried out, a balance bias included.

    Attributes:
      gate_log_probs: `<float32>[S, E]`, the gate's distribution.
      favourite: `<int32>[S]`, the expert whose answer weighs most.
      load: `<float32>[S, E]`, what share of the example each expert was asked for, see
        `moe.routing.load_shares`.
      importance: `<float32>[S, E]`, the weight of each expert's answer.
    """

    gate_log_probs: tf.Tensor
    favourite: tf.Tensor
    load: tf.Tensor
    importance: tf.Tensor


class RoutingWatch:
    """Remembers the favourite expert of every validation example from one epoch to the next.

    It is part of the checkpoint: a continued run compares with what the interrupted one saw.

    Args:
      label: `<int32>[N]`, of the validation examples.
      group: `<int32>[N]`, -1 where none is known.
      num_classes: L.
    """

    def __init__(self, label: np.ndarray, group: np.ndarray, num_classes: int) -> None:
        self._label = label
        self._group = group
        self._num_classes = num_classes
        with tf.device("CPU"):
            self._favourite = tf.Variable(np.full(len(label), -1, np.int32), trainable=False)

    def state(self) -> list[tf.Variable]:
        """What a checkpoint holds of it; -1 before the first look."""
        return [self._favourite]

    def look(self, routed: Routed) -> dict[str, Any]:
        """Describes the routing as it is now, and remembers it.

        Args:
          routed: N examples, as arrays.

        Returns:
          What `moe.evaluate.gate.routing_state` says and, from the second look on,
          `routing_flips`: the share of examples whose favourite has changed.
        """
        found = routing_state(
            np.exp(routed.gate_log_probs),
            favourite=routed.favourite,
            load=routed.load,
            importance=routed.importance,
            label=self._label,
            group=self._group,
            num_classes=self._num_classes,
        )
        before = self._favourite.numpy()
        if before[0] >= 0:
            found["routing_flips"] = flipped_share(before, routed.favourite)
        self._favourite.assign(routed.favourite)
        return found
