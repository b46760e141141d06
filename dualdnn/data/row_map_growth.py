"""From the row map of one day to that of the next: ids come and go, the others stay in place."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dualdnn.data.admission import (
    NO_LIMITS,
    Admission,
    Occurrences,
    day_number,
    joined,
    occurrences,
    summed,
)
from dualdnn.data.encoded_day import EncodedDay
from dualdnn.data.row_map import PADDING_ROW, RowMap, bucket_count, check_made_for
from dualdnn.schema import Field, Schema

# As a day: every sign was seen since.
_LONG_AGO = int(np.iinfo(np.int32).min)


@dataclass(frozen=True, kw_only=True)
class Growth:
    """A row map that has moved on, and what changed.

    Attributes:
        row_map: the new one.
        fresh_rows: of every table of the schema the rows (n,) int32, ascending, whose owner is
            new: whatever was learned in them is another's, in the weights as in the optimizer.
        expired: signs that lost their row.
        admitted: signs that got one.
        refused: signs that occur often enough, but found no room.
        waiting: what was counted of signs that were not admitted, for the next growth.
    """

    row_map: RowMap
    fresh_rows: Mapping[str, np.ndarray]
    expired: int
    admitted: int
    refused: int
    waiting: Occurrences


def grown(
    previous: RowMap, schema: Schema, days: Sequence[EncodedDay],
    parts: Sequence[np.ndarray | None], admission: Admission = NO_LIMITS,
    waiting: Occurrences | None = None,
) -> Growth:
    """Let unseen signs go and give rows to new ones; every other sign keeps its own.

    Rows that nobody owns are taken first, the lowest to the most frequent sign, and only then
    does a table get longer; it never gets shorter. What weights were learned with stays: buckets
    and their boundaries, shifts, factors, rows out of vocabulary, pre-trained vectors.

    Args:
        previous: the row map to move on from.
        schema: the fields it was made for; `min_count` may have changed.
        days: encoded days to learn from next. A sign must occur `min_count` times in their
            training rows. Expiry counts from the newest of them that has such rows.
        parts: for each day the numbers of its training rows, or None for all of them.
        admission: the limits.
        waiting: of the growth before, where the days are a few rows at a time: what was counted
            there counts here too.

    Raises:
        DataError: the row map was made for another schema, or the capacity does not hold the
            rows that a table needs whatever the values.
    """
    check_made_for(previous, schema)
    newest = max((day_number(day) for day, rows in zip(days, parts, strict=True)
                  if rows is None or len(rows)), default=int(previous.last_seen.max(initial=0)))
    oldest = _LONG_AGO
    if admission.expire_after_days is not None:
        oldest = newest - admission.expire_after_days
    found = {table: occurrences(schema, members, days, parts)
             for table, members in schema.tables().items()}
    last_seen = _last_seen(previous, schema, newest, found.values())
    stays = last_seen >= oldest

    table_rows, fresh_rows, admitted, refused = dict(previous.table_rows), {}, [], 0
    kept_waiting = []
    for table, members in schema.tables().items():
        unknown = _unknown(previous, _with_waiting(found[table], waiting, schema, members))
        # Of several days the first may be so long ago that its signs would leave at once.
        unknown = unknown.chosen(unknown.last_seen >= oldest)
        new = unknown.frequent(schema)
        fixed, owned = _used_rows(previous, schema, table, stays)
        room = None if members[0].file else admission.room(table, int(fixed.sum()), len(owned))
        chosen = new.chosen(new.ranked()[:room])
        rows = _free_rows(fixed, owned, len(chosen.signs))
        table_rows[table] = max(table_rows[table], int(rows.max(initial=PADDING_ROW)) + 1)
        fresh_rows[table] = rows
        admitted.append((chosen, rows))
        kept_waiting.append(unknown.chosen(~np.isin(unknown.signs, chosen.signs)))
        refused += len(new.signs) - len(rows)

    signs = np.concatenate([previous.signs[stays], *(one.signs for one, _ in admitted)])
    order = np.argsort(signs, kind="stable")
    row_map = dataclasses.replace(
        previous, table_rows=table_rows, signs=signs[order],
        rows=np.concatenate([previous.rows[stays], *(rows for _, rows in admitted)])[order],
        fields=np.concatenate([previous.fields[stays],
                               *(one.fields for one, _ in admitted)])[order],
        last_seen=np.concatenate([last_seen[stays],
                                  *(one.last_seen for one, _ in admitted)])[order],
    )
    return Growth(row_map=row_map, fresh_rows=fresh_rows, expired=int((~stays).sum()),
                  admitted=sum(len(rows) for _, rows in admitted), refused=refused,
                  waiting=joined(kept_waiting))


def _with_waiting(found: Occurrences, waiting: Occurrences | None, schema: Schema,
                  members: Sequence[Field]) -> Occurrences:
    """What was counted of one table's fields, what waits of them included."""
    if waiting is None:
        return found
    inside = np.array([field in members for field in schema.fields])
    return summed([found, waiting.chosen(inside[waiting.fields])])


def _places(previous: RowMap, signs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where signs (n,) stand in the row map (n,) int64, and (n,) bool whether they do."""
    if not len(previous.signs):
        return np.zeros(len(signs), np.int64), np.zeros(len(signs), bool)
    at = np.minimum(np.searchsorted(previous.signs, signs), len(previous.signs) - 1)
    return at, previous.signs[at] == signs


def _unknown(previous: RowMap, found: Occurrences) -> Occurrences:
    return found.chosen(~_places(previous, found.signs)[1])


def _last_seen(previous: RowMap, schema: Schema, newest: int,
               found: Iterable[Occurrences]) -> np.ndarray:
    """(admitted,) int32 last day of each known sign, these days included."""
    last_seen = previous.last_seen.copy()
    for one in found:
        at, known = _places(previous, one.signs)
        # Days may be read again that lie before what the row map has seen.
        last_seen[at[known]] = np.maximum(last_seen[at[known]], one.last_seen[known])
    # As `build_row_map` has it: a file of vectors says that its keys are in use.
    of_file = np.array([field.file is not None for field in schema.fields])[previous.fields]
    last_seen[of_file] = np.maximum(last_seen[of_file], newest)
    return last_seen


def _used_rows(row_map: RowMap, schema: Schema, table: str,
               stays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of one table (table rows,) bool what padding and fields own; (n,) rows of signs that stay."""
    fixed = np.zeros(row_map.table_rows[table], bool)
    fixed[PADDING_ROW] = True
    inside = np.zeros(len(schema.fields), bool)
    for position, field in enumerate(schema.fields):
        if schema.table_name(field) != table:
            continue
        inside[position] = True
        fixed[row_map.oov_rows[position]] = True
        if buckets := bucket_count(field, row_map.boundaries_of(position)):
            first = row_map.bucket_rows[position]
            fixed[first:first + buckets] = True
    return fixed, row_map.rows[stays & inside[row_map.fields]]


def _free_rows(fixed: np.ndarray, owned: np.ndarray, wanted: int) -> np.ndarray:
    """(wanted,) int32 rows that nobody owns, the lowest first, then beyond the table's end."""
    used = np.concatenate([fixed, np.zeros(wanted, bool)])
    used[owned] = True
    return np.flatnonzero(~used)[:wanted].astype(np.int32)
