"""Cross network (DCN-V2): a stack of tensorflow-recommenders' cross layers."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tf_keras as keras
from tensorflow_recommenders.layers.feature_interaction.dcn import Cross

from dualdnn.errors import ConfigError
from dualdnn.layers.seeds import derive_seed


class _GlorotByShape(keras.initializers.Initializer):
    """Glorot uniform whose values depend on seed and shape.

    A low-rank `Cross` gives one initialiser to both of its matrices; with the seed alone the
    second would repeat the numbers of the first.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __call__(self, shape: Any, dtype: Any = None, **kwargs: Any) -> tf.Tensor:
        seed = derive_seed(self.seed, *(str(size) for size in shape))
        return keras.initializers.GlorotUniform(seed=seed)(shape, dtype, **kwargs)

    def get_config(self) -> dict[str, Any]:
        return {"seed": self.seed}


class CrossNetwork(keras.layers.Layer):
    """Explicit interactions of degree up to num_layers + 1 between all embedding elements.

    x_{l+1} = x_0 * (W_l x_l + b_l) + x_l

    with x_0 the fields laid end to end; with `projection_dim`, W_l = V_l U_l of that rank.
    Input `(batch_size, num_fields, embedding_dim)`; output
    `(batch_size, num_fields * embedding_dim)`.

    Source: Wang et al. 2021, "DCN V2", arXiv:2008.13535.
    """

    def __init__(
        self, *, num_layers: int, projection_dim: int | None = None, seed: int, name: str
    ) -> None:
        """Initial weights depend on `seed` and `name` alone.

        Args:
            num_layers: cross layers in the stack.
            projection_dim: rank of every W_l; None for full rank.
            seed: of the run.
            name: of the layer; part of the seed.

        Raises:
            ConfigError: `num_layers` or `projection_dim` is not a positive integer.
        """
        super().__init__(name=name)
        mistakes = []
        if type(num_layers) is not int or num_layers < 1:
            mistakes.append(
                f"`num_layers` of the cross network must be a positive integer, got "
                f"{num_layers!r}. Use for example 3."
            )
        if projection_dim is not None and (type(projection_dim) is not int or projection_dim < 1):
            mistakes.append(
                "`projection_dim` of the cross network must be a positive integer or null, got "
                f"{projection_dim!r}. Use null for full rank."
            )
        if mistakes:
            raise ConfigError(mistakes)
        self.num_layers = num_layers
        self.projection_dim = projection_dim
        self.seed = seed
        self.layers = [
            Cross(
                projection_dim=projection_dim,
                kernel_initializer=_GlorotByShape(derive_seed(seed, name, f"cross_{i}")),
                name=f"cross_{i}",
            )
            for i in range(num_layers)
        ]

    def build(self, input_shape: tf.TensorShape) -> None:
        """Make the weights of every cross layer.

        Raises:
            ConfigError: `projection_dim` is not smaller than the flattened input.
        """
        size = input_shape[1] * input_shape[2]
        if self.projection_dim is not None and self.projection_dim >= size:
            raise ConfigError(
                "`projection_dim` of the cross network must be below num_fields * embedding_dim "
                f"= {size}, got {self.projection_dim}. Use null for full rank."
            )
        # `Cross` leaves the names of its dense layers to Keras, which counts what else was built;
        # a warm start finds variables by name.
        keras.backend.reset_uids()
        with tf.init_scope():
            for layer in self.layers:
                # `Cross.build` leaves its dense layers without weights until the first call.
                layer(tf.zeros((1, size)), tf.zeros((1, size)))
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Cross."""
        # (batch_size, num_fields, embedding_dim) -> (batch_size, num_fields * embedding_dim)
        first = tf.reshape(inputs, (-1, inputs.shape[1] * inputs.shape[2]))
        crossed = first
        for layer in self.layers:
            crossed = layer(first, crossed)
        return crossed

    def compute_output_shape(self, input_shape: tf.TensorShape) -> tf.TensorShape:
        """`(batch_size, num_fields * embedding_dim)`."""
        return tf.TensorShape((input_shape[0], input_shape[1] * input_shape[2]))

    def get_config(self) -> dict[str, Any]:
        """The arguments of `__init__`."""
        return {
            "num_layers": self.num_layers,
            "projection_dim": self.projection_dim,
            "seed": self.seed,
            "name": self.name,
        }
