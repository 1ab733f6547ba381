"""Networks that a user brings along: named on the command line as `my_networks:NAME`."""

import keras
import tensorflow as tf

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


def tuned_head(input_shape, outputs):
    """A new layer on top of a frozen body."""
    body = frozen(input_shape, 6)
    return keras.Sequential([body, keras.layers.Dense(outputs, dtype="float32")])


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


def normalised_rows(input_shape, outputs):
    """Batch statistics in a network of almost no size."""
    layers = [keras.layers.Flatten(), BatchNorm(), keras.layers.Dense(outputs, dtype="float32")]
    return keras.Sequential([keras.Input(input_shape), *layers])


def wide_tiny(input_shape, outputs):
    """The backbone `tiny`, about √2 times as wide: for one example as many MACs as two of it."""
    inputs = x = keras.Input(input_shape)
    for width in (24, 46, 92):
        x = keras.layers.Conv2D(width, 3, padding="same", activation="relu")(x)
        x = keras.layers.MaxPooling2D()(x)
    x = keras.layers.Dense(184, activation="relu")(keras.layers.Flatten()(x))
    x = Dropout(0.25)(x)
    return keras.Model(inputs, keras.layers.Dense(outputs, dtype="float32")(x))


class _Jealous(keras.layers.Layer):
    def call(self, inputs):
        rows = tf.shape(inputs)[0]
        some = tf.debugging.assert_positive(rows, "an expert without a row was run")
        few = tf.debugging.assert_less(rows, 20, "an expert got all of the rows")
        with tf.control_dependencies([some, few]):
            return tf.identity(inputs)

    def compute_output_shape(self, input_shape):
        return input_shape


def jealous(input_shape, outputs):
    """Fails where it is run without a row, or on twenty."""
    inputs = keras.Input(input_shape)
    x = keras.layers.Flatten()(_Jealous()(inputs))
    return keras.Model(inputs, keras.layers.Dense(outputs, dtype="float32")(x))
