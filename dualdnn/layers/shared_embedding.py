"""The shared embedding: every field of an example as one vector of the same size."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import tensorflow as tf
import tf_keras as keras

from dualdnn.layers.embedding import EmbeddingTable
from dualdnn.layers.embedding_reader import EmbeddingReader
from dualdnn.layers.seeds import derive_seed
from dualdnn.schema import MAIN_TABLE, Field, Schema


class SharedEmbedding:
    """The tables of a schema, and the matrices that bring their fields to one size.

    A field whose rows have another size than `embedding_dim` is projected by a matrix of its own
    (mixed dimension embeddings, Ginart et al. 2019). A column of vectors is its row for present
    or missing plus a matrix times the vector. These matrices learn with the tower that owns the
    embedding.

    Attributes:
        name: of the embedding and of its main table.
        schema: what an input holds, privileged fields included.
        fields: those that are read, in the order of the output.
        embedding_dim: floats a field.
        linear: are there first-order weights?
        tables: by name of the schema.
        kernels: by field, `(size, embedding_dim)`.
    """

    def __init__(
        self,
        *,
        schema: Schema,
        table_rows: Mapping[str, int],
        embedding_dim: int,
        initial_stddev: float,
        linear: bool,
        seed: int,
        name: str,
        vectors: Mapping[str, np.ndarray] | None = None,
        privileged: bool = True,
        only: Collection[str] | None = None,
    ) -> None:
        """Initial values are a function of the schema, `seed` and `name`.

        Args:
            schema: the fields.
            table_rows: of the row map.
            embedding_dim: floats a field.
            initial_stddev: of the initial rows.
            linear: also keep one first-order weight a row, but none of frozen vectors.
            seed: of the run.
            name: of the embedding.
            vectors: of the row map, pre-trained rows.
            privileged: read privileged fields too.
            only: names of the fields to read; None for all of them. The tables have the rows of
                the row map all the same.
        """
        self.name = name
        self.schema = schema
        self.embedding_dim = embedding_dim
        self.linear = linear
        fields = schema.fields if privileged else schema.public.fields
        self.fields = tuple(one for one in fields if only is None or one.name in only)
        self.tables: dict[str, EmbeddingTable] = {}
        for table, members in schema.tables().items():
            if not any(field in self.fields for field in members):
                continue
            initial = (vectors or {}).get(table)
            owner = schema.owner(members[0])
            size = embedding_dim if owner.size is None or owner.kind == "vector" else owner.size
            frozen = owner.file is not None and owner.frozen
            self.tables[table] = EmbeddingTable(
                num_rows=table_rows[table], zero_rows=1 + len(members), initial=initial,
                embedding_dim=size if initial is None else initial.shape[1],
                initial_stddev=initial_stddev, linear=linear and not frozen,
                seed=seed, trainable=not frozen,
                name=name if table == MAIN_TABLE else f"{name}_{table}",
            )
        self.kernels: dict[str, tf.Variable] = {}
        for field in self.fields:
            size = self.tables[schema.table_name(field)].embedding_dim
            if field.is_vector_column:
                size = field.size or 0
            elif size == embedding_dim:
                continue
            glorot = keras.initializers.GlorotUniform(seed=derive_seed(seed, name, field.name))
            self.kernels[field.name] = tf.Variable(glorot((size, embedding_dim)),
                                                   name=f"{name}_{field.name}_kernel")

    @property
    def trained_tables(self) -> list[EmbeddingTable]:
        """The tables that an optimizer changes."""
        return [table for table in self.tables.values() if table.trainable]

    def dense_variables(self) -> list[tf.Variable]:
        """The matrices."""
        return list(self.kernels.values())

    def trained_variables(self) -> list[tf.Variable]:
        """All that changes in training: columns of tables, then matrices."""
        columns = [column for table in self.trained_tables for column in table.columns()]
        return [*columns, *self.dense_variables()]

    def reset(self, table_rows: Mapping[str, int], vectors: Mapping[str, np.ndarray]) -> None:
        """Start the tables anew for another row map; the matrices are left alone.

        Args:
            table_rows: of the row map.
            vectors: of the row map, pre-trained rows.
        """
        for name, table in self.tables.items():
            table.reset(table_rows[name], vectors.get(name))

    def reader(self, fields: Sequence[Field] | None = None, *,
               served: bool = False) -> EmbeddingReader:
        """A reader of inputs that hold all fields; `served`: that hold the public ones alone.

        Args:
            fields: those to read; None for all that the embedding and the inputs have.
            served: see above.
        """
        inputs = self.schema.public if served else self.schema
        if fields is None:
            fields = [one for one in self.fields if one in inputs.fields]
        return EmbeddingReader(
            tables=self.tables, kernels=self.kernels, embedding_dim=self.embedding_dim,
            schema=self.schema, inputs=inputs, fields=fields,
        )
