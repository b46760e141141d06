"""Criteo's display advertising logs as a lake: Kaggle's train.txt, the 24 days, the BARS splits."""

from __future__ import annotations

import logging
import re
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
from dualdnn.errors import ConfigError

_log = logging.getLogger(__name__)
NUMBERS = tuple(f"I{i}" for i in range(1, 14))
CATEGORIES = tuple(f"C{i}" for i in range(1, 27))
# The logs say no dates. This one is no guess: nobody shall take it for the real one.
FIRST_DAY = "2000-01-01"
_FIRST = int(np.datetime64(FIRST_DAY, "D").astype(np.int64))
_DAY_FILE = re.compile(r"day_(0|[1-9][0-9]?)")
_DAYS = 24
# The 45,840,617 rows of train.txt are a week.
_ROWS_PER_DAY = 6_548_660
_RELEASES = ("criteo_x1", "criteo_x4")
EXPECTED = ("train.txt (also .gz or .bz2, or a .zip or folder with it), a folder with day_0.gz to "
            "day_23.gz or some of them, or a folder or .zip with train.csv, valid.csv and test.csv")
OFFER = ("Criteo offers the week at https://www.kaggle.com/c/criteo-display-ad-challenge/data and "
         "the 24 days at https://ailab.criteo.com/download-criteo-1tb-click-logs-dataset")
_LICENCE = ("week: Criteo's terms on Kaggle, research use; 24 days: CC BY-NC-SA 4.0; no commercial "
            "use of either")
_CITATION = "Criteo Labs. Display Advertising Challenge, Kaggle 2014; Criteo 1TB Click Logs, 2015."

RAW = TableFormat(
    columns={"label": LABEL, **dict.fromkeys(NUMBERS, Column(kind="whole")),
             **dict.fromkeys(CATEGORIES, Column())},
    separator="\t", quoted=False)


def _split_format(label: str) -> TableFormat:
    # Of x1 the numbers are scaled to fractions; pandas may have written the labels as 0.0.
    return TableFormat(
        columns={label: Column(kind="rounded", low=0, high=1, required=True),
                 **dict.fromkeys(NUMBERS, Column(kind="decimal")),
                 **dict.fromkeys(CATEGORIES, Column())},
        separator=",", quoted=True)


def criteo_files(place: Path) -> tuple[str, list[TextFile]] | None:
    """What is at `place`: `split`, `week` or `days`, and its files in the order of the rows.

    Args:
        place: see `EXPECTED`; a file of any other name is read as train.txt.

    Raises:
        DataError: `place` cannot be listed.
    """
    if place.is_dir() or place.suffix == ".zip":
        if files := split_files(place):
            return "split", files
        texts = texts_in(place)
        if "train.txt" in texts:
            return "week", [texts["train.txt"]]
        days = [texts[name] for n in range(_DAYS) if (name := f"day_{n}") in texts]
        return ("days", days) if days else None
    file = TextFile(path=place)
    return ("days" if _DAY_FILE.fullmatch(file.name) else "week"), [file]


@dataclass(frozen=True, kw_only=True)
class CriteoTable:
    """Turns blocks of text into tables.

    Columns: label; I1 to I13, int64 (float64 in splits), null where empty; C1 to C26, text as it
    is, null where empty; timestamp; in splits also part: train, valid or test. Rows of one day
    all carry the second at which it begins: the logs say nothing about time, only the order of
    the rows does, and that is kept.

    Attributes:
        layout: `split`, `week` or `days`.
        rows_per_day: see `Criteo`.
    """

    layout: str
    rows_per_day: int

    def __call__(self, block: TextBlock, earlier: tuple[int, ...]) -> pa.Table:
        """The rows of a block; `earlier` holds the rows of each file before its own.

        Raises:
            DataError: a line is wrong; with file, line and reason.
        """
        if self.layout == "split":
            label = "Label" if "Label" in block.header else "label"
            table = parse_block(block, _split_format(label))
            table = table.rename_columns(["label", *table.column_names[1:]])
            part = pa.array([PART_OF[block.file.name]]).take(pa.array(np.zeros(len(table), int)))
            table = table.append_column("part", part)
        else:
            table = parse_block(block, RAW)
        if self.layout == "days":
            days = np.full(len(table), int(block.file.name.removeprefix("day_")))
        else:
            # A file always begins a day, so that no day holds rows of two parts.
            before = sum(-(-rows // self.rows_per_day) for rows in earlier)
            days = before + (block.first_row + np.arange(len(table))) // self.rows_per_day
        seconds = pa.array((_FIRST + days) * SECONDS_PER_DAY, pa.int64())
        label_values = table["label"].cast(pa.int8())
        return table.set_column(0, "label", label_values).append_column("timestamp", seconds)


@dataclass(frozen=True, kw_only=True)
class Criteo:
    """The source `criteo`: clicks on display ads, 13 numbers and 26 hashed categories.

    Official: https://www.kaggle.com/c/criteo-display-ad-challenge/data (45,840,617 rows of a week,
    train.txt) and https://ailab.criteo.com/download-criteo-1tb-click-logs-dataset (24 days,
    4.4 billion rows, CC BY-NC-SA 4.0). No commercial use. Both are tab separated, without a
    header. Also the splits Criteo_x1 and Criteo_x4 of BARS, see `published_splits`.

    The days begin at the made-up date 2000-01-01: file day_N is day N of it, everything else
    has `rows_per_day` rows a day in the order of the rows.

    Attributes:
        raw: see `EXPECTED`.
        rows_per_day: of train.txt and of splits. The default cuts train.txt into its week.
        release: `criteo_x1` or `criteo_x4`: the split files must have the published md5.
        block_bytes: text per block, in memory about 8 times per thread.
        threads: that parse and write; None for one per core, at most 4.
    """

    raw: str | None = None
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
            self.raw, lake, find=criteo_files, expected=EXPECTED, offer=OFFER,
            block_bytes=self.block_bytes, threads=self.threads)
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
                    origin=LogOrigin(source="criteo", address=OFFER, licence=_LICENCE,
                                     citation=_CITATION,
                                     settings={"rows_per_day": self.rows_per_day}))

    def _raw(self) -> RawLog | None:
        layout = None if self.raw is None else criteo_files(Path(self.raw))
        if layout is None:
            return None
        if layout[0] == "days":
            there = [int(file.name.removeprefix("day_")) for file in layout[1]]
            if missing := sorted(set(range(min(there), max(there))) - set(there)):
                _log.warning("day_%d is missing (%d of the days between the first and the last): "
                             "the lake has no such day.", missing[0], len(missing))

        def open_table() -> TableOf:
            return CriteoTable(layout=layout[0], rows_per_day=self.rows_per_day)

        return RawLog(files=layout[1], header=layout[0] == "split", open_table=open_table,
                      md5=MD5[self.release] if self.release else {})
