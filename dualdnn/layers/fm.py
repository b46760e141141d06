"""Second-order interactions of all pairs of fields, in time linear in their number."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tf_keras as keras


class BiInteraction(keras.layers.Layer):
    """The sum of the element-wise products of all pairs of fields.

    sum_{i<j} v_i * v_j = ((sum_i v_i)^2 - sum_i v_i^2) / 2

    Input `(batch_size, num_fields, embedding_dim)`; output `(batch_size, embedding_dim)`.

    Source: He and Chua 2017, "Neural Factorization Machines", arXiv:1708.05027.
    """

    def __init__(self, *, seed: int = 0, name: str) -> None:
        """There is nothing to initialise.

        Args:
            seed: of the run; taken, as of every interaction layer, and not needed.
            name: of the layer.
        """
        super().__init__(name=name)
        self.seed = seed

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Multiply all pairs."""
        # (batch_size, num_fields, embedding_dim) -> (batch_size, embedding_dim)
        total = tf.reduce_sum(inputs, axis=1)
        return 0.5 * (tf.square(total) - tf.reduce_sum(tf.square(inputs), axis=1))

    def compute_output_shape(self, input_shape: tf.TensorShape) -> tf.TensorShape:
        """`(batch_size, embedding_dim)`."""
        return tf.TensorShape((input_shape[0], input_shape[2]))

    def get_config(self) -> dict[str, Any]:
        """The arguments of `__init__`."""
        return {"seed": self.seed, "name": self.name}


class FactorizationMachine(BiInteraction):
    """The second-order term of a factorization machine: sum_{i<j} <v_i, v_j>.

    It is a part of the logit as it is, so that the towers that have it are those of the papers: no
    output layer weighs it.

    Input `(batch_size, num_fields, embedding_dim)`; output `(batch_size, 1)`.

    Source: Rendle 2010, "Factorization Machines", ICDM; Guo et al. 2017, "DeepFM",
    arXiv:1703.04247.

    Attributes:
        adds_to_logit: True, see `Teacher`.
    """

    adds_to_logit = True

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Add up the inner products of all pairs."""
        # (batch_size, num_fields, embedding_dim) -> (batch_size, 1)
        return tf.reduce_sum(super().call(inputs), axis=1, keepdims=True)

    def compute_output_shape(self, input_shape: tf.TensorShape) -> tf.TensorShape:
        """`(batch_size, 1)`."""
        return tf.TensorShape((input_shape[0], 1))
