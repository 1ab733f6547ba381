"""Numbers that go wrong: found in every step, before they reach a weight.

Looked at after gradients and sums were added up over replicas, so all replicas come to the same
verdict. A step that has a fault changes nothing: no weight, no slot, no moving statistic.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import tensorflow as tf

FINE = 0
"""Fault of a step that has none."""
OVERFLOW = -1
"""Float16 gradients at a loss scale that can still be lowered: nothing is wrong with the model."""
_SUMS = 1
_FIRST_PART = 2
_SMALL = 8_192
"""Numbers in a tensor."""
_ABOUT = {
    "baseline_loss": "baseline",
    "expert_loss": "experts",
    "gate_loss": "gate",
    "z_loss": "gate",
    "balance_loss": "gate",
    "importance_loss": "gate",
    "load_loss": "gate",
}
"""Whose losses they are; whatever else is no number is the fault of one of these."""


class Fault(NamedTuple):
    """A number that is none.

    Attributes:
      part: the network that it comes from, as far as can be said: its name, `experts` or `mixture`.
      what: what is wrong, as the end of a sentence.
    """

    part: str
    what: str


class NonFiniteError(Exception):
    """A number of a step is none; nothing that was computed from it has been kept.

    Args:
      message: names stage, step and part.
      fault: what it is about.
      epoch: of the stage, from 1.
    """

    def __init__(self, message: str, fault: Fault, epoch: int) -> None:
        super().__init__(message)
        self.fault = fault
        self.epoch = epoch


def find_fault(sums: tf.Tensor, gradients: Mapping[str, Sequence[tf.Tensor]]) -> tf.Tensor:
    """The first thing that is not finite in a step.

    A sum of squares is not finite if one of its terms is not. It overflows besides where gradients
    reach some 1e19: so does an optimizer's second moment, and no update survives that either. In
    turn each gradient is read only once.

    Args:
      sums: `<float32>[M]`, metric sums.
      gradients: of each part, in the order of its variables.

    Returns:
      `<float32>[]`: `FINE`, or a number that `describe` reads.
    """
    totals = [tf.reduce_sum(sums), *(_total(group) for group in gradients.values())]
    bad = tf.logical_not(tf.math.is_finite(tf.stack(totals)))
    first = tf.argmax(tf.cast(bad, tf.int32), output_type=tf.int32)
    return tf.where(tf.reduce_any(bad), tf.cast(first + _SUMS, tf.float32), float(FINE))


def _total(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
    """Half the sum of the squares of all numbers.

    Small tensors are joined first: to launch an operation costs more than to go through them.
    """
    small, large = [], []
    for tensor in map(tf.convert_to_tensor, tensors):
        size = tensor.shape.num_elements()
        if size is not None and size < _SMALL:
            small.append(tf.reshape(tensor, [-1]))
        else:
            large.append(tensor)
    joined = [tf.concat(small, axis=0)] if small else []
    return tf.add_n([tf.nn.l2_loss(tensor) for tensor in (*large, *joined)])


def describe(
    fault: float, sums: Sequence[float], names: Sequence[str], parts: Sequence[str]
) -> Fault:
    """What a fault is about.

    The total and the mixture's NLL are made of what the parts say: of several numbers that are
    none, the one that belongs to a part tells most.

    Args:
      fault: of `find_fault`, neither `FINE` nor `OVERFLOW`.
      sums: M metric sums of the step.
      names: M metric names.
      parts: names of the parts in the order of the gradients.
    """
    if fault >= _FIRST_PART:
        part = parts[int(fault) - _FIRST_PART]
        return Fault(part, f"the gradient of {part} is not finite")
    values = dict(zip(names, sums, strict=True))
    bad = [name for name, value in values.items() if not math.isfinite(value)] or [names[0]]
    first = next((name for name in _ABOUT if name in bad), bad[0])
    heads = [part for part in parts if part != "trunk"]
    part = _ABOUT.get(first) or (heads[0] if len(heads) == 1 else "mixture")
    others = ", ".join(name for name in bad if name != first)
    what = f"{first} of {part} is {values[first]}"
    return Fault(part, f"{what} (so is {others})" if others else what)


def all_finite(tensors: Sequence[tf.Tensor]) -> bool:
    """Whether every number is one: their sum is not if one of them is not."""
    return all(math.isfinite(float(tf.reduce_sum(tensor))) for tensor in tensors)
