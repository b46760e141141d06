"""Sparse-fast optimizer for the fused table: a step costs the batch's rows, not the table's."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from dualdnn.layers.embedding import EmbeddingTable, append_rows
from dualdnn.training.averaging import ENDLESS, share_kept

METHODS = ("adam", "adagrad", "rowwise_adagrad")
_CHUNK_ROWS = 2**20


@dataclass(frozen=True, kw_only=True)
class TableOptimizerSettings:
    """How the rows of a table learn.

    Attributes:
        method: `adam` (lazy: moments move when the row is touched), `adagrad`, or
            `rowwise_adagrad` with one accumulator a row.
        learning_rate: > 0.
        linear_learning_rate: of the first-order weights, > 0; None for `learning_rate`.
        l2: strength of the Gaussian prior around zero, in units of the loss summed over the
            training part, as 1 / C of a logistic regression: it means the same for any number of
            rows and any batch size.
    """

    method: str = "rowwise_adagrad"
    learning_rate: float = 0.03
    linear_learning_rate: float | None = None
    l2: float = 0.0

    def mistakes(self, where: str) -> list[str]:
        """What is wrong with the values, one sentence each."""
        found = []
        if self.method not in METHODS:
            found.append(f"{where}.method must be one of {', '.join(METHODS)}, "
                         f"got {self.method!r}.")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            found.append(f"{where}.learning_rate must be > 0, got {self.learning_rate}.")
        linear = self.linear_learning_rate
        if linear is not None and not (math.isfinite(linear) and linear > 0):
            found.append(f"{where}.linear_learning_rate must be > 0 or null, got {linear}.")
        if not (math.isfinite(self.l2) and self.l2 >= 0):
            found.append(f"{where}.l2 must be >= 0, got {self.l2}. Use 0 to switch it off.")
        elif self.l2 and self.method == "adam":
            # Its denominator forgets, so no constant rate between two touches exists.
            found.append(f"{where}.l2 needs method adagrad or rowwise_adagrad, got adam. "
                         "Set l2 to 0, or choose one of these.")
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
        self,
        settings: TableOptimizerSettings,
        table: EmbeddingTable,
        *,
        num_examples: int,
        averaging: bool = False,
    ) -> None:
        """Create the slots of one table; its vectors and linear weights share the rows.

        Args:
            settings: method, learning rate and L2.
            table: whose rows learn.
            num_examples: rows of the training part, the unit of `l2`.
            averaging: keep the average of every row as well, see `averaging`; it takes as much
                memory as the table and, like the decay, is caught up when a row is touched.
        """
        self.settings = settings
        self.table = table
        # A variable, since a compiled step outlives the window that it was compiled for.
        self._l2_gradient = tf.Variable(settings.l2 / num_examples, name=f"{table.name}_l2",
                                        trainable=False)
        rows = table.num_rows
        # Its own count: a table rests, and must not decay, once its tower has stopped.
        self.steps = tf.Variable(tf.constant(0, tf.int64), name=f"{table.name}_steps")
        self.horizon = tf.Variable(tf.constant(ENDLESS, tf.int64), name=f"{table.name}_horizon")
        # The step up to which a row, and its average, have been caught up.
        self.decayed_to = tf.Variable(tf.zeros(rows, tf.int64), name=f"{table.name}_decayed_to",
                                      shape=(None,))
        # The step before a row's first: its average is as old as the row, not as the table.
        self.born = tf.Variable(tf.zeros(rows, tf.int64), name=f"{table.name}_born", shape=(None,))
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
            self.slots.append([
                tf.Variable(tf.zeros(shape), name=f"{base}_{name}", shape=(None, shape[1]))
                for name, shape in shapes.items()
            ])

        self.averages = [
            tf.Variable(column, name=f"{column.name.split(':')[0]}_average", shape=column.shape)
            for column in (table.columns() if averaging else [])
        ]

    def variables(self) -> list[tf.Variable]:
        """Slots and averages, for checkpoints."""
        slots = [slot for slots in self.slots for slot in slots]
        return [self.steps, self.horizon, self.decayed_to, self.born, *slots, *self.averages]

    def reset(self, num_examples: int) -> None:
        """Start anew on a table that was reset.

        Args:
            num_examples: rows of the training part, the unit of `l2`.
        """
        rows = self.table.num_rows
        self._l2_gradient.assign(self.settings.l2 / num_examples)
        for variable in self.variables():
            shape = (rows, *variable.shape[1:]) if variable.shape.rank else ()
            variable.assign(tf.zeros(shape, variable.dtype))
        for average, column in self._averaged():
            average.assign(column)
        self.horizon.assign(ENDLESS)

    def _averaged(self) -> list[tuple[tf.Variable, tf.Variable]]:
        """Every average and its column; none without averaging."""
        return list(zip(self.averages, self.table.columns(), strict=True)) if self.averages else []

    def grow(self) -> None:
        """Append slots and averages for rows that the table has gained."""
        for variable in self.variables():
            if variable.shape.rank:
                append_rows(variable, self.table.num_rows)

    def renew(self, rows: np.ndarray) -> None:
        """Forget what rows have learned: their slots start anew, together with the rows.

        Args:
            rows: (n,) int32, distinct, of a table that holds their new initial values.
        """
        for slot in (slot for slots in self.slots for slot in slots):
            zeros = tf.zeros((len(rows), slot.shape[1]))
            slot.scatter_update(tf.IndexedSlices(zeros, rows))
        for average, column in self._averaged():
            average.scatter_update(tf.IndexedSlices(tf.gather(column, rows), rows))
        now = tf.fill([len(rows)], self.steps)
        self.born.scatter_update(tf.IndexedSlices(now, rows))
        self._mark(tf.constant(rows), self.steps)

    def _decay_rates(self, rows: tf.Tensor) -> list[tf.Tensor]:
        """Per step, for each column: `(num_rows, size)` or, row-wise, `(num_rows, 1)`."""
        roots = [tf.sqrt(tf.gather(slots[-1], rows)) for slots in self.slots]
        return [tf.math.divide_no_nan(self._learning_rate(i) * self._l2_gradient, root)
                for i, root in enumerate(roots)]

    def _learning_rate(self, column: int) -> float:
        """Of a column of the table; the second holds the first-order weights."""
        linear = self.settings.linear_learning_rate
        return linear if column and linear is not None else self.settings.learning_rate

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
        averages = self._read_averages(rows, values)
        if self.settings.l2:
            values = [value * tf.exp(-rate)
                      for value, rate in zip(values, self._decay_rates(rows), strict=True)]
        born = tf.gather(self.born, rows)[:, tf.newaxis]
        kept = share_kept(self.steps - born, self.steps + 1 - born, self.horizon)
        for i, column in enumerate(self.table.columns()):
            value = values[i] - self._update(i, rows, gradients[i])
            column.scatter_update(tf.IndexedSlices(value, rows))
            if self.averages:
                moved = value + kept * (averages[i] - value)
                self.averages[i].scatter_update(tf.IndexedSlices(moved, rows))
        self._mark(rows, self.steps + 1)
        self.steps.assign_add(1)

    def _read_averages(self, rows: tf.Tensor, values: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """The averages as of now; since the last touch they have moved towards `values`."""
        if not self.averages:
            return []
        born = tf.gather(self.born, rows)
        kept = share_kept(tf.gather(self.decayed_to, rows) - born, self.steps - born,
                          self.horizon)[:, tf.newaxis]
        return [value + kept * (tf.gather(average, rows) - value)
                for value, average in zip(values, self.averages, strict=True)]

    def served(self, rows: tf.Tensor, since: tf.Tensor) -> list[tf.Tensor]:
        """The rows as they would be served: their averages, where these are kept.

        Args:
            rows: `(num_unique,)` distinct rows.
            since: scalar int64 steps. Rows that were not touched after them are as they were
                then: neither decayed nor moved on since.

        Returns:
            `(num_unique, size)` for each column of the table.
        """
        values = self.read(rows)
        found = self._read_averages(rows, values) or values
        if not self._is_lazy:
            return found
        changed = (tf.gather(self.decayed_to, rows) > since)[:, tf.newaxis]
        stored = self.averages or self.table.columns()
        return [tf.where(changed, value, tf.gather(before, rows))
                for value, before in zip(found, stored, strict=True)]

    def _mark(self, rows: tf.Tensor, step: tf.Tensor) -> None:
        if self._is_lazy:
            done = tf.fill(tf.shape(rows), step)
            self.decayed_to.scatter_update(tf.IndexedSlices(done, rows))

    @property
    def _is_lazy(self) -> bool:
        """Do rows that are not touched still change?"""
        return bool(self.settings.l2 or self.averages)

    def _update(self, column: int, rows: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
        slots, rate = self.slots[column], self._learning_rate(column)
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
        """Bring all rows and averages up to date; evaluation, checkpoint and export need it."""
        if not self._is_lazy:
            return
        for rows in self._chunks():
            values = self.read(rows)
            for average, value in zip(self.averages, self._read_averages(rows, values),
                                      strict=True):
                average.scatter_update(tf.IndexedSlices(value, rows))
            for column, value in zip(self.table.columns(), values, strict=True):
                column.scatter_update(tf.IndexedSlices(value, rows))
            self._mark(rows, self.steps)

    def exchange(self) -> None:
        """Swap averages and rows, caught up; a second call restores both to the bit."""
        for rows in self._chunks() if self.averages else ():
            for average, column in zip(self.averages, self.table.columns(), strict=True):
                value, averaged = tf.gather(column, rows), tf.gather(average, rows)
                column.scatter_update(tf.IndexedSlices(averaged, rows))
                average.scatter_update(tf.IndexedSlices(value, rows))

    def settle(self) -> None:
        """Set the averages to the present rows: these no longer change."""
        for rows in self._chunks() if self.averages else ():
            for average, column in zip(self.averages, self.table.columns(), strict=True):
                average.scatter_update(tf.IndexedSlices(tf.gather(column, rows), rows))

    def is_finite(self) -> bool:
        """Are all rows and slots free of NaN and infinity?"""
        values = [*self.table.columns(), *(slot for slots in self.slots for slot in slots)]
        return all(bool(tf.reduce_all(tf.math.is_finite(tf.gather(value, rows))))
                   for rows in self._chunks() for value in values)

    def _chunks(self) -> Iterator[tf.Tensor]:
        """All rows, to gather and scatter: reading a sparsely updated variable copies it whole."""
        for start in range(0, self.table.num_rows, _CHUNK_ROWS):
            yield tf.range(start, min(start + _CHUNK_ROWS, self.table.num_rows))
