"""Avazu's mobile ads as a lake: Kaggle's train.csv or a published split."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from dualdnn.data.sources.delimited_table import LABEL, Column, TableFormat, parse_block
from dualdnn.data.sources.past_statistics import SECONDS_PER_DAY
from dualdnn.data.sources.published_splits import MD5, PART_OF, release_mistakes, split_files
from dualdnn.data.sources.raw_log import LogOrigin, RawLog, TableOf
from dualdnn.data.sources.raw_log_source import prepare_log, raw_mistakes
from dualdnn.data.sources.text_blocks import BLOCK_BYTES, TextBlock, TextFile, texts_in
from dualdnn.data.sources.time_of_day import hour_and_weekday
from dualdnn.errors import ConfigError

CATEGORIES = ("C1", "banner_pos", "site_id", "site_domain", "site_category", "app_id",
              "app_domain", "app_category", "device_id", "device_ip", "device_model",
              "device_type", "device_conn_type", *(f"C{i}" for i in range(14, 22)))
NUMBERED = tuple(f"feat_{i}" for i in range(1, 23))
# Of Avazu_x1 the hour is one of the numbered features: a made-up date stands in.
FIRST_DAY = "2000-01-01"
_FIRST = int(np.datetime64(FIRST_DAY, "D").astype(np.int64))
# A tenth of the 40,428,967 rows of ten days.
_ROWS_PER_DAY = 4_042_897
_RELEASES = ("avazu_x1", "avazu_x4")
EXPECTED = ("train.csv or train (also .gz or .bz2, or a .zip or folder with it), or a folder or "
            ".zip with train.csv, valid.csv and test.csv")
OFFER = "Avazu offers train.gz at https://www.kaggle.com/c/avazu-ctr-prediction/data"
_LICENCE = "Avazu's terms on Kaggle: research use; no redistribution"
_CITATION = "Avazu. Click-Through Rate Prediction, Kaggle 2014."

OFFICIAL = TableFormat(
    columns={"id": Column(required=True), "click": LABEL,
             "hour": Column(kind="whole", low=0, required=True),
             **dict.fromkeys(CATEGORIES, Column())},
    separator=",", quoted=True)
X1 = TableFormat(
    columns={"label": Column(kind="rounded", low=0, high=1, required=True),
             **dict.fromkeys(NUMBERED, Column())},
    separator=",", quoted=True)


def avazu_files(place: Path) -> tuple[str, list[TextFile]] | None:
    """What is at `place`: `split` or `log`, and its files.

    Args:
        place: see `EXPECTED`; a file of any other name is read as train.csv.

    Raises:
        DataError: `place` cannot be listed.
    """
    if place.is_dir() or place.suffix == ".zip":
        if files := split_files(place):
            return "split", files
        texts = texts_in(place)
        found = [texts[name] for name in ("train.csv", "train") if name in texts]
        return ("log", found[:1]) if found else None
    return "log", [TextFile(path=place)]


def _seconds(block: TextBlock, hours: pa.ChunkedArray) -> np.ndarray:
    """YYMMDDHH as seconds since the epoch, shape (num_rows,)."""
    found, index = np.unique(hours.to_numpy(), return_inverse=True)
    seconds = np.zeros(len(found), np.int64)
    for position, hour in enumerate(found.tolist()):
        try:
            # strptime alone would take 7 digits as well.
            if hour > 99_999_999:
                raise ValueError(hour)
            moment = datetime.datetime.strptime(f"{hour:08d}", "%y%m%d%H")
        except ValueError:
            row = int(np.flatnonzero(index == position)[0])
            raise block.error(row, "hour must be YYMMDDHH, such as 14102100 for the first hour "
                                   f"of 2014-10-21 (UTC), got {hour}.") from None
        seconds[position] = int(moment.replace(tzinfo=datetime.UTC).timestamp())
    return seconds[index]


@dataclass(frozen=True, kw_only=True)
class AvazuTable:
    """Turns blocks of text into tables.

    Columns of the official layout: id, click, the 21 categories as text, null where empty,
    timestamp (the beginning of the hour), hour (0 to 23) and weekday (Monday is 0) in UTC. Of
    x1: label, feat_1 to feat_22 as text, timestamp (the beginning of a made-up day). In splits
    also part: train, valid or test.

    Attributes:
        columns: `official` or `x1`.
        split: the files are those of a published split.
        rows_per_day: of x1.
    """

    columns: str
    split: bool
    rows_per_day: int

    def __call__(self, block: TextBlock, earlier: tuple[int, ...]) -> pa.Table:
        """The rows of a block; `earlier` holds the rows of each file before its own.

        Raises:
            DataError: a line is wrong; with file, line and reason.
        """
        if self.columns == "x1":
            table = parse_block(block, X1)
            table = table.set_column(0, "label", table["label"].cast(pa.int8()))
            before = sum(-(-rows // self.rows_per_day) for rows in earlier)
            days = before + (block.first_row + np.arange(len(table))) // self.rows_per_day
            more = {"timestamp": pa.array((_FIRST + days) * SECONDS_PER_DAY, pa.int64())}
        else:
            table = parse_block(block, OFFICIAL)
            seconds = _seconds(block, table["hour"])
            table = table.drop_columns(["hour"])
            table = table.set_column(1, "click", table["click"].cast(pa.int8()))
            more = {"timestamp": pa.array(seconds), **hour_and_weekday(seconds)}
        if self.split:
            more["part"] = pa.array([PART_OF[block.file.name]] * len(table))
        for name, values in more.items():
            table = table.append_column(name, values)
        return table


@dataclass(frozen=True, kw_only=True)
class Avazu:
    """The source `avazu`: clicks on mobile ads, ten days in October 2014.

    Official: https://www.kaggle.com/c/avazu-ctr-prediction/data, file train.gz (40,428,967 rows;
    test.gz has no clicks). Kaggle's competition terms: research use, no redistribution. Also the
    splits Avazu_x1 and Avazu_x4 of BARS, see `published_splits`.

    Attributes:
        raw: see `EXPECTED`.
        columns: `official`, or `x1` for the numbered features of Avazu_x1.
        rows_per_day: of x1, which has no time: days begin at the made-up 2000-01-01.
        release: `avazu_x1` or `avazu_x4`: the split files must have the published md5.
        block_bytes: text per block, in memory about 8 times per thread.
        threads: that parse and write; None for one per core, at most 4.
    """

    raw: str | None = None
    columns: str = "official"
    rows_per_day: int = _ROWS_PER_DAY
    release: str | None = None
    block_bytes: int = BLOCK_BYTES
    threads: int | None = None

    def mistakes(self, lake: Path) -> list[str]:
        """What is wrong with the values, one sentence each; reads no data.

        Args:
            lake: where it will be built; once it is there, `raw` is no longer needed.
        """
        found, layout = raw_mistakes(
            self.raw, lake, find=avazu_files, expected=EXPECTED, offer=OFFER,
            block_bytes=self.block_bytes, threads=self.threads)
        if self.columns not in ("official", "x1"):
            found.append("data.source.columns must be official, or x1 for Avazu_x1, got "
                         f"{self.columns!r}.")
        elif layout and self.columns == "x1" and layout != "split":
            found.append("data.source.columns=x1 reads train.csv, valid.csv and test.csv of "
                         "Avazu_x1, but data.raw holds other files.")
        if self.rows_per_day < 1:
            found.append(f"data.source.rows_per_day must be >= 1, got {self.rows_per_day}.")
        if layout:
            found += release_mistakes(self.release, known=_RELEASES, is_split=layout == "split")
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
                    origin=LogOrigin(source="avazu", address=OFFER, licence=_LICENCE,
                                     citation=_CITATION,
                                     settings={"columns": self.columns,
                                               "rows_per_day": self.rows_per_day}))

    def _raw(self) -> RawLog | None:
        layout = None if self.raw is None else avazu_files(Path(self.raw))
        if layout is None:
            return None

        def open_table() -> TableOf:
            return AvazuTable(columns=self.columns, split=layout[0] == "split",
                              rows_per_day=self.rows_per_day)

        return RawLog(files=layout[1], header=True, open_table=open_table,
                      md5=MD5[self.release] if self.release else {})
