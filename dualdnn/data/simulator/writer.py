"""A simulated feed written as a lake: whole or not at all, a block at a time."""

from __future__ import annotations

import datetime
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from dualdnn.data.simulator.formula import formula_of
from dualdnn.data.simulator.impressions import blocks_of_day, impressions
from dualdnn.data.simulator.settings import BLOCK_ROWS, FeedSettings
from dualdnn.data.simulator.world import World, build_world
from dualdnn.data.sources.lake_writer import (
    LAKE_FILE,
    SUCCESS_FILE,
    only_builder,
    own_lake,
    refuse_foreign,
)
from dualdnn.errors import DataError
from dualdnn.storage import atomic_folder, write_json

_log = logging.getLogger(__name__)
SOURCE = "simulated_feed"
# Raise it when columns or their meaning change: lakes of an older format are then built again.
FEED_FORMAT = 1


def _part_file(number: int) -> str:
    return f"part-{number:06d}.parquet"


def _what_it_is(settings: FeedSettings) -> dict[str, Any]:
    """What makes the bytes of a feed."""
    return {"made_by": "dualdnn", "format": FEED_FORMAT, "source": SOURCE,
            "settings": {field.name: getattr(settings, field.name)
                         for field in fields(FeedSettings)},
            "formula_sha256": formula_of(settings.regime).digest()}


def feed_is_current(lake: Path, settings: FeedSettings) -> bool:
    """Whether `lake` is a complete feed of these settings.

    Raises:
        DataError: there is something at `lake` that dualdnn did not make.
    """
    if (content := own_lake(lake)) is None:
        return False
    return (all(content.get(key) == value for key, value in _what_it_is(settings).items())
            and all((lake / f"dt={day}" / name).is_file()
                    for day, files in content["files"].items()
                    for name in (SUCCESS_FILE, *map(_part_file, range(files)))))


def _write_part(world: World, day: int, blocks: range, path: Path) -> tuple[int, int]:
    """One file, one row group a block. Returns its rows and clicks."""
    today = world.today(day)
    rows = clicks = 0
    writer: pq.ParquetWriter | None = None
    try:
        for block in blocks:
            batch = impressions(world, today, day, block)
            if writer is None:
                writer = pq.ParquetWriter(path, batch.schema, compression="lz4",
                                          write_page_checksum=True)
            writer.write_batch(batch)
            rows += batch.num_rows
            clicks += int(batch.column("click").to_numpy().sum())
    finally:
        if writer is not None:
            writer.close()
    return rows, clicks


def write_feed(settings: FeedSettings, lake: Path, *, threads: int) -> None:
    """Write `dt=YYYY-MM-DD/part-*.parquet` for each day; an own feed at `lake` is replaced.

    Memory holds the world and one block a thread. The bytes depend on the settings alone, not on
    the number of threads. The folder appears by one rename with everything in it.

    Args:
        settings: of the feed.
        lake: where to.
        threads: files written at the same time.

    Raises:
        DataError: there is something at `lake` that dualdnn did not make, or it cannot be
            written.
    """
    refuse_foreign(lake)
    world = build_world(settings)
    per_file = settings.rows_per_file // BLOCK_ROWS
    names = [str(settings.start() + datetime.timedelta(days=day)) for day in range(settings.days)]
    blocks = [range(blocks_of_day(world, day)) for day in range(settings.days)]
    parts = [(day, number, blocks[day][start:start + per_file]) for day in range(settings.days)
             for number, start in enumerate(range(0, len(blocks[day]), per_file))]
    try:
        with atomic_folder(lake) as temporary, ThreadPoolExecutor(threads) as pool:

            def write(part: tuple[int, int, range]) -> tuple[int, int]:
                day, number, of_file = part
                folder = temporary / f"dt={names[day]}"
                folder.mkdir(exist_ok=True)
                return _write_part(world, day, of_file, folder / _part_file(number))

            counts = list(pool.map(write, parts))
            days, files = dict.fromkeys(names, 0), dict.fromkeys(names, 0)
            for (day, _, _), (rows, _) in zip(parts, counts, strict=True):
                days[names[day]] += rows
                files[names[day]] += 1
            for name in names:
                (temporary / f"dt={name}" / SUCCESS_FILE).touch()
            write_json(temporary / LAKE_FILE, {
                **_what_it_is(settings), "rows": sum(days.values()),
                "clicks": sum(clicks for _, clicks in counts), "days": days, "files": files})
    except OSError as error:
        raise DataError(f"The lake {lake} cannot be written: {error}. Choose another data.lake, "
                        "or make room.") from error


def prepare_feed(settings: FeedSettings, lake: Path, *, threads: int) -> None:
    """Write the feed, unless it is there with the same settings: then say so and use it.

    Raises:
        DataError: as `write_feed`.
    """
    lake = Path(lake).resolve()
    # Looked at before the lock as well: a finished lake may lie where nobody can write.
    if feed_is_current(lake, settings):
        _log.info("%s is there already with the same settings; used as it is.", lake)
        return
    try:
        with only_builder(lake):
            if feed_is_current(lake, settings):
                _log.info("%s was written by another process meanwhile; used as it is.", lake)
                return
            write_feed(settings, lake, threads=threads)
    except OSError as error:
        raise DataError(f"The lake {lake} cannot be written: {error}. Choose another "
                        "data.lake.") from error
    _log.info("%s: %d impressions simulated.", lake, settings.rows)
