"""Multi-layer perceptron whose dropout is a function of (seed, step)."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf
import tf_keras as keras

from dualdnn.layers.seeds import derive_seed


class MLP(keras.layers.Layer):
    """Dense layers that return every hidden activation, so that hints can pair any of them.

    Input `(batch_size, size)`; output a list of `(batch_size, units)`, one a layer.
    """

    def __init__(
        self,
        *,
        hidden_units: Sequence[int],
        activation: str = "relu",
        dropout: float = 0.0,
        seed: int,
        name: str,
    ) -> None:
        """Initial weights depend on `seed` and `name` alone.

        Args:
            hidden_units: width of each layer.
            activation: Keras name of the activation.
            dropout: share of activations dropped in training, in [0, 1).
            seed: of the run.
            name: of the layer; part of the seed.
        """
        super().__init__(name=name)
        self.dropout = dropout
        self._dropout_seed = derive_seed(seed, name, "dropout")
        self.dense = [
            keras.layers.Dense(
                units,
                activation=activation,
                kernel_initializer=keras.initializers.GlorotUniform(
                    seed=derive_seed(seed, name, f"dense_{i}")
                ),
                name=f"dense_{i}",
            )
            for i, units in enumerate(hidden_units)
        ]

    def call(self, inputs: tf.Tensor, step: tf.Tensor, training: bool = False) -> list[tf.Tensor]:
        """Apply the layers.

        Args:
            inputs: `(batch_size, size)`.
            step: scalar int64; the same step drops the same activations, also after a restart.
            training: whether to drop.
        """
        hidden = []
        value = inputs
        for i, layer in enumerate(self.dense):
            value = layer(value)
            if training and self.dropout:
                seed = tf.stack([tf.cast(self._dropout_seed + i, tf.int64), step])
                value = tf.nn.experimental.stateless_dropout(value, self.dropout, seed=seed)
            hidden.append(value)
        return hidden
