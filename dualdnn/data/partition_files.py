"""Checks that need no row: which days are there, and what the files say of themselves."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq

from dualdnn.data.finding import Finding, named_days
from dualdnn.data.lake import Lake
from dualdnn.data.partition_settings import PartitionSettings
from dualdnn.errors import DataError
from dualdnn.schema import Schema


@dataclass(kw_only=True)
class DayFiles:
    """The footers of a day's files.

    Attributes:
        day: the day.
        present: has it a folder?
        rows: of all files; None where only reading would tell.
        types: column to its types over the files; None where a file lacks it.
        label_range: least and largest label and number of nulls, as far as the files say.
        problem: why a file cannot be read.
    """

    day: datetime.date
    present: bool = True
    rows: int | None = 0
    types: dict[str, set[str | None]] = field(default_factory=dict)
    label_range: tuple[float, float, int] | None = None
    problem: str | None = None


def read_footers(lake: Lake, day: datetime.date, present: bool, label: str) -> DayFiles:
    """What the files of a day say without being read."""
    found = DayFiles(day=day, present=present)
    if not present:
        return found
    try:
        files = lake.files(day)
    except DataError as error:
        # It raises for no file at all, which is an empty day, as for files of two kinds.
        given = (lake.path / f"dt={day}").glob("*.parquet")
        if any(not path.name.startswith((".", "_")) for path in given):
            found.problem = str(error)
        return found
    if files[0].suffix != ".parquet":
        found.rows = None if any(path.stat().st_size for path in files) else 0
        return found
    footers = []
    for path in files:
        try:
            footers.append(pq.read_metadata(path))
        except (pa.ArrowException, OSError) as error:
            found.problem = f"{path} cannot be read as parquet: {error}. Write the file again."
            return found
    found.rows = sum(footer.num_rows for footer in footers)
    schemas = [footer.schema.to_arrow_schema() for footer in footers if footer.num_rows]
    for name in dict.fromkeys(name for schema in schemas for name in schema.names):
        found.types[name] = {str(schema.field(name).type) if schema.names.count(name) == 1 else
                             None for schema in schemas}
    ranges = [part for footer in footers for part in _label_ranges(footer, label)]
    if ranges:
        low, high, nulls = zip(*ranges, strict=True)
        found.label_range = min(low), max(high), sum(nulls)
    return found


def _label_ranges(footer: pq.FileMetaData, label: str) -> Iterator[tuple[float, float, int]]:
    for number in range(footer.num_row_groups):
        group = footer.row_group(number)
        for position in range(group.num_columns):
            column = group.column(position)
            told = column.statistics if column.path_in_schema == label else None
            if told is not None and told.has_min_max and isinstance(told.min, bool | int | float):
                # Parquet writes a smallest 0.0 as -0.0.
                yield float(told.min) + 0.0, float(told.max) + 0.0, told.null_count or 0


def presence_findings(
    footers: Sequence[DayFiles], required: Collection[datetime.date], settings: PartitionSettings,
) -> Iterator[Finding]:
    """Days without a folder, without rows, or with files that cannot be read."""
    for one in footers:
        if one.problem:
            yield Finding(kind="unreadable_file", severity="error", day=one.day,
                          message=one.problem)
    lost = [one for one in footers if one.rows == 0 and not one.problem]
    if not lost:
        return
    wanted = [one.day for one in footers if one.day not in required]
    there = len(wanted) - sum(one.day not in required for one in lost)
    goes_on = settings.missing_days == "continue" and there >= settings.min_days
    for one in lost:
        kind = "empty_day" if one.present else "missing_day"
        what = "has files or a folder but no rows" if one.present else "has no folder"
        if one.day in required:
            advice = "It is needed for the holdout: write it, or choose another window.as_of."
        elif goes_on:
            advice = "The window goes on without it."
        elif settings.missing_days == "continue":
            advice = f"Too few days are left ({there}, needed {settings.min_days}): write it."
        else:
            advice = ("Write the day, or set missing_days=continue to train without it while at "
                      f"least {settings.min_days} days are there.")
        severity = "warning" if goes_on and one.day not in required else "error"
        yield Finding(kind=kind, severity=severity, day=one.day,
                      message=f"dt={one.day} {what}. {advice}")
    if settings.missing_days == "continue" and there < len(wanted):
        verdict = "that is enough to go on" if goes_on else "that is too few"
        yield Finding(
            kind="short_window", severity="warning" if goes_on else "error", day=None,
            message=f"{there} of the window's {len(wanted)} days have rows; at least "
                    f"{settings.min_days} are asked for, {verdict}.")


def label_findings(footers: Sequence[DayFiles], schema: Schema) -> Iterator[Finding]:
    """Labels that are not 0 or 1, as far as the files' statistics tell."""
    for one in footers:
        if one.label_range is None:
            continue
        low, high, nulls = one.label_range
        if low < 0 or high > 1 or nulls:
            held = f"{low:g} to {high:g}" + (f" and {nulls:,} nulls" if nulls else "")
            yield Finding(
                kind="label_values", severity="error", day=one.day,
                message=f"the label `{schema.label}` of dt={one.day} holds {held}; expected 0 and "
                        "1. Derive a 0/1 column where the lake is written.")


def column_findings(footers: Sequence[DayFiles], schema: Schema) -> Iterator[Finding]:
    """Columns that come, go or change their type from one day to another."""
    known = [one for one in footers if one.types]
    if unknown := [one.day for one in footers if one.rows is None]:
        yield Finding(
            kind="unchecked_types", severity="info", day=unknown[0],
            message=f"the columns of {named_days(unknown)} were not compared: TFRecords do not "
                    "say what they hold until they are read.")
    numbers = {schema.label, schema.weight, schema.rate_column,
               *(one.column for one in schema.fields if one.kind in ("number", "vector"))}
    role = {name: "number" if name in numbers else "id" for name in schema.columns}
    role[schema.timestamp] = "time"
    columns = dict.fromkeys([*(name for one in known for name in one.types), *schema.columns])
    for name in columns:
        by_day = {one.day: one.types.get(name, {None}) for one in known}
        yield from _one_column(name, by_day, role.get(name))


def _one_column(name: str, by_day: Mapping[datetime.date, set[str | None]],
                role: str | None) -> Iterator[Finding]:
    used = role is not None
    absent = [day for day, types in by_day.items() if None in types]
    typed = {day: "/".join(sorted(one for one in types if one)) for day, types in by_day.items()
             if types != {None}}
    total = len(by_day)
    if absent and used:
        yield Finding(
            kind="missing_column", severity="error", day=absent[0],
            message=f"column `{name}`, which the schema reads, is not in (all) files of "
                    f"{len(absent)} of {total} days: {named_days(absent)}. Write it, or take it "
                    "out of the schema.")
    elif absent and len(absent) <= total / 2:
        yield Finding(
            kind="missing_column", severity="info", day=absent[0],
            message=f"column `{name}`, which the schema does not read, is not in (all) files of "
                    f"{len(absent)} of {total} days: {named_days(absent)}.")
    elif absent:
        yield Finding(
            kind="new_column", severity="info", day=next(iter(typed)),
            message=f"column `{name}` is in {len(typed)} of {total} days only: "
                    f"{named_days(list(typed))}. The schema does not read it; add it once all "
                    "days of the window have it.")
    if not typed:
        return
    usual = Counter(typed.values()).most_common(1)[0][0]
    for other in sorted({kind for kind in typed.values() if kind != usual}):
        days = [day for day, kind in typed.items() if kind == other]
        harmless = {_meaning(part, role) for part in other.split("/")} == {_meaning(usual, role)}
        yield Finding(
            kind="type_change", severity="warning" if used and not harmless else "info",
            day=days[0],
            message=f"column `{name}` is {other} on {named_days(days)} and {usual} otherwise. "
                    + ("The values mean the same." if harmless else
                       "Values may no longer mean what they do on other days: cast it where the "
                       "lake is written."))


def _meaning(kind: str, role: str | None) -> str:
    """What a type amounts to in a column of that role; types that are read alike share it."""
    inner = kind.removeprefix("large_")
    if inner.startswith("list<"):
        return f"list of {_meaning(inner.split(': ', 1)[-1].rstrip('>'), role)}"
    if inner.startswith("dictionary<"):
        return _meaning(inner.split("values=")[1].split(",")[0], role)
    integer = inner.startswith(("int", "uint"))
    if role == "number" and (integer or inner.startswith(("float", "double", "half", "bool",
                                                          "decimal"))):
        return "number"
    if role == "time" and (integer or inner.startswith("timestamp")):
        return "time"
    # Integers and their decimal text have the same signs.
    return "id" if integer or inner in ("string", "string_view") else kind
