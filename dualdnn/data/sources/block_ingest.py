"""Blocks of text become parquet files, each recorded when it is done."""

from __future__ import annotations

import json
import logging
import shutil
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dualdnn.data.sources.ingest_progress import IngestProgress, OnProgress
from dualdnn.data.sources.lake_writer import LAKE_FILE, SUCCESS_FILE
from dualdnn.data.sources.past_statistics import SECONDS_PER_DAY
from dualdnn.data.sources.raw_log import LogOrigin, RawLog, TableOf
from dualdnn.data.sources.text_blocks import BlockReader, TextBlock, text_bytes, text_sha256
from dualdnn.errors import DataError
from dualdnn.storage import atomic_file, remove_leftovers, write_json

_log = logging.getLogger(__name__)
# Raise it when columns or their meaning change: lakes of an older format are then built again.
BUILD_FORMAT = 1


class BlockIngest:
    """The hidden folder of a lake in the making: `plan.json`, `blocks/NUMBER.json` and `lake/`.

    What an interrupted ingest of the same files left there is kept, anything else deleted.

    Args:
        staging: the folder; hold the lock of the lake.
        origin: what the rows are.
        raw: what to read.
        block_bytes: text per block.

    Attributes:
        lake: the folder that becomes the lake.
    """

    def __init__(self, staging: Path, *, origin: LogOrigin, raw: RawLog, block_bytes: int) -> None:
        self.lake, self._blocks = staging / "lake", staging / "blocks"
        self._origin, self._raw, self._block_bytes = origin, raw, block_bytes
        self._stamps = raw.stamps()
        plan = {"format": BUILD_FORMAT, "block_bytes": block_bytes, "files": self._stamps,
                "origin": asdict(origin)}
        try:
            same = json.loads((staging / "plan.json").read_text(encoding="utf-8")) == plan
        except (OSError, ValueError):
            same = False
        if not same:
            shutil.rmtree(staging, ignore_errors=True)
            self._blocks.mkdir(parents=True)
            self.lake.mkdir()
            write_json(staging / "plan.json", plan)
        for folder in (self._blocks, *self.lake.iterdir()):
            remove_leftovers(folder)
        self._done: dict[int, Counter[str]] = {
            int(path.stem): Counter(json.loads(path.read_text(encoding="utf-8")))
            for path in self._blocks.glob("*.json")}
        if self._done:
            _log.info("going on after %d blocks of an interrupted ingest, %d rows.",
                      len(self._done), self.rows)

    @property
    def rows(self) -> int:
        """Rows of the finished blocks."""
        return sum(counts.total() for counts in self._done.values())

    def run(self, threads: int, on_progress: OnProgress | None) -> None:
        """Do all blocks that are not done, then finish the lake."""
        total = sum(text_bytes(file) for file in self._raw.files)
        progress = IngestProgress(name=self._origin.source, total_bytes=total, rows=self.rows,
                                  on_progress=on_progress)
        sha256: list[str] = []
        table_of = self._raw.open_table()
        waiting: deque[tuple[int, int, Future[Counter[str]]]] = deque()

        def finish_oldest() -> None:
            number, read, future = waiting.popleft()
            try:
                self._done[number] = future.result()
            except BaseException:
                cancel()
                raise
            progress.block(read, self._done[number].total())

        def cancel() -> None:
            while waiting:
                waiting.popleft()[2].cancel()

        with ThreadPoolExecutor(threads) as pool:
            try:
                for number, read, block, earlier in self._texts(sha256):
                    if number in self._done:
                        progress.block(read, 0)
                        continue
                    if len(waiting) > threads:
                        finish_oldest()
                    waiting.append((number, read, pool.submit(
                        self._write, number, block, earlier, table_of)))
                while waiting:
                    finish_oldest()
            except DataError:
                # The text goes wrong here; a line before it may have done so first.
                while waiting:
                    finish_oldest()
                raise
            except BaseException:
                cancel()
                raise
        self._finish(sha256)

    def _texts(self, sha256: list[str]) -> Iterator[tuple[int, int, TextBlock, tuple[int, ...]]]:
        """Number, bytes read so far, text, and rows of all earlier files, for every block."""
        number = read = 0
        rows: list[int] = []
        for file in self._raw.files:
            md5 = self._raw.md5.get(file.name)
            reader = BlockReader(file, header=self._raw.header, block_bytes=self._block_bytes,
                                 md5=md5 is not None)
            last = 0
            for block in reader:
                yield number, read + reader.done_bytes, block, tuple(rows)
                number, last = number + 1, block.first_row + block.lines
            read += reader.total_bytes
            rows.append(last)
            if md5 is not None and (found := reader.digest("md5")) != md5:
                raise DataError(f"{file}: expected the published md5 {md5}, got {found}. The file "
                                "is damaged or another one; get it again.")
            sha256.append(reader.digest("sha256"))

    def _write(self, number: int, block: TextBlock, earlier: tuple[int, ...],
               table_of: TableOf) -> Counter[str]:
        """Write the rows of one block, then the record that it is done."""
        counts: Counter[str] = Counter()
        for day, rows in _by_day(table_of(block, earlier)):
            with atomic_file(self.lake / f"dt={day}" / f"part-{number:06d}.parquet") as temporary:
                # Snappy writes nearly twice as fast as zstd and lz4 here, at 1.3x zstd's size.
                pq.write_table(rows, temporary, compression="snappy", write_statistics=False,
                               write_page_checksum=True)
            counts[day] = rows.num_rows
        write_json(self._blocks / f"{number}.json", counts)
        return counts

    def _finish(self, sha256: list[str]) -> None:
        if self._raw.stamps() != self._stamps:
            raise DataError("A raw file changed while it was read; expected it to stay as it is. "
                            "Start again when it is complete.")
        days: Counter[str] = Counter()
        for counts in self._done.values():
            days.update(counts)
        for day in days:
            (self.lake / f"dt={day}" / SUCCESS_FILE).touch()
        digests = sha256 + [text_sha256(file) for file in self._raw.beside]
        write_json(self.lake / LAKE_FILE, {
            "made_by": "dualdnn",
            "format": BUILD_FORMAT,
            **asdict(self._origin),
            "archives": [{**stamp, "sha256": digest}
                         for stamp, digest in zip(self._stamps, digests, strict=True)],
            "rows": days.total(),
            "parts": sum(len(counts) for counts in self._done.values()),
            "days": dict(sorted(days.items())),
        })


def _by_day(table: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    """The rows of each UTC day in their order, days ascending."""
    days = table["timestamp"].to_numpy() // SECONDS_PER_DAY
    if (days[1:] < days[:-1]).any():
        order = np.argsort(days, kind="stable")
        table, days = table.take(pa.array(order)), days[order]
    firsts = np.flatnonzero(np.concatenate(([True], days[1:] != days[:-1])))
    sizes = np.diff(np.append(firsts, len(days)))
    for first, size in zip(firsts.tolist(), sizes.tolist(), strict=True):
        yield str(np.datetime64(int(days[first]), "D")), table.slice(first, size)
