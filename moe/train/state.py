"""Which variables make up a network's state."""

from __future__ import annotations

from collections.abc import Sequence

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


def _is_seed(variable: keras.Variable) -> bool:
    return variable.path.endswith("seed_generator_state")
