"""One training step: one tape, one sum of losses, one optimizer a tower."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import tensorflow as tf
import tf_keras as keras

from dualdnn.models.dual_dnn import DualDNN
from dualdnn.training.averaging import DenseAverage
from dualdnn.training.settings import DenseOptimizerSettings
from dualdnn.training.table_optimizer import TableOptimizer


class TrainStep:
    """Holds the optimizers and compiles a step for any set of towers still in training."""

    def __init__(
        self,
        *,
        model: DualDNN,
        table_optimizers: Mapping[str, TableOptimizer],
        dense_settings: Mapping[str, DenseOptimizerSettings],
        averaging: bool = False,
    ) -> None:
        """Create every slot.

        Args:
            model: the towers.
            table_optimizers: by table name, one for every table of the model.
            dense_settings: by tower name.
            averaging: keep averages of the dense variables.
        """
        self.model = model
        self.table_optimizers = dict(table_optimizers)
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
        self._compiled: dict[tuple[str, ...], tf.types.experimental.ConcreteFunction] = {}

    def is_compiled(self, training: Sequence[str]) -> bool:
        """Has this set of towers taken a step before?"""
        return tuple(training) in self._compiled

    def run(
        self, training: Sequence[str], rows: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor,
        step: tf.Tensor,
    ) -> tuple[dict[str, dict[str, tf.Tensor]], tf.Tensor]:
        """Take one step.

        A tower whose loss or gradient is not finite keeps its weights.

        Args:
            training: towers that learn; the teacher also answers where it no longer learns.
            rows: `(batch_size, width)` int32.
            labels: `(batch_size,)`.
            weights: `(batch_size,)`.
            step: scalar int64, number of finished steps.

        Returns:
            losses by tower and name, and for each tower of `training` whether its update was
            finite.
        """
        key = tuple(training)
        if key not in self._compiled:
            width = sum(self.model.table.field_widths)
            compiled = tf.function(
                lambda rows, labels, weights, step: self._step(key, rows, labels, weights, step),
                autograph=False,  # there is nothing to convert, and looking takes long
            )
            self._compiled[key] = compiled.get_concrete_function(
                tf.TensorSpec((None, width), tf.int32), tf.TensorSpec((None,), tf.float32),
                tf.TensorSpec((None,), tf.float32), tf.TensorSpec((), tf.int64),
            )
        return self._compiled[key](rows, labels, weights, step)

    def _step(
        self, training: Sequence[str], rows: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor,
        step: tf.Tensor,
    ) -> tuple[dict[str, dict[str, tf.Tensor]], tf.Tensor]:
        model = self.model
        towers = list(dict.fromkeys([model.towers[0], *training]))
        tables = model.tables(towers)
        unique, position = tf.unique(tf.reshape(rows, [-1]))
        current = {table.name: self.table_optimizers[table.name].read(unique)
                   for table in tables}
        with tf.GradientTape() as tape:
            tape.watch(list(current.values()))
            pooled = {}
            for table in tables:
                cells = [
                    tf.reshape(tf.gather(value, position), (-1, rows.shape[1], value.shape[1]))
                    for value in current[table.name]
                ]
                pooled[table.name] = [table.pool(cell, rows) for cell in cells]
            outputs = model.forward(pooled, step, towers, training=True)
            losses = model.tower_losses(outputs, labels, weights)
            totals = [losses[tower]["total"] for tower in training]
        wanted = {tower: model.dense_variables(tower) for tower in training}
        # A table learns from the tower that owns it: it rests when that tower has stopped.
        owned = {tower: model.table_of(tower).name for tower in training
                 if tower == towers[0] or model.table_of(tower) is not model.table}
        of_tables = {table: current[table] for table in owned.values()}
        dense, sparse = tape.gradient(totals, (wanted, of_tables),
                                      unconnected_gradients=tf.UnconnectedGradients.ZERO)
        finite = []
        for tower in training:
            owned_table = owned.get(tower)
            rows_gradients = (
                [tf.convert_to_tensor(g) for g in sparse[owned_table]] if owned_table else []
            )
            gradients = [*dense[tower], *rows_gradients]
            norm = tf.linalg.global_norm(gradients)
            is_finite = tf.math.is_finite(norm) & tf.math.is_finite(losses[tower]["total"])
            clip = self.dense_settings[tower].clip_norm
            if clip is not None:
                gradients, _ = tf.clip_by_global_norm(gradients, clip, use_norm=norm)
            self._apply_if(is_finite, tower, gradients, owned_table, unique, current)
            finite.append(is_finite)
        return losses, tf.stack(finite)

    def _apply_if(
        self, is_finite: tf.Tensor, tower: str, gradients: Sequence[tf.Tensor], table: str | None,
        unique: tf.Tensor, current: Mapping[str, Sequence[tf.Tensor]],
    ) -> None:
        variables = self.model.dense_variables(tower)

        def apply() -> tf.Tensor:
            pairs = zip(gradients[: len(variables)], variables, strict=True)
            optimizer = self.dense_optimizers[tower]
            optimizer.apply_gradients(pairs)
            self.dense_averages[tower].update(optimizer.iterations - 1)
            if table is not None:
                self.table_optimizers[table].apply(
                    unique, current[table], gradients[len(variables):]
                )
            return tf.constant(True)

        tf.cond(is_finite, apply, lambda: tf.constant(False))
