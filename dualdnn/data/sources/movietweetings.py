"""MovieTweetings as a lake: ratings posted on Twitter, day by day."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from dualdnn.data.sources.lake_writer import (
    LakeOrigin,
    RawRows,
    is_own_lake,
    lake_is_current,
    prepare_lake,
)
from dualdnn.data.sources.movietweetings_files import (
    HIGHEST_RATING,
    LAYOUTS,
    LOWEST_RATING,
    MovieTweetingsTables,
    files_sha256,
    layout_of,
    read_movietweetings,
)
from dualdnn.data.sources.rating_log import rating_log, rating_log_mistakes
from dualdnn.errors import ConfigError, DataError

_log = logging.getLogger(__name__)
# The log is written by hand and machine: a few movies may lack a description. Where a tenth of
# the ratings has none, the two files do not belong together.
_MOST_UNDESCRIBED = 0.1
_LICENCE = "MIT, (c) 2013 Simon Dooms"
_CITATION = ("S. Dooms, T. De Pessemier and L. Martens. MovieTweetings: a Movie Rating Dataset "
             "Collected From Twitter. CrowdRec at ACM RecSys 2013.")


def movietweetings_table(
    tables: MovieTweetingsTables, *, feature_lag: str, label_threshold: int
) -> pa.Table:
    """One row per rating, (num_ratings) rows in the order of the file.

    Columns: user_id, movie_id, genres (a sorted list), year (null where unknown), then those of
    `rating_log`. A movie without a description has no genres and no year; of a movie described
    twice the first line counts.

    Args:
        tables: of either layout.
        feature_lag: see `past_statistics`.
        label_threshold: the lowest rating that is a positive.

    Raises:
        DataError: more than a tenth of the ratings are of movies without a description.
    """
    first = ~pd.Series(tables.described_movies).duplicated().to_numpy()
    rows = pd.Index(tables.described_movies[first]).get_indexer(pd.Index(tables.movie_ids))
    unknown = int((rows < 0).sum())
    if unknown > _MOST_UNDESCRIBED * len(rows):
        raise DataError(f"Expected the file of movies to describe the rated ones, but {unknown} of "
                        f"{len(rows)} ratings are of others, such as movie_id "
                        f"{tables.movie_ids[rows < 0][0]}. The two files do not belong together, "
                        "or one is cut off.")
    if unknown:
        _log.warning("%d of %d ratings are of movies without a description: no genres, no year.",
                     unknown, len(rows))
    # The row after the last one stands for every movie without a description.
    kept = np.flatnonzero(first).tolist()
    genres = pa.array([*(tables.genres[i] for i in kept), []], pa.list_(pa.string()))
    years = pa.array([*(tables.years[i] for i in kept), None], pa.int32())
    taken = pa.array(np.where(rows < 0, len(kept), rows))
    return pa.table({
        "user_id": pa.array(tables.user_ids),
        "movie_id": pa.array(tables.movie_ids),
        "genres": genres.take(taken),
        "year": years.take(taken),
        **rating_log(users=tables.user_ids, items=tables.movie_ids, ratings=tables.ratings,
                     timestamps=tables.timestamps, feature_lag=feature_lag,
                     label_threshold=label_threshold),
    })


@dataclass(frozen=True, kw_only=True)
class MovieTweetings:
    """The source `movietweetings`: ratings from 0 to 10 that people posted on Twitter.

    Source: Dooms, De Pessemier and Martens, MovieTweetings, CrowdRec at RecSys 2013.

    Attributes:
        feature_lag: `1d` or `0`, see `past_statistics`.
        label_threshold: ratings from here on, 1 to 10, are labelled 1.
        raw: a folder with ratings.dat and movies.dat, or ratings.parquet and movies.parquet.
    """

    feature_lag: str = "1d"
    label_threshold: int = 8
    raw: str | None = None

    def mistakes(self, lake: Path) -> list[str]:
        """What is wrong with the values, one sentence each; reads no data.

        Args:
            lake: where it will be built; once it is there, `raw` is no longer needed.
        """
        found = rating_log_mistakes(
            feature_lag=self.feature_lag, label_threshold=self.label_threshold,
            lowest=LOWEST_RATING, highest=HIGHEST_RATING)
        expected = "a folder with " + ", or ".join(" and ".join(layout) for layout in LAYOUTS)
        if self.raw is None and is_own_lake(lake):
            pass
        elif self.raw is None or not str(self.raw):
            found.append(f"data.raw: expected {expected}, got {self.raw!r}. Get MovieTweetings "
                         "(folder `latest` of its repository sidooms/MovieTweetings) and pass "
                         "data.raw=FOLDER.")
        elif not Path(self.raw).is_dir():
            found.append(f"data.raw: expected {expected}, got {str(self.raw)!r}, which is no "
                         "folder. Pass data.raw=FOLDER.")
        elif layout_of(Path(self.raw)) is None:
            there = ", ".join(sorted(p.name for p in Path(self.raw).iterdir())[:8]) or "nothing"
            found.append(f"data.raw: expected {expected}, found {there} in {self.raw}.")
        return found

    def prepare(self, lake: Path) -> None:
        """Make the lake, unless it is there already from the same files and parameters.

        Args:
            lake: the folder of the lake.

        Raises:
            ConfigError: the values of this source are wrong.
            DataError: the files cannot be read, or `lake` belongs to someone else.
        """
        if found := self.mistakes(lake):
            raise ConfigError(found)
        origin = LakeOrigin(source="movietweetings", feature_lag=str(self.feature_lag),
                            licence=_LICENCE, label_threshold=self.label_threshold,
                            citation=_CITATION)
        if self.raw is None:
            if not lake_is_current(lake, origin, archives=None):
                raise ConfigError(f"{lake} was built with other settings than data.feature_lag="
                                  f"{self.feature_lag}. Pass data.raw=FOLDER to build it again.")
            return
        folder, lag = Path(str(self.raw)), str(self.feature_lag)
        if (layout := layout_of(folder)) is None:
            raise DataError(f"{folder} changed while it was looked at; start again.")
        sha256 = files_sha256(folder, layout)

        def read() -> RawRows:
            table = movietweetings_table(read_movietweetings(folder, layout), feature_lag=lag,
                                         label_threshold=self.label_threshold)
            return RawRows(table=table, archive=" + ".join(layout), sha256=sha256)

        prepare_lake(
            lake,
            origin=origin,
            archives={sha256},
            ties=("user_id", "movie_id", "label"),
            read=read,
        )
