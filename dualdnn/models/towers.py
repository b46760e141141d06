"""What every tower ends with, and what it returns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf
import tf_keras as keras

from dualdnn.layers.seeds import derive_seed


class TowerInput(NamedTuple):
    """What a tower reads.

    Attributes:
        vectors: `(batch_size, num_fields, embedding_dim)`.
        linear: `(batch_size, num_fields, 1)` first-order weights, or None.
    """

    vectors: tf.Tensor
    linear: tf.Tensor | None


def tower_input(pooled: Sequence[tf.Tensor]) -> TowerInput:
    """What an embedding's reader returns: vectors and, where there are any, first-order weights."""
    return TowerInput(pooled[0], pooled[1] if len(pooled) > 1 else None)


def side_by_side(inputs: Sequence[TowerInput]) -> TowerInput:
    """Inputs from several embeddings as one, their fields one after another."""
    if len(inputs) == 1:
        return inputs[0]
    linear = [one.linear for one in inputs if one.linear is not None]
    return TowerInput(tf.concat([one.vectors for one in inputs], axis=1),
                      tf.concat(linear, axis=1) if linear else None)


class TowerOutput(NamedTuple):
    """The outputs of a teacher or student.

    Attributes:
        logits: `(batch_size,)`.
        hidden: the activations of the MLP's hidden layers, each `(batch_size, units)`; of a pool
            those of one of its towers.
        members: of a pool `(batch_size, members)` logits.
        gate: of a pool `(batch_size, members)` shares in its logit; each row sums to 1.
    """

    logits: tf.Tensor
    hidden: list[tf.Tensor]
    members: tf.Tensor | None = None
    gate: tf.Tensor | None = None


def logit_layer(seed: int, tower: str) -> keras.layers.Dense:
    """The last layer: `(batch_size, size)` to `(batch_size, 1)`.

    Args:
        seed: of the run.
        tower: its name, part of the seed.
    """
    initializer = keras.initializers.GlorotUniform(seed=derive_seed(seed, tower, "output"))
    return keras.layers.Dense(1, kernel_initializer=initializer, name="output")
