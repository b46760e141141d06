"""The graph that is served: raw features or rows in, a probability out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import tensorflow as tf

from dualdnn.data.row_map import PADDING_ROW, RowMap
from dualdnn.data.signs import signs_of
from dualdnn.schema import Field, Schema

_NO_ROW = -1


class ServingGraph(tf.Module):
    """Two signatures over one tower.

    `serving_default` takes raw features by field name: `id` `(batch_size,)` string, `ids`
    `(batch_size, any length)` string padded with "", `number` `(batch_size,)` float32. Values
    are answered for as follows: the empty string is missing; a missing or unseen id is scored
    with the field's out-of-vocabulary row; NaN with its row for missing numbers; of `ids` the
    first `max_length` positions are read. `encoded` takes rows `(batch_size, width)` int32.
    Both return `probability` and `logit`, each `(batch_size,)` float32.
    """

    def __init__(
        self,
        *,
        schema: Schema,
        row_map: RowMap,
        score: Callable[[tf.Tensor], tf.Tensor],
        variables: Sequence[tf.Variable],
    ) -> None:
        """Wrap a tower.

        Args:
            schema: the fields, in the order of the row map.
            row_map: of the tower's table.
            score: rows `(batch_size, width)` to logits `(batch_size,)`.
            variables: everything that `score` reads; nothing else is exported.
        """
        super().__init__(name="serving_graph")
        self.schema = schema
        self.score = score
        self.tower_variables = list(variables)
        self.oov_rows = row_map.oov_rows.tolist()
        self.bucket_rows = row_map.bucket_rows.tolist()
        self.boundaries = [row_map.boundaries_of(i).tolist() for i in range(len(schema.fields))]
        # A mutable table, since that keeps its entries in the checkpoint: binary, deployable
        # apart from the graph, and 5 to 10 times faster to ask than a search in sorted signs.
        self.row_of_sign = tf.lookup.experimental.MutableHashTable(
            tf.int64, tf.int32, default_value=_NO_ROW, name="row_of_sign"
        )
        if len(row_map.signs):
            self.row_of_sign.insert(row_map.signs, row_map.rows)

    def _rows_of_field(self, position: int, field: Field, values: tf.Tensor) -> tf.Tensor:
        """`(batch_size, field width)` rows of one field's raw values."""
        oov = self.oov_rows[position]
        if field.kind == "number":
            bounds = tf.constant(self.boundaries[position], tf.float32)
            bucket = tf.searchsorted(bounds, values, side="right")
            rows = tf.where(tf.math.is_nan(values), oov, self.bucket_rows[position] + bucket)
            return rows[:, tf.newaxis]
        if field.kind == "ids":
            values = values[:, : field.max_length]
        found = self.row_of_sign.lookup(signs_of(field.name, values))
        rows = tf.where(found == _NO_ROW, oov, found)
        if field.kind == "id":
            return rows[:, tf.newaxis]
        rows = tf.where(values == "", PADDING_ROW, rows)
        rows = tf.pad(rows, [[0, 0], [0, field.max_length - tf.shape(rows)[1]]],
                      constant_values=PADDING_ROW)
        rows = tf.ensure_shape(rows, (None, field.max_length))
        is_missing = tf.reduce_all(rows == PADDING_ROW, axis=1)
        first = tf.where(is_missing, oov, rows[:, 0])
        return tf.concat([first[:, tf.newaxis], rows[:, 1:]], axis=1)

    def rows_of(self, features: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Raw features by field name to rows `(batch_size, width)` int32."""
        rows = tf.concat(
            [self._rows_of_field(i, field, features[field.name])
             for i, field in enumerate(self.schema.fields)],
            axis=1,
        )
        return tf.ensure_shape(rows, (None, self.schema.width))

    def _answer(self, rows: tf.Tensor) -> dict[str, tf.Tensor]:
        logits = self.score(rows)
        return {"probability": tf.sigmoid(logits), "logit": logits}

    def signatures(self) -> dict[str, Any]:
        """Concrete functions whose inputs carry the names of the fields."""
        specs = {}
        for field in self.schema.fields:
            kind = tf.float32 if field.kind == "number" else tf.string
            shape = (None, None) if field.kind == "ids" else (None,)
            specs[field.name] = tf.TensorSpec(shape, kind, name=field.name)

        @tf.function
        def serving_default(**features: tf.Tensor) -> dict[str, tf.Tensor]:
            return self._answer(self.rows_of(features))

        @tf.function
        def encoded(*, rows: tf.Tensor) -> dict[str, tf.Tensor]:
            return self._answer(rows)

        rows_spec = tf.TensorSpec((None, self.schema.width), tf.int32, name="rows")
        return {
            "serving_default": serving_default.get_concrete_function(**specs),
            "encoded": encoded.get_concrete_function(rows=rows_spec),
        }


def raw_features(schema: Schema, table: pa.Table) -> dict[str, np.ndarray]:
    """What a client sends for rows read by `Lake.read`: the inputs of `serving_default`.

    Args:
        schema: the fields.
        table: columns as `Lake.read` returns them.

    Returns:
        by field name `(n,)` object array of str, `(n, max_length)` for `ids`, `(n,)` float32.
    """
    features = {}
    for field in schema.fields:
        values = table[field.name]
        if field.kind == "number":
            features[field.name] = values.to_numpy().astype(np.float32)
        elif field.kind == "id":
            features[field.name] = np.array([v or "" for v in values.to_pylist()], object)
        else:
            padded = np.full((len(values), field.max_length), "", object)
            for row, given in enumerate(values.to_pylist()):
                kept = (given or [])[: field.max_length]
                padded[row, : len(kept)] = [v or "" for v in kept]
            features[field.name] = padded
    return features
