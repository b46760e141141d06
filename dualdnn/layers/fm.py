"""Factorization machine: all pairs of fields by inner products, in time linear in the fields."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tf_keras as keras


def bi_interaction(inputs: tf.Tensor) -> tf.Tensor:
    """Sum of the elementwise products of all pairs of fields.

    sum_{i<j} v_i o v_j = ((sum_i v_i)^2 - sum_i v_i^2) / 2, elementwise.

    Source: He & Chua 2017, "Neural Factorization Machines", arXiv:1708.05027, equation 4.

    Args:
        inputs: `(batch_size, num_fields, embedding_dim)`.

    Returns:
        `(batch_size, embedding_dim)`; the sum of its elements is the second-order term of a
        factorization machine.
    """
    of_sum = tf.square(tf.reduce_sum(inputs, axis=1))
    return 0.5 * (of_sum - tf.reduce_sum(tf.square(inputs), axis=1))


class FMVector(keras.layers.Layer):
    """The vector of `bi_interaction`, which has no weights.

    Input `(batch_size, num_fields, embedding_dim)`; output `(batch_size, embedding_dim)`.

    Source: He & Chua 2017, "Neural Factorization Machines", arXiv:1708.05027.
    """

    def __init__(self, *, seed: int, name: str) -> None:
        """Nothing is random here; `seed` is what every interaction layer is given."""
        super().__init__(name=name)
        self.seed = seed

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Pool the pairs."""
        return bi_interaction(inputs)

    def compute_output_shape(self, input_shape: tf.TensorShape) -> tf.TensorShape:
        """`(batch_size, embedding_dim)`."""
        return tf.TensorShape((input_shape[0], input_shape[2]))

    def get_config(self) -> dict[str, Any]:
        """The arguments of `__init__`."""
        return {"seed": self.seed, "name": self.name}


class FactorizationMachine(keras.layers.Layer):
    """The second-order term of a factorization machine: a part of the logit.

    sum_{i<j} <v_i, v_j>

    The first-order weights are those of the embedding. Input
    `(batch_size, num_fields, embedding_dim)`; output `(batch_size, 1)`.

    Source: Rendle 2010, "Factorization Machines"; with an MLP beside it Guo et al. 2017,
    "DeepFM", arXiv:1703.04247.

    Attributes:
        is_logit: True: a tower adds the output to its logit as it is, without a weight.
    """

    is_logit = True

    def __init__(self, *, seed: int, name: str) -> None:
        """Nothing is random here; `seed` is what every interaction layer is given."""
        super().__init__(name=name)
        self.seed = seed

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Sum the pairs."""
        return tf.reduce_sum(bi_interaction(inputs), axis=1, keepdims=True)

    def compute_output_shape(self, input_shape: tf.TensorShape) -> tf.TensorShape:
        """`(batch_size, 1)`."""
        return tf.TensorShape((input_shape[0], 1))

    def get_config(self) -> dict[str, Any]:
        """The arguments of `__init__`."""
        return {"seed": self.seed, "name": self.name}
