"""The learned projection that lets a hint pair layers of any widths."""

from __future__ import annotations

import tensorflow as tf
import tf_keras as keras

from dualdnn.layers.seeds import derive_seed


class HintProjection(keras.layers.Layer):
    """Student hidden layer to the width of a teacher's (FitNets, Romero et al. 2015).

    Input `(batch_size, student_units)`; output `(batch_size, teacher_units)`. It exists in
    training only and is dropped at export.
    """

    def __init__(self, *, teacher_units: int, seed: int, name: str) -> None:
        """Initial weights depend on `seed` and `name` alone."""
        super().__init__(name=name)
        self.dense = keras.layers.Dense(
            teacher_units,
            kernel_initializer=keras.initializers.GlorotUniform(seed=derive_seed(seed, name)),
            name="projection",
        )

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Project linearly."""
        return self.dense(inputs)
