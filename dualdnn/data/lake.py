"""Reading a lake: a directory of `dt=YYYY-MM-DD/`, one folder a day.

The files of a day are `*.parquet`, or TFRecords of tf.Example in `*.tfrecord` and
`*.tfrecord.gz`.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from dualdnn.data.columns import checked_columns, text_column
from dualdnn.errors import DataError
from dualdnn.schema import Schema

_PARTITION = "dt="
_TFRECORDS = (".tfrecord", ".tfrecord.gz")


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
            problem = "is a file" if self.path.exists() else "does not exist"
            raise DataError(
                f"data.lake must be a directory of dt=YYYY-MM-DD folders, but {self.path} "
                f"{problem}. Check the path, or set data.raw to build it from raw files."
            )
        found = []
        for folder in self.path.iterdir():
            if not folder.name.startswith(_PARTITION):
                continue
            if not folder.exists():
                raise DataError(
                    f"{folder}: a partition folder must be a directory, got a link that leads "
                    "nowhere or in a circle. Repair the link or remove it."
                )
            if not folder.is_dir():
                continue
            try:
                day = datetime.date.fromisoformat(folder.name.removeprefix(_PARTITION))
            except ValueError:
                day = None
            # fromisoformat also takes 20130801 and 2013-W31-4, whose files would not be found.
            if day is None or folder.name != f"{_PARTITION}{day}":
                raise DataError(
                    f"{folder}: a partition folder must be named dt=YYYY-MM-DD, got "
                    f"{folder.name!r}. Rename it or move it out of the lake."
                )
            found.append(day)
        if not found:
            raise DataError(
                f"{self.path} holds no dt=YYYY-MM-DD folder. Expected one folder a day with "
                "parquet files in it."
            )
        return sorted(found)

    def files(self, day: datetime.date) -> list[Path]:
        """The parquet or TFRecord files of one day, in order of their names.

        Raises:
            DataError: the folder holds neither, or both: one may be a copy of the other.
        """
        folder = self.path / f"{_PARTITION}{day}"
        seen = sorted(p for p in folder.glob("*") if not p.name.startswith((".", "_")))
        parquets = [path for path in seen if path.name.endswith(".parquet")]
        tfrecords = [path for path in seen if path.name.endswith(_TFRECORDS)]
        for path in seen:
            if path.is_dir() and any(
                    child.name.endswith((".parquet", *_TFRECORDS)) for child in path.rglob("*")
            ):
                raise DataError(
                    f"{folder} must hold its files directly, got some in the folder {path.name}, "
                    "which would not be read. Move them up, or rename the folder to begin with _."
                )
        if parquets and tfrecords:
            raise DataError(
                f"{folder} must hold parquet files or TFRecords, got both: {parquets[0].name} and "
                f"{tfrecords[0].name}. Remove one kind, or write all rows of the day as the other."
            )
        if not parquets and not tfrecords:
            raise DataError(
                f"{folder} holds no parquet file. Write the day's rows, or remove the folder if "
                "the day has none."
            )
        return parquets or tfrecords

    def is_complete(self, day: datetime.date) -> bool:
        """A later partition exists, or the day's folder holds `_SUCCESS`."""
        return day < self.days()[-1] or (self.path / f"{_PARTITION}{day}" / "_SUCCESS").exists()

    def newest_complete(self) -> datetime.date:
        """The newest day that is complete.

        Raises:
            DataError: there is none.
        """
        days = self.days()
        complete = [day for day in days[-1:] if self.is_complete(day)] or days[-2:-1]
        if not complete:
            raise DataError(
                f"{self.path} holds one day, {days[0]}, without _SUCCESS. Write _SUCCESS into "
                "the folder when the day is complete."
            )
        return complete[0]

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
        files = self.files(day)
        # Vectors from a file are looked up by a column of ids.
        kinds = {field.column: "id" if field.file else field.kind
                 for field in schema.fields if field.column}
        tables = []
        for path in files:
            found = _read_columns(path, schema.columns, "the schema", kinds)
            # A TFRecord file without records has no types that could be checked.
            if found.num_rows or not _is_tfrecord(path):
                tables.append(checked_columns(path, found, schema))
        if not sum(table.num_rows for table in tables):
            written = "TFRecord" if _is_tfrecord(files[0]) else "parquet"
            raise DataError(
                f"{self.path / f'dt={day}'} has {written} files but no rows. Write the day's "
                "rows, or remove the folder if the day has none."
            )
        return pa.concat_tables(tables)

    def read_column(self, day: datetime.date, column: str) -> list[str | None]:
        """One text column of one day, as the window `given` needs it.

        Raises:
            DataError: the column is missing or is not text.
        """
        values: list[str | None] = []
        for path in self.files(day):
            read = _read_columns(path, [column], "window.column", {})[column]
            values.extend(text_column(path, column, "id", read).to_pylist())
        return values


def _is_tfrecord(path: Path) -> bool:
    return path.name.endswith(_TFRECORDS)


def _read_columns(
    path: Path, columns: list[str], wanted_by: str, kinds: Mapping[str, str]
) -> pa.Table:
    """Some columns of one file, as they are; `kinds` are those of the fields."""
    if _is_tfrecord(path):
        # Imported here: TensorFlow takes seconds to load, and lakes of parquet do without.
        from dualdnn.data.tfrecord import read_tfrecord

        return read_tfrecord(path, columns=columns, kinds=kinds, wanted_by=wanted_by)
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            present = file.schema_arrow.names
            missing = [column for column in columns if column not in present]
            twice = [column for column in columns if present.count(column) > 1]
            table = None if missing or twice else file.read(columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{path} cannot be read as parquet: {error}. Write the file again."
        ) from error
    if missing:
        raise DataError(
            f"{path}: {_column(missing)} missing, which {wanted_by} names; the file has "
            f"{', '.join(present)}. Correct {wanted_by} or write the column."
        )
    if twice:
        raise DataError(
            f"{path}: {_column(twice)} in the file more than once. Write each column once."
        )
    return table


def _column(names: list[str]) -> str:
    """`column `a` is` or `columns `a`, `b` are`."""
    listed = ", ".join(f"`{name}`" for name in names)
    return f"column {listed} is" if len(names) == 1 else f"columns {listed} are"
