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

    def _score(self, rows: tf.Tensor, dense: tf.Tensor, towers: tuple[str, ...]) -> tf.Tensor:
        pooled = self.model.lookup(rows, dense, towers)
        outputs = self.model.forward(pooled, tf.constant(0, tf.int64), towers)
        return tf.stack([outputs[tower].logits for tower in towers])

    def __call__(self, rows: np.ndarray, towers: Sequence[str],
                 dense: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Logits.

        Args:
            rows: (n, width) int32 rows of the tables.
            towers: names.
            dense: (n, dense_width) float32; None where the schema has no floats.

        Returns:
            (n,) float32 by tower.
        """
        key = tuple(towers)
        if dense is None:
            dense = np.zeros((len(rows), 0), np.float32)
        if key not in self._compiled:
            compiled = tf.function(lambda rows, dense: self._score(rows, dense, key),
                                   autograph=False)
            self._compiled[key] = compiled.get_concrete_function(
                tf.TensorSpec((None, rows.shape[1]), tf.int32),
                tf.TensorSpec((None, dense.shape[1]), tf.float32))
        blocks = [
            self._compiled[key](tf.constant(rows[start : start + _BATCH_ROWS]),
                                tf.constant(dense[start : start + _BATCH_ROWS])).numpy()
            for start in range(0, len(rows), _BATCH_ROWS)
        ]
        empty = np.zeros((len(towers), 0), np.float32)
        return dict(zip(towers, np.concatenate([empty, *blocks], axis=1), strict=True))
