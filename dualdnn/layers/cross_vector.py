"""Cross network of the first DCN: one vector a layer instead of a matrix."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tf_keras as keras

from dualdnn.errors import ConfigError
from dualdnn.layers.seeds import derive_seed


class VectorCrossNetwork(keras.layers.Layer):
    """Explicit interactions of degree up to num_layers + 1, with few weights.

    x_{l+1} = x_0 (x_l . w_l) + b_l + x_l

    with x_0 the fields laid end to end and w_l a vector: the same interactions for all elements, up
    to a factor. Input `(batch_size, num_fields, embedding_dim)`; output
    `(batch_size, num_fields * embedding_dim)`. `CrossNetwork` has a matrix in the place of w_l.

    Source: Wang et al. 2017, "Deep & Cross Network for Ad Click Predictions", arXiv:1708.05123.
    """

    def __init__(self, *, num_layers: int, seed: int, name: str) -> None:
        """Initial weights depend on `seed` and `name` alone.

        Args:
            num_layers: cross layers in the stack.
            seed: of the run.
            name: of the layer; part of the seed.

        Raises:
            ConfigError: `num_layers` is not a positive integer.
        """
        super().__init__(name=name)
        if type(num_layers) is not int or num_layers < 1:
            raise ConfigError("`num_layers` of the vector cross network must be a positive "
                              f"integer, got {num_layers!r}. Use for example 3.")
        self.num_layers = num_layers
        self.seed = seed

    def build(self, input_shape: tf.TensorShape) -> None:
        """Make the two vectors of every layer."""
        size = input_shape[1] * input_shape[2]

        def weight(name: str, shape: tuple[int, ...], initializer: Any) -> tf.Variable:
            return self.add_weight(name=name, shape=shape, initializer=initializer)

        self.kernels = [
            weight(f"kernel_{i}", (size, 1), keras.initializers.GlorotUniform(
                seed=derive_seed(self.seed, self.name, f"kernel_{i}")))
            for i in range(self.num_layers)
        ]
        self.biases = [weight(f"bias_{i}", (size,), "zeros") for i in range(self.num_layers)]
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Cross."""
        # (batch_size, num_fields, embedding_dim) -> (batch_size, num_fields * embedding_dim)
        first = tf.reshape(inputs, (-1, inputs.shape[1] * inputs.shape[2]))
        crossed = first
        for kernel, bias in zip(self.kernels, self.biases, strict=True):
            crossed = first * tf.matmul(crossed, kernel) + bias + crossed
        return crossed

    def compute_output_shape(self, input_shape: tf.TensorShape) -> tf.TensorShape:
        """`(batch_size, num_fields * embedding_dim)`."""
        return tf.TensorShape((input_shape[0], input_shape[1] * input_shape[2]))

    def get_config(self) -> dict[str, Any]:
        """The arguments of `__init__`."""
        return {"num_layers": self.num_layers, "seed": self.seed, "name": self.name}
