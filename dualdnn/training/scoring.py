"""Scoring many rows with any towers of a model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from dualdnn.models.dual_dnn import DualDNN

_BATCH_ROWS = 8192


class Scorer:
    """Scores with the weights that are in the model now; its tables must be up to date."""

    def __init__(self, model: DualDNN) -> None:
        """Compile lazily, once per choice of towers."""
        self.model = model
        self._compiled: dict[tuple[str, ...], tf.types.experimental.ConcreteFunction] = {}

    def _score(self, rows: tf.Tensor, towers: tuple[str, ...]) -> tf.Tensor:
        pooled = {table.name: table.lookup(rows) for table in self.model.tables(towers)}
        outputs = self.model.forward(pooled, tf.constant(0, tf.int64), towers)
        return tf.stack([outputs[tower].logits for tower in towers])

    def __call__(self, rows: np.ndarray, towers: Sequence[str]) -> dict[str, np.ndarray]:
        """Logits.

        Args:
            rows: (n, width) int32 rows of the table.
            towers: names.

        Returns:
            (n,) float32 by tower.
        """
        key = tuple(towers)
        if key not in self._compiled:
            spec = tf.TensorSpec((None, rows.shape[1]), tf.int32)
            compiled = tf.function(lambda rows: self._score(rows, key), autograph=False)
            self._compiled[key] = compiled.get_concrete_function(spec)
        blocks = [
            self._compiled[key](tf.constant(rows[start : start + _BATCH_ROWS])).numpy()
            for start in range(0, len(rows), _BATCH_ROWS)
        ]
        empty = np.zeros((len(towers), 0), np.float32)
        return dict(zip(towers, np.concatenate([empty, *blocks], axis=1), strict=True))
