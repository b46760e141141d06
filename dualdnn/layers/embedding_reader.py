"""Reading a shared embedding: cells of an input to one vector a field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import tensorflow as tf

from dualdnn.layers.embedding import EmbeddingTable
from dualdnn.layers.pooling import FieldCells, pool
from dualdnn.schema import Field, Schema


@dataclass(frozen=True, kw_only=True)
class TablePart:
    """The cells of an input that one table answers.

    Attributes:
        table: the table.
        columns: places of the cells among those of the input; None for all of them.
        cells: of each of its fields.
        fields: whose cells they are.
    """

    table: EmbeddingTable
    columns: tuple[int, ...] | None
    cells: tuple[FieldCells, ...]
    fields: tuple[Field, ...]

    def rows(self, rows: tf.Tensor) -> tf.Tensor:
        """`(batch_size, cells of the table)` out of `(batch_size, width)`."""
        return rows if self.columns is None else tf.gather(rows, self.columns, axis=1)


class EmbeddingReader:
    """Reads inputs of one layout.

    Attributes:
        parts: one a table.
    """

    def __init__(
        self,
        *,
        tables: Mapping[str, EmbeddingTable],
        kernels: Mapping[str, tf.Variable],
        embedding_dim: int,
        schema: Schema,
        inputs: Schema,
        fields: Sequence[Field],
    ) -> None:
        """Plan.

        Args:
            tables: by name of the schema.
            kernels: by field, `(size, embedding_dim)`.
            embedding_dim: floats a field.
            schema: says which table holds a field's rows.
            inputs: the fields that an input holds.
            fields: those to read of them, in the order of the output.
        """
        self.embedding_dim = embedding_dim
        self.fields = tuple(fields)
        self._kernels = kernels
        self._dense = {field.name: inputs.dense(field.name) for field in fields
                       if field.dense_width}
        self.parts: list[TablePart] = []
        for name, table in tables.items():
            members = tuple(f for f in fields if schema.table_name(f) == name)
            columns = [column for field in members
                       for column in range(*inputs.cells(field.name).indices(inputs.width))]
            if members:
                self.parts.append(TablePart(
                    table=table, fields=members,
                    columns=None if columns == list(range(inputs.width)) else tuple(columns),
                    cells=tuple(FieldCells(
                        width=field.width, is_list=field.width > 1,
                        factor=self._dense[field.name].start if field.direct else None,
                    ) for field in members),
                ))
        given = [field for part in self.parts for field in part.fields]
        order = [given.index(field) for field in fields]
        self._order = None if order == list(range(len(order))) else order

    def kernels(self) -> list[tf.Variable]:
        """The matrices of the fields that are read."""
        return [self._kernels[field.name] for field in self.fields if field.name in self._kernels]

    def linear_variables(self) -> list[tf.Variable]:
        """The first-order weights."""
        return [part.table.linear for part in self.parts if part.table.linear is not None]

    def lookup(self, rows: tf.Tensor, dense: tf.Tensor | None = None,
               *, linear: bool = True) -> list[tf.Tensor]:
        """Gather and combine for inference.

        Args:
            rows: `(batch_size, width)` rows of the tables.
            dense: `(batch_size, dense_width)`; None where the inputs have no floats.
            linear: also read the first-order weights, if there are any.
        """
        of_parts = [part.rows(rows) for part in self.parts]
        columns = [
            [tf.gather(column, found) for column in part.table.columns()[:None if linear else 1]]
            for part, found in zip(self.parts, of_parts, strict=True)
        ]
        return self.combine(of_parts, columns, dense)

    def combine(self, rows: Sequence[tf.Tensor], columns: Sequence[Sequence[tf.Tensor]],
                dense: tf.Tensor | None) -> list[tf.Tensor]:
        """Gathered cells to fields.

        Args:
            rows: of each part, `(batch_size, cells)`.
            columns: of each part and each column of its table, `(batch_size, cells, size)`.
            dense: `(batch_size, dense_width)`, or None.

        Returns:
            vectors `(batch_size, num_fields, embedding_dim)` and, where any part has a second
            column, first-order weights `(batch_size, num_fields, 1)`.
        """
        vectors, linear = [], []
        has_linear = any(len(of_part) > 1 for of_part in columns)
        for part, of_part, cells in zip(self.parts, columns, rows, strict=True):
            pooled = pool(of_part[0], cells, part.cells, dense)
            vectors.append(self._sized(part, self._with_vectors(part, pooled, dense)))
            if len(of_part) > 1:
                linear.append(pool(of_part[1], cells, part.cells, dense))
            elif has_linear:
                linear.append(tf.zeros_like(pooled[:, :, :1]))
        return [self._in_order(one) for one in (vectors, linear) if one]

    def _with_vectors(self, part: TablePart, pooled: tf.Tensor,
                      dense: tf.Tensor | None) -> tf.Tensor:
        """Add what the columns of vectors say."""
        if not any(field.is_vector_column for field in part.fields):
            return pooled
        said = []
        for field in part.fields:
            if field.is_vector_column:
                assert dense is not None, "a column of vectors is in the dense input"
                given = dense[:, self._dense[field.name]]
                said.append(tf.matmul(given, self._kernels[field.name]))
            else:
                said.append(tf.zeros_like(pooled[:, 0]))
        return pooled + tf.stack(said, axis=1)

    def _sized(self, part: TablePart, pooled: tf.Tensor) -> tf.Tensor:
        """Project rows of another size."""
        if part.table.embedding_dim == self.embedding_dim:
            return pooled
        kernels = tf.stack([self._kernels[field.name] for field in part.fields])
        return tf.einsum("bfs,fsd->bfd", pooled, kernels)

    def _in_order(self, parts: Sequence[tf.Tensor]) -> tf.Tensor:
        joined = parts[0] if len(parts) == 1 else tf.concat(parts, axis=1)
        return joined if self._order is None else tf.gather(joined, self._order, axis=1)
