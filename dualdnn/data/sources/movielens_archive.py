"""MovieLens-100K read out of either of its two layouts into the same three tables.

The official archive (`u.data`, `u.item`, `u.user`) and the copy that the wheel `recbole` carries
differ in separators, headers, encoding and how genres and years are written. What comes out of
here does not differ.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dualdnn.data.sources.delimited import DelimitedText, read_bare, read_typed_header
from dualdnn.data.sources.rating_log import EARLIEST_SECOND, LATEST_SECOND
from dualdnn.data.sources.raw_archive import RawArchive, opened_archive
from dualdnn.errors import DataError

# In the order of the 19 flags of u.item, which is the order of u.genre.
GENRES = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary",
    "Drama", "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi",
    "Thriller", "War", "Western",
)
OFFICIAL_FILES = ("u.data", "u.item", "u.user")
_OFFICIAL_PREFIX = "ml-100k/"
_WHEEL_PREFIX = "recbole/dataset_example/ml-100k/ml-100k"
LOWEST_RATING, HIGHEST_RATING = 1, 5
HIGHEST_ID = 10**9
_YEAR = re.compile(r"\(([0-9]{4})\)")


@dataclass(frozen=True, kw_only=True)
class MovieLensTables:
    """What the archive says, one entry per row of its files, in the files' order."""

    user_ids: npt.NDArray[np.int64]
    item_ids: npt.NDArray[np.int64]
    ratings: npt.NDArray[np.int64]
    timestamps: npt.NDArray[np.int64]
    described_items: npt.NDArray[np.int64]
    genres: list[list[str]]
    years: list[int | None]
    described_users: npt.NDArray[np.int64]
    ages: npt.NDArray[np.int64]
    genders: list[str]
    occupations: list[str]
    zip_codes: list[str | None]


def year_of_title(title: str) -> int | None:
    """The last year in parentheses: `Seven (1995) (V)` is of 1995."""
    years = _YEAR.findall(title)
    return int(years[-1]) if years else None


def sorted_genres(text: str | None) -> list[str]:
    """The genres of `War|Drama`, each once, in order of the alphabet."""
    return sorted({genre.strip() for genre in (text or "").split("|") if genre.strip()})


def joined_tables(
    ratings: DelimitedText, items: DelimitedText, users: DelimitedText, *,
    genres: list[list[str]], years: list[int | None],
) -> MovieLensTables:
    """The three files in one, checked: every rating is of a user and an item that is described.

    Args:
        ratings: user_id, item_id, rating and timestamp.
        items: item_id.
        users: user_id, age, gender, occupation and zip_code.
        genres: of every item.
        years: of every item, None where unknown.

    Raises:
        DataError: a number is none or out of range, a description is there twice or missing; the
            message names file and line.
    """
    described_items = items.unique_integers("item_id", low=1, high=HIGHEST_ID)
    described_users = users.unique_integers("user_id", low=1, high=HIGHEST_ID)
    ids = {}
    for name, described, where in (("user_id", described_users, users.where),
                                   ("item_id", described_items, items.where)):
        ids[name] = ratings.integers(name, low=1, high=HIGHEST_ID)
        unknown = np.flatnonzero(~np.isin(ids[name], described))
        if len(unknown):
            position = int(unknown[0])
            raise ratings.error(
                position, f"{name} {ids[name][position]} is not described in {where}.")
    return MovieLensTables(
        user_ids=ids["user_id"], item_ids=ids["item_id"],
        ratings=ratings.integers("rating", low=LOWEST_RATING, high=HIGHEST_RATING),
        timestamps=ratings.integers("timestamp", low=EARLIEST_SECOND, high=LATEST_SECOND,
                                    unit=" (seconds since the epoch)"),
        described_items=described_items, genres=genres, years=years,
        described_users=described_users, ages=users.integers("age", low=0, high=150),
        genders=users.columns["gender"], occupations=users.columns["occupation"],
        zip_codes=list(users.columns["zip_code"]),
    )


def _read_official(archive: RawArchive, prefix: str) -> MovieLensTables:
    def table(name: str, separator: str, names: tuple[str, ...]) -> DelimitedText:
        where, data = archive.read(prefix + name)
        return read_bare(data, where=where, encoding="latin-1", separator=separator, names=names)

    ratings = table("u.data", "\t", ("user_id", "item_id", "rating", "timestamp"))
    items = table("u.item", "|", ("item_id", "title", "release_date", "video_release_date",
                                  "url", *GENRES))
    users = table("u.user", "|", ("user_id", "age", "gender", "occupation", "zip_code"))
    flags = np.stack([items.integers(genre, low=0, high=1) for genre in GENRES], axis=1)
    genres = [sorted(GENRES[column] for column in np.flatnonzero(row)) for row in flags]
    years = [year_of_title(title) for title in items.columns["title"]]
    return joined_tables(ratings, items, users, genres=genres, years=years)


def _read_wheel(archive: RawArchive) -> MovieLensTables:
    def table(suffix: str, names: tuple[str, ...]) -> DelimitedText:
        where, data = archive.read(_WHEEL_PREFIX + suffix)
        return read_typed_header(data, where=where, encoding="utf-8", separator="\t", names=names)

    ratings = table(".inter", ("user_id", "item_id", "rating", "timestamp"))
    items = table(".item", ("item_id", "movie_title", "release_year", "class"))
    users = table(".user", ("user_id", "age", "gender", "occupation", "zip_code"))
    genres = []
    for position, text in enumerate(items.columns["class"]):
        found = sorted(set(text.split()))
        if strange := [genre for genre in found if genre not in GENRES]:
            raise items.error(position, f"expected genres of MovieLens, got {strange[0]!r}.")
        genres.append(found)
    # One release_year says 'V' (a video) and one 'unkonwn': the title knows better, or nobody.
    years = [
        int(year) if re.fullmatch("[0-9]{4}", year) else year_of_title(title)
        for year, title in zip(items.columns["release_year"], items.columns["movie_title"],
                               strict=True)
    ]
    return joined_tables(ratings, items, users, genres=genres, years=years)


def read_movielens(path: Path) -> MovieLensTables:
    """Read MovieLens-100K out of the official zip, an unpacked folder of it, or the wheel.

    Raises:
        DataError: the archive is damaged or is none of these; the message names the member and,
            for damaged text, the line.
    """
    with opened_archive(path) as archive:
        prefix = "" if path.is_dir() else _OFFICIAL_PREFIX
        official = [prefix + name for name in OFFICIAL_FILES]
        wheel = [_WHEEL_PREFIX + suffix for suffix in (".inter", ".item", ".user")]
        if all(archive.holds(name) for name in official):
            return _read_official(archive, prefix)
        if all(archive.holds(name) for name in wheel):
            return _read_wheel(archive)
        of_wheel = not any(map(archive.holds, official)) and any(map(archive.holds, wheel))
        closest = sorted(wheel if of_wheel else official)
        raise DataError(
            f"{path} is not MovieLens-100K: expected the members {', '.join(closest)}, missing "
            f"{', '.join(name for name in closest if not archive.holds(name))}. Get the archive "
            "again.")
