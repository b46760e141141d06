"""From the cells of an example to one vector a field."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import tensorflow as tf

from dualdnn.data.row_map import PADDING_ROW


@dataclass(frozen=True, kw_only=True)
class FieldCells:
    """How the cells of one field become its vector.

    Attributes:
        width: cells of the field.
        is_list: the vector is the mean of the cells that are not padding.
        factor: place of the float in the dense input that the one cell is multiplied by, or None.
    """

    width: int
    is_list: bool = False
    factor: int | None = None


def _runs(fields: Sequence[FieldCells]) -> list[list[FieldCells]]:
    """Neighbouring fields of one cell that are treated alike, every list alone."""
    runs: list[list[FieldCells]] = []
    for field in fields:
        alike = runs and not field.is_list and not runs[-1][0].is_list and (
            (field.factor is None) == (runs[-1][0].factor is None))
        if alike:
            runs[-1].append(field)
        else:
            runs.append([field])
    return runs


def pool(cells: tf.Tensor, rows: tf.Tensor, fields: Sequence[FieldCells],
         dense: tf.Tensor | None = None) -> tf.Tensor:
    """Average the cells of lists, multiply those of direct numbers.

    Args:
        cells: `(batch_size, width, size)` values gathered for `rows`.
        rows: `(batch_size, width)` rows of the table; in lists `PADDING_ROW` is left out.
        fields: whose cells they are, in order.
        dense: `(batch_size, dense_width)`, needed where a field has a factor.

    Returns:
        `(batch_size, num_fields, size)`.
    """
    runs = _runs(fields)
    widths = [sum(field.width for field in run) for run in runs]
    # One split, since the gradient of several slices fills the whole batch once for each.
    parts = tf.split(cells, widths, axis=1)
    rows_of_parts = tf.split(rows, widths, axis=1)
    for i, run in enumerate(runs):
        if run[0].is_list:
            present = tf.cast(rows_of_parts[i] != PADDING_ROW, cells.dtype)
            # A row of padding alone cannot occur in the data, but must not divide by zero.
            count = tf.maximum(tf.reduce_sum(present, axis=1, keepdims=True), 1.0)
            shares = (present / count)[:, :, tf.newaxis]
            parts[i] = tf.reduce_sum(parts[i] * shares, axis=1, keepdims=True)
        elif run[0].factor is not None:
            factors = tf.gather(dense, [field.factor for field in run], axis=1)
            parts[i] *= factors[:, :, tf.newaxis]
    return parts[0] if len(parts) == 1 else tf.concat(parts, axis=1)
