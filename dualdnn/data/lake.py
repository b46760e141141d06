"""Reading a lake: a directory of `dt=YYYY-MM-DD/*.parquet`, one folder a day."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from dualdnn.data.columns import checked_columns, text_column
from dualdnn.errors import DataError
from dualdnn.schema import Schema

_PARTITION = "dt="


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
            if not folder.name.startswith(_PARTITION) or not folder.is_dir():
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
        """The parquet files of one day, in order of their names.

        Raises:
            DataError: the folder holds no parquet file.
        """
        folder = self.path / f"{_PARTITION}{day}"
        files = sorted(p for p in folder.glob("*.parquet") if not p.name.startswith((".", "_")))
        if not files:
            raise DataError(
                f"{folder} holds no parquet file. Write the day's rows, or remove the folder if "
                "the day has none."
            )
        return files

    def is_complete(self, day: datetime.date) -> bool:
        """A later partition exists, or the day's folder holds `_SUCCESS`."""
        return day < self.days()[-1] or (self.path / f"{_PARTITION}{day}" / "_SUCCESS").exists()

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
        table = pa.concat_tables([
            checked_columns(path, _read_columns(path, schema.columns, "the schema"), schema)
            for path in self.files(day)
        ])
        if table.num_rows == 0:
            raise DataError(
                f"{self.path / f'dt={day}'} has parquet files but no rows. Write the day's rows, "
                "or remove the folder if the day has none."
            )
        return table

    def read_column(self, day: datetime.date, column: str) -> list[str | None]:
        """One text column of one day, as the window `given` needs it.

        Raises:
            DataError: the column is missing or is not text.
        """
        values: list[str | None] = []
        for path in self.files(day):
            read = _read_columns(path, [column], "window.column")[column]
            values.extend(text_column(path, column, "id", read).to_pylist())
        return values


def _read_columns(path: Path, columns: list[str], wanted_by: str) -> pa.Table:
    """Some columns of one parquet file, as they are."""
    try:
        with pq.ParquetFile(path) as file:
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
