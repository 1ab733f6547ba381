"""Muon: momentum whose step has all directions of a matrix alike (Jordan et al. 2024)."""

from __future__ import annotations

import math

import tensorflow as tf

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_STEPS = 5


def orthogonalised(matrix: tf.Tensor, compute_dtype: str = "float32") -> tf.Tensor:
    """About `U V^T` of `matrix = U S V^T`: `<float32>[m, n]` -> the same.

    Five Newton-Schulz steps with Jordan's coefficients: singular values end between .7 and 1.2,
    unless they were tiny beside the largest one.

    Args:
      matrix: any size; zeros stay zeros.
      compute_dtype: of the products.
    """
    a, b, c = _COEFFICIENTS
    rows, columns = matrix.shape
    x = matrix / (tf.norm(matrix) + 1e-7)
    x = tf.cast(tf.transpose(x) if rows > columns else x, compute_dtype)
    for _ in range(_STEPS):
        gram = tf.matmul(x, x, transpose_b=True)
        x = a * x + tf.matmul(b * gram + c * tf.matmul(gram, gram), x)
    x = tf.cast(x, tf.float32)
    return tf.transpose(x) if rows > columns else x


def muon_step(
    variable: tf.Variable,
    gradient: tf.Tensor,
    buffer: tf.Variable,
    rate: tf.Tensor,
    momentum: float,
    *,
    of_fixed_size: bool = False,
    compute_dtype: str = "float32",
) -> None:
    """One update of a kernel `[..., outputs]`, which counts as the matrix `[inputs, outputs]`.

    Nesterov momentum of the gradients, orthogonalised, times the root of outputs over inputs where
    there are more outputs.

    Args:
      variable: the kernel.
      gradient: of its shape.
      buffer: of its shape; the momentum.
      rate: learning rate, `<float32>[]`.
      momentum: in [0, 1).
      of_fixed_size: first give the kernel the norm of an orthogonal one, `sqrt(outputs)`. For
        kernels in front of a normalisation: their size means nothing but how far a step goes.
      compute_dtype: of the products.
    """
    outputs = variable.shape[-1]
    inputs = variable.shape.num_elements() // outputs
    buffer.assign(momentum * buffer + gradient)
    direction = tf.reshape(gradient + momentum * buffer, [inputs, outputs])
    step = tf.reshape(orthogonalised(direction, compute_dtype), variable.shape)
    kernel = variable.read_value()
    if of_fixed_size:
        kernel *= math.sqrt(outputs) / (tf.norm(kernel) + 1e-7)
    variable.assign(kernel - rate * math.sqrt(max(1.0, outputs / inputs)) * step)
