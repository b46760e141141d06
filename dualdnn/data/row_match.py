"""Row maps across a change of the schema: what stays, and which rows mean the same thing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from dualdnn.data.admission import NO_LIMITS, Admission, occurrences
from dualdnn.data.encoded_day import EncodedDay
from dualdnn.data.row_map import (
    PADDING_ROW,
    Numbers,
    Owners,
    RowMap,
    bucket_count,
    check_made_for,
    fixed_count,
    laid_out,
    owners_of_file,
    readings,
)
from dualdnn.errors import DataError
from dualdnn.schema import Field, Schema

_Pair = tuple[str, str, np.ndarray, np.ndarray]
_PADDING = (np.array([PADDING_ROW]), np.array([PADDING_ROW]))


class RowMatch(NamedTuple):
    """Rows of an old table and rows of a new one, pair by pair the same thing.

    The rows of the two tables differ in size where the schema changed a field's `size`: whoever
    moves weights leaves such a match out, as well as those of frozen vectors of a file, which are
    what the new file says.

    Attributes:
        old_table: a name.
        new_table: a name; it may stand in several matches, each of its rows in one at most.
        old_rows: (n,) int32.
        new_rows: (n,) int32, ascending.
    """

    old_table: str
    new_table: str
    old_rows: np.ndarray
    new_rows: np.ndarray


def check_same_meaning(old_schema: Schema, new_schema: Schema) -> None:
    """A field may come or go, but its name must not come to mean other signs.

    Raises:
        DataError: the kind, the shared rows, the crossed or looked up columns, or the pseudonyms
            of a field changed.
    """
    old = {field.name: field for field in old_schema.fields}
    for now in new_schema.fields:
        if now.name not in old:
            continue
        was = old[now.name]
        # A file of vectors has the keys of one column: of another, the same text is another id.
        for name in ("kind", "namespace", "cross", "key", "pii"):
            before, after = getattr(was, name), getattr(now, name)
            if before != after:
                raise DataError(
                    f"field `{now.name}` must keep its {name} where rows are taken over, since "
                    f"its values would mean something else: it was {before!r}, now it is "
                    f"{after!r}. Give the field another name, or train from scratch."
                )


def matched_rows(old: RowMap, old_schema: Schema, new: RowMap,
                 new_schema: Schema) -> list[RowMatch]:
    """Find the rows that mean the same thing in two row maps.

    Signs match themselves; padding matches padding; the row out of vocabulary that of the field
    of the same name. The buckets of a number match where it is read alike (`readings`) with the
    same boundaries, those of a hash and the row of a direct number or of a column of vectors
    where it is read alike. Whatever is new has no match.

    Args:
        old: the row map that weights were learned with.
        old_schema: the fields that it was made for.
        new: the row map that they are needed for.
        new_schema: the fields that it was made for. They may stand in other tables.

    Returns:
        one match for every pair of tables that have something in common, in the order of the new
        schema's tables, then of the old one's.

    Raises:
        DataError: a row map was made for another schema, or a field came to mean something else,
            see `check_same_meaning`.
    """
    check_made_for(old, old_schema)
    check_made_for(new, new_schema)
    check_same_meaning(old_schema, new_schema)
    old_tables, new_tables = list(old_schema.tables()), list(new_schema.tables())
    pairs = [*_of_signs(old, old_schema, new, new_schema),
             *_of_fields(old, old_schema, new, new_schema)]
    by_tables: dict[tuple[int, int], list[tuple[np.ndarray, np.ndarray]]] = {}
    for old_table, new_table, old_rows, new_rows in pairs:
        key = new_tables.index(new_table), old_tables.index(old_table)
        by_tables.setdefault(key, []).append((old_rows, new_rows))
    padded: set[int] = set()
    # A new table takes its padding from its namesake, or else from the first that it shares with.
    for at, name in enumerate(new_tables):
        if name in old_tables:
            by_tables.setdefault((at, old_tables.index(name)), []).insert(0, _PADDING)
            padded.add(at)
    for at, source in sorted(by_tables):
        if at not in padded:
            by_tables[at, source].insert(0, _PADDING)
            padded.add(at)
    found = []
    for (at, source), rows in sorted(by_tables.items(), key=lambda item: item[0]):
        old_rows, new_rows = (np.concatenate([pair[i] for pair in rows]) for i in range(2))
        order = np.argsort(new_rows, kind="stable")
        found.append(RowMatch(old_tables[source], new_tables[at],
                              old_rows[order].astype(np.int32),
                              new_rows[order].astype(np.int32)))
    return found


def _of_signs(old: RowMap, old_schema: Schema, new: RowMap, new_schema: Schema) -> Iterator[_Pair]:
    """Old table, new table, and their rows of the signs in both row maps."""
    _, at_old, at_new = np.intersect1d(old.signs, new.signs, assume_unique=True,
                                       return_indices=True)
    old_names, of_old = _table_numbers(old_schema)
    new_names, of_new = _table_numbers(new_schema)
    old_table, new_table = of_old[old.fields[at_old]], of_new[new.fields[at_new]]
    for one, old_name in enumerate(old_names):
        for other, new_name in enumerate(new_names):
            both = (old_table == one) & (new_table == other)
            if both.any():
                yield old_name, new_name, old.rows[at_old[both]], new.rows[at_new[both]]


def _table_numbers(schema: Schema) -> tuple[list[str], np.ndarray]:
    """The names of all tables, and (num_fields,) int64 which of them holds each field."""
    names = list(schema.tables())
    return names, np.array([names.index(schema.table_name(field)) for field in schema.fields])


def _of_fields(old: RowMap, old_schema: Schema, new: RowMap, new_schema: Schema) -> Iterator[_Pair]:
    """Old table, new table, and their rows that each field in both schemas owns by itself."""
    positions = {field.name: i for i, field in enumerate(old_schema.fields)}
    was, now = readings(old_schema), readings(new_schema)
    for position, field in enumerate(new_schema.fields):
        before = positions.get(field.name)
        if before is None:
            continue
        tables = (old_schema.table_name(old_schema.fields[before]), new_schema.table_name(field))
        yield *tables, old.oov_rows[[before]], new.oov_rows[[position]]
        boundaries = new.boundaries_of(position)
        # What a direct number's boundaries serve does not concern its one row.
        same = was[before] == now[position] and (
            field.direct or np.array_equal(boundaries, old.boundaries_of(before)))
        if same and (count := bucket_count(field, boundaries)):
            buckets = np.arange(count)
            yield *tables, old.bucket_rows[before] + buckets, new.bucket_rows[position] + buckets


def adapted(
    previous: RowMap, old_schema: Schema, new_schema: Schema, days: Sequence[EncodedDay],
    parts: Sequence[np.ndarray | None], admission: Admission = NO_LIMITS,
) -> RowMap:
    """The row map of a changed schema that keeps what the old one knows.

    A field that is read alike (`readings`) keeps its boundaries, shift and factor. The signs of a
    field that owned some before stay, seen when they were, even where its `size` or side of the
    fence (`privileged`) changed: they still mean the same. Nothing is admitted or expires in
    these fields: that is for `grown`, afterwards. What is new, or read otherwise, is built from
    the given days. Rows are numbered anew.

    Args:
        previous: the row map that is in use.
        old_schema: the fields that it was made for.
        new_schema: the fields that one is needed for.
        days: encoded days, with the new fields.
        parts: for each day the numbers of its training rows, or None for all of them.
        admission: the most rows of a table; new fields share what the known signs leave.

    Returns:
        `previous` itself where no field is read otherwise, and their order stays.

    Raises:
        DataError: the row map was made for another schema, a field came to mean something else
            (see `check_same_meaning`), a new file of vectors cannot be read, or the capacity
            does not hold what is known already.
    """
    check_made_for(previous, old_schema)
    check_same_meaning(old_schema, new_schema)
    was, now = readings(old_schema), readings(new_schema)
    if was == now:
        return previous
    numbers = Numbers(len(now))
    for position, (field, reading) in enumerate(zip(new_schema.fields, now, strict=True)):
        if reading in was:
            numbers.take(position, previous, was.index(reading))
        else:
            numbers.measure(position, field, days, parts)
    names = {field.name for field in old_schema.fields}
    owners = {}
    for table, members in new_schema.tables().items():
        known = _known(previous, old_schema, new_schema, members)
        added = [field for field in members if field.name not in names]
        if members[0].file:
            owners[table] = owners_of_file(new_schema, members[0], days) if added else known
            continue
        fixed = fixed_count(new_schema, members, numbers)
        room = admission.room(table, fixed)
        if room is not None and room < len(known.signs):
            raise DataError(
                f"the capacity must hold the {len(known.signs)} ids of `{table}` that are known "
                f"and its {fixed} other rows, got {admission.capacity}. Set capacity to at least "
                f"{fixed + len(known.signs)}, or train from scratch to choose ids anew."
            )
        found = occurrences(new_schema, added, days, parts).frequent(new_schema)
        found = found.most_frequent(None if room is None else room - len(known.signs))
        owners[table] = _joined(known, Owners(found.signs, found.fields, found.last_seen))
    return laid_out(new_schema, numbers, owners)


def _known(previous: RowMap, old_schema: Schema, new_schema: Schema,
           members: Sequence[Field]) -> Owners:
    """What the fields of a new table own in the row map, field after field, in order of signs."""
    positions = {field.name: i for i, field in enumerate(old_schema.fields)}
    found = []
    for field in members:
        own = previous.fields == positions.get(field.name, -1)
        vectors = None
        if field.file and own.any():
            table = old_schema.table_name(old_schema.field(field.name))
            vectors = previous.vectors[table][previous.rows[own]]
        position = new_schema.fields.index(field)
        found.append(Owners(previous.signs[own], np.full(int(own.sum()), position, np.int32),
                            previous.last_seen[own], vectors))
    return _joined(*found)


def _joined(*some: Owners) -> Owners:
    """In order of the fields; the signs of each keep their order."""
    fields = np.concatenate([own.fields for own in some])
    order = np.argsort(fields, kind="stable")
    return Owners(np.concatenate([own.signs for own in some])[order], fields[order],
                  np.concatenate([own.last_seen for own in some])[order], some[0].vectors)
