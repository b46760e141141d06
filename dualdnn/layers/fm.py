"""FM: the products of all pairs of fields, summed into one vector."""

from __future__ import annotations

import tensorflow as tf
import tf_keras as keras


class BiInteraction(keras.layers.Layer):
    """Bi-interaction pooling, the second-order part of a factorization machine before its sum.

    sum_{i<j} x_i * x_j = ((sum_i x_i)^2 - sum_i x_i^2) / 2

    elementwise, linear in the number of fields, without weights. Input
    `(batch_size, num_fields, embedding_dim)`; output `(batch_size, embedding_dim)`, whose sum is
    the second-order term of the factorization machine.

    Source: He and Chua 2017, "Neural Factorization Machines for Sparse Predictive Analytics",
    section 3.1.
    """

    def __init__(self, *, seed: int = 0, name: str) -> None:
        """Name the layer.

        Args:
            seed: of the run, as every interaction layer gets it; there are no weights to start.
            name: of the layer.
        """
        del seed
        super().__init__(name=name)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Sum the products of all pairs of fields."""
        total = tf.reduce_sum(inputs, axis=1)
        squares = tf.reduce_sum(tf.square(inputs), axis=1)
        return 0.5 * (tf.square(total) - squares)

    def compute_output_shape(self, input_shape: tf.TensorShape) -> tf.TensorShape:
        """`(batch_size, embedding_dim)`."""
        shape = tf.TensorShape(input_shape)
        return tf.TensorShape([shape[0], shape[2]])
