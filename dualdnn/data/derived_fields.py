"""Fields that no column of the lake holds: values of a fixed number, made from the examples."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from dualdnn.data.examples import Examples, allocated
from dualdnn.data.row_map import RowMap, readings
from dualdnn.errors import ConfigError
from dualdnn.schema import MAIN_TABLE, Field, Schema

_BLOCK_ROWS = 2**16


def with_derived_fields(
    examples: Examples, names: Sequence[str], buckets: int,
    values_of: Callable[[np.ndarray], np.ndarray], *, digest: str, state: Path,
) -> Examples:
    """The same examples with categorical fields behind those of the schema.

    The new fields are of kind `hash`: each owns `buckets` rows of the main table, whatever the
    training part holds. They stand behind all rows that are there, but for one row a field, which
    by the layout of a table stands behind the other fields' rows for unknown values: rows behind
    these move up.

    Args:
        examples: the data; not changed.
        names: of the fields, all new.
        buckets: values of each.
        values_of: of row numbers (n,) the values (n, len(names)) in [0, buckets).
        digest: of what makes the values; becomes part of the fingerprint.
        state: `paths.state`, for arrays that are too large for memory.

    Raises:
        ConfigError: the schema has a field of one of these names.
    """
    taken = sorted({field.name for field in examples.schema.fields} & set(names))
    if taken:
        raise ConfigError(f"data.fields must not hold {', '.join(taken)}, names of derived fields "
                          "of this run. Rename them.")
    if not names:
        return examples
    before = examples.schema
    after = replace(before, fields=(*before.fields, *(
        Field(name=name, kind="hash", buckets=buckets) for name in names)))
    row_map = _extended(examples.row_map, before, after, buckets)
    first_rows = row_map.bucket_rows[len(before.fields):]

    count, width = examples.rows.shape
    rows = allocated((count, width + len(names)), np.int32, state)
    moved = np.zeros(width, bool)
    for field in before.tables().get(MAIN_TABLE, []):
        moved[before.cells(field.name)] = True
    last_kept = _last_unknown_row(before)
    for start in range(0, count, _BLOCK_ROWS):
        index = np.arange(start, min(start + _BLOCK_ROWS, count))
        old = examples.rows[index]
        rows[index, :width] = old + len(names) * (moved & (old > last_kept))
        rows[index, width:] = first_rows + values_of(index)
    fingerprint = hashlib.sha256(f"{examples.fingerprint} {digest}".encode()).hexdigest()
    return replace(examples, schema=after, row_map=row_map, rows=rows, fingerprint=fingerprint)


def _last_unknown_row(schema: Schema) -> int:
    """The last row of the main table for unknown values; padding is row 0."""
    return len(schema.tables().get(MAIN_TABLE, []))


def _extended(row_map: RowMap, before: Schema, after: Schema, buckets: int) -> RowMap:
    """The row map of the longer schema."""
    count = len(after.fields) - len(before.fields)
    last_kept = _last_unknown_row(before)
    position = np.arange(count, dtype=np.int32)
    first = row_map.table_rows.get(MAIN_TABLE, 1) + count
    in_main = np.array([before.table_name(field) == MAIN_TABLE for field in before.fields])

    def moved(rows: np.ndarray, main: np.ndarray) -> np.ndarray:
        return (rows + count * (main & (rows > last_kept))).astype(np.int32)

    def with_new(values: np.ndarray, of_new: np.ndarray) -> np.ndarray:
        return np.concatenate([values, of_new.astype(values.dtype)])

    none = np.full((count, row_map.boundaries.shape[1]), np.inf)
    return replace(
        row_map, made_for=readings(after),
        table_rows={**row_map.table_rows, MAIN_TABLE: first + count * buckets},
        rows=moved(row_map.rows, in_main[row_map.fields]),
        oov_rows=with_new(row_map.oov_rows, last_kept + 1 + position),
        bucket_rows=with_new(moved(row_map.bucket_rows, in_main), first + buckets * position),
        boundaries=with_new(row_map.boundaries, none),
        shifts=with_new(row_map.shifts, np.zeros(count)),
        factors=with_new(row_map.factors, np.ones(count)),
    )
