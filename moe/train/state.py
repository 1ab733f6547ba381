"""Which variables make up a network's state."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import keras
import tensorflow as tf

from moe.models.mixture import MixtureOfExperts
from moe.train.checkpoint import Variables


def part_variables(model: keras.Model) -> list[tf.Variable]:
    """All state of a network but the seeds of foreign layers, which every step sets anew."""
    return [v.value for v in model.variables if not _is_seed(v)]


def model_variables(mixture: MixtureOfExperts, parts: Sequence[str]) -> Variables:
    """The variables of the given parts and of the standardisation, by checkpoint name."""
    models = mixture.parts()
    named = {"standardize": [v.value for v in mixture.standardize.variables]}
    return named | {part: part_variables(models[part]) for part in parts}


def foreign_seed_states(mixture: MixtureOfExperts) -> tuple[tf.Variable, ...]:
    """Seed variables of stochastic Keras layers that are not ours."""
    return tuple(v.value for v in mixture.variables if _is_seed(v))


def moving_statistics(models: Iterable[keras.Model]) -> tuple[tf.Variable, ...]:
    """What layers that can learn change themselves as they run, such as batch statistics.

    Seeds are not among them, and neither are the weights of frozen layers.
    """
    layers = (layer for model in models for layer in model._flatten_layers() if layer.trainable)
    found = (v for layer in layers for v in layer._non_trainable_variables if not _is_seed(v))
    return tuple(v.value for v in found if v.value.dtype.is_floating)


def _is_seed(variable: keras.Variable) -> bool:
    return variable.path.endswith("seed_generator_state")
