"""A table written as a day-partitioned lake, whole or not at all."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dualdnn.data.sources.past_statistics import SECONDS_PER_DAY
from dualdnn.data.sources.row_fingerprint import rows_sha256
from dualdnn.errors import DataError
from dualdnn.storage import atomic_folder, lock, write_json

_log = logging.getLogger(__name__)
LAKE_FILE = "_lake.json"
SUCCESS_FILE = "_SUCCESS"
PART_FILE = "part-0.parquet"
# One file a day from `write_lake`, one a block from `build_lake`.
PARTS = re.compile(r"part-(0|[0-9]{6})\.parquet")
# Raise it when columns or their meaning change: lakes of an older format are then built again.
LAKE_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class LakeOrigin:
    """What the rows of a lake are, whichever archive they were read from.

    Attributes:
        source: name of the public data set.
        feature_lag: see `past_statistics`.
        label_threshold: the lowest rating that is a positive.
        licence: what the owners ask for, in a line.
        citation: the publication to cite.
    """

    source: str
    feature_lag: str
    label_threshold: int
    licence: str
    citation: str


@dataclass(frozen=True, kw_only=True)
class RawRows:
    """The rows for a lake, and the archive that they were read from."""

    table: pa.Table
    archive: str
    sha256: str


def own_lake(lake: Path) -> dict[str, Any] | None:
    """The _lake.json of a lake that dualdnn wrote; None where there is nothing yet.

    Raises:
        DataError: there is something at `lake` that dualdnn did not make.
    """
    if not lake.exists() or (lake.is_dir() and not any(lake.iterdir())):
        return None
    try:
        content = json.loads((lake / LAKE_FILE).read_text(encoding="utf-8"))
        if content["made_by"] == "dualdnn" and isinstance(content["days"], dict):
            return dict(content)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise DataError(
        f"{lake} exists and was not made by dualdnn (no {LAKE_FILE} of ours in it): it is not "
        "overwritten. Expected a new, empty or own folder; choose another data.lake, or delete "
        "this one.")


def refuse_foreign(lake: Path) -> None:
    """Check that building the lake deletes nothing that somebody else put there.

    Raises:
        DataError: it would.
    """
    if (content := own_lake(lake)) is None:
        return
    own = {f"dt={day}" for day in content["days"]}
    foreign = [path.name for path in lake.iterdir() if path.name not in {LAKE_FILE, *own}]
    for day in own:
        if (lake / day).is_dir():
            foreign += [f"{day}/{path.name}" for path in (lake / day).iterdir()
                        if path.name != SUCCESS_FILE and not PARTS.fullmatch(path.name)]
    if foreign := sorted(name for name in foreign if not name.split("/")[-1].startswith(".")):
        raise DataError(
            f"{lake} would have to be built again, but holds {', '.join(foreign[:3])}, which "
            "dualdnn did not put there. Expected its own files only; move the rest elsewhere or "
            "choose another data.lake.")


def is_own_lake(lake: Path) -> bool:
    """Is there a lake that this module built?"""
    return (lake / LAKE_FILE).is_file()


def lake_is_current(
    lake: Path, origin: LakeOrigin, *, archives: Collection[str] | None
) -> bool:
    """Whether `lake` is complete and made from one of these archives with these parameters.

    Args:
        lake: the folder.
        origin: what the rows should be.
        archives: sha256 of every archive that gives the rows wanted; None for any.

    Raises:
        DataError: there is something at `lake` that dualdnn did not make.
    """
    if (content := own_lake(lake)) is None:
        return False
    wanted = {"format": LAKE_FORMAT, **asdict(origin)}
    return (
        all(content.get(key) == value for key, value in wanted.items())
        and (archives is None or content["archive"]["sha256"] in archives)
        and all((lake / f"dt={day}" / name).is_file()
                for day in content["days"] for name in (PART_FILE, SUCCESS_FILE))
    )


@contextlib.contextmanager
def only_builder(lake: Path) -> Iterator[None]:
    """Wait for other builders of this lake, then clear away what a killed one left behind."""
    with lock(lake.with_name(f".{lake.name}.lock"), wait=True):
        leftover = re.compile(rf"\.tmp-{re.escape(lake.name)}-[0-9]+-[0-9a-f]{{8}}")
        for path in lake.parent.iterdir():
            if leftover.fullmatch(path.name):
                shutil.rmtree(path, ignore_errors=True)
        yield


def write_lake(rows: RawRows, lake: Path, *, origin: LakeOrigin, ties: Sequence[str]) -> None:
    """Write `dt=YYYY-MM-DD/part-0.parquet` for each UTC day of the column `timestamp`.

    The rows stand in the order of `timestamp`, then `ties`, then the input. The folder appears
    by one rename with everything in it, `_lake.json` included.

    Args:
        rows: with an integer column `timestamp`, seconds since the epoch, UTC.
        lake: where to; an own lake there is replaced.
        origin: goes into `_lake.json`.
        ties: columns that order rows of the same second; with enough of them the lake does not
            depend on the order of the input.

    Raises:
        DataError: there is something at `lake` that dualdnn did not make, it cannot be written,
            or there are no rows.
    """
    if rows.table.num_rows == 0:
        raise DataError("Expected rows to write into the lake, got none. Check the raw files.")
    refuse_foreign(lake)
    # The input's position as the last key makes the sort stable.
    numbered = rows.table.append_column("", pa.array(np.arange(rows.table.num_rows)))
    keys = [(name, "ascending") for name in ("timestamp", *ties, "")]
    table = rows.table.take(pc.sort_indices(numbered, sort_keys=keys)).combine_chunks()
    days = table.column("timestamp").to_numpy() // SECONDS_PER_DAY
    firsts = np.flatnonzero(np.concatenate(([True], days[1:] != days[:-1])))
    sizes = np.diff(np.append(firsts, table.num_rows)).tolist()
    names = [str(np.datetime64(int(day), "D")) for day in days[firsts]]
    try:
        with atomic_folder(lake) as temporary:
            for name, first, size in zip(names, firsts.tolist(), sizes, strict=True):
                folder = temporary / f"dt={name}"
                folder.mkdir()
                pq.write_table(table.slice(first, size), folder / PART_FILE,
                               write_page_checksum=True)
                (folder / SUCCESS_FILE).touch()
            write_json(temporary / LAKE_FILE, {
                "made_by": "dualdnn",
                "format": LAKE_FORMAT,
                **asdict(origin),
                "archive": {"name": rows.archive, "sha256": rows.sha256},
                "rows": table.num_rows,
                "rows_sha256": rows_sha256(table),
                "days": dict(zip(names, sizes, strict=True)),
            })
    except OSError as error:
        raise DataError(f"The lake {lake} cannot be written: {error}. Choose another data.lake, "
                        "or make room.") from error


def prepare_lake(
    lake: Path,
    *,
    origin: LakeOrigin,
    archives: Collection[str],
    ties: Sequence[str],
    read: Callable[[], RawRows],
) -> None:
    """Write the lake, unless it is there with the same parameters: then say so and use it.

    Args:
        lake: the folder.
        origin: what the rows should be.
        archives: sha256 of every archive that gives these rows.
        ties: see `write_lake`.
        read: gets the rows; only called if the lake has to be built.

    Raises:
        DataError: as `write_lake`, or from `read`.
    """
    lake = Path(lake).resolve()
    # Looked at before the lock as well: a finished lake may lie where nobody can write.
    if lake_is_current(lake, origin, archives=archives):
        _log.info("%s is there already with the same parameters; used as it is.", lake)
        return
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(only_builder(lake))
        except OSError as error:
            raise DataError(f"The lake {lake} cannot be written: {error}. Choose another "
                            "data.lake.") from error
        if lake_is_current(lake, origin, archives=archives):
            _log.info("%s was built by another process meanwhile; used as it is.", lake)
            return
        refuse_foreign(lake)
        rows = read()
        write_lake(rows, lake, origin=origin, ties=ties)
        _log.info("%s: %d rows written from %s.", lake, rows.table.num_rows, rows.archive)
