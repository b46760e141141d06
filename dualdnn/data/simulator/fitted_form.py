"""The simulator's own formula with free parameters, fitted to rows: the best a model can hope for.

Maximum a posteriori under the very prior that the simulator drew from: every entry of a table is
standard normal, its weights are known. `strength` multiplies the prior, because the mode of a
product of tables is not its mean. Whoever comes close to this has found the structure; the rest
of the way to the truth is what the rows do not tell.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from dualdnn.data.simulator.formula import Part, formula_of, layers_on, num_layers
from dualdnn.data.simulator.settings import FeedSettings
from dualdnn.data.simulator.world import Integers, field_size

Numbers = npt.NDArray[np.float64]
_FIRST_SPREAD = 0.3
_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Rows of a feed as the formula reads them.

    Attributes:
        cells: by field, (rows,) value numbers, or (rows, values) padded with -1.
        days: (rows,) days since the first of the log.
        labels: (rows,) 0 or 1.
    """

    cells: Mapping[str, Integers]
    days: Integers
    labels: npt.NDArray[np.float32]

    def at(self, index: npt.NDArray[np.integer]) -> Rows:
        """Some of the rows."""
        return Rows(cells={name: cells[index] for name, cells in self.cells.items()},
                    days=self.days[index], labels=self.labels[index])


class FittedForm:
    """The formula of a regime with its tables as variables."""

    def __init__(self, *, settings: FeedSettings, seed: int) -> None:
        """Start near zero.

        Args:
            settings: regime and sizes; nothing that was drawn is looked at.
            seed: of the first values and of the order of rows.
        """
        self.formula = formula_of(settings.regime)
        self.seed = seed
        random = np.random.default_rng(seed)
        self.intercept = tf.Variable(self.formula.intercept, dtype=tf.float32)
        self.tables: dict[str, tf.Variable] = {}
        self._sizes: dict[str, int] = {}
        self._layers: dict[str, tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]] = {}
        products = {part.table for term in self.formula.terms if len(term.factors) > 1
                    for factor in term.factors for part in factor}
        for part, rank in self.formula.parts():
            size = field_size(settings, part.field)
            shape = (num_layers(part, settings.days) * size, rank)
            # Where all factors of a product are zero, nothing has a gradient.
            spread = _FIRST_SPREAD if part.table in products else 0.0
            values = spread * random.standard_normal(shape)
            self.tables[part.table] = tf.Variable(values, dtype=tf.float32)
            self._sizes[part.table] = size
            self._layers[part.table] = _layers_of_days(part, settings.days)
        self._score = tf.function(self.logits, reduce_retracing=True, autograph=False)

    def variables(self) -> list[tf.Variable]:
        """Everything that is fitted."""
        return [self.intercept, *self.tables.values()]

    def logits(self, cells: Mapping[str, tf.Tensor], days: tf.Tensor) -> tf.Tensor:
        """Score a batch, (batch_size,)."""
        tags = cells["tags"]
        per_tag = 1.0 / tf.reduce_sum(tf.cast(tags >= 0, tf.float32), axis=1)[:, None]

        def rows(part: Part, layer: tf.Tensor) -> tf.Tensor:
            table, cell = self.tables[part.table], cells[part.field]
            size = self._sizes[part.table]
            if cell.shape.rank == 1:
                return tf.gather(table, layer * size + cell)
            found = tf.gather(table, layer[:, None] * size + tf.maximum(cell, 0))
            there = tf.cast(cell >= 0, tf.float32)[:, :, None]
            return tf.reduce_sum(found * there, axis=1) * per_tag

        def take(part: Part) -> tf.Tensor:
            if not part.moves:
                return rows(part, tf.zeros_like(days))
            layers, shares = self._layers[part.table]
            return tf.add_n([
                tf.gather(shares[:, i], days)[:, None] * rows(part, tf.gather(layers[:, i], days))
                for i in range(layers.shape[1])])

        fitted = self.formula.logits(take, lambda products: tf.reduce_sum(products, axis=-1))
        return fitted + (self.intercept - self.formula.intercept)

    def score(self, rows: Rows, batch_size: int = 65_536) -> Numbers:
        """Logits of all rows, (rows,) float64."""
        found = []
        for start in range(0, len(rows.days), batch_size):
            part = rows.at(np.arange(start, min(start + batch_size, len(rows.days))))
            found.append(self._score(_tensors(part.cells), tf.constant(part.days)).numpy())
        return np.concatenate(found).astype(np.float64)


def _layers_of_days(part: Part, days: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """(days, layers of a day) numbers of layers and their weights."""
    of_days = [layers_on(part, day) for day in range(days)]
    most = max(map(len, of_days))
    padded = [layers + [(0, 0.0)] * (most - len(layers)) for layers in of_days]
    return (np.array([[layer for layer, _ in layers] for layers in padded], np.int32),
            np.array([[share for _, share in layers] for layers in padded], np.float32))


def _tensors(cells: Mapping[str, Integers]) -> dict[str, tf.Tensor]:
    return {name: tf.constant(values) for name, values in cells.items()}


def _mean_loss(logits: Numbers, labels: npt.NDArray[np.float32]) -> float:
    return float(np.logaddexp(0.0, (1.0 - 2.0 * labels) * logits).mean())


def fit_form(
    train: Rows,
    valid: Rows,
    *,
    settings: FeedSettings,
    strength: float,
    epochs: int = 8,
    batch_size: int = 8_192,
    learning_rate: float = 0.05,
    seed: int = 1,
) -> tuple[FittedForm, float]:
    """Fit the formula of `settings.regime` with Adam (Kingma and Ba 2015), its rate falling to 0.

    Args:
        train: rows to learn from.
        valid: rows that choose among the epochs.
        settings: regime and sizes of the feed.
        strength: multiplies the Gaussian prior; 1 is the prior of the simulator.
        epochs: passes over `train`.
        batch_size: rows a step.
        learning_rate: of the first step.
        seed: of first values and order of rows.

    Returns:
        The form at its best epoch, and its log loss on `valid`.
    """
    form = FittedForm(settings=settings, seed=seed)
    variables = form.variables()
    first = [tf.Variable(tf.zeros_like(v)) for v in variables]
    second = [tf.Variable(tf.zeros_like(v)) for v in variables]
    per_row = strength / len(train.days)

    @tf.function(reduce_retracing=True, autograph=False)
    def step(cells: dict[str, tf.Tensor], days: tf.Tensor, labels: tf.Tensor, number: tf.Tensor,
             rate: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            logits = form.logits(cells, days)
            loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels, logits))
            loss += per_row * tf.add_n([tf.nn.l2_loss(table) for table in form.tables.values()])
        gradients = tape.gradient(loss, variables)
        for variable, slow, fast, gradient in zip(variables, first, second, gradients, strict=True):
            tf.raw_ops.ResourceApplyAdam(
                var=variable.handle, m=slow.handle, v=fast.handle, beta1_power=_BETA1 ** number,
                beta2_power=_BETA2 ** number, lr=rate, beta1=_BETA1, beta2=_BETA2,
                epsilon=_EPSILON, grad=tf.convert_to_tensor(gradient))

    random = np.random.default_rng(seed)
    steps = epochs * (len(train.days) // batch_size or 1)
    best: tuple[float, list[npt.NDArray[np.float32]]] = (math.inf, [])
    number = 0
    for _ in range(epochs):
        order = random.permutation(len(train.days))
        for start in range(0, max(len(order) - batch_size, 0) + 1, batch_size):
            batch = train.at(np.sort(order[start:start + batch_size]))
            number += 1
            rate = learning_rate * 0.5 * (1 + math.cos(math.pi * number / (steps + 1)))
            step(_tensors(batch.cells), tf.constant(batch.days), tf.constant(batch.labels),
                 tf.constant(float(number)), tf.constant(rate))
        loss = _mean_loss(form.score(valid), valid.labels)
        if loss < best[0]:
            best = (loss, [variable.numpy() for variable in variables])
    for variable, values in zip(variables, best[1], strict=True):
        variable.assign(values)
    return form, best[0]
