"""Reading a batch: every row of a table once, to be differentiated by, and then every field."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import tensorflow as tf

from dualdnn.models.dual_dnn import DualDNN
from dualdnn.training.table_optimizer import TableOptimizer


class Found(NamedTuple):
    """The cells of some tables in a batch, `(batch_size, cells)`, and the rows among them.

    `cells`, flat, equals `unique` gathered at `position`.
    """

    cells: tf.Tensor
    unique: tf.Tensor
    position: tf.Tensor


class BatchReader:
    """Reads what towers ask for out of all tables of a model."""

    def __init__(self, model: DualDNN, optimizers: Mapping[str, TableOptimizer]) -> None:
        """Read the tables of `model`, whose optimizers, by name, know the rows as of now."""
        self._model = model
        self._optimizers = optimizers

    def read(
        self, towers: Sequence[str], rows: tf.Tensor,
        values_of: Callable[[TableOptimizer, tf.Tensor], list[tf.Tensor]],
    ) -> tuple[dict[str, list[Found]], dict[str, list[tf.Tensor]]]:
        """The distinct rows of every table in a batch.

        Args:
            towers: whose embeddings are read.
            rows: `(batch_size, width)`.
            values_of: of an optimizer and distinct rows of its table, what is read of them.

        Returns:
            by embedding what was found for each part of its reader, and by table that learns the
            values of its distinct rows, to be differentiated by.
        """
        found: dict[str, list[Found]] = {}
        values: dict[str, list[tf.Tensor]] = {}
        # Tables that are read at the same cells, of several embeddings, share their unique rows.
        unique: dict[tuple[int, ...] | None, Found] = {}
        for embedding in self._model.embeddings(towers):
            found[embedding.name] = []
            for part in self._model.reader(embedding).parts:
                if part.columns not in unique:
                    cells = part.rows(rows)
                    unique[part.columns] = Found(cells, *tf.unique(tf.reshape(cells, [-1])))
                one = unique[part.columns]
                found[embedding.name].append(one)
                if part.table.trainable:
                    optimizer = self._optimizers[part.table.name]
                    values[part.table.name] = values_of(optimizer, one.unique)
        return found, values

    def pooled(
        self, towers: Sequence[str], dense: tf.Tensor, found: Mapping[str, Sequence[Found]],
        values: Mapping[str, Sequence[tf.Tensor]],
    ) -> dict[str, list[tf.Tensor]]:
        """By embedding what its reader makes of the values."""
        pooled = {}
        for embedding in self._model.embeddings(towers):
            reader = self._model.reader(embedding)
            columns = []
            for part, one in zip(reader.parts, found[embedding.name], strict=True):
                if part.table.trainable:
                    cells = one.cells.shape[1]
                    columns.append([
                        tf.reshape(tf.gather(value, one.position), (-1, cells, value.shape[1]))
                        for value in values[part.table.name]
                    ])
                else:
                    columns.append([tf.gather(column, one.cells)
                                    for column in part.table.columns()])
            rows = [one.cells for one in found[embedding.name]]
            pooled[embedding.name] = reader.combine(rows, columns, dense)
        return pooled
