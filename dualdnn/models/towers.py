"""What every tower ends with, and what it returns."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf
import tf_keras as keras

from dualdnn.layers.seeds import derive_seed


class TowerOutput(NamedTuple):
    """The outputs of a teacher or student.

    Attributes:
        logits: `(batch_size,)`.
        hidden: the activations of the MLP's hidden layers, each `(batch_size, units)`.
    """

    logits: tf.Tensor
    hidden: list[tf.Tensor]


def logit_layer(seed: int, tower: str) -> keras.layers.Dense:
    """The last layer: `(batch_size, size)` to `(batch_size, 1)`.

    Args:
        seed: of the run.
        tower: its name, part of the seed.
    """
    initializer = keras.initializers.GlorotUniform(seed=derive_seed(seed, tower, "output"))
    return keras.layers.Dense(1, kernel_initializer=initializer, name="output")
