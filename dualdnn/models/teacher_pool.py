"""A pool of teacher towers: each learns from the labels by itself, a gate combines their logits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import tensorflow as tf
import tf_keras as keras

from dualdnn.distillation.losses import label_loss, mean_loss
from dualdnn.errors import ConfigError
from dualdnn.layers.mlp import MLP
from dualdnn.models.teacher import Teacher
from dualdnn.models.towers import TowerInput, TowerOutput


@dataclass(frozen=True, kw_only=True)
class PoolTower:
    """One tower that learns in the pool.

    Attributes:
        network: interaction layers and MLP.
        embedding: place of the embedding that it reads among those of the teacher; 0 is the
            shared one.
        linear: add the first-order weights of that embedding.
    """

    network: Teacher
    embedding: int = 0
    linear: bool = True


class TeacherPool(keras.Model):
    """Towers side by side, and a gate.

    Every tower minimises its own label loss, not that of the average: towers that learn to be
    right only together make each other alike. An embedding learns from the mean over the towers
    that read it: a sum would count every label once a tower, against a prior (L2) that counts once.
    They are combined in logits,

        logit = sum_m gate_m logit_m,  sum_m gate_m = 1

    with fixed shares, or with shares that a linear layer reads off the shared input of the example:
    gate = softmax(W x + b), zero at first, so that it starts as the mean. It learns from the label
    loss of the combined logit, whose gradient stops at its input and at the towers' logits: towers
    are the same with either gate. Where students are to imitate several teachers, such shares by
    example are due to Zhu et al. 2020, "Ensembled CTR Prediction via Knowledge Distillation".

    A member may also be a column of logits that come with the examples: of a finished model.

    Attributes:
        towers: those that learn, by name.
        scored: names of the members whose logits are given.
        mlp: of the tower that gives the hints.
    """

    def __init__(
        self,
        *,
        towers: Mapping[str, PoolTower],
        scored: Sequence[str] = (),
        weights: Mapping[str, float] | None = None,
        learned_gate: bool = False,
        hint_from: str | None = None,
        name: str = "teacher",
    ) -> None:
        """Assemble the pool.

        Args:
            towers: by name; a network may be in one tower only.
            scored: names of members whose logits are given, in the order of their columns.
            weights: fixed shares by member, each >= 0; brought to a sum of 1. None for equal ones.
            learned_gate: shares by example instead of fixed ones.
            hint_from: the tower whose hidden layers are the pool's; None for the first.
            name: of the tower.

        Raises:
            ConfigError: see `pool_mistakes`.
        """
        super().__init__(name=name)
        mistakes = pool_mistakes(
            embeddings={one: tower.embedding for one, tower in towers.items()}, scored=scored,
            weights=weights, learned_gate=learned_gate, hint_from=hint_from)
        if mistakes:
            raise ConfigError(mistakes)
        self.members = [*towers, *scored]
        self.scored = list(scored)
        self.towers = dict(towers)
        # Keras finds the networks, and with them their variables, by this attribute.
        self.networks = [tower.network for tower in towers.values()]
        self._hint_from = hint_from or next(iter(towers))
        given = [(weights or dict.fromkeys(self.members, 1.0))[one] for one in self.members]
        self._shares = [one / sum(given) for one in given]
        self.gate = keras.layers.Dense(len(self.members), kernel_initializer="zeros",
                                       name="gate") if learned_gate else None

    @property
    def mlp(self) -> MLP:
        """Of the tower that gives the hints."""
        return self.towers[self._hint_from].network.mlp

    def call(
        self,
        vectors: Sequence[tf.Tensor],
        linear: Sequence[tf.Tensor | None],
        scores: tf.Tensor | None,
        step: tf.Tensor,
        training: bool = False,
    ) -> TowerOutput:
        """Score a batch.

        Args:
            vectors: of each embedding, the shared one first,
                `(batch_size, num_fields, embedding_dim)`.
            linear: of each, `(batch_size, num_fields, 1)` first-order weights, or None.
            scores: `(batch_size, scored members)` given logits; None where there are none.
            step: scalar int64, for dropout.
            training: whether to drop.

        Raises:
            ValueError: logits of members are missing.
        """
        if self.scored and scores is None:
            raise ValueError(f"the pool needs the logits of {', '.join(self.scored)} with every "
                             "batch.")
        answers = {
            name: tower.network(vectors[tower.embedding],
                                linear[tower.embedding] if tower.linear else None,
                                step, training=training)
            for name, tower in self.towers.items()
        }
        logits = tf.stack([one.logits for one in answers.values()], axis=1)
        # (batch_size, towers) -> (batch_size, members)
        members = tf.concat([logits, scores], axis=1) if self.scored else logits
        hidden = answers[self._hint_from].hidden
        if self.gate is None:
            gate = tf.ones_like(members) * tf.constant(self._shares)
            return TowerOutput(tf.reduce_sum(gate * members, axis=1), hidden, members, gate)
        shared = tf.stop_gradient(vectors[0])
        flat = tf.reshape(shared, (-1, shared.shape[1] * shared.shape[2]))
        gate = tf.nn.softmax(self.gate(flat))
        combined = tf.reduce_sum(gate * tf.stop_gradient(members), axis=1)
        return TowerOutput(combined, hidden, members, gate)

    def answer(self, inputs: Sequence[TowerInput], scores: tf.Tensor | None, step: tf.Tensor,
               training: bool = False) -> TowerOutput:
        """`call`, of the teacher's inputs from each of its embeddings."""
        return self([one.vectors for one in inputs], [one.linear for one in inputs], scores, step,
                    training=training)

    def losses(self, output: TowerOutput, labels: tf.Tensor,
               weights: tf.Tensor) -> dict[str, tf.Tensor]:
        """Scalar losses by name; `total` is what the towers and the gate minimise.

        Args:
            output: of `answer`.
            labels: `(batch_size,)`.
            weights: `(batch_size,)`.
        """
        assert output.members is not None, "not of a pool"
        of_pool = mean_loss(label_loss(labels, output.logits), weights)
        of_towers = {name: mean_loss(label_loss(labels, output.members[:, i]), weights)
                     for i, name in enumerate(self.towers)}
        on_embedding: dict[int, list[tf.Tensor]] = {}
        for name, tower in self.towers.items():
            on_embedding.setdefault(tower.embedding, []).append(of_towers[name])
        learned = [*(tf.add_n(losses) / len(losses) for losses in on_embedding.values()),
                   *([] if self.gate is None else [of_pool])]
        return {"label_loss": of_pool, "total": tf.add_n(learned),
                **{f"label_loss.{name}": value for name, value in of_towers.items()}}

    def learning_apart(self) -> list[tuple[list[tf.Variable], list[int]]]:
        """Variables, and places of embeddings, of parts that do not touch each other's gradients.

        Towers on one embedding are one part, since they train it together; the gate is another.
        """
        places = dict.fromkeys(tower.embedding for tower in self.towers.values())
        parts = [([variable for tower in self.towers.values() if tower.embedding == place
                   for variable in tower.network.trainable_variables], [place])
                 for place in places]
        return parts if self.gate is None else [*parts, (self.gate.trainable_variables, [])]


def pool_mistakes(
    *, embeddings: Mapping[str, int], scored: Sequence[str], weights: Mapping[str, float] | None,
    learned_gate: bool, hint_from: str | None, where: str = "the pool",
) -> list[str]:
    """What is wrong with a pool, one sentence each.

    Args:
        embeddings: of the towers that learn, the place of the embedding that each reads.
        scored: see `TeacherPool`.
        weights: see `TeacherPool`.
        learned_gate: see `TeacherPool`.
        hint_from: see `TeacherPool`.
        where: prefix that names the setting.
    """
    found = []
    members = [*embeddings, *scored]
    if twice := sorted({name for name in members if members.count(name) > 1}):
        found.append(f"{where} has two members named {', '.join(twice)}. Rename one.")
    if 0 not in embeddings.values():
        found.append(f"{where} has no tower that learns on the shared embedding, which the "
                     "students read. Give one tower embedding: shared.")
    if hint_from is not None and hint_from not in embeddings:
        found.append(f"{where}: hint_from names `{hint_from}`, which is no tower that learns; "
                     f"those are {', '.join(embeddings) or 'none'}.")
    if weights is not None and learned_gate:
        found.append(f"{where} has fixed weights and a learned gate. Use gate: mean with weights, "
                     "or leave weights out.")
    elif weights is not None and set(weights) != set(members):
        found.append(f"{where}: weights must name each member once: {', '.join(members)}; got "
                     f"{', '.join(weights) or 'none'}.")
    elif weights is not None and (not any(weights.values()) or not all(
            math.isfinite(value) and value >= 0 for value in weights.values())):
        found.append(f"{where}: weights must be finite and >= 0, one of them above 0, got "
                     f"{', '.join(f'{name} {value:g}' for name, value in weights.items())}.")
    return found
