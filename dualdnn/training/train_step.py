"""One training step: one tape, one sum of losses, one optimizer a tower."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf
import tf_keras as keras

from dualdnn.data.examples import Batch, TrainingSize
from dualdnn.data.row_map import RowMap
from dualdnn.data.row_map_growth import Growth
from dualdnn.models.dual_dnn import DualDNN
from dualdnn.training.averaging import ENDLESS, DenseAverage
from dualdnn.training.batch_reader import BatchReader
from dualdnn.training.clipping import clipped
from dualdnn.training.scoring import given_scores
from dualdnn.training.settings import DenseOptimizerSettings
from dualdnn.training.table_optimizer import TableOptimizer, TableOptimizerSettings
from dualdnn.training.variable_names import lasting_names

# The towers that learn, and those of them that consolidate.
_Key = tuple[tuple[str, ...], tuple[str, ...]]


class TrainStep:
    """Holds the optimizers and compiles a step for any set of towers still in training."""

    def __init__(
        self,
        *,
        model: DualDNN,
        table_settings: TableOptimizerSettings,
        dense_settings: Mapping[str, DenseOptimizerSettings],
        size: TrainingSize,
        averaging: bool = False,
        own_table_settings: Mapping[str, TableOptimizerSettings] | None = None,
    ) -> None:
        """Create every slot.

        Args:
            model: the towers.
            table_settings: of every table that learns.
            dense_settings: by tower name.
            size: of the training part, the unit of the tables' `l2` and of sample weights.
            averaging: keep averages of all weights.
            own_table_settings: by name of an embedding those of its tables, where they differ.
        """
        self.model = model
        self.size = size
        self.table_optimizers = {
            table.name: TableOptimizer(
                (own_table_settings or {}).get(embedding.name, table_settings), table,
                num_examples=size.num_examples, averaging=averaging)
            for embedding in model.embeddings(model.towers) for table in embedding.trained_tables
        }
        self._reader = BatchReader(model, self.table_optimizers)
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
        self._compiled: dict[_Key, tf.types.experimental.ConcreteFunction] = {}
        # Traced once a tower; the steps of all sets of towers that it learns in call it.
        self._updates = {
            tower: tf.function(functools.partial(self._update_if, tower), autograph=False)
            for tower in model.towers
        }
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
        found = [(f"{part}/{variable.name.split(':')[0]}", variable)
                 for part, variables in parts.items() for variable in variables]
        names = lasting_names(self.model, [name for name, _ in found])
        named = {names[name]: variable for name, variable in found}
        assert len(named) == len(found), "two variables share a name"
        return named

    def reset(self, row_map: RowMap, size: TrainingSize) -> None:
        """Start anew: what a new model of another window would be, without compiling it again.

        Args:
            row_map: of the new window.
            size: of its training part.
        """
        self.size = size
        for variable, value in zip(self._dense_variables(), self._first_values, strict=True):
            variable.assign(value)
        for embedding in self.model.embeddings(self.model.towers):
            embedding.reset(row_map.table_rows, row_map.vectors)
        for optimizer in self.table_optimizers.values():
            optimizer.reset(size.num_examples)

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

    def is_compiled(self, training: Sequence[str], consolidating: Collection[str] = ()) -> bool:
        """Has this set of towers taken a step before?"""
        return self._key(training, consolidating) in self._compiled

    @staticmethod
    def _key(training: Sequence[str], consolidating: Collection[str]) -> _Key:
        return tuple(training), tuple(one for one in training if one in consolidating)

    def _scheduled(self, key: _Key) -> list[tuple[str, str]]:
        """(student, name) of the values that are given anew at each step."""
        training, consolidating = key
        return [(tower, name) for tower in training if tower in self.model.students
                for name in self.model.objective_of(tower, consolidating).scheduled]

    def run(
        self, training: Sequence[str], batch: Batch, step: int, *,
        progress: Mapping[str, float] | None = None, consolidating: Collection[str] = (),
        scores: np.ndarray | None = None,
    ) -> tuple[dict[str, dict[str, tf.Tensor]], tf.Tensor]:
        """Take one step.

        A tower whose loss or gradient is not finite keeps its weights.

        Args:
            training: towers that learn; those that they hear also answer, see `DualDNN.asked`.
            batch: the examples; their weights count by what the training part's are on average.
            step: number of finished steps.
            progress: by student whose objective has schedules, the share of its steps done.
            consolidating: students that learn from the teacher's logits alone.
            scores: (batch_size, members) float32 logits of `DualDNN.scored`.

        Returns:
            losses by tower and name, and for each tower of `training` whether its update was
            finite.
        """
        key = self._key(training, consolidating)
        scheduled = self._scheduled(key)
        if key not in self._compiled:
            schema = self.model.embedding.schema
            compiled = tf.function(
                lambda rows, dense, labels, weights, step, values, scores: self._step(
                    key, Batch(rows, dense, labels, weights), step, values, scores),
                autograph=False,  # there is nothing to convert, and looking takes long
            )
            self._compiled[key] = compiled.get_concrete_function(
                tf.TensorSpec((None, schema.width), tf.int32),
                tf.TensorSpec((None, schema.dense_width), tf.float32),
                tf.TensorSpec((None,), tf.float32), tf.TensorSpec((None,), tf.float32),
                tf.TensorSpec((), tf.int64), tf.TensorSpec((len(scheduled),), tf.float32),
                tf.TensorSpec((None, len(self.model.scored)), tf.float32),
            )
        batch = batch._replace(weights=batch.weights / np.float32(self.size.mean_weight))
        # Given, not compiled in, so that no step is compiled twice.
        values = [self.model.objective_of(tower, consolidating).value_at(
            name, (progress or {})[tower]) for tower, name in scheduled]
        return self._compiled[key](*map(tf.constant, batch), tf.constant(step, tf.int64),
                                   tf.constant(values, tf.float32, (len(values),)),
                                   tf.constant(given_scores(self.model, scores, batch.rows)))

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
                found, values = self._reader.read([tower], rows, lambda optimizer, unique: (
                    optimizer.served(unique, steps[optimizer.table.name])))
                pooled = self._reader.pooled([tower], dense, found, values)
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

    def _step(
        self, key: _Key, batch: Batch, step: tf.Tensor, scheduled: tf.Tensor, scores: tf.Tensor
    ) -> tuple[dict[str, dict[str, tf.Tensor]], tf.Tensor]:
        model, (training, consolidating) = self.model, key
        now: dict[str, dict[str, tf.Tensor]] = {}
        for i, (tower, name) in enumerate(self._scheduled(key)):
            now.setdefault(tower, {})[name] = scheduled[i]
        towers = model.asked(training)
        found, current = self._reader.read(towers, batch.rows, TableOptimizer.read)
        unique = {part.table.name: one.unique
                  for embedding in model.embeddings(towers)
                  for part, one in zip(model.reader(embedding).parts, found[embedding.name],
                                       strict=True)}
        with tf.GradientTape() as tape:
            tape.watch(list(current.values()))
            pooled = self._reader.pooled(towers, batch.dense, found, current)
            outputs = model.forward(pooled, step, towers, training=training, scores=scores)
            losses = model.tower_losses(outputs, batch.labels, batch.weights,
                                        consolidating=consolidating, now=now)
            totals = [losses[tower]["total"] for tower in training]
        wanted = {tower: model.dense_variables(tower) for tower in training}
        # A table learns from the tower that owns it: it rests when that tower has stopped.
        owned = {tower: [table.name for embedding in model.owned_embeddings(tower)
                         for table in embedding.trained_tables] for tower in training}
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
                gradients = clipped(model, tower, gradients, clip, whole=norm)
            self._updates[tower](
                is_finite, gradients,
                {table: (unique[table], current[table]) for table in owned[tower]})
            finite.append(is_finite)
        return losses, tf.stack(finite)

    def _update_if(
        self, tower: str, is_finite: tf.Tensor, gradients: Sequence[tf.Tensor],
        tables: Mapping[str, tuple[tf.Tensor, Sequence[tf.Tensor]]],
    ) -> None:
        """Update a tower and its tables, whose distinct rows and values are given."""
        variables = self.model.dense_variables(tower)

        def update() -> tf.Tensor:
            optimizer = self.dense_optimizers[tower]
            optimizer.apply_gradients(zip(gradients[: len(variables)], variables, strict=True))
            self.dense_averages[tower].update(optimizer.iterations - 1, self.horizons[tower])
            start = len(variables)
            for table, (rows, values) in tables.items():
                of_table = gradients[start : start + len(values)]
                self.table_optimizers[table].apply(rows, values, of_table)
                start += len(values)
            return tf.constant(True)

        tf.cond(is_finite, update, lambda: tf.constant(False))
