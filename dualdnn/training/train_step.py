"""One training step: one tape, one sum of losses, one optimizer a tower."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tf_keras as keras

from dualdnn.data.examples import Batch
from dualdnn.data.row_map import RowMap
from dualdnn.data.row_map_growth import Growth
from dualdnn.models.dual_dnn import DualDNN
from dualdnn.training.averaging import ENDLESS, DenseAverage
from dualdnn.training.settings import DenseOptimizerSettings
from dualdnn.training.table_optimizer import TableOptimizer, TableOptimizerSettings


class _Found(NamedTuple):
    """The cells of some tables in a batch, `(batch_size, cells)`, and the rows among them.

    `cells`, flat, equals `unique` gathered at `position`.
    """

    cells: tf.Tensor
    unique: tf.Tensor
    position: tf.Tensor


class TrainStep:
    """Holds the optimizers and compiles a step for any set of towers still in training."""

    def __init__(
        self,
        *,
        model: DualDNN,
        table_settings: TableOptimizerSettings,
        dense_settings: Mapping[str, DenseOptimizerSettings],
        num_examples: int,
        averaging: bool = False,
        own_table_settings: Mapping[str, TableOptimizerSettings] | None = None,
    ) -> None:
        """Create every slot.

        Args:
            model: the towers.
            table_settings: of every table that learns.
            dense_settings: by tower name.
            num_examples: rows of the training part, the unit of the tables' `l2`.
            averaging: keep averages of all weights.
            own_table_settings: by name of an embedding those of its tables, where they differ.
        """
        self.model = model
        self.num_examples = num_examples
        self.table_optimizers = {
            table.name: TableOptimizer(
                (own_table_settings or {}).get(embedding.name, table_settings), table,
                num_examples=num_examples, averaging=averaging)
            for embedding in model.embeddings(model.towers) for table in embedding.trained_tables
        }
        self.dense_settings = dict(dense_settings)
        self.dense_optimizers = {}
        for tower in model.towers:
            optimizer = keras.optimizers.Adam(dense_settings[tower].learning_rate,
                                              jit_compile=False)
            optimizer.build(model.dense_variables(tower))
            self.dense_optimizers[tower] = optimizer
        self.dense_averages = {
            tower: DenseAverage(model.dense_variables(tower) if averaging else [])
            for tower in model.towers
        }
        self.horizons = {
            tower: tf.Variable(tf.constant(ENDLESS, tf.int64), name="horizon")
            for tower in model.towers
        }
        self._first_values = [variable.numpy() for variable in self._dense_variables()]
        self._compiled: dict[tuple[str, ...], tf.types.experimental.ConcreteFunction] = {}
        self._scores: dict[str, tf.types.experimental.ConcreteFunction] = {}

    def _variables_of_tower(self, tower: str) -> list[tf.Variable]:
        return [*self.model.dense_variables(tower), *self.dense_optimizers[tower].variables,
                *self.dense_averages[tower].averages, self.horizons[tower]]

    def _dense_variables(self) -> list[tf.Variable]:
        return [v for tower in self.model.towers for v in self._variables_of_tower(tower)]

    def named_variables(self) -> dict[str, tf.Variable]:
        """All that changes, by names that do not depend on what else is in the process."""
        parts: dict[str, list[tf.Variable]] = {
            f"table/{table.name}": [*table.columns(),
                                    *self.table_optimizers[table.name].variables()]
            for table in self.model.tables(self.model.towers)
        }
        parts |= {f"tower/{tower}": self._variables_of_tower(tower)
                  for tower in self.model.towers}
        named = {f"{part}/{variable.name.split(':')[0]}": variable
                 for part, variables in parts.items() for variable in variables}
        assert len(named) == sum(map(len, parts.values())), "two variables share a name"
        return named

    def reset(self, row_map: RowMap, num_examples: int) -> None:
        """Start anew: what a new model of another window would be, without compiling it again.

        Args:
            row_map: of the new window.
            num_examples: rows of its training part.
        """
        self.num_examples = num_examples
        for variable, value in zip(self._dense_variables(), self._first_values, strict=True):
            variable.assign(value)
        for embedding in self.model.embeddings(self.model.towers):
            embedding.reset(row_map.table_rows, row_map.vectors)
        for optimizer in self.table_optimizers.values():
            optimizer.reset(num_examples)

    def grow(self, growth: Growth, draw: int) -> None:
        """Give rows, slots and averages to the ids that a grown row map has admitted.

        Args:
            growth: from the row map that the tables fit.
            draw: > 0; another number draws other initial values.
        """
        for embedding in self.model.embeddings(self.model.towers):
            for name, table in embedding.tables.items():
                table.grow(growth.row_map.table_rows[name])
                if not table.trainable:
                    continue
                optimizer = self.table_optimizers[table.name]
                optimizer.grow()
                if len(rows := growth.fresh_rows[name]):
                    table.renew(rows, draw)
                    optimizer.renew(rows)

    def limit_averages(self, horizon: int) -> None:
        """Let all averages reach back a tenth of so many steps at most."""
        for optimizer in self.table_optimizers.values():
            optimizer.horizon.assign(horizon)
        for variable in self.horizons.values():
            variable.assign(horizon)

    def catch_up(self) -> None:
        """Bring every table up to date, as scoring, checkpoint and export need it."""
        for optimizer in self.table_optimizers.values():
            optimizer.catch_up()

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Put the averages of all weights into the model, and take them out again."""
        self.catch_up()
        parts: list[DenseAverage | TableOptimizer] = [
            *self.dense_averages.values(), *self.table_optimizers.values()
        ]
        for part in parts:
            part.exchange()
        try:
            yield
        finally:
            for part in parts:
                part.exchange()

    def is_compiled(self, training: Sequence[str]) -> bool:
        """Has this set of towers taken a step before?"""
        return tuple(training) in self._compiled

    def run(
        self, training: Sequence[str], batch: Batch, step: int
    ) -> tuple[dict[str, dict[str, tf.Tensor]], tf.Tensor]:
        """Take one step.

        A tower whose loss or gradient is not finite keeps its weights.

        Args:
            training: towers that learn; those that they hear also answer, see `DualDNN.asked`.
            batch: the examples.
            step: number of finished steps.

        Returns:
            losses by tower and name, and for each tower of `training` whether its update was
            finite.
        """
        key = tuple(training)
        if key not in self._compiled:
            schema = self.model.embedding.schema
            compiled = tf.function(
                lambda rows, dense, labels, weights, step: self._step(
                    key, Batch(rows, dense, labels, weights), step),
                autograph=False,  # there is nothing to convert, and looking takes long
            )
            self._compiled[key] = compiled.get_concrete_function(
                tf.TensorSpec((None, schema.width), tf.int32),
                tf.TensorSpec((None, schema.dense_width), tf.float32),
                tf.TensorSpec((None,), tf.float32), tf.TensorSpec((None,), tf.float32),
                tf.TensorSpec((), tf.int64),
            )
        return self._compiled[key](*map(tf.constant, batch), tf.constant(step, tf.int64))

    def score(self, tower: str, rows: np.ndarray, dense: np.ndarray,
              since: Mapping[str, int]) -> np.ndarray:
        """What a tower would answer if it were served now, at the cost of the rows that are read.

        `averaged` and a `Scorer` do the same for many batches at the price of two passes over the
        tables, and bring these up to date; this changes nothing.

        Args:
            tower: its name.
            rows: (n, width) int32.
            dense: (n, dense_width) float32.
            since: by table that learns the steps of `TableOptimizer.served`.

        Returns:
            (n,) float32 logits.
        """
        tables = list(since)
        if tower not in self._scores:
            def scored(rows: tf.Tensor, dense: tf.Tensor, since: tf.Tensor) -> tf.Tensor:
                steps = dict(zip(tables, tf.unstack(since, len(tables)), strict=True))
                found, values = self._read([tower], rows, lambda optimizer, unique: (
                    optimizer.served(unique, steps[optimizer.table.name])))
                pooled = self._pooled([tower], dense, found, values)
                outputs = self.model.forward(pooled, tf.constant(0, tf.int64), [tower])
                return outputs[tower].logits

            schema = self.model.embedding.schema
            self._scores[tower] = tf.function(scored, autograph=False).get_concrete_function(
                tf.TensorSpec((None, schema.width), tf.int32),
                tf.TensorSpec((None, schema.dense_width), tf.float32),
                tf.TensorSpec((len(tables),), tf.int64))
        average = self.dense_averages[tower]
        average.exchange()
        try:
            steps = tf.constant(list(since.values()), tf.int64)
            return self._scores[tower](tf.constant(rows), tf.constant(dense), steps).numpy()
        finally:
            average.exchange()

    def _read(
        self, towers: Sequence[str], rows: tf.Tensor,
        values_of: Callable[[TableOptimizer, tf.Tensor], list[tf.Tensor]],
    ) -> tuple[dict[str, list[_Found]], dict[str, list[tf.Tensor]]]:
        """The distinct rows of every table in a batch.

        Args:
            towers: whose embeddings are read.
            rows: `(batch_size, width)`.
            values_of: of an optimizer and distinct rows of its table, what is read of them.

        Returns:
            by embedding what was found for each part of its reader, and by table that learns the
            values of its distinct rows, to be differentiated by.
        """
        found: dict[str, list[_Found]] = {}
        values: dict[str, list[tf.Tensor]] = {}
        # Tables that are read at the same cells, of several embeddings, share their unique rows.
        unique: dict[tuple[int, ...] | None, _Found] = {}
        for embedding in self.model.embeddings(towers):
            found[embedding.name] = []
            for part in self.model.reader(embedding).parts:
                if part.columns not in unique:
                    cells = part.rows(rows)
                    unique[part.columns] = _Found(cells, *tf.unique(tf.reshape(cells, [-1])))
                one = unique[part.columns]
                found[embedding.name].append(one)
                if part.table.trainable:
                    optimizer = self.table_optimizers[part.table.name]
                    values[part.table.name] = values_of(optimizer, one.unique)
        return found, values

    def _pooled(
        self, towers: Sequence[str], dense: tf.Tensor, found: Mapping[str, Sequence[_Found]],
        values: Mapping[str, Sequence[tf.Tensor]],
    ) -> dict[str, list[tf.Tensor]]:
        """By embedding what its reader makes of the values."""
        pooled = {}
        for embedding in self.model.embeddings(towers):
            reader = self.model.reader(embedding)
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

    def _step(
        self, training: Sequence[str], batch: Batch, step: tf.Tensor
    ) -> tuple[dict[str, dict[str, tf.Tensor]], tf.Tensor]:
        model = self.model
        towers = model.asked(training)
        found, current = self._read(towers, batch.rows, TableOptimizer.read)
        unique = {part.table.name: one.unique
                  for embedding in model.embeddings(towers)
                  for part, one in zip(model.reader(embedding).parts, found[embedding.name],
                                       strict=True)}
        with tf.GradientTape() as tape:
            tape.watch(list(current.values()))
            pooled = self._pooled(towers, batch.dense, found, current)
            outputs = model.forward(pooled, step, towers, training=True)
            losses = model.tower_losses(outputs, batch.labels, batch.weights)
            totals = [losses[tower]["total"] for tower in training]
        wanted = {tower: model.dense_variables(tower) for tower in training}
        # A table learns from the tower that owns it: it rests when that tower has stopped.
        owned = {tower: [table.name for table in model.embedding_of(tower).trained_tables]
                 if model.owns_embedding(tower) else [] for tower in training}
        of_tables = {table: current[table] for tables in owned.values() for table in tables}
        dense, sparse = tape.gradient(totals, (wanted, of_tables),
                                      unconnected_gradients=tf.UnconnectedGradients.ZERO)
        finite = []
        for tower in training:
            rows_gradients = [tf.convert_to_tensor(g) for table in owned[tower]
                              for g in sparse[table]]
            gradients = [*dense[tower], *rows_gradients]
            norm = tf.linalg.global_norm(gradients)
            is_finite = tf.math.is_finite(norm) & tf.math.is_finite(losses[tower]["total"])
            clip = self.dense_settings[tower].clip_norm
            if clip is not None:
                gradients, _ = tf.clip_by_global_norm(gradients, clip, use_norm=norm)
            self._apply_if(is_finite, tower, gradients,
                           {table: (unique[table], current[table]) for table in owned[tower]})
            finite.append(is_finite)
        return losses, tf.stack(finite)

    def _apply_if(
        self, is_finite: tf.Tensor, tower: str, gradients: Sequence[tf.Tensor],
        tables: Mapping[str, tuple[tf.Tensor, Sequence[tf.Tensor]]],
    ) -> None:
        """Update a tower and its tables, whose distinct rows and values are given."""
        variables = self.model.dense_variables(tower)

        def apply() -> tf.Tensor:
            pairs = zip(gradients[: len(variables)], variables, strict=True)
            optimizer = self.dense_optimizers[tower]
            optimizer.apply_gradients(pairs)
            self.dense_averages[tower].update(optimizer.iterations - 1, self.horizons[tower])
            start = len(variables)
            for table, (rows, values) in tables.items():
                of_table = gradients[start : start + len(values)]
                self.table_optimizers[table].apply(rows, values, of_table)
                start += len(values)
            return tf.constant(True)

        tf.cond(is_finite, apply, lambda: tf.constant(False))
