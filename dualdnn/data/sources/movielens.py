"""MovieLens-100K as a lake: the default data set and the smoke test of everything."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa

from dualdnn.data.sources.download import PinnedUrl, PinnedWheel, cache_folder, fetch_first
from dualdnn.data.sources.lake_writer import LakeOrigin, RawRows, prepare_lake
from dualdnn.data.sources.movielens_archive import (
    HIGHEST_RATING,
    LOWEST_RATING,
    OFFICIAL_FILES,
    MovieLensTables,
    read_movielens,
)
from dualdnn.data.sources.rating_log import rating_log, rating_log_mistakes
from dualdnn.data.sources.raw_archive import archive_sha256, raw_mistakes
from dualdnn.errors import ConfigError

OFFICIAL = PinnedUrl(
    url="https://files.grouplens.org/datasets/movielens/ml-100k.zip",
    sha256="50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229",
)
WHEEL = PinnedWheel(
    requirement="recbole==1.2.1",
    file_name="recbole-1.2.1-py3-none-any.whl",
    sha256="9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407",
)
LICENCE = ("GroupLens, University of Minnesota: research use with acknowledgement; no commercial "
           "use and no redistribution without permission")
CITATION = ("F. M. Harper and J. A. Konstan. The MovieLens Datasets: History and Context. "
            "ACM TiiS 5(4), 2015. https://doi.org/10.1145/2827872")


def movielens_table(
    tables: MovieLensTables, *, feature_lag: str, label_threshold: int
) -> pa.Table:
    """One row per rating, (num_ratings) rows in the order of the archive.

    Columns: user_id, item_id, age, gender, occupation, zip_code, genres (a sorted list), year
    (null where unknown), then those of `rating_log`. The rating is not among them: it is the
    label in finer print.

    Args:
        tables: from `read_movielens`.
        feature_lag: see `past_statistics`.
        label_threshold: the lowest rating that is a positive.
    """
    user_rows = pa.array(pd.Index(tables.described_users).get_indexer(pd.Index(tables.user_ids)))
    item_rows = pa.array(pd.Index(tables.described_items).get_indexer(pd.Index(tables.item_ids)))
    return pa.table({
        "user_id": pa.array(tables.user_ids),
        "item_id": pa.array(tables.item_ids),
        "age": pa.array(tables.ages, pa.int32()).take(user_rows),
        "gender": pa.array(tables.genders, pa.string()).take(user_rows),
        "occupation": pa.array(tables.occupations, pa.string()).take(user_rows),
        "zip_code": pa.array(tables.zip_codes, pa.string()).take(user_rows),
        "genres": pa.array(tables.genres, pa.list_(pa.string())).take(item_rows),
        "year": pa.array(tables.years, pa.int32()).take(item_rows),
        **rating_log(users=tables.user_ids, items=tables.item_ids, ratings=tables.ratings,
                     timestamps=tables.timestamps, feature_lag=feature_lag,
                     label_threshold=label_threshold),
    })


def prepare_movielens(
    lake: Path,
    *,
    origin: LakeOrigin,
    raw: Path | None,
    places: Sequence[PinnedUrl | PinnedWheel],
    name: str,
    files: Sequence[str],
    read: Callable[[Path], MovieLensTables],
) -> None:
    """Make the lake of one of the MovieLens sets, unless it is there already.

    Args:
        lake: the folder of the lake.
        origin: what the rows should be.
        raw: the archive or folder; None fetches the first of `places`.
        places: that offer the data; the first is the official one.
        name: of the data set, for messages.
        files: names the content of a folder.
        read: from the archive or folder to its tables.

    Raises:
        DataError: the data cannot be had or read, or `lake` belongs to someone else.
    """
    def rows() -> RawRows:
        path = raw or fetch_first(places, name=name, folder=cache_folder())
        table = movielens_table(read(path), feature_lag=origin.feature_lag,
                                label_threshold=origin.label_threshold)
        return RawRows(table=table, archive=path.name, sha256=archive_sha256(path, files))

    prepare_lake(
        lake,
        origin=origin,
        archives={archive_sha256(raw, files)} if raw else {place.sha256 for place in places},
        ties=("user_id", "item_id", "label"),
        read=rows,
    )


@dataclass(frozen=True, kw_only=True)
class MovieLens100K:
    """The source `movielens`: 100,000 ratings of 943 users, 1997 and 1998.

    Source: Harper and Konstan, The MovieLens Datasets, ACM TiiS 2015.

    Attributes:
        feature_lag: `1d` or `0`, see `past_statistics`.
        label_threshold: ratings from here on, 2 to 5, are labelled 1.
        raw: the official zip, or a folder with u.data, u.item and u.user; None fetches it.
    """

    feature_lag: str = "1d"
    label_threshold: int = 4
    raw: str | None = None

    def mistakes(self, lake: Path) -> list[str]:
        """What is wrong with the values, one sentence each; reads no data."""
        return rating_log_mistakes(
            feature_lag=self.feature_lag, label_threshold=self.label_threshold,
            lowest=LOWEST_RATING, highest=HIGHEST_RATING,
        ) + raw_mistakes(self.raw, archive=OFFICIAL.file_name, files=OFFICIAL_FILES,
                         name="MovieLens-100K")

    def prepare(self, lake: Path) -> None:
        """Make the lake, unless it is there already with the same parameters.

        Args:
            lake: the folder of the lake.

        Raises:
            ConfigError: the values of this source are wrong.
            DataError: the data cannot be had or read, or `lake` belongs to someone else.
        """
        if found := self.mistakes(lake):
            raise ConfigError(found)
        prepare_movielens(
            lake,
            origin=LakeOrigin(source="movielens_100k", feature_lag=str(self.feature_lag),
                              licence=LICENCE, label_threshold=self.label_threshold,
                              citation=CITATION),
            raw=None if self.raw is None else Path(self.raw),
            places=(OFFICIAL, WHEEL),
            name="MovieLens-100K",
            files=OFFICIAL_FILES,
            read=read_movielens,
        )
