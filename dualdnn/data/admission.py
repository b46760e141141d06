"""Which signs of a training part get a row of their own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from dualdnn.data.encoded_day import EncodedDay
from dualdnn.errors import DataError
from dualdnn.schema import Field, Schema


@dataclass(frozen=True, kw_only=True)
class Admission:
    """Limits on the rows of every table, beside the fields' own `min_count`.

    A retrain builds a map from its window alone: under a capacity it admits the signs that occur
    most often there; of equals the one seen later, then the smaller sign. What is older than the
    window is gone, so that it expires nothing else. The growth of an existing map lets expired
    signs go and admits new ones, the most frequent first, into rows that nobody owns: a full
    table admits nothing until rows expire, and nothing known is evicted for a newcomer. All
    fields of a table share its capacity. Tables of pre-trained files of vectors are subject to
    neither limit: the file says who has a row.

    Attributes:
        expire_after_days: a sign that was not seen for more than so many days before the newest
            one loses its row; None: never.
        capacity: most rows of every table, those for padding, for values out of vocabulary and
            of buckets included; None: no limit.
    """

    expire_after_days: int | None = None
    capacity: int | None = None

    def mistakes(self, where: str) -> list[str]:
        """What is wrong with the values, one sentence each."""
        found = []
        if self.expire_after_days is not None and self.expire_after_days < 1:
            found.append(f"{where}.expire_after_days must be >= 1 or null, got "
                         f"{self.expire_after_days}. Use null to keep every id.")
        # Padding and one row out of vocabulary are in every table.
        if self.capacity is not None and self.capacity < 2:
            found.append(f"{where}.capacity must be >= 2 or null, got {self.capacity}. Use null "
                         "for tables without a limit.")
        return found

    def room(self, table: str, fixed: int, owned: int = 0) -> int | None:
        """How many more signs a table can hold; None: any number.

        Args:
            table: its name, for the message.
            fixed: its rows of padding, values out of vocabulary and buckets.
            owned: its rows that signs own already.

        Raises:
            DataError: the capacity does not hold the fixed rows.
        """
        if self.capacity is None:
            return None
        if self.capacity < fixed:
            raise DataError(
                f"a table must hold its rows for padding, for values out of vocabulary and of "
                f"buckets: `{table}` has {fixed} of them, but the capacity is {self.capacity}. "
                f"Set capacity to more than {fixed}, or use fewer buckets."
            )
        return max(0, self.capacity - fixed - owned)


# Every sign that occurs `min_count` times, for good.
NO_LIMITS = Admission()


@dataclass(frozen=True, kw_only=True)
class Occurrences:
    """Signs that occur in the training rows of some days.

    Attributes:
        signs: (n,) int64; each once.
        fields: (n,) int32, the position in the schema of the field that owns each sign.
        counts: (n,) int64, over all fields that share the owner's rows.
        last_seen: (n,) int32, the last of these days with the sign, days since 1970.
    """

    signs: np.ndarray
    fields: np.ndarray
    counts: np.ndarray
    last_seen: np.ndarray

    def chosen(self, those: np.ndarray) -> Occurrences:
        """Those of a mask (n,) bool or of indices (k,) int64, in their order."""
        return Occurrences(signs=self.signs[those], fields=self.fields[those],
                           counts=self.counts[those], last_seen=self.last_seen[those])

    def frequent(self, schema: Schema) -> Occurrences:
        """Those that occur `min_count` times."""
        least = np.array([field.min_count for field in schema.fields], np.int64)
        return self.chosen(self.counts >= least[self.fields])

    def ranked(self) -> np.ndarray:
        """(n,) int64 indices: the most frequent first; then seen later; then the smaller sign."""
        return np.lexsort((self.signs, -self.last_seen, -self.counts))

    def most_frequent(self, room: int | None) -> Occurrences:
        """At most `room` of them (None: all), in the order they stand in."""
        if room is None or room >= len(self.signs):
            return self
        return self.chosen(np.sort(self.ranked()[:room]))


def day_number(day: EncodedDay) -> int:
    """Days since 1970."""
    return int(np.datetime64(day.day).astype("datetime64[D]").astype(np.int32))


def occurrences(
    schema: Schema, members: Sequence[Field], days: Sequence[EncodedDay],
    parts: Sequence[np.ndarray | None],
) -> Occurrences:
    """Count the signs of the fields of one table.

    Args:
        schema: all fields.
        members: those of the table.
        days: encoded days.
        parts: for each day the numbers of its training rows, or None for all of them.

    Returns:
        the signs, field after field in the order of the schema, ascending in each.
    """
    found = []
    for position, owner in enumerate(schema.fields):
        if owner in members and owner.is_admitted and owner.namespace == owner.name:
            sharing = [one for one in schema.fields if one.namespace == owner.name]
            found.append(_of_owner(position, sharing, days, parts))
    return joined(found)


def joined(parts: Sequence[Occurrences]) -> Occurrences:
    """One after the other; no sign may be in two of them."""
    return Occurrences(
        signs=np.concatenate([np.zeros(0, np.int64), *(one.signs for one in parts)]),
        fields=np.concatenate([np.zeros(0, np.int32), *(one.fields for one in parts)]),
        counts=np.concatenate([np.zeros(0, np.int64), *(one.counts for one in parts)]),
        last_seen=np.concatenate([np.zeros(0, np.int32), *(one.last_seen for one in parts)]),
    )


def summed(parts: Sequence[Occurrences]) -> Occurrences:
    """The signs of all parts, ascending, with their counts added up."""
    every = joined(parts)
    order = np.argsort(every.signs, kind="stable")
    every = every.chosen(order)
    first = np.flatnonzero(np.r_[True, every.signs[1:] != every.signs[:-1]][:len(every.signs)])
    if not len(first):
        return every
    return Occurrences(
        signs=every.signs[first], fields=every.fields[first],
        counts=np.add.reduceat(every.counts, first),
        last_seen=np.maximum.reduceat(every.last_seen, first))


def _of_owner(position: int, sharing: Sequence[Field], days: Sequence[EncodedDay],
              parts: Sequence[np.ndarray | None]) -> Occurrences:
    """Over all fields that share the rows of the field at a position."""
    counted = [part for field in sharing for part in _counted(field, days, parts)]
    return summed([Occurrences(signs=signs, counts=counts, last_seen=seen,
                               fields=np.full(len(signs), position, np.int32))
                   for signs, counts, seen in counted])


def _counted(
    field: Field, days: Sequence[EncodedDay], parts: Sequence[np.ndarray | None]
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Of every day the field's signs in the training rows, their counts, the day's number."""
    for day, rows in zip(days, parts, strict=True):
        signs = np.asarray(day.array("signs")[day.section(field.name)])
        if rows is None:
            count = np.asarray(day.array("counts")[day.section(field.name)])
        else:
            cells = day.local_cells(field.name)[rows].ravel()
            count = np.bincount(cells[(cells >= 0) & (cells < len(signs))], minlength=len(signs))
        present = count > 0
        yield signs[present], count[present], np.full(int(present.sum()), day_number(day),
                                                               np.int32)
