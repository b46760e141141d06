"""The teacher: shared embedding, interaction layers, MLP and linear part."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf
import tf_keras as keras

from dualdnn.distillation.losses import label_loss, mean_loss
from dualdnn.layers.mlp import MLP
from dualdnn.models.towers import TowerInput, TowerOutput, logit_layer, side_by_side

# What the MLP reads.
DEEP = ("fields", "interactions", "both", "none")


def adds_to_logit(layer: keras.layers.Layer) -> bool:
    """Is what an interaction layer says a part of the logit, rather than of the output layer?"""
    return bool(getattr(layer, "adds_to_logit", False))


class Teacher(keras.Model):
    """Interaction layers and an MLP side by side, joined by one output layer.

    With CIN it is xDeepFM (Lian et al. 2018), with Cross it is DCN (Wang et al. 2017),
    with a factorization machine DeepFM (Guo et al. 2017), and without any a plain DNN.

    Attributes:
        linear: does it add the first-order weights that it is given? Always.
        reads_vectors: does it read more than these?
    """

    linear = True

    def __init__(
        self,
        *,
        interactions: Sequence[keras.layers.Layer],
        hidden_units: Sequence[int],
        activation: str = "relu",
        dropout: float = 0.0,
        deep: str = "fields",
        seed: int,
        name: str = "teacher",
    ) -> None:
        """Assemble the tower.

        Args:
            interactions: layers from `(batch_size, num_fields, embedding_dim)` to
                `(batch_size, size)`. One whose `adds_to_logit` is true gives `(batch_size, 1)`,
                which is added to the logit instead of meeting the output layer.
            hidden_units: widths of the MLP; empty for none.
            activation: of the MLP.
            dropout: of the MLP.
            deep: what the MLP reads: `fields`, laid end to end; `interactions`, what the layers
                say, so that it is stacked on them (as in NFM, He and Chua 2017); `both`; or
                `none`, and neither MLP nor fields meet the output layer (as in FM, Rendle 2010).
            seed: of the run.
            name: of the tower; part of every seed.
        """
        super().__init__(name=name)
        self.deep = deep
        self.interactions = list(interactions)
        self.reads_vectors = bool(self.interactions) or deep != "none"
        self.mlp = MLP(hidden_units=hidden_units, activation=activation, dropout=dropout,
                       seed=seed, name=f"{name}_mlp")
        # Where nothing meets an output layer, a bias is left of it; kernels of no rows are a case
        # that the libraries below do not take.
        only_sums = deep == "none" and all(map(adds_to_logit, self.interactions))
        self.output_layer = None if only_sums else logit_layer(seed, name)
        self.bias = self.add_weight("bias", (1,), initializer="zeros") if only_sums else None

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
        hidden: list[tf.Tensor] = []
        flat = None
        if self.deep == "fields":
            flat = tf.reshape(shared, (-1, shared.shape[1] * shared.shape[2]))
            hidden = self.mlp(flat, step, training=training)
        said = [(layer, layer(shared)) for layer in self.interactions]
        joined = [one for layer, one in said if not adds_to_logit(layer)]
        if self.deep in ("interactions", "both"):
            if self.deep == "both":
                joined.append(tf.reshape(shared, (-1, shared.shape[1] * shared.shape[2])))
            flat, joined = tf.concat(joined, axis=1), []
            hidden = self.mlp(flat, step, training=training)
        if flat is not None:
            joined.append(hidden[-1] if hidden else flat)
        if self.output_layer is None:
            logits = self.bias + tf.zeros_like(shared[:, 0, 0])
        else:
            logits = tf.squeeze(self.output_layer(tf.concat(joined, axis=1)), axis=1)
        for layer, one in said:
            if adds_to_logit(layer):
                logits += tf.squeeze(one, axis=1)
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
        of_labels = mean_loss(label_loss(labels, output.logits), weights)
        return {"label_loss": of_labels, "total": of_labels}
