"""Checks that read the rows of encoded days: each day by itself."""

from __future__ import annotations

import datetime

import numpy as np

from dualdnn.data.encoded_day import EncodedDay
from dualdnn.data.finding import Finding
from dualdnn.data.partition_settings import PartitionSettings
from dualdnn.schema import Field, Schema

_DAY = 86_400
# Odd constants of splitmix64 (Steele et al. 2014): multiplication spreads neighbouring values.
_FIRST, _SECOND = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9)
# Rows of a column of numbers that its share of missing values is estimated from.
_NUMBER_ROWS = 65_536


def rows_outside_day(day: EncodedDay, settings: PartitionSettings) -> Finding | None:
    """Rows whose timestamp does not lie in the UTC day of their partition."""
    seconds = day.array("timestamps")
    start = (day.day - datetime.date(1970, 1, 1)).days * _DAY
    if not day.rows or (start <= seconds.min() and seconds.max() < start + _DAY):
        return None
    before = int(np.count_nonzero(seconds < start))
    after = int(np.count_nonzero(seconds >= start + _DAY))
    share = (before + after) / day.rows
    severity = ("error" if share > settings.outside_share_error else
                "warning" if share > settings.outside_share else "info")
    advice = {
        "info": "They are used as rows of this day.",
        "warning": "They are used as rows of this day: write late rows to the day they happened "
                   "on, and encode that day again.",
        "error": "Most rows are another day's: look for a wrong time zone or a wrong folder.",
    }[severity]
    return Finding(
        kind="rows_outside_day", severity=severity, day=day.day,
        message=f"{before:,} of {day.rows:,} rows of dt={day.day} happened before that day (UTC) "
                f"and {after:,} after it. {advice}")


def copies(day: EncodedDay, schema: Schema, sample_rows: int) -> tuple[int, int]:
    """Rows that are an exact copy of an earlier one, and the rows that they were counted in.

    In a large day only the rows are looked at whose timestamp and group hash to a small number:
    copies agree in both, so they are looked at together or not at all.
    """
    with np.errstate(over="ignore"):
        seconds = day.array("timestamps").view(np.uint64)
        chosen: slice | np.ndarray = slice(None)
        who = day.array("groups").view(np.uint64) if schema.group else _some_ids(day)
        if day.rows > sample_rows:
            key = (seconds * _FIRST ^ who) * _SECOND
            chosen = np.flatnonzero(key < np.uint64(2**64 * (sample_rows / day.rows)))
        digest = (np.asarray(seconds[chosen]) * _FIRST ^ who[chosen]) * _SECOND
        for column in [np.asarray(day.array("labels")[chosen]),
                       *(part for field in schema.fields if not field.cross
                         for part in _columns(day, field, chosen))]:
            digest = (digest ^ column.astype(np.uint64)) * _FIRST
            digest ^= digest >> np.uint64(29)
    digest.sort()
    return int(np.count_nonzero(digest[1:] == digest[:-1])), len(digest)


def _some_ids(day: EncodedDay) -> np.ndarray:
    """(rows,) uint64 of the first categorical field, zeros without one."""
    if not day.categorical:
        return np.zeros(day.rows, np.uint64)
    return day.local_cells(day.categorical[0])[:, 0].astype(np.uint64)


def _columns(day: EncodedDay, field: Field, chosen: slice | np.ndarray) -> list[np.ndarray]:
    """The field's cells in the chosen rows as whole numbers, one array per cell of an example."""
    if field.is_categorical:
        cells = np.asarray(day.local_cells(field.name)[chosen])
    elif field.is_vector_column:
        cells = np.asarray(day.vectors(field.name)[chosen]).view(np.uint32)
    else:
        cells = np.asarray(day.numbers(field.name)[chosen]).view(np.uint32)[:, np.newaxis]
    return list(cells.T)


def filled_share(day: EncodedDay, field: Field) -> float:
    """Values per row of a categorical field, share of rows with a value of another."""
    if field.is_categorical:
        return float(day.array("counts")[day.section(field.name)].sum()) / day.rows
    values = (day.vectors(field.name)[:, 0] if field.is_vector_column
              else day.numbers(field.name))
    return 1.0 - float(np.isnan(values[::max(1, day.rows // _NUMBER_ROWS)]).mean())
