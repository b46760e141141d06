"""The graph that is served: raw features or rows in, a probability out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import tensorflow as tf

from dualdnn.data.pseudonyms import pseudonyms
from dualdnn.data.row_map import PADDING_ROW, RowMap
from dualdnn.data.scaling import CLIP
from dualdnn.data.signs import MISSING, buckets_in_graph, signs_of, signs_of_pairs
from dualdnn.schema import Field, Schema

_NO_ROW = -1


class ServingGraph(tf.Module):
    """Two signatures over one tower.

    `serving_default` takes raw features by name of the column: `id` and `hash` `(batch_size,)`
    string, `ids` and `sequence` `(batch_size, any length)` string padded with "", `number`
    `(batch_size,)` float32, a column of vectors `(batch_size, size)` float32. A cross and vectors
    of a file are no inputs. For a field with `pii` the pseudonym is sent: the graph holds no key.
    Values are answered for as follows: the empty string is missing; a missing or unseen id is
    scored with the field's out-of-vocabulary row; NaN with its row for missing numbers, also
    anywhere in a vector; of lists the first `max_length` positions are read. `encoded` takes rows
    `(batch_size, width)` int32 and, where the schema has direct numbers or columns of vectors,
    `dense` `(batch_size, dense_width)` float32. Both return `probability` and `logit`, each
    `(batch_size,)` float32.
    """

    def __init__(
        self,
        *,
        schema: Schema,
        row_map: RowMap,
        score: Callable[[tf.Tensor, tf.Tensor | None], tf.Tensor],
        variables: Sequence[tf.Variable],
        negative_rate: float = 1.0,
    ) -> None:
        """Wrap a tower.

        Args:
            schema: the fields that the tower reads, in the order of the row map.
            row_map: of these fields.
            score: rows `(batch_size, width)` and floats `(batch_size, dense_width)`, None where
                there are none, to logits `(batch_size,)`.
            variables: everything that `score` reads; nothing else is exported.
            negative_rate: probability w with which a negative of the training part was kept. A
                probability p becomes p / (p + (1 - p) / w) (He et al. 2014, "Practical Lessons
                from Predicting Clicks on Ads at Facebook", section 6.3): log(w) on the logit.
        """
        super().__init__(name="serving_graph")
        self.schema = schema
        self.score = score
        self.tower_variables = list(variables)
        self.negative_rate = negative_rate
        self.oov_rows = row_map.oov_rows.tolist()
        self.bucket_rows = row_map.bucket_rows.tolist()
        self.boundaries = [row_map.boundaries_of(i).tolist() for i in range(len(schema.fields))]
        self.shifts = row_map.shifts.tolist()
        self.factors = row_map.factors.tolist()
        # A mutable table, since that keeps its entries in the checkpoint: binary, deployable
        # apart from the graph, and 5 to 10 times faster to ask than a search in sorted signs.
        self.row_of_sign = tf.lookup.experimental.MutableHashTable(
            tf.int64, tf.int32, default_value=_NO_ROW, name="row_of_sign"
        )
        if len(row_map.signs):
            self.row_of_sign.insert(row_map.signs, row_map.rows)

    def _signs(self, field: Field, features: Mapping[str, tf.Tensor]) -> tf.Tensor:
        if field.cross:
            first, second = (self._signs(self.schema.field(name), features)
                             for name in field.cross)
            return signs_of_pairs(field.name, first, second)
        values = features[field.column or field.name]
        return signs_of(field.namespace, values[:, : field.max_length] if field.is_list else values)

    def _rows_of_field(self, position: int, field: Field,
                       features: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """`(batch_size, field width)` rows of one field's raw values."""
        oov, first = self.oov_rows[position], self.bucket_rows[position]
        if not field.is_categorical:
            values = features[field.name]
            is_missing = tf.math.is_nan(values)
            if field.is_vector_column:
                is_missing = tf.reduce_any(is_missing, axis=1)
            bucket = tf.constant(0)
            if field.kind == "number" and not field.direct:
                bounds = tf.constant(self.boundaries[position], tf.float32)
                values = tf.where(tf.abs(values) < np.finfo(np.float32).tiny, 0.0, values)
                bucket = tf.searchsorted(bounds, values, side="right")
            return tf.where(is_missing, oov, first + bucket)[:, tf.newaxis]
        signs = self._signs(field, features)
        if field.kind == "hash":
            rows = first + buckets_in_graph(signs, field.buckets)
            return tf.where(signs == MISSING, oov, rows)[:, tf.newaxis]
        found = self.row_of_sign.lookup(signs)
        rows = tf.where(found == _NO_ROW, oov, found)
        return self._padded(field, signs, rows, oov) if field.is_list else rows[:, tf.newaxis]

    def _padded(self, field: Field, signs: tf.Tensor, rows: tf.Tensor, oov: int) -> tf.Tensor:
        """Rows of lists brought to `max_length`; a list of nothing counts as one missing value."""
        rows = tf.where(signs == MISSING, PADDING_ROW, rows)
        rows = tf.pad(rows, [[0, 0], [0, field.max_length - tf.shape(rows)[1]]],
                      constant_values=PADDING_ROW)
        rows = tf.ensure_shape(rows, (None, field.max_length))
        is_missing = tf.reduce_all(rows == PADDING_ROW, axis=1)
        first = tf.where(is_missing, oov, rows[:, 0])
        return tf.concat([first[:, tf.newaxis], rows[:, 1:]], axis=1)

    def rows_of(self, features: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Raw features by name to rows `(batch_size, width)` int32."""
        rows = tf.concat(
            [self._rows_of_field(i, field, features)
             for i, field in enumerate(self.schema.fields)],
            axis=1,
        )
        return tf.ensure_shape(rows, (None, self.schema.width))

    def _dense_of_field(self, position: int, field: Field, values: tf.Tensor) -> tf.Tensor:
        """`normalised` in a graph: in float64, and rounded at the end."""
        found = tf.cast(values, tf.float64)
        if field.scale == "log":
            found = tf.sign(found) * tf.math.log1p(tf.abs(found))
        found = (found - self.shifts[position]) * self.factors[position]
        found = tf.cast(tf.clip_by_value(found, -CLIP, CLIP), tf.float32)
        if field.direct:
            return tf.where(tf.math.is_nan(values), 1.0, found)[:, tf.newaxis]
        is_missing = tf.reduce_any(tf.math.is_nan(values), axis=1, keepdims=True)
        return tf.where(is_missing, 0.0, found)

    def dense_of(self, features: Mapping[str, tf.Tensor]) -> tf.Tensor | None:
        """Raw features to floats `(batch_size, dense_width)`; None where there are none."""
        if not self.schema.dense_width:
            return None
        return tf.concat(
            [self._dense_of_field(i, field, features[field.name])
             for i, field in enumerate(self.schema.fields) if field.dense_width],
            axis=1,
        )

    def _answer(self, rows: tf.Tensor, dense: tf.Tensor | None) -> dict[str, tf.Tensor]:
        logits = self.score(rows, dense)
        if self.negative_rate != 1.0:
            logits += np.float32(np.log(self.negative_rate))
        return {"probability": tf.sigmoid(logits), "logit": logits}

    def signatures(self) -> dict[str, Any]:
        """Concrete functions whose inputs carry the names of the columns."""
        specs = {field.column: _spec(field) for field in self.schema.fields
                 if field.column == field.name}

        # Nothing is to be converted, and looking takes longer than tracing.
        @tf.function(autograph=False)
        def serving_default(**features: tf.Tensor) -> dict[str, tf.Tensor]:
            return self._answer(self.rows_of(features), self.dense_of(features))

        @tf.function(autograph=False)
        def encoded(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            return self._answer(inputs["rows"], inputs.get("dense"))

        inputs = {"rows": tf.TensorSpec((None, self.schema.width), tf.int32, name="rows")}
        if width := self.schema.dense_width:
            inputs["dense"] = tf.TensorSpec((None, width), tf.float32, name="dense")
        return {
            "serving_default": serving_default.get_concrete_function(**specs),
            "encoded": encoded.get_concrete_function(**inputs),
        }


def _spec(field: Field) -> tf.TensorSpec:
    if field.is_vector_column:
        return tf.TensorSpec((None, field.size), tf.float32, name=field.name)
    if field.kind == "number":
        return tf.TensorSpec((None,), tf.float32, name=field.name)
    shape = (None, None) if field.is_list else (None,)
    return tf.TensorSpec(shape, tf.string, name=field.name)


def raw_features(schema: Schema, table: pa.Table, key: bytes | None = None
                 ) -> dict[str, np.ndarray]:
    """What a client sends for rows read by `Lake.read`: the inputs of `serving_default`.

    Args:
        schema: the fields.
        table: columns as `Lake.read` returns them.
        key: of pseudonyms, needed where a field is `pii`.

    Returns:
        by field name `(n,)` object array of str, `(n, max_length)` of lists; `(n,)` float32 of
        numbers, `(n, size)` of columns of vectors. Pseudonyms stand for personal values.
    """
    features = {}
    for field in schema.fields:
        if field.column != field.name:
            continue
        values = table[field.name]
        if field.is_vector_column:
            flat = values.combine_chunks().flatten().to_numpy(zero_copy_only=False)
            features[field.name] = flat.reshape(len(values), -1).astype(np.float32)
            continue
        if field.kind == "number":
            features[field.name] = values.to_numpy().astype(np.float32)
            continue
        given = values.to_pylist()
        padded = np.full((len(values), field.width), "", object)
        for row, one in enumerate(given):
            texts = [v or "" for v in ((one or []) if field.is_list else [one])][: field.width]
            if field.pii:
                assert key is not None, "personal values need the key of pseudonyms"
                texts = pseudonyms(texts, key)
            padded[row, : len(texts)] = texts
        features[field.name] = padded if field.is_list else padded[:, 0]
    return features
