"""How the gate routes the validation split, and how much of that changed since the last time."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from moe.evaluate.gate import flipped_share, routing_state


class RoutingWatch:
    """Remembers the favourite expert of every validation example from one epoch to the next.

    It is part of the checkpoint: a continued run compares with what the interrupted one saw.

    Args:
      label: `<int32>[N]`, of the validation examples.
      num_classes: L.
    """

    def __init__(self, label: np.ndarray, num_classes: int) -> None:
        self._label = label
        self._num_classes = num_classes
        with tf.device("CPU"):
            self._favourite = tf.Variable(np.full(len(label), -1, np.int32), trainable=False)

    def state(self) -> list[tf.Variable]:
        """What a checkpoint holds of it; -1 before the first look."""
        return [self._favourite]

    def look(self, gate_log_probs: np.ndarray) -> dict[str, Any]:
        """Describes the gate as it is now, and remembers it.

        Args:
          gate_log_probs: `<float32>[N, E]`.

        Returns:
          What `moe.evaluate.gate.routing_state` says and, from the second look on,
          `routing_flips`: the share of examples whose favourite has changed.
        """
        found = routing_state(np.exp(gate_log_probs), self._label, self._num_classes)
        before, now = self._favourite.numpy(), gate_log_probs.argmax(axis=1).astype(np.int32)
        if before[0] >= 0:
            found["routing_flips"] = flipped_share(before, now)
        self._favourite.assign(now)
        return found
