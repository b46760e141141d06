"""A lake from raw logs of any size: block by block, resumable, whole or not at all.

The blocks of text become parquet files in a hidden folder beside the lake; a finished block is
recorded there by a file of its own. A killed ingest goes on after the recorded blocks. At the
end the folder gets the name of the lake by one rename.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dualdnn.data.sources.block_ingest import BUILD_FORMAT, BlockIngest
from dualdnn.data.sources.ingest_progress import OnProgress
from dualdnn.data.sources.lake_writer import (
    LAKE_FILE,
    SUCCESS_FILE,
    only_builder,
    own_lake,
    refuse_foreign,
)
from dualdnn.data.sources.raw_log import LogOrigin, RawLog
from dualdnn.data.sources.text_blocks import BLOCK_BYTES, text_sha256
from dualdnn.errors import DataError
from dualdnn.storage import temporary_name, write_json

_log = logging.getLogger(__name__)


def log_lake_is_current(lake: Path, origin: LogOrigin, raw: RawLog | None) -> bool:
    """Whether `lake` is complete and made from these files with these settings.

    Files that were touched or copied are read to compare their sha256.

    Args:
        lake: the folder.
        origin: what the rows should be.
        raw: the files; None for any.

    Raises:
        DataError: there is something at `lake` that dualdnn did not make, or a file cannot be
            read.
    """
    if (content := own_lake(lake)) is None:
        return False
    wanted = {"format": BUILD_FORMAT, **asdict(origin)}
    days = content["days"]
    if any(content.get(key) != value for key, value in wanted.items()) or not (
            all((lake / f"dt={day}" / SUCCESS_FILE).is_file() for day in days)
            and sum(1 for _ in lake.glob("dt=*/part-*.parquet")) == content.get("parts")):
        return False
    if raw is None:
        return True
    found, stamps = content.get("archives", []), raw.stamps()
    if [_plain_stamp(one) for one in found] == stamps:
        return True
    if [one["name"] for one in found] != [one["name"] for one in stamps]:
        return False
    if any(text_sha256(file) != one["sha256"]
           for file, one in zip((*raw.files, *raw.beside), found, strict=True)):
        return False
    # Only saves time the next time; the lake may lie where nobody can write.
    with contextlib.suppress(OSError):
        write_json(lake / LAKE_FILE, {**content, "archives": [
            {**stamp, "sha256": one["sha256"]}
            for stamp, one in zip(stamps, found, strict=True)]})
    return True


def _plain_stamp(archive: Mapping[str, Any]) -> dict[str, Any]:
    return {key: archive[key] for key in ("name", "size", "mtime_ns")}


def build_lake(
    lake: Path,
    *,
    origin: LogOrigin,
    raw: RawLog,
    block_bytes: int = BLOCK_BYTES,
    threads: int | None = None,
    on_progress: OnProgress | None = None,
) -> None:
    """Build the lake, unless it is there from the same files: then say so and use it.

    Each day becomes `dt=YYYY-MM-DD/part-BLOCK.parquet`, one file per block with rows of that
    day, rows in the order of the files. The lake is the same, byte for byte, whatever the
    threads and however often it was interrupted. Memory: about 8 x `block_bytes` per thread.

    Args:
        lake: the folder.
        origin: goes into `_lake.json`.
        raw: what to read.
        block_bytes: text per block.
        threads: that parse and write blocks; None for one per core, at most 4.
        on_progress: called after each block with bytes read, bytes in total, rows written.

    Raises:
        DataError: there is something at `lake` that dualdnn did not make, it cannot be written,
            a raw file changes meanwhile, or a line of it is wrong: with file, line and reason.
    """
    lake = Path(lake).resolve()
    # Looked at before the lock as well: a finished lake may lie where nobody can write.
    if log_lake_is_current(lake, origin, raw):
        _log.info("%s is there already from the same files; used as it is.", lake)
        return
    staging = lake.with_name(f".ingest-{lake.name}")
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(only_builder(lake))
        except OSError as error:
            raise _not_written(lake, error) from error
        if log_lake_is_current(lake, origin, raw):
            _log.info("%s was built by another process meanwhile; used as it is.", lake)
            return
        refuse_foreign(lake)
        try:
            ingest = BlockIngest(staging, origin=origin, raw=raw, block_bytes=block_bytes)
            ingest.run(threads or min(4, os.cpu_count() or 1), on_progress)
            _publish(staging, lake)
        except OSError as error:
            raise _not_written(
                lake, error, f" The finished blocks are kept in {staging}: the same command "
                "goes on after them.") from error
        _log.info("%s: %d rows written from %d files.", lake, ingest.rows, len(raw.files))


def _not_written(lake: Path, error: OSError, kept: str = "") -> DataError:
    return DataError(f"The lake {lake} cannot be written: {error}. Make room, or choose another "
                     f"data.lake.{kept}")


def _publish(staging: Path, lake: Path) -> None:
    """Give the finished folder its name; the only step that anybody sees."""
    # Hours may have passed since the first look.
    refuse_foreign(lake)
    aside = temporary_name(lake)
    if lake.exists():
        os.rename(lake, aside)
    os.rename(staging / "lake", lake)
    shutil.rmtree(aside, ignore_errors=True)
    shutil.rmtree(staging, ignore_errors=True)
