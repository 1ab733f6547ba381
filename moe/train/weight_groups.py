"""Which weights of a network learn by which rule and at which rate."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tensorflow as tf

from moe.config.sections import TrainConfig
from moe.models.normalization import BatchNorm
from moe.models.starts import leaves
from moe.train.optimizers import GroupedOptimizer, Optimizer, PartOptimizer
from moe.train.schedules import Schedule

_NORMALISATIONS = (
    BatchNorm,
    keras.layers.BatchNormalization,
    keras.layers.LayerNormalization,
    keras.layers.GroupNormalization,
)


def make_optimizer(
    model: keras.Model,
    config: TrainConfig,
    schedule: Schedule,
    *,
    rate: float = 1.0,
    ends_in_head: bool = True,
    policy: str = "float32",
) -> Optimizer:
    """The optimizer of one network, as the flags ask for it. Call inside the strategy's scope.

    Args:
      model: the network.
      config: rule, rates, momentum, decay.
      schedule: factor of the rates by step.
      rate: factor of all rates.
      ends_in_head: the last kernel makes logits, which is no work for Muon.
      policy: the network's Keras dtype policy.
    """
    every = [v.value for v in model.trainable_variables]
    offsets = norm_offsets(model) if config.bias_lr_scale != 1 else []
    free, fixed = hidden_kernels(model, ends_in_head) if config.optimizer == "muon" else ([], [])
    taken = {id(v) for v in (*offsets, *free, *fixed)}
    rest = [v for v in every if id(v) not in taken]
    others = "nesterov" if config.optimizer == "muon" else config.optimizer
    groups = (
        (others, rest, config.learning_rate),
        (others, offsets, config.learning_rate * config.bias_lr_scale),
        ("muon", free, config.muon_rate),
        ("muon_of_fixed_size", fixed, config.muon_rate),
    )
    optimizers = [
        PartOptimizer(
            rule,
            variables,
            rate * learning_rate,
            schedule,
            config.weight_decay,
            momentum=config.momentum,
            compute_dtype="bfloat16" if policy == "mixed_bfloat16" else "float32",
        )
        for rule, variables, learning_rate in groups
        if variables
    ]
    return optimizers[0] if len(optimizers) == 1 else GroupedOptimizer(optimizers)


def norm_offsets(model: keras.Model) -> list[tf.Variable]:
    """The offsets that normalisation layers learn."""
    layers = (layer for layer in leaves(model) if isinstance(layer, _NORMALISATIONS))
    return _trainable([layer.beta for layer in layers])


def hidden_kernels(
    model: keras.Model, ends_in_head: bool
) -> tuple[list[tf.Variable], list[tf.Variable]]:
    """Kernels of convolutions and dense layers; those of convolutions without a bias apart.

    A convolution has no bias where a normalisation follows that would take it away again; then
    the size of its kernel means nothing either.
    """
    kinds = (keras.layers.Conv2D, keras.layers.Dense)
    layers = [layer for layer in leaves(model) if isinstance(layer, kinds)]
    if ends_in_head:
        layers = layers[:-1]
    fixed = [x for x in layers if isinstance(x, keras.layers.Conv2D) and not x.use_bias]
    free = [x for x in layers if x not in fixed]
    return tuple(_trainable([layer.kernel for layer in some]) for some in (free, fixed))


def _trainable(variables: Sequence[keras.Variable | tf.Tensor | None]) -> list[tf.Variable]:
    """Those that learn; an adapted kernel (LoRA) is no variable but a sum."""
    return [v.value for v in variables if getattr(v, "trainable", False)]
