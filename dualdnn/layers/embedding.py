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
        self._zero_rows = zero_rows
        self._initial_stddev = initial_stddev
        self._seed = derive_seed(seed, name)
        # Any number of rows: a table that grows keeps the graphs that were compiled for it.
        self.vectors = tf.Variable(
            self._first_vectors(num_rows, initial), name=f"{name}_vectors", trainable=trainable,
            shape=(None, embedding_dim))
        self.linear = tf.Variable(
            tf.zeros((num_rows, 1)), name=f"{name}_linear", shape=(None, 1)) if linear else None

    def _drawn(self, rows: int, draw: int) -> tf.Tensor:
        return tf.random.stateless_normal((rows, self.embedding_dim), seed=(self._seed, draw),
                                          stddev=self._initial_stddev)

    def _first_vectors(self, num_rows: int, initial: np.ndarray | None) -> tf.Tensor:
        if initial is not None:
            return tf.constant(initial)
        zeros = tf.zeros((self._zero_rows, self.embedding_dim))
        return tf.concat([zeros, self._drawn(num_rows - self._zero_rows, 0)], axis=0)

    @property
    def num_rows(self) -> int:
        """Rows of the table, padding and out of vocabulary included."""
        return int(tf.shape(self.vectors)[0])

    def reset(self, num_rows: int, initial: np.ndarray | None = None) -> None:
        """Start anew with another number of rows: the same values as a table made with it.

        Args:
            num_rows: rows from now on.
            initial: (num_rows, embedding_dim) initial vectors, where they are known.
        """
        self.vectors.assign(self._first_vectors(num_rows, initial))
        if self.linear is not None:
            self.linear.assign(tf.zeros((num_rows, 1)))

    def grow(self, num_rows: int) -> None:
        """Append rows of zeros up to `num_rows`; `renew` gives them their initial values."""
        for column in self.columns():
            append_rows(column, num_rows)

    def renew(self, rows: np.ndarray, draw: int) -> None:
        """Give rows new initial values, for the owners that have taken them over.

        Args:
            rows: (n,) int32, distinct.
            draw: > 0; another number draws other values.
        """
        self.vectors.scatter_update(tf.IndexedSlices(self._drawn(len(rows), draw), rows))
        if self.linear is not None:
            self.linear.scatter_update(tf.IndexedSlices(tf.zeros((len(rows), 1)), rows))

    def columns(self) -> list[tf.Variable]:
        """The variables that share the rows."""
        return [self.vectors] if self.linear is None else [self.vectors, self.linear]


def append_rows(variable: tf.Variable, num_rows: int) -> None:
    """Append rows of zeros to a variable of any number of rows, up to `num_rows`."""
    shape = tf.shape(variable).numpy()
    if shape[0] < num_rows:
        added = tf.zeros((num_rows - shape[0], *shape[1:]), variable.dtype)
        variable.assign(tf.concat([variable, added], axis=0))
