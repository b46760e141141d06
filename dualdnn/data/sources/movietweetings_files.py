"""MovieTweetings read from either of its two layouts into the same two tables."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dualdnn.data.sources.delimited import read_bare
from dualdnn.data.sources.movielens_archive import sorted_genres, year_of_title
from dualdnn.data.sources.rating_log import EARLIEST_SECOND, LATEST_SECOND
from dualdnn.errors import DataError
from dualdnn.storage import sha256_of_file

LOWEST_RATING, HIGHEST_RATING = 0, 10
LAYOUTS = (("ratings.dat", "movies.dat"), ("ratings.parquet", "movies.parquet"))
_HIGHEST_ID = 10**12
_SECONDS = " (seconds since the epoch)"

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class MovieTweetingsTables:
    """What the two files say, one entry per row, in the files' order."""

    user_ids: Integers
    movie_ids: Integers
    ratings: Integers
    timestamps: Integers
    described_movies: Integers
    genres: list[list[str]]
    years: list[int | None]


def _read_dats(folder: Path) -> MovieTweetingsTables:
    ratings_file, movies_file = LAYOUTS[0]
    ratings = read_bare((folder / ratings_file).read_bytes(), where=str(folder / ratings_file),
                        encoding="utf-8", separator="::",
                        names=("user_id", "movie_id", "rating", "timestamp"))
    movies = read_bare((folder / movies_file).read_bytes(), where=str(folder / movies_file),
                       encoding="utf-8", separator="::", names=("movie_id", "title", "genres"))
    return MovieTweetingsTables(
        user_ids=ratings.integers("user_id", low=0, high=_HIGHEST_ID),
        movie_ids=ratings.integers("movie_id", low=0, high=_HIGHEST_ID),
        ratings=ratings.integers("rating", low=LOWEST_RATING, high=HIGHEST_RATING),
        timestamps=ratings.integers("timestamp", low=EARLIEST_SECOND, high=LATEST_SECOND,
                                    unit=_SECONDS),
        described_movies=movies.integers("movie_id", low=0, high=_HIGHEST_ID),
        genres=[sorted_genres(text) for text in movies.columns["genres"]],
        years=[year_of_title(title) for title in movies.columns["title"]],
    )


def _read_parquet(path: Path, columns: list[str]) -> pa.Table:
    try:
        found = pq.read_schema(path).names
        if missing := [name for name in columns if name not in found]:
            raise DataError(f"{path}: expected the columns {', '.join(columns)}, got "
                            f"{', '.join(found)}: {missing[0]} is missing. Get the file again.")
        if repeated := [name for name in columns if found.count(name) > 1]:
            raise DataError(f"{path}: expected every column once, got {repeated[0]} "
                            f"{found.count(repeated[0])} times. Get the file again.")
        return pq.read_table(path, columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read as parquet: {' '.join(str(error).split())}. It is "
                        "damaged or cut off; get it again.") from error


def _parquet_integers(table: pa.Table, path: Path, name: str, *, low: int, high: int,
                      unit: str = "") -> Integers:
    column = table.column(name)
    if not pa.types.is_integer(column.type):
        raise DataError(f"{path}: {name} must be of integers, got {column.type}. "
                        "Convert the column.")
    values = column.cast(pa.int64())
    wrong = pc.fill_null(pc.or_(pc.less(values, low), pc.greater(values, high)), True)
    if (position := pc.index(wrong, True).as_py()) >= 0:
        raise DataError(f"{path}, row {position}: {name} must be a whole number from {low} to "
                        f"{high}{unit}, got {values[position].as_py()}. Mend or drop the row.")
    return np.asarray(values.to_numpy(), np.int64)


def _read_parquets(folder: Path) -> MovieTweetingsTables:
    ratings_path, movies_path = (folder / name for name in LAYOUTS[1])
    ratings = _read_parquet(ratings_path, ["user_id", "movie_id", "rating", "timestamp"])
    movies = _read_parquet(movies_path, ["movie_id", "genres", "year"])
    kinds = movies.schema.field("genres").type, movies.schema.field("year").type
    if not (pa.types.is_string(kinds[0]) or pa.types.is_large_string(kinds[0])) \
            or not pa.types.is_integer(kinds[1]):
        raise DataError(f"{movies_path}: expected genres as text and year as integers, got "
                        f"{kinds[0]} and {kinds[1]}. Convert the columns.")
    return MovieTweetingsTables(
        user_ids=_parquet_integers(ratings, ratings_path, "user_id", low=0, high=_HIGHEST_ID),
        movie_ids=_parquet_integers(ratings, ratings_path, "movie_id", low=0, high=_HIGHEST_ID),
        ratings=_parquet_integers(ratings, ratings_path, "rating", low=LOWEST_RATING,
                                  high=HIGHEST_RATING),
        timestamps=_parquet_integers(ratings, ratings_path, "timestamp", low=EARLIEST_SECOND,
                                     high=LATEST_SECOND, unit=_SECONDS),
        described_movies=_parquet_integers(movies, movies_path, "movie_id", low=0,
                                           high=_HIGHEST_ID),
        genres=[sorted_genres(text) for text in movies.column("genres").to_pylist()],
        years=movies.column("year").to_pylist(),
    )


def layout_of(folder: Path) -> tuple[str, str] | None:
    """The first layout whose two files are there."""
    return next((layout for layout in LAYOUTS
                 if all((folder / name).is_file() for name in layout)), None)


def read_movietweetings(folder: Path, layout: tuple[str, str]) -> MovieTweetingsTables:
    """Read both files of a layout.

    Raises:
        DataError: a file is damaged; the message names it and the line or row.
    """
    try:
        return _read_dats(folder) if layout == LAYOUTS[0] else _read_parquets(folder)
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error}. Get MovieTweetings again.") from error


def files_sha256(folder: Path, layout: tuple[str, str]) -> str:
    """Hex digest that names the content of both files.

    Raises:
        DataError: a file cannot be read.
    """
    try:
        files = "".join(f"{name} {sha256_of_file(folder / name)}\n" for name in layout)
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error}. Get MovieTweetings again.") from error
    return hashlib.sha256(files.encode()).hexdigest()
