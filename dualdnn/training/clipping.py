"""Clipping by norm, of each part of a tower that learns apart from the others."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from dualdnn.models.dual_dnn import DualDNN


def clipped(model: DualDNN, tower: str, gradients: Sequence[tf.Tensor], clip_norm: float, *,
            whole: tf.Tensor) -> list[tf.Tensor]:
    """Gradients with the norm of each part at most `clip_norm`.

    One norm over towers that have nothing in common would let each scale the others' steps: a
    tower with an embedding of its own learns in a pool what it learns alone.

    Args:
        model: the towers.
        tower: whose gradients these are.
        gradients: of `DualDNN.dense_variables`, then of the rows of every table that it owns, in
            the order of its embeddings, tables and their columns.
        clip_norm: > 0.
        whole: the global norm of all of them.
    """
    parts = model.learning_apart(tower)
    if len(parts) == 1:
        return tf.clip_by_global_norm(gradients, clip_norm, use_norm=whole)[0]
    owners = [variable.ref() for variable in model.dense_variables(tower)]
    owners += [column.ref() for embedding in model.owned_embeddings(tower)
               for table in embedding.trained_tables for column in table.columns()]
    place = {owner: i for i, owner in enumerate(owners)}
    found = list(gradients)
    for variables, embeddings in parts:
        mine = [*variables, *(v for one in embeddings for v in one.trained_variables())]
        places = [place[variable.ref()] for variable in mine]
        of_part, _ = tf.clip_by_global_norm([gradients[i] for i in places], clip_norm)
        for i, gradient in zip(places, of_part, strict=True):
            found[i] = gradient
    return found
