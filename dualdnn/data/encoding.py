"""Encoding a day: values become signs once, and never again.

An encoded day stands alone. It holds, per categorical field, the sorted unique signs, their
counts and one local index per cell, so that days can be encoded in any order, by any process,
byte-identically, and memory-mapped by every later window.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import tensorflow as tf

from dualdnn.data.lake import Lake
from dualdnn.data.signs import MISSING, signs_of
from dualdnn.errors import DataError
from dualdnn.schema import Schema
from dualdnn.storage import atomic_folder, lock, remove_leftovers, sha256_of_file, write_json

_FORMAT = 1


@dataclass(frozen=True)
class EncodedDay:
    """One day on disk.

    A cell holds an index into `signs`, or `len(signs) + f` where categorical field number f is
    missing, or -1 for padding of a multi-valued field.

    Attributes:
        path: the folder.
    """

    path: Path

    @cached_property
    def meta(self) -> dict[str, Any]:
        """Day, rows, fingerprint, source files, and the section of `signs` of each field."""
        return json.loads((self.path / "meta.json").read_text(encoding="utf-8"))

    @property
    def day(self) -> datetime.date:
        """The UTC day of the partition."""
        return datetime.date.fromisoformat(self.meta["day"])

    @property
    def rows(self) -> int:
        """Number of examples."""
        return self.meta["rows"]

    def array(self, name: str) -> np.ndarray:
        """Memory-map one array.

        `labels` (rows,) uint8; `timestamps` (rows,) int64; `groups` (rows,) int64 signs;
        `weights` (rows,) float32; `cells` (rows, categorical cells) int32; `numbers`
        (rows, number fields) float32; `signs` and `counts` (unique signs,) int64.
        """
        return np.load(self.path / f"{name}.npy", mmap_mode="r")

    def values(self) -> list[str]:
        """The text behind each entry of `signs`, for reports."""
        return pq.read_table(self.path / "values.parquet")["value"].to_pylist()

    @property
    def categorical(self) -> list[str]:
        """The categorical fields, in the order of their sections and cells."""
        return list(self.meta["sections"])

    def section(self, field: str) -> slice:
        """Where a categorical field's signs stand in `signs`."""
        return slice(*self.meta["sections"][field])

    def cells(self, field: str) -> np.ndarray:
        """(rows, field width) int32 cells of one categorical field."""
        return self.array("cells")[:, slice(*self.meta["cells"][field])]

    def numbers(self, field: str) -> np.ndarray:
        """(rows,) float32 values of one number field, NaN where missing."""
        return self.array("numbers")[:, self.meta["numbers"].index(field)]


def _unique_signs(name: str, text: pa.Array) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Sorted unique signs of a flat array, the index of each value (-1 missing), the texts."""
    encoded = pc.dictionary_encode(text)
    texts = encoded.dictionary.to_pylist()
    of_text = signs_of(name, tf.constant(texts, tf.string, shape=(len(texts),))).numpy()
    present = of_text != MISSING
    signs, first, inverse = np.unique(of_text[present], return_index=True, return_inverse=True)
    if len(signs) != int(present.sum()):
        raise DataError(
            f"field `{name}`: two values have the same 64-bit sign. This is expected once in "
            "about 10^11 days of 10^4 values; drop one of the values or rename the field."
        )
    position = np.full(len(texts), -1, np.int64)
    position[present] = inverse
    indices = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    index = np.where(indices >= 0, position[indices], -1) if len(texts) else np.full(len(text), -1)
    kept = np.flatnonzero(present)[first]
    return signs, index.astype(np.int64), [texts[i] for i in kept]


def _list_cells(array: pa.Array, width: int) -> tuple[pa.Array, np.ndarray, np.ndarray]:
    """The first `width` values of every list: flat text, and the (row, column) of each."""
    offsets = array.offsets.to_numpy()
    lengths = np.where(array.is_null().to_numpy(zero_copy_only=False), 0, np.diff(offsets))
    row = np.repeat(np.arange(len(array)), lengths)
    start = np.repeat(offsets[:-1], lengths)
    first = np.repeat(np.concatenate([[0], np.cumsum(lengths)[:-1]]), lengths)
    column = np.arange(len(row)) - first
    keep = column < width
    row, column, source = row[keep], column[keep], (start + column)[keep]
    return array.values.take(pa.array(source)), row, column


def _arrays(table: pa.Table, schema: Schema) -> tuple[dict[str, np.ndarray], list[str], dict]:
    """Every array of the encoded day, the texts, and where each field stands."""
    rows = table.num_rows
    fields = [field for field in schema.fields if field.kind in ("id", "ids")]
    cells = np.full((rows, sum(field.width for field in fields)), -1, np.int32)
    numbers = [field.name for field in schema.fields if field.kind == "number"]
    signs, counts, texts = [], [], []
    layout: dict[str, Any] = {"sections": {}, "cells": {}, "numbers": numbers}
    start = column = 0
    missing: list[tuple[int, np.ndarray]] = []
    for field in fields:
        array = table[field.name].combine_chunks()
        target = cells[:, column:column + field.width]
        if field.kind == "ids":
            flat, row, position = _list_cells(array, field.width)
        else:
            flat, row, position = array, np.arange(rows), np.zeros(rows, np.int64)
        unique, index, text = _unique_signs(field.name, flat)
        known = index >= 0
        target[row[known], position[known]] = start + index[known]
        missing.append((column, np.asarray((target < 0).all(axis=1))))
        signs.append(unique)
        counts.append(np.bincount(index[known], minlength=len(unique)).astype(np.int64))
        texts.extend(text)
        layout["sections"][field.name] = (start, start + len(unique))
        layout["cells"][field.name] = (column, column + field.width)
        start += len(unique)
        column += field.width
    for number, (cell, rows_without) in enumerate(missing):
        cells[rows_without, cell] = start + number
    arrays = {
        "labels": table[":label"].to_numpy(),
        "timestamps": table[":timestamp"].to_numpy(),
        "cells": cells,
        "signs": np.concatenate([*signs, np.zeros(0, np.int64)]),
        "counts": np.concatenate([*counts, np.zeros(0, np.int64)]),
        "numbers": np.stack([table[name].to_numpy() for name in numbers], axis=1)
        if numbers else np.zeros((rows, 0), np.float32),
    }
    if schema.group:
        unique, index, _ = _unique_signs(schema.group, table[":group"].combine_chunks())
        arrays["groups"] = np.where(index >= 0, np.append(unique, MISSING)[index], MISSING)
    if schema.weight:
        arrays["weights"] = table[":weight"].to_numpy().astype(np.float32)
    return arrays, texts, layout


def _signature(files: Sequence[Path]) -> list[list[Any]]:
    """Changes whenever a file does: tools can set the time of modification, not that of change."""
    found = [(path.name, path.stat()) for path in files]
    return [[name, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns] for name, stat in found]


def _digests(files: Sequence[Path]) -> list[list[str]]:
    return [[path.name, sha256_of_file(path)] for path in files]


def _is_current(target: Path, files: Sequence[Path]) -> bool:
    """The encoded day exists and was made from exactly these files."""
    if not (target / "meta.json").exists():
        return False
    meta = EncodedDay(target).meta
    signature = _signature(files)
    if meta["signature"] == signature:
        return True
    # Touched or copied files need no new encoding if their bytes are the same.
    if meta["sha256"] != _digests(files):
        return False
    write_json(target / "meta.json", {**meta, "signature": signature})
    return True


def encode_day(lake: Lake, day: datetime.date, schema: Schema, target: Path) -> None:
    """Encode one day into the folder `target`, whole or not at all.

    Raises:
        DataError: the day's files are not what the schema promises.
    """
    files = lake.files(day)
    signature = _signature(files)
    digests = _digests(files)
    arrays, texts, layout = _arrays(lake.read(day, schema), schema)
    content = hashlib.sha256()
    for name in sorted(arrays):
        content.update(name.encode())
        content.update(np.ascontiguousarray(arrays[name]).tobytes())
    meta = {
        "format": _FORMAT, "day": day.isoformat(), "rows": len(arrays["labels"]),
        "fingerprint": content.hexdigest(), "signature": signature, "sha256": digests, **layout,
    }
    with atomic_folder(target) as folder:
        for name, array in arrays.items():
            np.save(folder / f"{name}.npy", array)
        pq.write_table(pa.table({"value": pa.array(texts, pa.large_string())}),
                       folder / "values.parquet")
        write_json(folder / "meta.json", meta)


def encoded_folder(state: Path, lake: Lake, schema: Schema) -> Path:
    """Where the encoded days of this lake and schema live."""
    parts = [str(lake.path.resolve()), _FORMAT, schema.label, schema.timestamp, schema.group,
             schema.weight, [[f.name, f.kind, f.width] for f in schema.fields]]
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
