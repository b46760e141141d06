"""Is a window of days fit to be trained on?

`check_lake` looks at folders and the footers of files, so it runs before anything is encoded;
`check_encoded` compares the encoded days with each other. `check_window` is both.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dualdnn.data.encoded_day import EncodedDay
from dualdnn.data.finding import Finding, in_order, named_days
from dualdnn.data.lake import Lake
from dualdnn.data.partition_comparison import comparison_findings
from dualdnn.data.partition_files import (
    column_findings,
    label_findings,
    presence_findings,
    read_footers,
)
from dualdnn.data.partition_rows import rows_outside_day
from dualdnn.data.partition_settings import PartitionSettings
from dualdnn.schema import Schema

_UNUSABLE = ("missing_day", "empty_day", "unreadable_file")


@dataclass(frozen=True, kw_only=True)
class RecordedDay:
    """What the lineage of a version keeps of a day that it was trained on.

    Attributes:
        fingerprint: of the encoded arrays.
        files: name and sha256 of every file that they were made from.
        rows: number of examples.
    """

    fingerprint: str
    files: tuple[tuple[str, str], ...]
    rows: int

    @classmethod
    def of(cls, day: EncodedDay) -> RecordedDay:
        """The record of an encoded day."""
        files = tuple((name, digest) for name, digest in day.meta["sha256"])
        return cls(fingerprint=day.meta["fingerprint"], files=files, rows=day.rows)

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {"fingerprint": self.fingerprint, "files": [list(one) for one in self.files],
                "rows": self.rows}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RecordedDay:
        """What `to_dict` made, read again."""
        files = tuple((name, digest) for name, digest in values["files"])
        return cls(fingerprint=values["fingerprint"], files=files, rows=values["rows"])


def check_window(
    lake: Lake,
    days_wanted: Sequence[datetime.date],
    schema: Schema,
    encoded: Sequence[EncodedDay],
    settings: PartitionSettings,
    *,
    required: Collection[datetime.date] = (),
    recorded: Mapping[datetime.date, RecordedDay] | None = None,
) -> list[Finding]:
    """All that there is to say about the days of a window, the most severe first.

    Args:
        lake: the log.
        days_wanted: every day of the window, also those without a folder.
        schema: what is read.
        encoded: the days that could be encoded.
        settings: policy and limits.
        required: days that may not be missing whatever the policy: the holdout.
        recorded: what an earlier version was trained on, by day.
    """
    return in_order([*check_lake(lake, days_wanted, schema, settings, required=required),
                     *check_encoded(encoded, schema, settings, recorded=recorded)])


def check_lake(
    lake: Lake,
    days_wanted: Sequence[datetime.date],
    schema: Schema,
    settings: PartitionSettings,
    *,
    required: Collection[datetime.date] = (),
) -> list[Finding]:
    """Missing and empty days, unreadable files, labels and columns, from footers alone.

    Raises:
        DataError: the lake is no directory, or holds no day.
    """
    present = set(lake.days())
    footers = [read_footers(lake, day, day in present, schema.label) for day in days_wanted]
    return _judged([*presence_findings(footers, required, settings),
                    *label_findings(footers, schema), *column_findings(footers, schema)],
                   settings)


def usable_days(
    days_wanted: Sequence[datetime.date], findings: Iterable[Finding]
) -> list[datetime.date]:
    """The days that `check_lake` found to have rows that can be read."""
    lost = {one.day for one in findings if one.kind in _UNUSABLE}
    return [day for day in days_wanted if day not in lost]


def check_encoded(
    encoded: Sequence[EncodedDay],
    schema: Schema,
    settings: PartitionSettings,
    *,
    recorded: Mapping[datetime.date, RecordedDay] | None = None,
) -> list[Finding]:
    """What the rows of encoded days show, each day by itself and beside the others."""
    found = [*_changed(encoded, recorded or {}), *_copied_files(encoded)]
    for day in encoded:
        if late := rows_outside_day(day, settings):
            found.append(late)
    found += comparison_findings(encoded, schema, settings)
    return _judged(found, settings)


def _judged(findings: Iterable[Finding], settings: PartitionSettings) -> list[Finding]:
    return in_order(
        dataclasses.replace(one, severity="error") if one.kind in settings.errors else one
        for one in findings if one.kind not in settings.ignored)


def _changed(encoded: Sequence[EncodedDay],
             recorded: Mapping[datetime.date, RecordedDay]) -> Iterator[Finding]:
    for day in encoded:
        before, now = recorded.get(day.day), RecordedDay.of(day)
        # The same files under another schema are encoded differently, but are no other data.
        if before is None or sorted(before.files) == sorted(now.files):
            continue
        if before.fingerprint == now.fingerprint:
            yield Finding(
                kind="changed_day", severity="info", day=day.day,
                message=f"the files of dt={day.day} were written again with the same rows.")
            continue
        gained = now.rows - before.rows
        yield Finding(
            kind="changed_day", severity="warning", day=day.day,
            message=f"dt={day.day} changed after an earlier version learned it: {before.rows:,} "
                    f"rows then, {now.rows:,} now ({gained:+,}). It was encoded again; if late "
                    "rows are usual, train with a larger window.label_delay, and train again if "
                    "the old rows were wrong.")


def _copied_files(encoded: Sequence[EncodedDay]) -> Iterator[Finding]:
    places: dict[str, list[tuple[datetime.date, str]]] = {}
    for day in encoded:
        for name, digest in day.meta["sha256"]:
            if name not in day.meta.get("empty", ()):  # those are all alike, and copy nothing
                places.setdefault(digest, []).append((day.day, name))
    for same in places.values():
        if len(same) > 1:
            files = [f"dt={day}/{name}" for day, name in same]
            named = ", ".join(files[:3]) + (f" and {len(files) - 3} more" if len(files) > 3 else "")
            days = sorted({day for day, _ in same})
            yield Finding(
                kind="copied_file", severity="error", day=days[-1],
                message=f"{len(same)} files are the same byte for byte, on {named_days(days)}: "
                        f"{named}. Each row would be learned {len(same)} times: remove the "
                        "copies.")
