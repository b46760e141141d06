"""Sparse-fast optimizer for the fused table: a step costs the batch's rows, not the table's."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
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
        l2: strength of the Gaussian prior around zero, in units of the loss summed over the
            training part, as 1 / C of a logistic regression: it means the same for any number of
            rows and any batch size.
    """

    method: str = "rowwise_adagrad"
    learning_rate: float = 0.03
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
        return found


class TableOptimizer:
    """Updates only the rows of the batch; L2 equals whole-table decay, applied lazily.

    With L2 on the mean loss every step would move every value w of the table by its share of the
    gradient, l2 / num_examples * w, through the optimizer's own preconditioner: w shrinks by
    exp(-rate) with rate = learning_rate * l2 / num_examples / root of its accumulator. Rare rows
    have small accumulators and shrink fast, as the prior asks. Between two touches the rate is
    constant, so a row that remembers the step up to which it has been decayed can be caught up
    exactly when it is read: what the model sees equals a table that is decayed whole at every
    step. A row that was never touched keeps its initial value.
    """

    def __init__(
        self, settings: TableOptimizerSettings, table: EmbeddingTable, *, num_examples: int
    ) -> None:
        """Create the slots of one table; its vectors and linear weights share the rows.

        Args:
            settings: method, learning rate and L2.
            table: whose rows learn.
            num_examples: rows of the training part, the unit of `l2`.
        """
        self.settings = settings
        self.table = table
        self._l2_gradient = settings.l2 / num_examples
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

    def _decay_rates(self, rows: tf.Tensor) -> list[tf.Tensor]:
        """Per step, for each column: `(num_rows, size)` or, row-wise, `(num_rows, 1)`."""
        scale = self.settings.learning_rate * self._l2_gradient
        roots = [tf.sqrt(tf.gather(slots[-1], rows)) for slots in self.slots]
        return [tf.math.divide_no_nan(scale, root) for root in roots]

    def read(self, rows: tf.Tensor) -> list[tf.Tensor]:
        """The rows as of now: `(num_unique, size)` for each column of the table.

        Args:
            rows: `(num_unique,)` distinct rows.
        """
        values = [tf.gather(column, rows) for column in self.table.columns()]
        if not self.settings.l2:
            return values
        missed = tf.cast(self.steps - tf.gather(self.decayed_to, rows), tf.float32)[:, tf.newaxis]
        return [value * tf.exp(-missed * rate)
                for value, rate in zip(values, self._decay_rates(rows), strict=True)]

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
        if self.settings.l2:
            values = [value * tf.exp(-rate)
                      for value, rate in zip(values, self._decay_rates(rows), strict=True)]
        for column, slots, value, gradient in zip(
            self.table.columns(), self.slots, values, gradients, strict=True
        ):
            update = self._update(slots, rows, gradient)
            column.scatter_update(tf.IndexedSlices(value - update, rows))
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
                # expm1: in float32, 1 - beta^time is off by 5e-5 in the first steps.
                moments.append(moment / -tf.math.expm1(time * math.log(beta)))
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
        for rows in self._chunks():
            for column, value in zip(self.table.columns(), self.read(rows), strict=True):
                column.scatter_update(tf.IndexedSlices(value, rows))
            done = tf.fill(tf.shape(rows), self.steps)
            self.decayed_to.scatter_update(tf.IndexedSlices(done, rows))

    def is_finite(self) -> bool:
        """Are all rows and slots free of NaN and infinity?"""
        values = [*self.table.columns(), *(slot for slots in self.slots for slot in slots)]
        return all(bool(tf.reduce_all(tf.math.is_finite(tf.gather(value, rows))))
                   for rows in self._chunks() for value in values)

    def _chunks(self) -> Iterator[tf.Tensor]:
        """All rows, to gather and scatter: reading a sparsely updated variable copies it whole."""
        for start in range(0, self.table.num_rows, _CHUNK_ROWS):
            yield tf.range(start, min(start + _CHUNK_ROWS, self.table.num_rows))
