"""Encoding a day: values become signs once, and never again.

An encoded day stands alone. It holds, per categorical field, the sorted unique signs, their
counts and one local index per cell, so that days can be encoded in any order, by any process,
byte-identically, and memory-mapped by every later window.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dualdnn.data.encode_field import EncodedField, encode_cross, encode_field, unique_signs
from dualdnn.data.encoded_day import (
    FORMAT,
    META_FILE,
    contents_of,
    fingerprint_of,
)
from dualdnn.data.encoded_day import EncodedDay as EncodedDay
from dualdnn.data.lake import Lake
from dualdnn.data.pseudonyms import key_fingerprint, key_from_environment
from dualdnn.data.signs import MISSING
from dualdnn.errors import DataError
from dualdnn.schema import Field, Schema
from dualdnn.storage import atomic_folder, lock, remove_leftovers, sha256_of_file, write_json

# Larger days are read column by column, smaller ones at once, which takes fewer reads.
_WHOLE_BYTES = 2**25
_MOST_THREADS = 4


class _DayReader:
    """The columns of one day: all at once, or each when it is asked for."""

    def __init__(self, lake: Lake, day: datetime.date, schema: Schema,
                 files: Sequence[Path]) -> None:
        self._lake, self._day, self._schema = lake, day, schema
        # Only of a parquet file can a part of the columns be read without reading the rest.
        small = sum(path.stat().st_size for path in files) <= _WHOLE_BYTES
        whole = small or any(path.suffix != ".parquet" for path in files)
        self.threads = 1 if small else min(_MOST_THREADS, os.cpu_count() or 1)
        self._table = lake.read(day, schema) if whole else None

    def of_rows(self) -> pa.Table:
        """Everything but the fields."""
        return self._read(dataclasses.replace(self._schema, fields=()))

    def of_field(self, field: Field) -> pa.Array:
        """The column of one field, as one array."""
        only = dataclasses.replace(self._schema, label="", timestamp="", group=None, weight=None,
                                   sampling_rate=None, fields=(field,))
        return self._read(only)[field.name].combine_chunks()

    def _read(self, schema: Schema) -> pa.Table:
        return self._lake.read(self._day, schema) if self._table is None else self._table


class _DayWriter:
    """Writes the arrays of one day into a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, name: str, array: np.ndarray) -> None:
        np.save(self.folder / f"{name}.npy", np.ascontiguousarray(array))


def _write_rows(table: pa.Table, schema: Schema, key: bytes | None, writer: _DayWriter) -> int:
    """What belongs to the rows rather than to a field; returns their number."""
    writer.write("labels", table[":label"].to_numpy())
    writer.write("timestamps", table[":timestamp"].to_numpy())
    if schema.group:
        key = key if schema.group in schema.pii_columns else None
        unique, index, _ = unique_signs(schema.group, schema.group,
                                        table[":group"].combine_chunks(), key)
        writer.write("groups", np.append(unique, MISSING)[index])
    if schema.weight:
        writer.write("weights", table[":weight"].to_numpy().astype(np.float32))
    if schema.rate_column:
        writer.write("rates", table[":rate"].to_numpy())
    return table.num_rows


def _write_field(field: Field, reader: _DayReader, rows: int, key: bytes | None,
                 writer: _DayWriter) -> EncodedField | None:
    """One field that is no cross; of a categorical one, what the whole day needs of it."""
    array = reader.of_field(field)
    if len(array) != rows:
        raise DataError(f"the column `{field.column}` has {len(array)} rows, the label {rows}: "
                        "the day's files changed while they were read. Start again.")
    if field.kind == "number":
        writer.write(f"numbers-{field.name}", array.to_numpy(zero_copy_only=False))
        return None
    if field.is_vector_column:
        writer.write(f"vectors-{field.name}",
                     array.flatten().to_numpy(zero_copy_only=False).reshape(rows, -1))
        return None
    return _keep(field, encode_field(field, array, key), writer)


def _keep(field: Field, encoded: EncodedField, writer: _DayWriter) -> EncodedField:
    """Write the cells, and map them from the file so that they leave the memory."""
    name = f"cells-{field.name}"
    writer.write(name, encoded.cells)
    return dataclasses.replace(encoded, cells=np.load(writer.folder / f"{name}.npy",
                                                      mmap_mode="r"))


def _encoded_fields(
    schema: Schema, reader: _DayReader, rows: int, key: bytes | None, writer: _DayWriter
) -> Iterator[tuple[str, EncodedField]]:
    """Write every field; the categorical ones come back in the order of the schema."""
    columns = [field for field in schema.fields if not field.cross]
    with ThreadPoolExecutor(reader.threads) as pool:
        made = pool.map(lambda field: _write_field(field, reader, rows, key, writer), columns)
        found = {field.name: encoded for field, encoded in zip(columns, made, strict=True)
                 if encoded is not None}
    for field in schema.fields:
        if field.cross:
            first, second = (found[name] for name in field.cross)
            found[field.name] = _keep(field, encode_cross(field, first, second), writer)
        if field.is_categorical:
            yield field.name, found[field.name]


def _signature(files: Sequence[Path]) -> list[list[Any]]:
    """Changes whenever a file does: tools can set the time of modification, not that of change."""
    try:
        found = [(path.name, path.stat()) for path in files]
    except OSError as error:
        raise _unreadable(error) from error
    return [[name, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns] for name, stat in found]


def _digests(files: Sequence[Path]) -> list[list[str]]:
    try:
        return [[path.name, sha256_of_file(path)] for path in files]
    except OSError as error:
        raise _unreadable(error) from error


def _has_rows(path: Path) -> bool:
    if path.suffix == ".parquet":
        return pq.read_metadata(path).num_rows > 0
    return path.stat().st_size > 0


def _unreadable(error: OSError) -> DataError:
    return DataError(f"{error.filename} was listed but cannot be read: {error.strerror}. Start "
                     "again if the lake is being written; else write or remove the file.")


def _is_current(target: Path, files: Sequence[Path]) -> bool:
    """The encoded day exists, whole, and was made from exactly these files."""
    encoded = EncodedDay(target)
    signature = _signature(files)
    if not encoded.is_whole():
        return False
    meta = encoded.meta
    if meta.get("signature") == signature:
        return True
    # Touched or copied files need no new encoding if their bytes are the same.
    if meta.get("sha256") != _digests(files):
        return False
    write_json(target / META_FILE, {**meta, "signature": signature})
    return True


def refuse_changed(lake: Lake, encoded: EncodedDay) -> None:
    """Whoever reads a day's files beside its encoded rows needs the files that these are of.

    Raises:
        DataError: the day was written again since it was encoded.
    """
    if not _is_current(encoded.path, lake.files(encoded.day)):
        raise DataError(f"{lake.path}/dt={encoded.day} was written again while it was in use. "
                        "Run the same command again: it reads the day anew.")


def encode_day(lake: Lake, day: datetime.date, schema: Schema, target: Path) -> None:
    """Encode one day into the folder `target`, whole or not at all.

    Memory: of a large day of parquet files a few columns at a time (one a processor, at most 4)
    beside the unique values of all columns; TFRecords are read whole.

    Raises:
        ConfigError: a field is `pii` and the key of pseudonyms is missing.
        DataError: the day's files are not what the schema promises.
    """
    key = key_from_environment() if schema.pii_columns else None
    files = lake.files(day)
    signature = _signature(files)
    digests = _digests(files)
    reader = _DayReader(lake, day, schema, files)
    with atomic_folder(target) as folder:
        writer = _DayWriter(folder)
        rows = _write_rows(reader.of_rows(), schema, key, writer)
        signs, counts, texts = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], []
        sections, start = {}, 0
        for name, encoded in _encoded_fields(schema, reader, rows, key, writer):
            signs.append(encoded.signs)
            counts.append(encoded.counts)
            texts.append(encoded.texts)
            sections[name] = (start, start + len(encoded.signs))
            start += len(encoded.signs)
        writer.write("signs", np.concatenate(signs))
        writer.write("counts", np.concatenate(counts))
        pq.write_table(pa.table({"value": pa.chunked_array(texts, pa.large_string())}),
                       folder / "values.parquet")
        if lake.files(day) != files or _signature(files) != signature:
            raise DataError(f"{files[0].parent}: the day's files changed while they were read. "
                            "Start again when the day is written.")
        contents = contents_of(folder)
        write_json(folder / META_FILE, {
            "format": FORMAT, "day": day.isoformat(), "rows": rows, "sections": sections,
            "fingerprint": fingerprint_of(rows, sections, contents), "contents": contents,
            "signature": signature, "sha256": digests,
            "empty": [path.name for path in files if not _has_rows(path)],
        })


def encoded_folder(state: Path, lake: Lake, schema: Schema) -> Path:
    """Where the encoded days of this lake and schema live.

    Raises:
        ConfigError: a field is `pii` and the key of pseudonyms is missing.
    """
    parts: list[Any] = [
        str(lake.path.resolve()), FORMAT, schema.label, schema.timestamp, schema.group,
        schema.weight, schema.rate_column,
        [[f.name, f.kind, f.width, f.namespace, f.column, f.cross, f.pii,
          f.size if f.is_vector_column else None] for f in schema.fields],
    ]
    if schema.pii_columns:
        parts.append(key_fingerprint(key_from_environment()))
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]
    return state / "encoded" / f"{schema.name}-{key}"


def encode_days(
    lake: Lake,
    days: Sequence[datetime.date],
    schema: Schema,
    state: Path,
    on_day: Callable[[datetime.date, bool], None] | None = None,
) -> list[EncodedDay]:
    """Encode the days that are not encoded yet and open all of them.

    Two processes may ask for the same days: one encodes, the other waits and reuses.

    Args:
        lake: the log.
        days: the days to open, in the order of the result.
        schema: what to read.
        state: `paths.state`; the days go to `encoded_folder(state, lake, schema)`.
        on_day: called after each day with (day, was it reused).

    Raises:
        ConfigError: a field is `pii` and the key of pseudonyms is missing.
        DataError: a day's files are not what the schema promises; earlier days stay encoded.
    """
    folder = encoded_folder(state, lake, schema)
    opened = []
    with lock(folder / ".lock", wait=True):
        remove_leftovers(folder)
        for day in days:
            target = folder / f"dt={day}"
            reused = _is_current(target, lake.files(day))
            if not reused:
                encode_day(lake, day, schema, target)
            opened.append(EncodedDay(target))
            if on_day:
                on_day(day, reused)
    return opened
