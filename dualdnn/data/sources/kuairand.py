"""KuaiRand as a lake: short videos shown and watched, joined with users and videos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dualdnn.data.sources.delimited_table import parse_block
from dualdnn.data.sources.kuairand_files import (
    FEEDBACK,
    LOG,
    STATISTICS,
    USERS,
    VIDEOS,
    Described,
    KuaiRandFiles,
    kuairand_files,
    read_described,
    renamed_statistics,
    statistics_format,
)
from dualdnn.data.sources.raw_log import LogOrigin, RawLog, TableOf
from dualdnn.data.sources.raw_log_source import prepare_log, raw_mistakes
from dualdnn.data.sources.text_blocks import BLOCK_BYTES, TextBlock
from dualdnn.data.sources.time_of_day import hour_and_weekday
from dualdnn.errors import ConfigError, DataError

LOGS = ("standard", "random")
EXPECTED = ("the unpacked folder of KuaiRand-Pure, -1K or -27K, or its folder `data`, with "
            "log_standard_*.csv, user_features_*.csv and video_features_basic_*.csv (also .gz or "
            ".bz2; for other choices log_random_*.csv and video_features_statistic_*.csv)")
OFFER = "Kuaishou and USTC offer it at https://kuairand.com"
_LICENCE = "CC BY-SA 4.0"
_CITATION = ("C. Gao et al. KuaiRand: An Unbiased Sequential Recommendation Dataset with Randomly "
             "Exposed Videos. CIKM 2022. https://doi.org/10.1145/3511808.3557624")
# The users' clock: China has one time zone, without summer time.
_HOURS_EAST = 8
# Where a tenth of a block has no description, the files do not belong together. The logs are
# sorted by user: a few rows at the end may all be of one without a description.
_MOST_UNDESCRIBED = 0.1
_FEW_ROWS = 1000


@dataclass(frozen=True, kw_only=True)
class KuaiRandTable:
    """Turns blocks of a log into tables.

    Columns: those of the log but date, hourmin and time_ms; of users; of videos, `tag` as a list
    of text; the chosen statistics, with `video_` before their names; timestamp (time_ms in whole
    seconds); hour and weekday (Monday is 0) on the users' clock, UTC+8; and watch_weight: of
    clicked rows the seconds played, at least 1, else 1 (Covington, Adams and Sargin, Deep Neural
    Networks for YouTube Recommendations, RecSys 2016). What the tables do not describe is null.

    Attributes:
        described: users, videos and, if chosen, statistics; by the log's column of their key.
    """

    described: tuple[Described, ...]

    def __call__(self, block: TextBlock, earlier: tuple[int, ...]) -> pa.Table:
        """The rows of a block.

        Raises:
            DataError: a line is wrong, with file, line and reason; or more than a tenth of the
                rows (and than 1,000) are of users or videos without a description.
        """
        table = parse_block(block, LOG)
        columns = {name: table[name] for name in table.column_names if name != "time_ms"}
        for name in (*FEEDBACK, "is_rand"):
            if not name.endswith(("_ms", "_time")):
                columns[name] = columns[name].cast(pa.int8())
        for one in self.described:
            keys = table[one.name].to_numpy()
            rows = one.find(keys)
            unknown = rows < 0
            if unknown.sum() > max(_FEW_ROWS, _MOST_UNDESCRIBED * len(keys)):
                raise DataError(
                    f"{block.file}: {int(unknown.sum())} of {len(keys)} rows from line "
                    f"{block.first_line} on are of a {one.name} without a description, such as "
                    f"{keys[unknown][0]}. The files do not belong together, or one is cut off.")
            columns |= one.take(rows)
        columns["tag"] = pc.split_pattern(columns["tag"], ",")
        seconds = table["time_ms"].to_numpy() // 1000
        played = table["play_time_ms"].fill_null(0).to_numpy() / 1000
        clicked = table["is_click"].to_numpy() == 1
        return pa.table({
            **columns,
            "timestamp": pa.array(seconds),
            **hour_and_weekday(seconds, hours_east=_HOURS_EAST),
            "watch_weight": pa.array(np.where(clicked, np.maximum(played, 1), 1.0)),
        })


@dataclass(frozen=True, kw_only=True)
class KuaiRand:
    """The source `kuairand`: impressions of short videos with twelve kinds of feedback.

    Official: https://kuairand.com (Zenodo record 10439422), CC BY-SA 4.0: KuaiRand-Pure (2.6
    million rows), -1K (12 million), -27K (323 million). Users and videos are held in memory: a
    few MB of Pure, some GB of 27K with its 32 million videos.

    Any feedback may be the label: `data.label=is_click` (default), long_view, is_like, ... Each
    is decided after the video was shown, so none of `FEEDBACK` may be a field, and neither
    visible_status (the state of a video when the data was published) nor the statistics: they are
    means over the whole month, the days to predict included.

    Attributes:
        raw: see `EXPECTED`.
        logs: `standard`, `random` or both: videos that the recommender chose, or drawn at random.
        statistics: columns of video_features_statistic to join; empty for none.
        block_bytes: text per block, in memory about 20 times per thread.
        threads: that parse and write; None for one per core, at most 4.
    """

    raw: str | None = None
    logs: tuple[str, ...] = ("standard",)
    statistics: tuple[str, ...] = ()
    block_bytes: int = BLOCK_BYTES
    threads: int | None = None

    def mistakes(self, lake: Path) -> list[str]:
        """What is wrong with the values, one sentence each; reads no data.

        Args:
            lake: where it will be built; once it is there, `raw` is no longer needed.
        """
        found, layout = raw_mistakes(
            self.raw, lake, find=kuairand_files, expected=EXPECTED, offer=OFFER,
            block_bytes=self.block_bytes, threads=self.threads)
        if not self.logs or sorted(set(self.logs)) != sorted(self.logs) or set(self.logs) - set(
                LOGS):
            found.append("data.source.logs must be a list of standard and random, each at most "
                         f"once, got {list(self.logs)}.")
        found += _unknown(self.statistics)
        if layout and self.raw and not found:
            files = kuairand_files(Path(self.raw))
            for wanted, kind in (("random" in self.logs, "log_random"),
                                 (bool(self.statistics), "video_features_statistic")):
                if files and wanted and not getattr(files[1], kind):
                    found.append(f"data.raw: expected {kind}_*.csv for the chosen logs and "
                                 f"statistics, but {self.raw} lacks it.")
        return found

    def prepare(self, lake: Path) -> None:
        """Make the lake, unless it is there already from the same files and settings.

        Args:
            lake: the folder of the lake.

        Raises:
            ConfigError: the values of this source are wrong.
            DataError: the files cannot be read, or `lake` belongs to someone else.
        """
        if found := self.mistakes(lake):
            raise ConfigError(found)
        prepare_log(lake, raw=self._raw(), block_bytes=self.block_bytes, threads=self.threads,
                    origin=LogOrigin(source="kuairand", address=OFFER, licence=_LICENCE,
                                     citation=_CITATION,
                                     settings={"logs": list(self.logs),
                                               "statistics": list(self.statistics)}))

    def _raw(self) -> RawLog | None:
        found = None if self.raw is None else kuairand_files(Path(self.raw))
        if found is None:
            return None
        files: KuaiRandFiles = found[1]

        def open_table() -> TableOf:
            described = [read_described(files.user_features, USERS),
                         read_described(files.video_features_basic, VIDEOS)]
            if self.statistics:
                described.append(renamed_statistics(read_described(
                    files.video_features_statistic, statistics_format(self.statistics))))
            return KuaiRandTable(described=tuple(described))

        logs = [file for log in LOGS if log in self.logs
                for file in getattr(files, f"log_{log}")]
        return RawLog(
            files=logs, header=True, open_table=open_table,
            beside=(*files.user_features, *files.video_features_basic,
                    *(files.video_features_statistic if self.statistics else ())))


def _unknown(statistics: Sequence[str]) -> list[str]:
    unknown = [name for name in statistics if name not in STATISTICS]
    if not unknown:
        return []
    return [f"data.source.statistics: {unknown[0]} is no column of video_features_statistic; it "
            f"has {', '.join(STATISTICS)}."]
