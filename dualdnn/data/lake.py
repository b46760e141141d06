"""Reading a lake: a directory of `dt=YYYY-MM-DD/*.parquet`, one folder a day."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dualdnn.errors import DataError
from dualdnn.schema import Field, Schema

_PARTITION = re.compile(r"^dt=(.*)$")
# 10^11 seconds is the year 5138; every log in milliseconds since 1973 lies above it.
_LARGEST_SECONDS = 10**11


@dataclass(frozen=True)
class Lake:
    """The days of a log on disk.

    Attributes:
        path: the directory that holds the `dt=` folders.
    """

    path: Path

    def days(self) -> list[datetime.date]:
        """Every day that has a folder, in order.

        Raises:
            DataError: the directory is missing, holds no day, or a folder's date is malformed.
        """
        if not self.path.is_dir():
            raise DataError(
                f"data.lake must be a directory of dt=YYYY-MM-DD folders, but {self.path} does "
                "not exist. Check the path, or set data.raw to build it from raw files."
            )
        found = []
        for folder in self.path.iterdir():
            match = _PARTITION.match(folder.name)
            if not match or not folder.is_dir():
                continue
            try:
                found.append(datetime.date.fromisoformat(match[1]))
            except ValueError:
                raise DataError(
                    f"{folder}: a partition folder must be named dt=YYYY-MM-DD, got "
                    f"{folder.name!r}. Rename it or move it out of the lake."
                ) from None
        if not found:
            raise DataError(
                f"{self.path} holds no dt=YYYY-MM-DD folder. Expected one folder a day with "
                "parquet files in it."
            )
        return sorted(found)

    def files(self, day: datetime.date) -> list[Path]:
        """The parquet files of one day, in order of their names.

        Raises:
            DataError: the folder holds no parquet file.
        """
        folder = self.path / f"dt={day}"
        files = sorted(p for p in folder.glob("*.parquet") if not p.name.startswith((".", "_")))
        if not files:
            raise DataError(
                f"{folder} holds no parquet file. Write the day's rows, or remove the folder if "
                "the day has none."
            )
        return files

    def is_complete(self, day: datetime.date) -> bool:
        """A later partition exists, or the day's folder holds `_SUCCESS`."""
        return day < self.days()[-1] or (self.path / f"dt={day}" / "_SUCCESS").exists()

    def read(self, day: datetime.date, schema: Schema) -> pa.Table:
        """The columns of the schema for one day, checked.

        Returns:
            a table whose columns are: label uint8, timestamp int64 seconds, group string,
            weight float64, and per field string (`id`), list of string (`ids`) or float32
            (`number`). Missing ids are null, missing numbers NaN.

        Raises:
            DataError: a file cannot be read, has no rows or lacks a column, or a column has the
                wrong type or impossible values. The message names file, column and what to do.
        """
        tables = [_read_file(path, schema) for path in self.files(day)]
        table = pa.concat_tables(tables)
        if table.num_rows == 0:
            raise DataError(
                f"{self.path / f'dt={day}'} has parquet files but no rows. Write the day's rows, "
                "or remove the folder if the day has none."
            )
        return table

    def read_column(self, day: datetime.date, column: str) -> list[str | None]:
        """One text column of one day, as the window `given` needs it.

        Raises:
            DataError: the column is missing or is not text.
        """
        values: list[str | None] = []
        for path in self.files(day):
            file = pq.ParquetFile(path)
            if column not in file.schema_arrow.names:
                raise DataError(
                    f"{path}: window.column `{column}` is missing; the file has "
                    f"{', '.join(file.schema_arrow.names)}."
                )
            read = file.read(columns=[column])[column]
            values.extend(_text(path, column, "id", read).to_pylist())
        return values


def _read_file(path: Path, schema: Schema) -> pa.Table:
    try:
        file = pq.ParquetFile(path)
        present = file.schema_arrow.names
        missing = [column for column in schema.columns if column not in present]
        if missing:
            raise DataError(
                f"{path}: column {', '.join(f'`{c}`' for c in missing)} is missing; the file has "
                f"{', '.join(present)}. Correct the schema or write the column."
            )
        table = file.read(columns=schema.columns)
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{path} cannot be read as parquet: {error}. Write the file again."
        ) from error
    columns: dict[str, pa.Array] = {}
    columns[":label"] = _label(path, schema.label, table[schema.label])
    columns[":timestamp"] = _timestamp(path, schema.timestamp, table[schema.timestamp])
    if schema.group:
        columns[":group"] = _text(path, schema.group, "group", table[schema.group])
    if schema.weight:
        columns[":weight"] = _weight(path, schema.weight, table[schema.weight])
    for field in schema.fields:
        columns[field.name] = _field(path, field, table[field.name])
    return pa.table(columns)


def _wrong_type(path: Path, column: str, expected: str, got: pa.DataType) -> DataError:
    return DataError(
        f"{path}: column `{column}` must be {expected}, got {got}. Cast it where the lake is "
        "written, or correct the schema."
    )


def _combined(values: pa.ChunkedArray) -> pa.Array:
    array = values.combine_chunks()
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    return array


def _label(path: Path, column: str, values: pa.ChunkedArray) -> pa.Array:
    array = _combined(values)
    kind = array.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        raise _wrong_type(path, column, "a label of 0 and 1", kind)
    numbers = array.cast(pa.float64()).to_numpy(zero_copy_only=False)
    wrong = ~np.isin(numbers, (0.0, 1.0))
    if wrong.any():
        value = numbers[wrong][0]
        shown = "null" if np.isnan(value) else f"{value:g}"
        raise DataError(
            f"{path}: label `{column}` must be 0 or 1, got {shown} in {int(wrong.sum())} of "
            f"{len(numbers)} rows. Derive a 0/1 column where the lake is written."
        )
    return pa.array(numbers.astype(np.uint8))


def _timestamp(path: Path, column: str, values: pa.ChunkedArray) -> pa.Array:
    array = _combined(values)
    if pa.types.is_timestamp(array.type):
        # Arrow keeps zoned timestamps in UTC; naive ones are read as UTC, as the schema says.
        array = array.cast(pa.timestamp("s", array.type.tz), safe=False).cast(pa.int64())
    elif not pa.types.is_integer(array.type):
        raise _wrong_type(path, column, "whole seconds since the epoch", array.type)
    if array.null_count:
        raise DataError(
            f"{path}: timestamp `{column}` is null in {array.null_count} of {len(array)} rows. "
            "Every row needs the second at which it happened."
        )
    largest = pc.max(array).as_py() or 0
    if largest >= _LARGEST_SECONDS:
        raise DataError(
            f"{path}: timestamp `{column}` must be in seconds since the epoch, got {largest}, "
            "which looks like milliseconds or finer. Divide where the lake is written."
        )
    if (pc.min(array).as_py() or 0) < 0:
        raise DataError(
            f"{path}: timestamp `{column}` must be >= 0 seconds since the epoch, got "
            f"{pc.min(array).as_py()}. Correct the rows where the lake is written."
        )
    return array.cast(pa.int64())


def _weight(path: Path, column: str, values: pa.ChunkedArray) -> pa.Array:
    array = _combined(values)
    if not (pa.types.is_integer(array.type) or pa.types.is_floating(array.type)):
        raise _wrong_type(path, column, "a number", array.type)
    numbers = array.cast(pa.float64()).to_numpy(zero_copy_only=False)
    wrong = ~(np.isfinite(numbers) & (numbers >= 0))
    if wrong.any():
        raise DataError(
            f"{path}: weight `{column}` must be finite and >= 0, got {numbers[wrong][0]} in "
            f"{int(wrong.sum())} of {len(numbers)} rows. Use 0 to leave a row out."
        )
    return pa.array(numbers)


def _is_text(kind: pa.DataType) -> bool:
    return (pa.types.is_string(kind) or pa.types.is_large_string(kind)
            or pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind))


def _text(path: Path, column: str, kind: str, values: pa.ChunkedArray) -> pa.Array:
    array = _combined(values)
    if not _is_text(array.type):
        # Floats are refused on purpose: 1.0, 1 and 1e0 would be three different ids.
        raise _wrong_type(path, column, f"string or integer for kind {kind}", array.type)
    return array.cast(pa.large_string())


def _field(path: Path, field: Field, values: pa.ChunkedArray) -> pa.Array:
    if field.kind == "id":
        return _text(path, field.name, "id", values)
    array = _combined(values)
    if field.kind == "ids":
        if not (pa.types.is_list(array.type) or pa.types.is_large_list(array.type)):
            raise _wrong_type(path, field.name, "a list of string or integer for kind ids",
                              array.type)
        if not _is_text(array.type.value_type):
            raise _wrong_type(path, field.name, "a list of string or integer for kind ids",
                              array.type)
        return array.cast(pa.large_list(pa.large_string()))
    if not (pa.types.is_integer(array.type) or pa.types.is_floating(array.type)
            or pa.types.is_decimal(array.type) or pa.types.is_null(array.type)):
        raise _wrong_type(path, field.name, "a number for kind number", array.type)
    numbers = array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    with np.errstate(over="ignore"):
        numbers = numbers.astype(np.float32)
    if np.isinf(numbers).any():
        raise DataError(
            f"{path}: number `{field.name}` is infinite (or beyond float32) in "
            f"{int(np.isinf(numbers).sum())} of {len(numbers)} rows. Write null where the value "
            "is unknown, or clip it."
        )
    return pa.array(numbers)
