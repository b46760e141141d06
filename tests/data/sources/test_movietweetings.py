import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dualdnn.data.sources.movietweetings import MovieTweetings
from dualdnn.errors import ConfigError, DataError

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data" / "movietweetings"
# 2013-02-28 23:59:59 (Thursday), the next second, and the day after at 13:00.
LAST, FIRST, LATER = 1_362_095_999, 1_362_096_000, 1_362_229_200
RATINGS = [(1, 25, 8, FIRST), (2, 443, 7, LAST), (1, 9_999_999, 0, LATER), (2, 25, 10, LATER),
           (1, 443, 9, LAST)]
MOVIES = [(25, "Boat Race (1895)", "", 1895),
          (443, "Métropolis (1926) (1927)", "Sci-Fi|Drama", 1927),
          (9_999_999, "No year", "Comedy", None)]


def write_dat(folder, ratings=RATINGS, movies=MOVIES):
    folder.mkdir(exist_ok=True)
    (folder / "ratings.dat").write_text(
        "".join(f"{u}::{m:07d}::{r}::{t}\n" for u, m, r, t in ratings), encoding="utf-8")
    (folder / "movies.dat").write_text(
        "".join(f"{m:07d}::{title}::{genres}\n" for m, title, genres, _ in movies),
        encoding="utf-8")
    return folder


def write_parquet(folder, ratings=RATINGS, movies=MOVIES):
    folder.mkdir(exist_ok=True)
    columns = zip(*ratings, strict=True)
    names = ("user_id", "movie_id", "rating", "timestamp")
    pq.write_table(pa.table({name: pa.array(column, pa.int64())
                             for name, column in zip(names, columns, strict=True)}),
                   folder / "ratings.parquet")
    ids, titles, genres, years = zip(*movies, strict=True)
    pq.write_table(pa.table({"movie_id": pa.array(ids, pa.int32()), "title": titles,
                             "genres": pa.array([text or None for text in genres]),
                             "year": pa.array(years, pa.int16())}), folder / "movies.parquet")
    return folder


def prepared(raw, lake, **settings):
    MovieTweetings(raw=str(raw), **settings).prepare(lake)
    return json.loads((lake / "_lake.json").read_text())


def rows_of(lake):
    parts = sorted(lake.glob("dt=*/part-0.parquet"))
    return pa.concat_tables([pq.ParquetFile(part).read() for part in parts]).to_pylist()


def test_dat_and_parquet_give_the_same_rows_and_fingerprint(tmp_path):
    one = prepared(write_dat(tmp_path / "dat"), tmp_path / "one")
    other = prepared(write_parquet(tmp_path / "parquet", RATINGS[::-1], MOVIES[::-1]),
                     tmp_path / "other")
    assert one["rows_sha256"] == other["rows_sha256"]
    assert rows_of(tmp_path / "one") == rows_of(tmp_path / "other")
    assert one["archive"]["name"] == "ratings.dat + movies.dat"
    assert one["days"] == {"2013-02-28": 2, "2013-03-01": 1, "2013-03-02": 2}


def test_the_rows_by_hand(tmp_path):
    prepared(write_dat(tmp_path / "dat"), tmp_path / "lake")
    rows = rows_of(tmp_path / "lake")
    assert [(row["user_id"], row["movie_id"], row["label"]) for row in rows] == [
        (1, 443, 1), (2, 443, 0), (1, 25, 1), (1, 9_999_999, 0), (2, 25, 1)]
    assert rows[0] == {
        "user_id": 1, "movie_id": 443, "genres": ["Drama", "Sci-Fi"], "year": 1927, "hour": 23,
        "weekday": 3, "timestamp": LAST, "label": 1, "user_count": 0.0, "item_count": 0.0,
        "user_mean_label": None, "item_mean_label": None}
    assert (rows[2]["genres"], rows[2]["year"], rows[2]["user_count"]) == ([], 1895, 1.0)
    assert (rows[3]["year"], rows[3]["hour"], rows[3]["weekday"]) == (None, 13, 5)
    assert (rows[4]["user_mean_label"], rows[4]["item_mean_label"]) == (0.0, 1.0)


def test_ties_of_the_same_user_and_movie_are_ordered_by_label(tmp_path):
    twice = [(1, 25, 9, LAST), (1, 25, 3, LAST)]
    one = prepared(write_dat(tmp_path / "a", twice), tmp_path / "one")
    other = prepared(write_dat(tmp_path / "b", twice[::-1]), tmp_path / "other")
    assert one["rows_sha256"] == other["rows_sha256"]


def test_another_folder_builds_the_lake_again_and_the_same_does_not(tmp_path, caplog):
    first = write_dat(tmp_path / "a")
    prepared(first, tmp_path / "lake")
    with caplog.at_level("INFO"):
        prepared(first, tmp_path / "lake")
    assert "used as it is" in caplog.text
    second = write_dat(tmp_path / "b", RATINGS[:2])
    assert prepared(second, tmp_path / "lake")["rows"] == 2


def test_a_few_movies_may_lack_a_description_many_may_not(tmp_path, caplog):
    ratings = [(1, 25, 8, FIRST + second) for second in range(9)] + [(1, 77, 8, FIRST)]
    prepared(write_dat(tmp_path / "a", ratings), tmp_path / "lake")
    assert "1 of 10 ratings are of movies without a description" in caplog.text
    row = next(row for row in rows_of(tmp_path / "lake") if row["movie_id"] == 77)
    assert (row["genres"], row["year"]) == ([], None)
    with pytest.raises(DataError, match=r"2 of 11 ratings are of others, such as movie_id 77"):
        prepared(write_dat(tmp_path / "b", [*ratings, (2, 77, 8, FIRST)]), tmp_path / "x")


def test_of_a_movie_described_twice_the_first_line_counts(tmp_path):
    movies = [*MOVIES, (25, "Boat Race (1999)", "Sport", 1999)]
    prepared(write_dat(tmp_path / "a", movies=movies), tmp_path / "lake")
    assert {row["year"] for row in rows_of(tmp_path / "lake") if row["movie_id"] == 25} == {1895}


def test_without_a_folder_the_mistake_says_how_to_get_it(tmp_path):
    with pytest.raises(ConfigError, match=r"expected a folder with ratings\.dat and movies\.dat, "
                       r"or ratings\.parquet and movies\.parquet, got None.*data\.raw=FOLDER"):
        MovieTweetings().prepare(tmp_path / "lake")


def test_all_mistakes_are_told_at_once(tmp_path):
    (tmp_path / "ratings.dat").write_text("")
    (tmp_path / "movies.parquet").write_text("")
    source = MovieTweetings(feature_lag="1h", label_threshold=0, raw=str(tmp_path))
    lag, threshold, raw = source.mistakes(tmp_path / "lake")
    assert "feature_lag must be one of 1d, 0, got '1h'" in lag
    assert "label_threshold must be a whole number from 1 to 10, got 0" in threshold
    assert "found movies.parquet, ratings.dat in" in raw
    [gone] = MovieTweetings(raw=str(tmp_path / "gone")).mistakes(tmp_path / "lake")
    assert "which is no folder" in gone


@pytest.mark.parametrize(("name", "text", "message"), [
    ("ratings.dat", "1::25::8\n", r"ratings\.dat, line 1: expected 4 fields .*, got 3"),
    ("ratings.dat", "1::25::8::1362095999\n1::25::x::1362095999\n",
     r"ratings\.dat, line 2: rating must be a whole number from 0 to 10, got 'x'"),
    ("ratings.dat", "1::25::8::1362095999000\n", r"line 1: timestamp must .*\(seconds since"),
    ("ratings.dat", "1::25::8::1362095999\n1::25::8::13620", r"line 2: .* it looks cut off"),
    ("ratings.dat", "", r"ratings\.dat is empty"),
    ("movies.dat", "25::A (1999)\n", r"movies\.dat, line 1: expected 3 fields .*, got 2"),
    ("movies.dat", "x::A (1999)::Drama\n", r"movies\.dat, line 1: movie_id must .*, got 'x'"),
])
def test_damaged_text_is_told_with_file_line_and_reason(tmp_path, name, text, message):
    write_dat(tmp_path / "dat")
    (tmp_path / "dat" / name).write_text(text)
    with pytest.raises(DataError, match=message):
        prepared(tmp_path / "dat", tmp_path / "lake")
    assert not (tmp_path / "lake").exists()


@pytest.mark.parametrize(("name", "change", "message"), [
    ("ratings", lambda t: t.drop_columns("rating"), r"expected the columns .*: rating is missing"),
    ("ratings", lambda t: t.append_column("rating", t["rating"]), r"got rating 2 times"),
    ("ratings", lambda t: t.set_column(2, "rating", t["rating"].cast(pa.float64())),
     r"rating must be of integers, got double"),
    ("ratings", lambda t: t.set_column(2, "rating", pa.array([1, 2, None, 3, 4])),
     r"row 2: rating must be a whole number from 0 to 10, got None"),
    ("ratings", lambda t: t.set_column(3, "timestamp", pa.array([LAST] * 4 + [LAST * 1000])),
     r"row 4: timestamp .*\(seconds since the epoch\), got 1362095999000"),
    ("ratings", lambda t: t.slice(0, 0), r"Expected at least one rating, got none"),
    ("movies", lambda t: t.set_column(3, "year", pa.array(["1895"] * 3)),
     r"expected genres as text and year as integers, got string and string"),
])
def test_wrong_parquet_is_told_with_file_row_and_reason(tmp_path, name, change, message):
    path = write_parquet(tmp_path / "raw") / f"{name}.parquet"
    pq.write_table(change(pq.ParquetFile(path).read()), path)
    with pytest.raises(DataError, match=message):
        prepared(tmp_path / "raw", tmp_path / "lake")
    assert not (tmp_path / "lake").exists()


@pytest.mark.parametrize("name", ["ratings.parquet", "movies.parquet"])
def test_a_cut_parquet_file_is_told(tmp_path, name):
    path = write_parquet(tmp_path / "raw") / name
    whole = path.read_bytes()
    for cut in (0, 3, len(whole) // 2, len(whole) - 4):
        path.write_bytes(whole[:cut])
        with pytest.raises(DataError, match=rf"{name} cannot be read as parquet: .*get it again"):
            prepared(tmp_path / "raw", tmp_path / "lake")


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared MovieTweetings folder is not here")
def test_the_real_folder_has_a_label_of_about_half_and_a_past_that_grows(tmp_path):
    about = prepared(SHARED, tmp_path / "lake")
    parts = sorted((tmp_path / "lake").glob("dt=*/part-0.parquet"))
    log = pd.concat([pq.ParquetFile(part).read().to_pandas() for part in parts])
    assert len(log) == about["rows"] == pq.read_metadata(SHARED / "ratings.parquet").num_rows
    assert 0.4 < log["label"].mean() < 0.6
    assert log["timestamp"].is_monotonic_increasing
    assert (log.groupby("user_id")["user_count"].diff().dropna() >= 0).all()
    assert np.array_equal(log["user_mean_label"].isna(), log["user_count"] == 0)
    days = [part.parent.name[3:] for part in parts]
    assert days == [str(day.date()) for day in pd.date_range(days[0], days[-1])]


def test_once_built_the_lake_needs_no_raw_folder(tmp_path):
    prepared(write_dat(tmp_path / "a"), tmp_path / "lake")
    assert MovieTweetings().mistakes(tmp_path / "lake") == []
    MovieTweetings().prepare(tmp_path / "lake")
    with pytest.raises(ConfigError, match="built with other settings"):
        MovieTweetings(feature_lag="0").prepare(tmp_path / "lake")
