"""Sparse-fast optimizer for the fused table: a step costs the batch's rows, not the table's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import tensorflow as tf

from dualdnn.layers.embedding import EmbeddingTable

METHODS = ("adam", "adagrad", "rowwise_adagrad")
_CHUNK_ROWS = 2**20


@dataclass(frozen=True, kw_only=True)
class TableOptimizerSettings:
    """How the rows of a table learn.

    Attributes:
        method: `adam` (lazy: moments move when the row is touched), `adagrad`, or
            `rowwise_adagrad` with one accumulator a row.
        learning_rate: > 0.
        l2: whole-table decay: every step multiplies every row by `1 - learning_rate * l2`.
    """

    method: str = "adam"
    learning_rate: float = 1e-3
    l2: float = 0.0

    def mistakes(self, where: str) -> list[str]:
        """What is wrong with the values, one sentence each."""
        found = []
        if self.method not in METHODS:
            found.append(f"{where}.method must be one of {', '.join(METHODS)}, "
                         f"got {self.method!r}.")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            found.append(f"{where}.learning_rate must be > 0, got {self.learning_rate}.")
        if not (math.isfinite(self.l2) and self.l2 >= 0):
            found.append(f"{where}.l2 must be >= 0, got {self.l2}. Use 0 to switch it off.")
        elif self.learning_rate * self.l2 >= 1:
            found.append(f"{where}: learning_rate * l2 must be < 1, got "
                         f"{self.learning_rate * self.l2:g}: a step would erase the table.")
        return found


class TableOptimizer:
    """Updates only the rows of the batch; L2 equals whole-table decay, applied lazily.

    A row remembers the step up to which it has been decayed. Reading it first applies the
    decay of the steps that it missed, so what the model sees equals a table that is decayed
    whole at every step. `catch_up` brings all rows up to date.
    """

    def __init__(self, settings: TableOptimizerSettings, table: EmbeddingTable) -> None:
        """Create the slots of one table; its vectors and linear weights share the rows."""
        self.settings = settings
        self.table = table
        self._log_keep = math.log1p(-settings.learning_rate * settings.l2)
        rows = table.num_rows
        # Its own count: a table rests, and must not decay, once its tower has stopped.
        self.steps = tf.Variable(tf.constant(0, tf.int64), name=f"{table.name}_steps")
        self.decayed_to = tf.Variable(tf.zeros(rows, tf.int64), name=f"{table.name}_decayed_to")
        self.slots: list[list[tf.Variable]] = []
        for column in table.columns():
            size = column.shape[1]
            if settings.method == "adam":
                shapes = {"first_moment": (rows, size), "second_moment": (rows, size)}
            elif settings.method == "adagrad":
                shapes = {"accumulator": (rows, size)}
            else:
                shapes = {"accumulator": (rows, 1)}
            base = column.name.split(":")[0]
            self.slots.append([tf.Variable(tf.zeros(shape), name=f"{base}_{name}")
                               for name, shape in shapes.items()])

    def variables(self) -> list[tf.Variable]:
        """The slots, for checkpoints."""
        return [self.steps, self.decayed_to, *(slot for slots in self.slots for slot in slots)]

    def _missed_decay(self, rows: tf.Tensor) -> tf.Tensor:
        missed = tf.cast(self.steps - tf.gather(self.decayed_to, rows), tf.float32)
        return tf.exp(missed * self._log_keep)[:, tf.newaxis]

    def read(self, rows: tf.Tensor) -> list[tf.Tensor]:
        """The rows as of now: `(num_unique, size)` for each column of the table.

        Args:
            rows: `(num_unique,)` distinct rows.
        """
        values = [tf.gather(column, rows) for column in self.table.columns()]
        if not self.settings.l2:
            return values
        keep = self._missed_decay(rows)
        return [value * keep for value in values]

    def apply(
        self,
        rows: tf.Tensor,
        values: Sequence[tf.Tensor],
        gradients: Sequence[tf.Tensor],
    ) -> None:
        """Take one step on distinct rows.

        Args:
            rows: `(num_unique,)`.
            values: what `read` returned for them.
            gradients: of the loss, one per column, `(num_unique, size)`.
        """
        keep = math.exp(self._log_keep)
        for column, slots, value, gradient in zip(
            self.table.columns(), self.slots, values, gradients, strict=True
        ):
            update = self._update(slots, rows, gradient)
            column.scatter_update(tf.IndexedSlices(value * keep - update, rows))
        if self.settings.l2:
            done = tf.fill(tf.shape(rows), self.steps + 1)
            self.decayed_to.scatter_update(tf.IndexedSlices(done, rows))
        self.steps.assign_add(1)

    def _update(self, slots: Sequence[tf.Variable], rows: tf.Tensor,
                gradient: tf.Tensor) -> tf.Tensor:
        rate = self.settings.learning_rate
        if self.settings.method == "adam":
            time = tf.cast(self.steps + 1, tf.float32)
            moments = []
            for slot, beta, value in zip(slots, (0.9, 0.999), (gradient, tf.square(gradient)),
                                         strict=True):
                moment = beta * tf.gather(slot, rows) + (1 - beta) * value
                slot.scatter_update(tf.IndexedSlices(moment, rows))
                moments.append(moment / (1 - tf.pow(beta, time)))
            return rate * moments[0] / (tf.sqrt(moments[1]) + 1e-8)
        squared = tf.square(gradient)
        if self.settings.method == "rowwise_adagrad":
            squared = tf.reduce_mean(squared, axis=1, keepdims=True)
        accumulated = tf.gather(slots[0], rows) + squared
        slots[0].scatter_update(tf.IndexedSlices(accumulated, rows))
        return rate * gradient / (tf.sqrt(accumulated) + 1e-8)

    def catch_up(self) -> None:
        """Apply the missing decay to every row. Evaluation, checkpoint and export call it first."""
        if not self.settings.l2:
            return
        # In chunks, by gather and scatter: reading a sparsely updated variable copies it whole.
        for start in range(0, self.table.num_rows, _CHUNK_ROWS):
            rows = tf.range(start, min(start + _CHUNK_ROWS, self.table.num_rows))
            keep = self._missed_decay(rows)
            for column in self.table.columns():
                column.scatter_update(tf.IndexedSlices(tf.gather(column, rows) * keep, rows))
            done = tf.fill(tf.shape(rows), self.steps)
            self.decayed_to.scatter_update(tf.IndexedSlices(done, rows))
