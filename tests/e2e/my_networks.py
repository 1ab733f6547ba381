"""Networks that a user brings along: named on the command line as `my_networks:NAME`."""

import keras

from moe.models.layers import Dropout
from moe.models.normalization import BatchNorm


def with_foreign_dropout(input_shape, outputs):
    """Keras' own stochastic layer, whose seed is state that no checkpoint of ours holds."""
    inputs = keras.Input(input_shape)
    x = keras.layers.Flatten()(inputs)
    x = keras.layers.Dropout(0.5)(keras.layers.Dense(16, activation="relu")(x))
    return keras.Model(inputs, keras.layers.Dense(outputs, dtype="float32")(x))


def frozen(input_shape, outputs):
    """Stands for a pretrained network."""
    model = with_foreign_dropout(input_shape, outputs)
    model.trainable = False
    return model


def wrong_outputs(input_shape, outputs):
    """Gives one logit too many."""
    return with_foreign_dropout(input_shape, outputs + 1)


def normalised(input_shape, outputs):
    """Batch statistics, and nothing that is drawn at random."""
    inputs = x = keras.Input(input_shape)
    for width in (4, 8):
        x = keras.layers.Conv2D(width, 3, strides=4, use_bias=False)(x)
        x = keras.layers.ReLU()(BatchNorm()(x))
    x = keras.layers.Flatten()(x)
    return keras.Model(inputs, keras.layers.Dense(outputs, dtype="float32")(x))


def wide_tiny(input_shape, outputs):
    """The backbone `tiny`, about √2 times as wide: for one example as many MACs as two of it."""
    inputs = x = keras.Input(input_shape)
    for width in (24, 46, 92):
        x = keras.layers.Conv2D(width, 3, padding="same", activation="relu")(x)
        x = keras.layers.MaxPooling2D()(x)
    x = keras.layers.Dense(184, activation="relu")(keras.layers.Flatten()(x))
    x = Dropout(0.25)(x)
    return keras.Model(inputs, keras.layers.Dense(outputs, dtype="float32")(x))
