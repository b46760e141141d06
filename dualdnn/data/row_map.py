"""Which row of its table a value owns: the vocabulary of one model version."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dualdnn.data.admission import NO_LIMITS, Admission, day_number, occurrences
from dualdnn.data.encoded_day import EncodedDay
from dualdnn.data.scaling import log_boundaries, normalisation, quantile_boundaries
from dualdnn.data.vectors import read_vectors
from dualdnn.errors import DataError
from dualdnn.schema import Field, Schema

PADDING_ROW = 0
_ARRAYS = ("signs", "rows", "fields", "last_seen", "oov_rows", "bucket_rows", "boundaries",
           "shifts", "factors")


@dataclass(frozen=True, kw_only=True)
class RowMap:
    """Signs and buckets to rows of the tables.

    Rows are numbered in each table of the schema by itself. Row 0 is padding. Then every field of
    the table owns one row for values that are out of vocabulary or missing, every number and hash
    field its buckets (a direct number and a column of vectors one row), every admitted sign its
    own row.

    Attributes:
        made_for: what each field of its schema was, see `readings`.
        table_rows: rows of each table, by name.
        signs: (admitted,) int64, ascending.
        rows: (admitted,) int32, the row of each sign.
        fields: (admitted,) int32, the position in the schema of the field that owns each sign.
        last_seen: (admitted,) int32, the last training day with the sign, days since 1970.
        oov_rows: (num_fields,) int32.
        bucket_rows: (num_fields,) int32, the first bucket's row; -1 where there are none.
        boundaries: (num_fields, most boundaries) float32, ascending, padded with +inf.
        shifts: (num_fields,) float64, what is taken off a field's floats.
        factors: (num_fields,) float64, what they are then multiplied by.
        vectors: pre-trained rows (rows, size) float32, by the name of their table.
    """

    made_for: Sequence[str]
    table_rows: Mapping[str, int]
    signs: np.ndarray
    rows: np.ndarray
    fields: np.ndarray
    last_seen: np.ndarray
    oov_rows: np.ndarray
    bucket_rows: np.ndarray
    boundaries: np.ndarray
    shifts: np.ndarray
    factors: np.ndarray
    vectors: Mapping[str, np.ndarray] = dataclass_field(default_factory=dict)

    @property
    def num_rows(self) -> int:
        """Rows of all tables."""
        return sum(self.table_rows.values())

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

    def buckets_of_numbers(self, position: int, values: np.ndarray) -> np.ndarray:
        """(n,) int64 buckets of the float32 values of one number field; -1 where missing."""
        bucket = np.searchsorted(self.boundaries_of(position), values, side="right")
        return np.where(np.isnan(values), -1, bucket)

    def rows_of_numbers(self, position: int, values: np.ndarray) -> np.ndarray:
        """(n,) int32 rows of the float32 values of one number field in buckets."""
        bucket = self.buckets_of_numbers(position, values)
        rows = self.bucket_rows[position] + bucket
        return np.where(bucket < 0, self.oov_rows[position], rows).astype(np.int32)

    def only(self, schema: Schema, kept: Schema) -> RowMap:
        """The row map of some fields of a schema: nothing of the others is left in it.

        Args:
            schema: the fields of this row map.
            kept: some of them, with the owners of their rows.
        """
        positions = np.array([schema.fields.index(field) for field in kept.fields])
        place = np.full(len(schema.fields), -1, np.int32)
        place[positions] = np.arange(len(positions))
        own = place[self.fields] >= 0
        tables = kept.tables()
        return RowMap(
            made_for=readings(kept), table_rows={name: self.table_rows[name] for name in tables},
            signs=self.signs[own], rows=self.rows[own], fields=place[self.fields[own]],
            last_seen=self.last_seen[own], oov_rows=self.oov_rows[positions],
            bucket_rows=self.bucket_rows[positions], boundaries=self.boundaries[positions],
            shifts=self.shifts[positions], factors=self.factors[positions],
            vectors={name: rows for name, rows in self.vectors.items() if name in tables},
        )

    def save(self, folder: Path) -> None:
        """Write one file an array into an existing folder."""
        for name in _ARRAYS:
            np.save(folder / f"{name}.npy", getattr(self, name))
        for name, vectors in self.vectors.items():
            np.save(folder / f"{name}.npy", vectors)
        about = {"made_for": list(self.made_for), "table_rows": dict(self.table_rows),
                 "vectors": list(self.vectors)}
        (folder / "row_map.json").write_text(json.dumps(about))


def readings(schema: Schema) -> list[str]:
    """Of each field, all that decides which row a value is read as."""
    left_out = ("side", "min_count", "label_statistic", "file", "frozen")
    return [json.dumps({key: value for key, value in field.to_dict().items()
                        if key not in left_out}, sort_keys=True) for field in schema.fields]


def check_made_for(row_map: RowMap, schema: Schema) -> None:
    """Rows of another schema would be read without a word, as the wrong ones.

    Raises:
        DataError: the row map was built for more, fewer or other fields.
    """
    advice = "Use the schema and the kind of window that the model was trained with."
    if len(row_map.made_for) != len(schema.fields):
        names = ", ".join(field.name for field in schema.fields)
        raise DataError(
            f"the row map was built for {len(row_map.made_for)} fields, but this window and "
            f"schema leave {len(schema.fields)}: {names}. {advice}"
        )
    for was, now in zip(row_map.made_for, readings(schema), strict=True):
        if was != now:
            raise DataError(f"the row map was built for the field {was}, but this schema has "
                            f"{now} in its place. {advice}")


def load_row_map(folder: Path) -> RowMap:
    """Read what `RowMap.save` wrote."""
    about = json.loads((folder / "row_map.json").read_text())
    return RowMap(made_for=about["made_for"], table_rows=about["table_rows"],
                  vectors={name: np.load(folder / f"{name}.npy") for name in about["vectors"]},
                  **{name: np.load(folder / f"{name}.npy") for name in _ARRAYS})


def _training_values(values: Sequence[np.ndarray],
                     parts: Sequence[np.ndarray | None]) -> np.ndarray:
    return np.concatenate([np.asarray(of_day if rows is None else of_day[rows])
                           for of_day, rows in zip(values, parts, strict=True)])


def _root_mean_square(field: Field, days: Sequence[EncodedDay],
                      parts: Sequence[np.ndarray | None]) -> float:
    """Of all numbers in a column of vectors: summed by day, since they are many."""
    total, count = 0.0, 0
    for day, rows in zip(days, parts, strict=True):
        values = day.vectors(field.name)
        given = np.asarray(values if rows is None else values[rows])
        given = given[~np.isnan(given)].astype(np.float64)
        total, count = total + float(np.square(given).sum()), count + given.size
    return float(np.sqrt(total / count)) if total else 1.0


class Numbers:
    """Boundaries, shifts and factors of the fields that are numbers; of the others there are none.

    Args:
        count: fields of the schema.
    """

    def __init__(self, count: int) -> None:
        self.shifts, self.factors = np.zeros(count), np.ones(count)
        self.boundaries: list[np.ndarray] = [np.zeros(0, np.float32)] * count

    def measure(self, position: int, field: Field, days: Sequence[EncodedDay],
                parts: Sequence[np.ndarray | None]) -> None:
        """Set those of one field from the training part."""
        if field.is_vector_column:
            # One factor for the whole vector: angles between vectors stay what they are.
            self.factors[position] = 1.0 / _root_mean_square(field, days, parts)
        if field.kind != "number":
            return
        values = _training_values([day.numbers(field.name) for day in days], parts)
        cut = log_boundaries if field.scale == "log" else quantile_boundaries
        # Of a direct number the boundaries serve slices and histograms.
        self.boundaries[position] = cut(values, field.buckets)
        if field.direct:
            self.shifts[position], self.factors[position] = normalisation(values, field.scale)

    def take(self, position: int, row_map: RowMap, before: int) -> None:
        """Set those of one field to what stands at a position of a row map."""
        self.boundaries[position] = row_map.boundaries_of(before)
        self.shifts[position] = row_map.shifts[before]
        self.factors[position] = row_map.factors[before]

    def padded_boundaries(self) -> np.ndarray:
        """(num_fields, most boundaries) float32, padded with +inf."""
        width = max(map(len, self.boundaries), default=0)
        padded = np.full((len(self.boundaries), width), np.inf, np.float32)
        for position, found in enumerate(self.boundaries):
            padded[position, :len(found)] = found
        return padded


def bucket_count(field: Field, boundaries: np.ndarray) -> int:
    """Rows that a field owns whatever its values."""
    if field.direct or field.is_vector_column:
        return 1
    if field.kind == "number":
        return len(boundaries) + 1
    return field.buckets if field.kind == "hash" else 0


def fixed_count(schema: Schema, members: Sequence[Field], numbers: Numbers) -> int:
    """Rows of a table that no sign owns: padding, one out of vocabulary a field, buckets."""
    return 1 + len(members) + sum(
        bucket_count(field, numbers.boundaries[schema.fields.index(field)]) for field in members)


class Owners(NamedTuple):
    """Signs that get a row of one table, in the order of their rows.

    Attributes:
        signs: (n,) int64.
        fields: (n,) int32, the position in the schema of the field that owns each sign.
        last_seen: (n,) int32, days since 1970.
        vectors: (n, size) float32 of a file of vectors, or None.
    """

    signs: np.ndarray
    fields: np.ndarray
    last_seen: np.ndarray
    vectors: np.ndarray | None = None


def owners_of_file(schema: Schema, field: Field, days: Sequence[EncodedDay]) -> Owners:
    """Every key of a field's file of vectors.

    Raises:
        DataError: the file cannot be read.
    """
    file = read_vectors(field)
    count = len(file.signs)
    return Owners(file.signs, np.full(count, schema.fields.index(field), np.int32),
                  np.full(count, max(map(day_number, days)), np.int32), file.vectors)


def laid_out(schema: Schema, numbers: Numbers, owners: Mapping[str, Owners]) -> RowMap:
    """Number the rows of every table: padding, out of vocabulary, buckets, then signs.

    Args:
        schema: the fields.
        numbers: of all of them.
        owners: of every table.
    """
    positions = {field.name: i for i, field in enumerate(schema.fields)}
    oov_rows = np.zeros(len(schema.fields), np.int32)
    bucket_rows = np.full(len(schema.fields), -1, np.int32)
    table_rows: dict[str, int] = {}
    vectors: dict[str, np.ndarray] = {}
    rows = []
    for table, members in schema.tables().items():
        next_row = 1 + len(members)
        for number, field in enumerate(members):
            oov_rows[positions[field.name]] = 1 + number
        for field in members:
            position = positions[field.name]
            if buckets := bucket_count(field, numbers.boundaries[position]):
                bucket_rows[position] = next_row
                next_row += buckets
        own = owners[table]
        table_rows[table] = next_row + len(own.signs)
        rows.append(np.arange(next_row, table_rows[table], dtype=np.int32))
        if own.vectors is not None:
            start = np.zeros((next_row, own.vectors.shape[1]), np.float32)
            vectors[table] = np.concatenate([start, own.vectors])

    every = [owners[table] for table in table_rows]
    signs = np.concatenate([own.signs for own in every])
    order = np.argsort(signs, kind="stable")
    return RowMap(
        made_for=readings(schema), table_rows=table_rows, signs=signs[order],
        rows=np.concatenate(rows)[order],
        fields=np.concatenate([own.fields for own in every])[order],
        last_seen=np.concatenate([own.last_seen for own in every])[order],
        oov_rows=oov_rows, bucket_rows=bucket_rows, boundaries=numbers.padded_boundaries(),
        shifts=numbers.shifts, factors=numbers.factors, vectors=vectors,
    )


def build_row_map(
    schema: Schema, days: Sequence[EncodedDay], parts: Sequence[np.ndarray | None],
    admission: Admission = NO_LIMITS,
) -> RowMap:
    """Give a row to every sign that occurs often enough in the training part.

    Args:
        schema: fields with their `min_count`, `buckets` and files of vectors.
        days: encoded days.
        parts: for each day the numbers of its training rows, or None for all of them.
        admission: the most rows of a table.

    Returns:
        a row map in which rows of one field are neighbours, ordered by sign. Every key of a file
        of vectors has its row, in the training part or not.

    Raises:
        DataError: a file of vectors cannot be read, or the capacity does not hold the rows that
            a table needs whatever the values.
    """
    numbers = Numbers(len(schema.fields))
    for position, field in enumerate(schema.fields):
        numbers.measure(position, field, days, parts)
    owners = {}
    for table, members in schema.tables().items():
        if members[0].file:
            owners[table] = owners_of_file(schema, members[0], days)
            continue
        room = admission.room(table, fixed_count(schema, members, numbers))
        found = occurrences(schema, members, days, parts).frequent(schema).most_frequent(room)
        owners[table] = Owners(found.signs, found.fields, found.last_seen)
    return laid_out(schema, numbers, owners)
