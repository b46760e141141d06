"""From the cells of an encoded day to rows of the tables, and from its numbers to floats."""

from __future__ import annotations

import numpy as np

from dualdnn.data.encoded_day import EncodedDay
from dualdnn.data.row_map import PADDING_ROW, RowMap
from dualdnn.data.scaling import normalised
from dualdnn.data.signs import buckets_of
from dualdnn.schema import Field, Schema

_BLOCK_ROWS = 2**14


def translate_day(day: EncodedDay, schema: Schema, row_map: RowMap, rows: np.ndarray,
                  dense: np.ndarray) -> None:
    """Translate one day, a field at a time, in blocks of rows that stay in the cache.

    Args:
        day: encoded.
        schema: the fields that the model reads, among those of the day.
        row_map: of the model.
        rows: (rows, schema.width) int32, filled.
        dense: (rows, schema.dense_width) float32, filled.
    """
    sources = [_source(day, field) for field in schema.fields]
    lookups = [_row_of_cell(day, position, field, row_map) if field.is_categorical else None
               for position, field in enumerate(schema.fields)]
    for first in range(0, day.rows, _BLOCK_ROWS):
        block = slice(first, first + _BLOCK_ROWS)
        cell = start = 0
        for position, field in enumerate(schema.fields):
            values, lookup = sources[position][block], lookups[position]
            target = rows[block, cell:cell + field.width]
            if lookup is not None:
                target[:] = lookup[values]
            elif field.dense_width:
                floats = dense_of(position, field, row_map, values)
                dense[block, start:start + field.dense_width] = floats.reshape(len(values), -1)
                missing = np.isnan(values if field.direct else values[:, 0])
                target[:, 0] = np.where(missing, row_map.oov_rows[position],
                                        row_map.bucket_rows[position])
            else:
                target[:, 0] = row_map.rows_of_numbers(position, values)
            cell += field.width
            start += field.dense_width


def _source(day: EncodedDay, field: Field) -> np.ndarray:
    """The day's array of a field, memory-mapped."""
    if field.is_vector_column:
        return day.vectors(field.name)
    return day.numbers(field.name) if field.kind == "number" else day.local_cells(field.name)


def dense_of(position: int, field: Field, row_map: RowMap, values: np.ndarray) -> np.ndarray:
    """The floats of a direct number or a column of vectors, of the shape of `values`.

    A missing number counts its row for missing values once; of a missing vector, the row alone
    stands for it.
    """
    return normalised(values, field.scale, row_map.shifts[position], row_map.factors[position],
                      missing=1.0 if field.direct else 0.0)


def _row_of_cell(day: EncodedDay, position: int, field: Field, row_map: RowMap) -> np.ndarray:
    """One lookup serves every cell: the field's signs, then missing, then (as -1) padding."""
    signs = np.asarray(day.array("signs")[day.section(field.name)])
    oov = row_map.oov_rows[position]
    if field.kind == "hash":
        rows = row_map.bucket_rows[position] + buckets_of(signs, field.buckets)
    else:
        rows = row_map.rows_of_signs(signs, oov)
    return np.concatenate([rows, [oov, PADDING_ROW]]).astype(np.int32)
