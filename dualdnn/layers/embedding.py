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
        # One split, since the gradient of several slices fills the whole batch once for each.
        runs = self._runs()
        widths = [width for width, _ in runs]
        parts = tf.split(cells, widths, axis=1)
        rows_of_parts = tf.split(rows, widths, axis=1)
        for i, (_, is_list) in enumerate(runs):
            if not is_list:
                continue
            present = tf.cast(rows_of_parts[i] != PADDING_ROW, cells.dtype)
            # A row of padding alone cannot occur in the data, but must not divide by zero.
            count = tf.maximum(tf.reduce_sum(present, axis=1, keepdims=True), 1.0)
            shares = (present / count)[:, :, tf.newaxis]
            parts[i] = tf.reduce_sum(parts[i] * shares, axis=1, keepdims=True)
        return parts[0] if len(parts) == 1 else tf.concat(parts, axis=1)

    def _runs(self) -> list[tuple[int, bool]]:
        """Neighbouring fields of one cell together, every field of several cells alone.

        Returns:
            cells and whether they are a list, in order.
        """
        runs: list[tuple[int, bool]] = []
        for width in self.field_widths:
            if width == 1 and runs and not runs[-1][1]:
                runs[-1] = (runs[-1][0] + 1, False)
            else:
                runs.append((width, width > 1))
        return runs

    def lookup(self, rows: tf.Tensor) -> list[tf.Tensor]:
        """Gather and pool every column for inference.

        Args:
            rows: `(batch_size, width)` rows of the table.

        Returns:
            one `(batch_size, num_fields, size)` a column: the vectors, then the linear weights.
        """
        return [self.pool(tf.gather(column, rows), rows) for column in self.columns()]
