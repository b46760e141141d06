"""MovieLens-1M read out of its three files of `::` separated latin-1 text."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from dualdnn.data.sources.delimited import DelimitedText, read_bare
from dualdnn.data.sources.movielens_archive import (
    MovieLensTables,
    joined_tables,
    sorted_genres,
    year_of_title,
)
from dualdnn.data.sources.raw_archive import opened_archive
from dualdnn.errors import DataError

OFFICIAL_FILES = ("ratings.dat", "users.dat", "movies.dat")
# The official zip has a folder; zips that people made of its content may have none.
_PREFIXES = ("ml-1m/", "")
# The README of the archive: under 18, 18 to 24, 25 to 34, ... and 56 or older.
AGE_CODES = (1, 18, 25, 35, 45, 50, 56)
_HIGHEST_OCCUPATION = 20
_GENDERS = ("F", "M")


def _check_users(users: DelimitedText) -> None:
    """The codes that the README of the archive names, and no others."""
    codes = users.integers("age", low=min(AGE_CODES), high=max(AGE_CODES))
    for position, code in enumerate(codes.tolist()):
        if code not in AGE_CODES:
            raise users.error(position, "age must be one of the codes "
                              f"{', '.join(map(str, AGE_CODES))}, got {code}.")
    users.integers("occupation", low=0, high=_HIGHEST_OCCUPATION)
    for position, gender in enumerate(users.columns["gender"]):
        if gender not in _GENDERS:
            raise users.error(position, f"gender must be F or M, got {gender!r}.")


def read_movielens_1m(path: Path) -> MovieLensTables:
    """Read MovieLens-1M out of the official zip, a zip of its files, or a folder with them.

    Ages are codes of groups and occupations codes from 0 to 20, as the README of the archive
    explains them; an empty zip code is None.

    Raises:
        DataError: the archive is damaged or another one; the message names the member and, for
            damaged text, the line.
    """
    with opened_archive(path) as archive:
        missing = {
            prefix: [prefix + name for name in OFFICIAL_FILES if not archive.holds(prefix + name)]
            for prefix in (("",) if path.is_dir() else _PREFIXES)
        }
        prefix = min(missing, key=lambda prefix: len(missing[prefix]))
        if missing[prefix]:
            raise DataError(
                f"{path} is not MovieLens-1M: expected the members "
                f"{', '.join(prefix + name for name in OFFICIAL_FILES)}, missing "
                f"{', '.join(missing[prefix])}. Get the archive again.")

        def table(name: str, names: tuple[str, ...]) -> DelimitedText:
            where, data = archive.read(prefix + name)
            return read_bare(data, where=where, encoding="latin-1", separator="::", names=names)

        ratings = table("ratings.dat", ("user_id", "item_id", "rating", "timestamp"))
        users = table("users.dat", ("user_id", "gender", "age", "occupation", "zip_code"))
        items = table("movies.dat", ("item_id", "title", "genres"))
    _check_users(users)
    tables = joined_tables(
        ratings, items, users,
        genres=[sorted_genres(text) for text in items.columns["genres"]],
        years=[year_of_title(title) for title in items.columns["title"]],
    )
    return replace(tables, zip_codes=[zip_code or None for zip_code in tables.zip_codes])
