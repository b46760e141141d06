"""The rows of a window as the model reads them: table rows, labels, weights."""

from __future__ import annotations

import datetime
import hashlib
import itertools
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dualdnn.data.encoding import EncodedDay, encode_days
from dualdnn.data.lake import Lake
from dualdnn.data.row_map import PADDING_ROW, RowMap, build_row_map
from dualdnn.data.window import Given, Split, Window
from dualdnn.errors import DataError
from dualdnn.schema import Schema

# Rows of a window up to this many bytes are kept in memory, beyond it in a mapped file.
_IN_MEMORY_BYTES = 2**30


@dataclass(frozen=True, kw_only=True)
class Examples:
    """Every example of the opened days, in the order of the lake.

    Attributes:
        schema: the fields that the model reads, in order.
        days: the encoded days.
        split: row numbers of train, valid and test.
        row_map: built from the training part alone.
        rows: (num_examples, schema.width) int32 rows of the table, field after field.
        labels: (num_examples,) float32, 0 or 1.
        weights: (num_examples,) float32, or None.
        groups: (num_examples,) int64, or None.
        dropped_fields: label statistics that the window cannot use.
        fingerprint: hex digest of the days' contents.
    """

    schema: Schema
    days: list[EncodedDay]
    split: Split
    row_map: RowMap
    rows: np.ndarray
    labels: np.ndarray
    weights: np.ndarray | None
    groups: np.ndarray | None
    dropped_fields: list[str]
    fingerprint: str

    def batch(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows (batch_size, width) int32, labels and weights (batch_size,) float32."""
        labels = self.labels[index]
        weights = np.ones_like(labels) if self.weights is None else self.weights[index]
        return self.rows[index], labels, weights

    def columns(self, name: str) -> slice:
        """Where a field's cells stand in `rows`."""
        start = 0
        for field in self.schema.fields:
            if field.name == name:
                return slice(start, start + field.width)
            start += field.width
        raise KeyError(name)

    def is_known(self, name: str, index: np.ndarray) -> np.ndarray:
        """(n,) bool: does the model have a row of its own for this `id` field's value?"""
        position = [field.name for field in self.schema.fields].index(name)
        return self.rows[index, self.columns(name).start] != self.row_map.oov_rows[position]


def _translate_day(day: EncodedDay, schema: Schema, row_map: RowMap, target: np.ndarray) -> None:
    """Fill `target` (rows, width) with the table rows of one day."""
    signs = np.asarray(day.array("signs"))
    positions = {field.name: i for i, field in enumerate(schema.fields)}
    # One lookup serves every cell of the day: unique signs, then missing by field, then padding.
    table = np.zeros(len(signs) + len(day.categorical) + 1, np.int32)
    for number, name in enumerate(day.categorical):
        if name in positions:
            oov = row_map.oov_rows[positions[name]]
            table[day.section(name)] = row_map.rows_of_signs(signs[day.section(name)], oov)
            table[len(signs) + number] = oov
    table[-1] = PADDING_ROW
    column = 0
    for position, field in enumerate(schema.fields):
        if field.kind == "number":
            target[:, column] = row_map.rows_of_numbers(position, day.numbers(field.name))
        else:
            target[:, column:column + field.width] = table[day.cells(field.name)]
        column += field.width


def open_examples(
    *,
    lake: Lake,
    schema: Schema,
    window: Window,
    state: Path,
    row_map: RowMap | None = None,
    on_day: Callable[[datetime.date, bool], None] | None = None,
) -> Examples:
    """Encode what is new, split, admit ids and translate every cell to its row.

    Args:
        lake: the log.
        schema: its columns and fields.
        window: chooses days and parts.
        state: `paths.state`, where encoded days are kept.
        row_map: of a trained model, to read the data as it does; None builds one from the
            training part.
        on_day: called after each day with (day, was it already encoded).

    Raises:
        DataError: days are missing or broken, or a part is empty.
    """
    available = lake.days()
    complete = [day for day in available[-1:] if lake.is_complete(day)] or available[-2:-1]
    if not complete:
        raise DataError(
            f"{lake.path} holds one day, {available[0]}, without _SUCCESS. Write _SUCCESS into "
            "the folder when the day is complete."
        )
    chosen = window.choose_days(available, complete[0])
    opened = encode_days(lake, chosen, schema, state, on_day)
    dropped = [f.name for f in schema.fields if f.label_statistic and not window.follows_time]
    kept = schema.without(set(dropped))
    if not kept.fields:
        raise DataError("every field is a label statistic, and this window cannot use those.")

    counts = [day.rows for day in opened]
    starts = np.concatenate([[0], np.cumsum(counts)])
    of_day = np.repeat(np.array([day.day for day in opened], "datetime64[D]"), counts)
    timestamps = np.concatenate([day.array("timestamps") for day in opened])
    given = None
    if isinstance(window, Given):
        given = np.array([v for day in chosen for v in lake.read_column(day, window.column)],
                         object)
    split = window.split(of_day, timestamps, given)
    if not len(split.train):
        raise DataError(f"the window leaves no row to train on: {starts[-1]} rows in all.")

    if row_map is not None and len(row_map.oov_rows) != len(kept.fields):
        raise DataError(
            f"the row map was built for {len(row_map.oov_rows)} fields, but this window and "
            f"schema leave {len(kept.fields)}: {', '.join(field.name for field in kept.fields)}. "
            "Use the schema and the kind of window that the model was trained with."
        )
    if row_map is None:
        parts: list[np.ndarray | None] = []
        for start, stop in itertools.pairwise(starts):
            low, high = np.searchsorted(split.train, (start, stop))
            whole = high - low == stop - start
            parts.append(None if whole else split.train[low:high] - start)
        row_map = build_row_map(kept, opened, parts)

    shape = (int(starts[-1]), kept.width)
    if 4 * shape[0] * shape[1] <= _IN_MEMORY_BYTES:
        rows = np.empty(shape, np.int32)
    else:
        # An unnamed file: it is gone with the process, however the process ends.
        with tempfile.TemporaryFile(dir=state) as file:
            rows = np.memmap(file, np.int32, "w+", shape=shape)
    for day, start, stop in zip(opened, starts[:-1], starts[1:], strict=True):
        _translate_day(day, kept, row_map, rows[start:stop])

    digest = hashlib.sha256("".join(day.meta["fingerprint"] for day in opened).encode())
    return Examples(
        schema=kept, days=opened, split=split, row_map=row_map, rows=rows,
        labels=np.concatenate([day.array("labels") for day in opened]).astype(np.float32),
        weights=np.concatenate([day.array("weights") for day in opened])
        if schema.weight else None,
        groups=np.concatenate([day.array("groups") for day in opened]) if schema.group else None,
        dropped_fields=dropped, fingerprint=digest.hexdigest(),
    )
