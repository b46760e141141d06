"""MovieLens-1M as a lake: a million ratings of 6,040 users."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dualdnn.data.sources.download import PinnedUrl
from dualdnn.data.sources.lake_writer import LakeOrigin
from dualdnn.data.sources.movielens import CITATION, LICENCE, prepare_movielens
from dualdnn.data.sources.movielens_1m_files import OFFICIAL_FILES, read_movielens_1m
from dualdnn.data.sources.movielens_archive import HIGHEST_RATING, LOWEST_RATING
from dualdnn.data.sources.rating_log import rating_log_mistakes
from dualdnn.data.sources.raw_archive import raw_mistakes
from dualdnn.errors import ConfigError

# As TensorFlow Datasets pins it; GroupLens publishes the md5 c4d9eecfca2ab87c1945afe126590906.
OFFICIAL = PinnedUrl(
    url="https://files.grouplens.org/datasets/movielens/ml-1m.zip",
    sha256="a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20",
)


@dataclass(frozen=True, kw_only=True)
class MovieLens1M:
    """The source `movielens_1m`: 1,000,209 ratings of 3,706 movies, 2000 to 2003.

    The columns are those of MovieLens-100K, with the codes of the archive's README for `age`
    (its groups) and `occupation`.

    Source: Harper and Konstan, The MovieLens Datasets, ACM TiiS 2015.

    Attributes:
        feature_lag: `1d` or `0`, see `past_statistics`.
        label_threshold: ratings from here on, 2 to 5, are labelled 1.
        raw: the official zip, or a folder with ratings.dat, users.dat and movies.dat; None
            fetches it.
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
                         name="MovieLens-1M")

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
            origin=LakeOrigin(source="movielens_1m", feature_lag=str(self.feature_lag),
                              licence=LICENCE, label_threshold=self.label_threshold,
                              citation=CITATION),
            raw=None if self.raw is None else Path(self.raw),
            places=(OFFICIAL,),
            name="MovieLens-1M",
            files=OFFICIAL_FILES,
            read=read_movielens_1m,
        )
