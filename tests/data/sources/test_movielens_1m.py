import hashlib
import json
import random
import zipfile
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from dualdnn.data.lake import Lake
from dualdnn.data.sources import movielens_1m
from dualdnn.data.sources.download import PinnedUrl
from dualdnn.data.sources.movielens_1m import OFFICIAL, MovieLens1M
from dualdnn.errors import ConfigError, DataError
from dualdnn.schema import schema_from_dict

CONFIG = Path(__file__).parents[3] / "conf" / "data" / "movielens_1m.yaml"
FIRST = 956_703_932  # 2000-04-25, the first rating of the archive
AGES = (1, 18, 25, 35, 45, 50, 56)
TITLES = ["Toy Story (1995)", "Misérables, Les (1995)", "Cité des enfants perdus, La (1995)",
          "2001: A Space Odyssey (1968)", "Seven (Se7en) (1995)", "No year at all",
          "Hyphen - (M) (1931)", "Next line \x85 inside (1950)", "Two years (1990) (1991)"]
YEARS = [1995, 1995, 1995, 1968, 1995, None, 1931, 1950, 1991]
GENRES = ["Animation|Children's|Comedy", "Drama", "Sci-Fi|Adventure", "Drama|Drama", "Film-Noir",
          "", "Crime", "War", "Thriller|Action"]


def users():
    return [(u, "FM"[u % 2], AGES[u % 7], u % 21, ["55117", "98107-2117", "", "T8H1N"][u % 4])
            for u in range(1, 61)]


def movies():
    return [(m, TITLES[m % 9], GENRES[m % 9]) for m in range(1, 101)]


def ratings():
    """6,000 ratings over forty days; several of them in the same second."""
    numbers = random.Random(0)
    return [(numbers.randint(1, 60), numbers.randint(1, 100), numbers.randint(1, 5),
             FIRST + numbers.randrange(40) * 86_400 + numbers.randrange(500) * 60)
            for _ in range(6000)]


def lines(rows, end="\n"):
    return "".join("::".join(str(cell) for cell in row) + end for row in rows).encode("latin-1")


def official(end="\n"):
    return {"ratings.dat": lines(ratings(), end), "users.dat": lines(users(), end),
            "movies.dat": lines(movies(), end), "README": b"SUMMARY\n"}


def pack(path, members, folder="ml-1m/"):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(folder + name, data)
    return path


def unpack(folder, members):
    folder.mkdir(parents=True)
    for name, data in members.items():
        (folder / name).write_bytes(data)
    return folder


def prepared(raw, lake, **settings):
    MovieLens1M(raw=raw and str(raw), **settings).prepare(lake)
    return json.loads((lake / "_lake.json").read_text())


def rows_of(lake):
    parts = sorted(lake.glob("dt=*/part-0.parquet"))
    return pa.concat_tables([pq.ParquetFile(part).read() for part in parts]).to_pylist()


def expected_rows(threshold=4):
    """The rows that the files say, by one slow loop; what is known ends with yesterday."""
    described_users = {row[0]: row for row in users()}
    described_movies = {row[0]: position for position, row in enumerate(movies(), start=1)}
    rows, known, today = [], defaultdict(list), []
    day = None
    for user, item, rating, second in sorted(
            ratings(), key=lambda r: (r[3], r[0], r[1], r[2] >= threshold)):
        if second // 86_400 != day:
            for key, label in today:
                known[key].append(label)
            day, today = second // 86_400, []
        when = datetime.fromtimestamp(second, UTC)
        _, gender, age, occupation, zip_code = described_users[user]
        position = described_movies[item] % 9
        label = int(rating >= threshold)
        row = {"user_id": user, "item_id": item, "age": age, "gender": gender,
               "occupation": str(occupation), "zip_code": zip_code or None,
               "genres": sorted(set(GENRES[position].split("|")) - {""}), "year": YEARS[position],
               "hour": when.hour, "weekday": when.weekday(), "timestamp": second, "label": label}
        for name, key in (("user", ("user", user)), ("item", ("item", item))):
            row[f"{name}_count"] = len(known[key])
            row[f"{name}_mean_label"] = (
                pytest.approx(sum(known[key]) / len(known[key])) if known[key] else None)
            today.append((key, label))
        rows.append(row)
    return rows


def test_every_row_is_the_one_that_the_files_say(tmp_path):
    about = prepared(pack(tmp_path / "ml-1m.zip", official()), tmp_path / "lake")
    rows = rows_of(tmp_path / "lake")
    assert len(rows) == about["rows"] == 6000
    assert rows == expected_rows()
    assert about["source"] == "movielens_1m"
    assert "no redistribution without permission" in about["licence"]


def test_zips_and_folders_with_either_line_end_give_the_same_rows(tmp_path):
    raws = {
        "zip": pack(tmp_path / "ml-1m.zip", official()),
        "without_folder": pack(tmp_path / "flat.zip", official(), folder=""),
        "crlf": pack(tmp_path / "crlf.zip", official("\r\n")),
        "folder": unpack(tmp_path / "ml-1m", official()),
        "folder_crlf": unpack(tmp_path / "crlf", official("\r\n")),
    }
    lakes = [prepared(raw, tmp_path / "lakes" / name) for name, raw in raws.items()]
    assert len({about["rows_sha256"] for about in lakes}) == 1
    assert len({about["archive"]["sha256"] for about in lakes}) == 5


def test_the_lake_has_every_column_of_the_schema_in_conf(tmp_path):
    values = yaml.safe_load(CONFIG.read_text())
    # The keys that are no part of a schema.
    for key in ("source", "raw", "lake", "feature_lag"):
        del values[key]
    schema = schema_from_dict(values)
    prepared(pack(tmp_path / "ml-1m.zip", official()), tmp_path / "lake")
    lake = Lake(tmp_path / "lake")
    tables = pa.concat_tables([lake.read(day, schema) for day in lake.days()[:3]])
    assert set(tables["age"].to_pylist()) <= {str(age) for age in AGES}
    assert {field.name: field.kind for field in schema.fields}["age"] == "id"


def test_lag_and_threshold_change_the_rows(tmp_path):
    raw = pack(tmp_path / "ml-1m.zip", official())
    lakes = [prepared(raw, tmp_path / "lake", **settings)["rows_sha256"]
             for settings in ({}, {"feature_lag": "0"}, {"label_threshold": 3})]
    assert len(set(lakes)) == 3
    labels = [row["label"] for row in rows_of(tmp_path / "lake")]
    assert sum(labels) == sum(rating >= 3 for _, _, rating, _ in ratings())


# Fetching.

def test_the_official_archive_is_pinned_by_sha256():
    assert OFFICIAL.url == "https://files.grouplens.org/datasets/movielens/ml-1m.zip"
    assert OFFICIAL.file_name == "ml-1m.zip"
    assert len(bytes.fromhex(OFFICIAL.sha256)) == 32


def test_without_raw_the_archive_comes_from_its_address_once(tmp_path, monkeypatch):
    served = pack(tmp_path / "ml-1m.zip", official())
    monkeypatch.setattr(movielens_1m, "OFFICIAL", PinnedUrl(
        url=served.as_uri(), sha256=hashlib.sha256(served.read_bytes()).hexdigest()))
    monkeypatch.setenv("DUALDNN_CACHE", str(tmp_path / "cache"))
    fetched = prepared(None, tmp_path / "lake")
    served.rename(tmp_path / "moved.zip")
    again = prepared(None, tmp_path / "again")
    assert fetched["rows_sha256"] == again["rows_sha256"]
    assert fetched["archive"]["name"] == "ml-1m.zip"


def test_without_raw_and_network_the_error_says_where_to_put_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(movielens_1m, "OFFICIAL", PinnedUrl(
        url=(tmp_path / "ml-1m.zip").as_uri(), sha256="0" * 64))
    monkeypatch.setenv("DUALDNN_CACHE", str(tmp_path / "cache"))
    with pytest.raises(DataError, match=r"^MovieLens-1M could not be fetched\. .*ml-1m\.zip: no "
                       r"connection: .* Put the official file at .*cache/ml-1m\.zip, or pass "
                       r"data\.raw=FILE\.$"):
        MovieLens1M().prepare(tmp_path / "lake")


# Mistakes of the configuration.

def test_no_settings_are_no_mistake(tmp_path):
    assert MovieLens1M().mistakes(tmp_path / "lake") == []


def test_all_mistakes_are_told_at_once_before_data_is_read(tmp_path):
    source = MovieLens1M(feature_lag="7d", label_threshold=1, raw=str(tmp_path / "gone"))
    with pytest.raises(ConfigError) as caught:
        source.prepare(tmp_path / "lake")
    text = str(caught.value)
    assert "3 mistakes" in text
    assert "feature_lag must be one of 1d, 0, got '7d'" in text
    assert "label_threshold must be a whole number from 2 to 5, got 1" in text
    assert ("expected the official ml-1m.zip or a folder with ratings.dat, users.dat, movies.dat, "
            "got") in text
    assert "Leave data.raw out to fetch MovieLens-1M." in text


def test_a_folder_without_the_files_is_told_what_is_missing_and_what_is_there(tmp_path):
    (tmp_path / "ratings.dat").write_text("")
    (tmp_path / "u.data").write_text("")
    [mistake] = MovieLens1M(raw=str(tmp_path)).mistakes(tmp_path / "lake")
    assert f"{tmp_path} lacks users.dat, movies.dat; found ratings.dat, u.data." in mistake


# Damaged files.

def line(name, number):
    return official()[name].split(b"\n")[number - 1]


def changed(name, number, new):
    """The members with one line replaced."""
    content = official()[name].split(b"\n")
    content[number - 1] = new if isinstance(new, bytes) else new(content[number - 1])
    return official() | {name: b"\n".join(content)}


@pytest.mark.parametrize(("members", "message"), [
    (changed("ratings.dat", 5500, b"1::2::3"),
     r"ratings\.dat, line 5500: expected 4 fields separated by '::' \(user_id, item_id, rating, "
     r"timestamp\), got 3\."),
    (changed("ratings.dat", 7, b"1\t2\t3\t978300760"), r"line 7: expected 4 fields .*, got 1"),
    (changed("ratings.dat", 7, b""), r"ratings\.dat, line 7: expected 4 fields .*, got 1"),
    (changed("ratings.dat", 1, b"UserID::MovieID::Rating::Timestamp"),
     r"ratings\.dat, line 1: user_id must be a whole number from 1 to \d+, got 'UserID'"),
    (changed("ratings.dat", 6000, b"1::2::0::978300760"),
     r"ratings\.dat, line 6000: rating must be a whole number from 1 to 5, got '0'"),
    (changed("ratings.dat", 44, b"1::2::4.5::978300760"), r"line 44: rating must .*, got '4\.5'"),
    (changed("ratings.dat", 44, b"1::2::::978300760"), r"line 44: rating must .*, got ''"),
    (changed("ratings.dat", 44, b"1::2:: 4::978300760"), r"line 44: rating must .*, got ' 4'"),
    (changed("ratings.dat", 44, b"-1::2::4::978300760"), r"line 44: user_id must .*, got '-1'"),
    (changed("ratings.dat", 44, "1::²::4::978300760".encode("latin-1")),
     r"line 44: item_id must .*, got '²'"),
    (changed("ratings.dat", 44, b"1::2::4::978300760000"),
     r"line 44: timestamp .* \(seconds since the epoch\), got '978300760000'"),
    (changed("ratings.dat", 44, b"1::2::4::" + b"9" * 400), r"line 44: timestamp must be"),
    (changed("ratings.dat", 44, b"61::2::4::978300760"),
     r"ratings\.dat, line 44: user_id 61 is not described in .*users\.dat"),
    (changed("ratings.dat", 44, b"1::101::4::978300760"),
     r"line 44: item_id 101 is not described in .*movies\.dat"),
    (changed("users.dat", 2, line("users.dat", 1)),
     r"users\.dat, line 2: user_id 1 was already described in line 1"),
    (changed("users.dat", 3, b"3::F::24::1::55117"),
     r"users\.dat, line 3: age must be one of the codes 1, 18, 25, 35, 45, 50, 56, got 24\."),
    (changed("users.dat", 3, b"3::F::57::1::55117"), r"line 3: age must .* 1 to 56, got '57'"),
    (changed("users.dat", 3, b"3::F::25::21::55117"),
     r"line 3: occupation must be a whole number from 0 to 20, got '21'"),
    (changed("users.dat", 3, b"3::f::25::1::55117"), r"line 3: gender must be F or M, got 'f'"),
    (changed("movies.dat", 9, line("movies.dat", 4)),
     r"movies\.dat, line 9: item_id 4 was already described in line 4"),
    (changed("movies.dat", 9, b"9::Two :: colons (1990)::Drama"),
     r"movies\.dat, line 9: expected 3 fields .*\(item_id, title, genres\), got 4"),
    (official() | {"ratings.dat": official()["ratings.dat"][:-4]},
     r"ratings\.dat, line 6000: .* it looks cut off"),
    (official() | {"movies.dat": official()["movies.dat"][:700]},
     r"movies\.dat, line \d+: .* it looks cut off"),
    (official() | {"users.dat": b""}, r"users\.dat is empty \(0 bytes\)"),
])
def test_damaged_text_is_told_with_file_line_and_reason(tmp_path, members, message):
    for raw in (pack(tmp_path / "x.zip", members), unpack(tmp_path / "raw", members)):
        with pytest.raises(DataError, match=message) as caught:
            MovieLens1M(raw=str(raw)).prepare(tmp_path / "lake")
        assert str(caught.value).endswith(
            "The file is damaged or not the original one; get it again.")
    assert not (tmp_path / "lake").exists()


@pytest.mark.parametrize("folder", ["ml-1m/", ""])
def test_an_archive_without_a_member_is_told_which(tmp_path, folder):
    members = official()
    del members["users.dat"]
    raw = pack(tmp_path / "x.zip", members, folder)
    with pytest.raises(DataError, match=rf"x\.zip is not MovieLens-1M: expected the members "
                       rf"{folder}ratings\.dat, {folder}users\.dat, {folder}movies\.dat, missing "
                       rf"{folder}users\.dat\. Get the archive again\.$"):
        MovieLens1M(raw=str(raw)).prepare(tmp_path / "lake")


def test_a_cut_or_changed_zip_is_told(tmp_path):
    path = pack(tmp_path / "ml-1m.zip", official())
    data = path.read_bytes()
    for cut in (0, 10, len(data) // 2, len(data) - 5):
        path.write_bytes(data[:cut])
        with pytest.raises(DataError, match=r"ml-1m\.zip cannot be read as a zip archive: .* It "
                           r"is damaged or cut off; get it again\.$"):
            MovieLens1M(raw=str(path)).prepare(tmp_path / "lake")
    # Inside the compressed ratings: neither their code nor their checksum holds any more.
    path.write_bytes(data[:5000] + bytes(byte ^ 0x55 for byte in data[5000:5010]) + data[5010:])
    with pytest.raises(DataError, match="cannot be read as a zip archive"):
        MovieLens1M(raw=str(path)).prepare(tmp_path / "lake")
    assert not (tmp_path / "lake").exists()


def test_a_file_that_is_no_archive(tmp_path):
    path = unpack(tmp_path / "raw", official()) / "ratings.dat"
    with pytest.raises(DataError, match=r"ratings\.dat cannot be read as a zip archive: "):
        MovieLens1M(raw=str(path)).prepare(tmp_path / "lake")
