"""Which row of the fused table a value owns: the vocabulary of one model version."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dualdnn.data.encoding import EncodedDay
from dualdnn.schema import Schema

PADDING_ROW = 0
_ARRAYS = ("signs", "rows", "fields", "last_seen", "oov_rows", "bucket_rows", "boundaries")


@dataclass(frozen=True, kw_only=True)
class RowMap:
    """Signs and number buckets to rows of the fused table.

    Row 0 is padding. Then every field of the schema owns one row for values that are out of
    vocabulary or missing, every number field its buckets, every admitted sign its own row.

    Attributes:
        num_rows: rows of the table.
        signs: (admitted,) int64, ascending.
        rows: (admitted,) int32, the row of each sign.
        fields: (admitted,) int32, the position in the schema of each sign's field.
        last_seen: (admitted,) int32, the last training day with the sign, days since 1970.
        oov_rows: (num_fields,) int32.
        bucket_rows: (num_fields,) int32, the first bucket's row; -1 where not a number field.
        boundaries: (num_fields, most boundaries) float32, ascending, padded with +inf.
    """

    num_rows: int
    signs: np.ndarray
    rows: np.ndarray
    fields: np.ndarray
    last_seen: np.ndarray
    oov_rows: np.ndarray
    bucket_rows: np.ndarray
    boundaries: np.ndarray

    def boundaries_of(self, position: int) -> np.ndarray:
        """Ascending float32 boundaries of one number field; bucket i is [b[i-1], b[i])."""
        row = self.boundaries[position]
        return row[np.isfinite(row)]

    def rows_of_signs(self, signs: np.ndarray, oov_row: int) -> np.ndarray:
        """(n,) int32 rows of ascending or unordered signs of one field."""
        if not len(self.signs):
            return np.full(len(signs), oov_row, np.int32)
        at = np.minimum(np.searchsorted(self.signs, signs), len(self.signs) - 1)
        return np.where(self.signs[at] == signs, self.rows[at], oov_row).astype(np.int32)

    def rows_of_numbers(self, position: int, values: np.ndarray) -> np.ndarray:
        """(n,) int32 rows of the float32 values of one number field; NaN is missing."""
        bucket = np.searchsorted(self.boundaries_of(position), values, side="right")
        rows = self.bucket_rows[position] + bucket
        return np.where(np.isnan(values), self.oov_rows[position], rows).astype(np.int32)

    def save(self, folder: Path) -> None:
        """Write one file an array into an existing folder."""
        for name in _ARRAYS:
            np.save(folder / f"{name}.npy", getattr(self, name))
        (folder / "row_map.json").write_text(json.dumps({"num_rows": self.num_rows}))


def load_row_map(folder: Path) -> RowMap:
    """Read what `RowMap.save` wrote."""
    meta = json.loads((folder / "row_map.json").read_text())
    return RowMap(num_rows=meta["num_rows"],
                  **{name: np.load(folder / f"{name}.npy") for name in _ARRAYS})


def _count_signs(
    schema: Schema, days: Sequence[EncodedDay], parts: Sequence[np.ndarray | None]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Sign, field position, count in the training rows and last day, unique over the days."""
    positions = {field.name: i for i, field in enumerate(schema.fields)}
    signs, fields, counts, seen = [], [], [], []
    for day, rows in zip(days, parts, strict=True):
        of_day = day.array("signs")
        if rows is None:
            count = np.asarray(day.array("counts"))
        else:
            cells = day.array("cells")[rows].ravel()
            cells = cells[(cells >= 0) & (cells < len(of_day))]
            count = np.bincount(cells, minlength=len(of_day))
        field = np.full(len(of_day), -1, np.int32)
        for name in day.categorical:
            field[day.section(name)] = positions.get(name, -1)
        present = (count > 0) & (field >= 0)
        signs.append(np.asarray(of_day)[present])
        fields.append(field[present])
        counts.append(count[present])
        seen.append(np.full(int(present.sum()),
                            np.datetime64(day.day).astype("datetime64[D]").astype(np.int32)))
    every = np.concatenate([*signs, np.zeros(0, np.int64)])
    unique, first, inverse = np.unique(every, return_index=True, return_inverse=True)
    total = np.zeros(len(unique), np.int64)
    np.add.at(total, inverse, np.concatenate([*counts, np.zeros(0, np.int64)]))
    last = np.zeros(len(unique), np.int32)
    np.maximum.at(last, inverse, np.concatenate([*seen, np.zeros(0, np.int32)]))
    return unique, np.concatenate([*fields, np.zeros(0, np.int32)])[first], total, last


def _quantile_boundaries(values: np.ndarray, buckets: int) -> np.ndarray:
    """At most `buckets - 1` distinct float32 values that occur, ascending."""
    values = values[~np.isnan(values)]
    if not len(values):
        return np.zeros(0, np.float32)
    shares = np.linspace(0, 1, buckets + 1)[1:-1]
    found = np.unique(np.quantile(values, shares, method="inverted_cdf").astype(np.float32))
    # The smallest value as a boundary would leave the first bucket empty.
    return found[found > values.min()]


def build_row_map(
    schema: Schema, days: Sequence[EncodedDay], parts: Sequence[np.ndarray | None]
) -> RowMap:
    """Admission: give a row to every sign that occurs often enough in the training part.

    Args:
        schema: fields with their `min_count` and `buckets`.
        days: encoded days.
        parts: for each day the numbers of its training rows, or None for all of them.

    Returns:
        a row map in which rows of one field are neighbours, ordered by sign.
    """
    signs, fields, counts, seen = _count_signs(schema, days, parts)
    least = np.array([field.min_count for field in schema.fields])
    admitted = counts >= least[fields]
    signs, fields, seen = signs[admitted], fields[admitted], seen[admitted]

    num_fields = len(schema.fields)
    oov_rows = np.arange(1, num_fields + 1, dtype=np.int32)
    next_row = num_fields + 1
    bucket_rows = np.full(num_fields, -1, np.int32)
    boundaries: list[np.ndarray] = [np.zeros(0, np.float32)] * num_fields
    for position, field in enumerate(schema.fields):
        if field.kind != "number":
            continue
        values = [np.asarray(day.numbers(field.name) if rows is None
                             else day.numbers(field.name)[rows])
                  for day, rows in zip(days, parts, strict=True)]
        boundaries[position] = _quantile_boundaries(np.concatenate(values), field.buckets)
        bucket_rows[position] = next_row
        next_row += len(boundaries[position]) + 1
    padded = np.full((num_fields, max(map(len, boundaries), default=0)), np.inf, np.float32)
    for position, found in enumerate(boundaries):
        padded[position, :len(found)] = found

    rows = np.empty(len(signs), np.int32)
    rows[np.lexsort((signs, fields))] = np.arange(next_row, next_row + len(signs))
    return RowMap(num_rows=next_row + len(signs), signs=signs, rows=rows, fields=fields,
                  last_seen=seen, oov_rows=oov_rows, bucket_rows=bucket_rows, boundaries=padded)
