"""The student: a light MLP on the shared input, and its first-order weights. Serves alone."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf
import tf_keras as keras

from dualdnn.layers.fm import BiInteraction
from dualdnn.layers.mlp import MLP
from dualdnn.models.towers import TowerOutput, logit_layer


class Student(keras.Model):
    """MLP and output layer on the concatenated fields, and on their FM vector where asked for."""

    def __init__(
        self,
        *,
        hidden_units: Sequence[int],
        activation: str = "relu",
        dropout: float = 0.0,
        linear: bool = True,
        fm: bool = False,
        seed: int,
        name: str,
    ) -> None:
        """Assemble the tower.

        Args:
            hidden_units: widths of the MLP.
            activation: of the MLP.
            dropout: of the MLP.
            linear: add the first-order weights of the embedding, where it has them. What the
                teacher has put there is in no vector: without them the student cannot know it.
            fm: give the MLP, beside the fields, the sum of the products of all their pairs (He and
                Chua 2017, "Neural Factorization Machines for Sparse Predictive Analytics"): what
                narrow layers would have to learn, at the price of a sum over fields.
            seed: of the run.
            name: of the tower; part of every seed.
        """
        super().__init__(name=name)
        self.linear = linear
        self.fm = BiInteraction(name=f"{name}_fm") if fm else None
        self.mlp = MLP(hidden_units=hidden_units, activation=activation, dropout=dropout,
                       seed=seed, name=f"{name}_mlp")
        self.output_layer = logit_layer(seed, name)

    def call(
        self,
        shared: tf.Tensor,
        linear: tf.Tensor | None,
        step: tf.Tensor,
        training: bool = False,
    ) -> TowerOutput:
        """Score a batch.

        Args:
            shared: `(batch_size, num_fields, embedding_dim)`.
            linear: `(batch_size, num_fields, 1)` first-order weights, or None.
            step: scalar int64, for dropout.
            training: whether to drop.
        """
        flat = tf.reshape(shared, (-1, shared.shape[1] * shared.shape[2]))
        if self.fm is not None:
            # (batch_size, num_fields * embedding_dim + embedding_dim)
            flat = tf.concat([flat, self.fm(shared)], axis=1)
        hidden = self.mlp(flat, step, training=training)
        logits = tf.squeeze(self.output_layer(hidden[-1] if hidden else flat), axis=1)
        if self.linear and linear is not None:
            logits += tf.reduce_sum(linear, axis=(1, 2))
        return TowerOutput(logits=logits, hidden=hidden)
