"""Files of rows that are dropped into a folder: a stream without a broker.

Whoever writes them moves each file into the folder by one rename, under a name that sorts after
those before it. A name that begins with `.` or `_` is not read.
"""

from __future__ import annotations

import contextlib
import datetime
import math
import shutil
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dualdnn.data.lake import Lake
from dualdnn.errors import DataError
from dualdnn.storage import link_file


@dataclass(frozen=True, kw_only=True)
class DroppedFile:
    """One parquet file of the folder.

    Attributes:
        path: where it is.
        size: bytes.
        modified: nanoseconds since the epoch.
    """

    path: Path
    size: int
    modified: int

    @property
    def signature(self) -> list[int]:
        """Changes when the file does."""
        return [self.size, self.modified]

    def newest(self, timestamp: str) -> int | None:
        """The newest second in its column `timestamp`; None where it holds no number.

        Raises:
            DataError: the file is a folder, cannot be read, or lacks the column.
        """
        if self.path.is_dir():
            raise DataError(f"{self.path} is a folder, expected a file. Move the files in it here, "
                            "each by one rename.")
        try:
            column = pq.read_table(self.path, columns=[timestamp])[timestamp]
            newest = pc.max(column).as_py()
        except (pa.ArrowException, OSError, KeyError) as error:
            raise DataError(f"{self.path} cannot be read as parquet with a column "
                            f"`{timestamp}`: {error}. Write it under a name that begins with _ "
                            "and rename it once it is whole.") from error
        return int(newest) if isinstance(newest, int | float) and math.isfinite(newest) else None


def dropped_files(folder: Path) -> list[DroppedFile]:
    """The parquet files of a folder, in the order of their names.

    Raises:
        DataError: there is no such folder.
    """
    if not folder.is_dir():
        raise DataError(f"source={folder} must be a folder that parquet files are dropped into, "
                        "and there is none. Make it, or correct the path.")
    found = []
    for path in sorted(folder.glob("*.parquet")):
        if path.name.startswith((".", "_")):
            continue
        with contextlib.suppress(FileNotFoundError):  # gone since it was listed
            stat = path.stat()
            found.append(DroppedFile(path=path, size=stat.st_size, modified=stat.st_mtime_ns))
    return found


def day_of(second: int | None) -> datetime.date:
    """The UTC day of a second; of what is no possible second, today: reading will refuse it."""
    today = datetime.datetime.now(datetime.UTC).date()
    try:
        return today if second is None else datetime.datetime.fromtimestamp(
            second, datetime.UTC).date()
    except (ValueError, OverflowError, OSError):
        return today


def as_lake(file: DroppedFile, day: datetime.date, folder: Path) -> Lake:
    """Show one file as a lake of one day, so that it is read, checked and encoded like any other.

    Args:
        file: the file; it gets a second name, under which it stays readable.
        day: that its rows are said to be of.
        folder: of the lake; what was there is removed.

    Raises:
        DataError: the file is gone.
    """
    shutil.rmtree(folder, ignore_errors=True)
    partition = folder / f"dt={day}"
    partition.mkdir(parents=True)
    try:
        link_file(file.path, partition / file.path.name)
    except FileNotFoundError as error:
        raise DataError(f"{file.path} was listed and is gone. Leave files in the folder until the "
                        "next offline model has learned their days.") from error
    (partition / "_SUCCESS").touch()
    return Lake(folder)
