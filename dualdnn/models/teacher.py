"""The teacher: shared embedding, interaction layers, MLP and linear part."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf
import tf_keras as keras

from dualdnn.distillation.losses import label_loss, weighted_mean
from dualdnn.layers.mlp import MLP
from dualdnn.models.towers import TowerInput, TowerOutput, logit_layer, side_by_side


class Teacher(keras.Model):
    """Interaction layers and an MLP side by side, joined by one output layer.

    With CIN it is xDeepFM (Lian et al. 2018), with Cross it is DCN (Wang et al. 2017), with a
    factorization machine DeepFM (Guo et al. 2017), and without any a plain DNN.

    A layer with the attribute `is_logit` answers `(batch_size, 1)` and is added to the logit as it
    is; all others pass through the output layer.
    """

    def __init__(
        self,
        *,
        interactions: Sequence[keras.layers.Layer],
        hidden_units: Sequence[int],
        activation: str = "relu",
        dropout: float = 0.0,
        seed: int,
        name: str = "teacher",
    ) -> None:
        """Assemble the tower.

        Args:
            interactions: layers from `(batch_size, num_fields, embedding_dim)` to
                `(batch_size, size)`.
            hidden_units: widths of the MLP; empty for none.
            activation: of the MLP.
            dropout: of the MLP.
            seed: of the run.
            name: of the tower; part of every seed.
        """
        super().__init__(name=name)
        self.interactions = list(interactions)
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
        hidden = self.mlp(flat, step, training=training)
        joined: list[tf.Tensor] = []
        terms: list[tf.Tensor] = []
        for layer in self.interactions:
            (terms if getattr(layer, "is_logit", False) else joined).append(layer(shared))
        joined.append(hidden[-1] if hidden else flat)
        logits = tf.squeeze(self.output_layer(tf.concat(joined, axis=1)), axis=1)
        for term in terms:
            logits += tf.squeeze(term, axis=1)
        if linear is not None:
            logits += tf.reduce_sum(linear, axis=(1, 2))
        return TowerOutput(logits=logits, hidden=hidden)

    def answer(self, inputs: Sequence[TowerInput], scores: tf.Tensor | None, step: tf.Tensor,
               training: bool = False) -> TowerOutput:
        """`call`, of inputs from each of its embeddings; `scores` are for pools alone."""
        vectors, linear = side_by_side(inputs)
        return self(vectors, linear, step, training=training)

    def losses(self, output: TowerOutput, labels: tf.Tensor,
               weights: tf.Tensor) -> dict[str, tf.Tensor]:
        """Scalar losses by name; `total` is what it minimises.

        Args:
            output: of `answer`.
            labels: `(batch_size,)`.
            weights: `(batch_size,)`.
        """
        # tfrs.tasks.Ranking divides by the batch size; weight 0 must equal dropping the example.
        of_labels = weighted_mean(label_loss(labels, output.logits), weights)
        return {"label_loss": of_labels, "total": of_labels}
