"""One table of rows; a row is owned by a sign, a bucket or a field, see `RowMap`."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from dualdnn.layers.seeds import derive_seed


class EmbeddingTable:
    """One table for all fields of one size, or of one file of vectors.

    Attributes:
        name: of the table.
        embedding_dim: floats a row.
        trainable: does an optimizer change the rows?
        vectors: (num_rows, embedding_dim) float32 variable.
        linear: (num_rows, 1) float32 variable of first-order weights, or None.
    """

    def __init__(
        self,
        *,
        num_rows: int,
        embedding_dim: int,
        zero_rows: int,
        initial_stddev: float,
        linear: bool,
        seed: int,
        name: str,
        initial: np.ndarray | None = None,
        trainable: bool = True,
    ) -> None:
        """Initial values are those given, or a function of `seed` and `name` alone.

        Args:
            num_rows: rows of the row map.
            embedding_dim: floats a row.
            zero_rows: rows that start at zero: padding and out of vocabulary. The others start at
                N(0, initial_stddev^2).
            initial_stddev: of the initial vectors.
            linear: also keep one first-order weight a row.
            seed: of the run.
            name: of the table.
            initial: (num_rows, embedding_dim) initial vectors, where they are known.
            trainable: False to keep the rows as they are.
        """
        self.name = name
        self.embedding_dim = embedding_dim
        self.trainable = trainable
        if initial is None:
            drawn = tf.random.stateless_normal(
                (num_rows - zero_rows, embedding_dim), seed=(derive_seed(seed, name), 0),
                stddev=initial_stddev,
            )
            initial = tf.concat([tf.zeros((zero_rows, embedding_dim)), drawn], axis=0)
        self.vectors = tf.Variable(initial, name=f"{name}_vectors", trainable=trainable)
        self.linear = (
            tf.Variable(tf.zeros((num_rows, 1)), name=f"{name}_linear") if linear else None
        )

    @property
    def num_rows(self) -> int:
        """Rows of the table, padding and out of vocabulary included."""
        return self.vectors.shape[0]

    def columns(self) -> list[tf.Variable]:
        """The variables that share the rows."""
        return [self.vectors] if self.linear is None else [self.vectors, self.linear]
