"""The fused embedding table and the average pooling that turns cells into fields."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from dualdnn.data.row_map import PADDING_ROW
from dualdnn.layers.seeds import derive_seed


class EmbeddingTable:
    """One table for all fields of one size; rows are owned by signs, see `RowMap`.

    Attributes:
        name: of the table.
        vectors: (num_rows, embedding_dim) float32 variable. Rows 0 (padding) and 1 to
            num_fields (out of vocabulary) start at zero, the others at N(0, initial_stddev^2).
        linear: (num_rows, 1) float32 variable of first-order weights, or None.
    """

    def __init__(
        self,
        *,
        num_rows: int,
        embedding_dim: int,
        field_widths: Sequence[int],
        initial_stddev: float,
        linear: bool,
        seed: int,
        name: str,
    ) -> None:
        """Initial values are a function of `seed` and `name` alone.

        Args:
            num_rows: rows of the row map.
            embedding_dim: floats a row.
            field_widths: cells of each field, in the order of the schema.
            initial_stddev: of the initial vectors.
            linear: also keep one first-order weight a row.
            seed: of the run.
            name: of the table.
        """
        self.name = name
        self.field_widths = tuple(field_widths)
        self.embedding_dim = embedding_dim
        start = 1 + len(self.field_widths)
        table_seed = derive_seed(seed, name)
        drawn = tf.random.stateless_normal(
            (num_rows - start, embedding_dim), seed=(table_seed, 0), stddev=initial_stddev
        )
        zeros = tf.zeros((start, embedding_dim))
        self.vectors = tf.Variable(tf.concat([zeros, drawn], axis=0), name=f"{name}_vectors")
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

    def pool(self, cells: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
        """Average the cells of every field.

        Args:
            cells: `(batch_size, width, size)` values gathered for `rows`.
            rows: `(batch_size, width)` rows of the table; `PADDING_ROW` is left out.

        Returns:
            `(batch_size, num_fields, size)`.
        """
        parts: list[tf.Tensor] = []
        start = run = 0
        for width in self.field_widths:
            if width == 1:
                start += 1
                continue
            if start > run:
                parts.append(cells[:, run:start])
            present = tf.cast(rows[:, start : start + width] != PADDING_ROW, cells.dtype)
            # A row of padding alone cannot occur in the data, but must not divide by zero.
            count = tf.maximum(tf.reduce_sum(present, axis=1, keepdims=True), 1.0)
            shares = (present / count)[:, :, tf.newaxis]
            pooled = tf.reduce_sum(cells[:, start : start + width] * shares, axis=1, keepdims=True)
            parts.append(pooled)
            start += width
            run = start
        if not parts:
            return cells
        if start > run:
            parts.append(cells[:, run:start])
        return tf.concat(parts, axis=1)

    def lookup(self, rows: tf.Tensor) -> list[tf.Tensor]:
        """Gather and pool every column for inference.

        Args:
            rows: `(batch_size, width)` rows of the table.

        Returns:
            one `(batch_size, num_fields, size)` a column: the vectors, then the linear weights.
        """
        return [self.pool(tf.gather(column, rows), rows) for column in self.columns()]
