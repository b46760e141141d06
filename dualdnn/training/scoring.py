"""Scoring many rows with any towers of a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from dualdnn.models.dual_dnn import TEACHER, DualDNN
from dualdnn.models.teacher_pool import TeacherPool

_BATCH_ROWS = 8192


def given_scores(model: DualDNN, scores: np.ndarray | None, rows: np.ndarray) -> np.ndarray:
    """The logits of `DualDNN.scored` for some rows, (n, members) float32.

    Raises:
        ValueError: they are not those of the model.
    """
    found = np.zeros((len(rows), 0), np.float32) if scores is None else scores
    if found.shape != (len(rows), len(model.scored)):
        raise ValueError(f"the teacher needs logits of {model.scored} for {len(rows)} rows, got "
                         f"{found.shape}.")
    return found


class Scorer:
    """Scores with the weights that are in the model now; its tables must be up to date."""

    def __init__(self, model: DualDNN) -> None:
        """Compile lazily, once per choice of towers."""
        self.model = model
        self._compiled: dict[tuple[str, tuple[str, ...]],
                             tf.types.experimental.ConcreteFunction] = {}

    def _score(self, rows: tf.Tensor, dense: tf.Tensor, scores: tf.Tensor,
               towers: tuple[str, ...]) -> tf.Tensor:
        pooled = self.model.lookup(rows, dense, towers)
        outputs = self.model.forward(pooled, tf.constant(0, tf.int64), towers, scores=scores)
        return tf.stack([outputs[tower].logits for tower in towers])

    def _members(self, rows: tf.Tensor, dense: tf.Tensor, scores: tf.Tensor,
                 towers: tuple[str, ...]) -> tf.Tensor:
        pooled = self.model.lookup(rows, dense, towers)
        (output,) = self.model.forward(pooled, tf.constant(0, tf.int64), towers,
                                       scores=scores).values()
        # (2, batch_size, members) -> (2 * members, batch_size)
        both = tf.transpose(tf.stack([output.members, output.gate]), (0, 2, 1))
        return tf.reshape(both, (2 * len(self.model.teacher.members), -1))

    def __call__(self, rows: np.ndarray, towers: Sequence[str],
                 dense: np.ndarray | None = None,
                 scores: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Logits.

        Args:
            rows: (n, width) int32 rows of the tables.
            towers: names.
            dense: (n, dense_width) float32; None where the schema has no floats.
            scores: (n, members) float32 of `DualDNN.scored`; None where the teacher is not asked,
                or has none.

        Returns:
            (n,) float32 by tower.
        """
        if TEACHER not in towers:
            scores = np.zeros((len(rows), len(self.model.scored)), np.float32)
        found = self._in_blocks(self._score, tuple(towers), rows, dense, scores)
        return dict(zip(towers, found, strict=True))

    def members(self, rows: np.ndarray, dense: np.ndarray | None = None,
                scores: np.ndarray | None = None) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """By member of the teacher's pool its logits and its shares, each (n,) float32.

        Empty where the teacher is no pool. The arguments are those of a call.
        """
        if not isinstance(self.model.teacher, TeacherPool):
            return {}
        found = self._in_blocks(self._members, (TEACHER,), rows, dense, scores)
        names = self.model.teacher.members
        logits, shares = found[: len(names)], found[len(names) :]
        return {name: (logits[i], shares[i]) for i, name in enumerate(names)}

    def _in_blocks(
        self, function: Callable[..., tf.Tensor], towers: tuple[str, ...], rows: np.ndarray,
        dense: np.ndarray | None, scores: np.ndarray | None,
    ) -> np.ndarray:
        """What a compiled function of towers answers, blocks of rows joined along axis 1."""
        key = function.__name__, towers
        if dense is None:
            dense = np.zeros((len(rows), 0), np.float32)
        scores = given_scores(self.model, scores, rows)
        if key not in self._compiled:
            compiled = tf.function(lambda *inputs: function(*inputs, towers), autograph=False)
            self._compiled[key] = compiled.get_concrete_function(
                tf.TensorSpec((None, rows.shape[1]), tf.int32),
                tf.TensorSpec((None, dense.shape[1]), tf.float32),
                tf.TensorSpec((None, scores.shape[1]), tf.float32))
        blocks = [
            self._compiled[key](*(tf.constant(part[start : start + _BATCH_ROWS])
                                  for part in (rows, dense, scores))).numpy()
            for start in range(0, max(len(rows), 1), _BATCH_ROWS)
        ]
        return np.concatenate(blocks, axis=1)
