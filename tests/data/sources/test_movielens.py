import json
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dualdnn.data.sources.movielens import MovieLens100K
from dualdnn.data.sources.movielens_archive import GENRES, read_movielens, year_of_title
from dualdnn.errors import ConfigError, DataError

# 1997-12-31 23:59:59 (Wednesday), the next second, and two days later at 13:00.
LAST_OF_1997, FIRST_OF_1998, LATER = 883_612_799, 883_612_800, 883_832_400
RATINGS = [
    (2, 10, 5, FIRST_OF_1998),
    (1, 10, 4, LAST_OF_1997),
    (1, 267, 3, FIRST_OF_1998),
    (1, 1412, 2, LATER),
    (2, 543, 4, LATER),
    (2, 10, 4, LAST_OF_1997),
]
# id, official title, the wheel's title and year, genres in the order of the wheel.
ITEMS = [
    (10, "Richard III (1990) (1995)", "Richard III (1990)", "1995", ["War", "Drama"]),
    (267, "unknown", "unkonwn", "unkonwn", ["unknown"]),
    (543, "Misérables, Les (1995)", "Misérables, Les", "1995", ["Musical", "Drama"]),
    (1412, "Land Before Time III (1995) (V)", "Land Before Time III (1995)", "V",
     ["Children's", "Animation"]),
]
USERS = [(1, 24, "M", "technician", "85711"), (2, 53, "F", "other", "T8H1N")]


def lines(separator, rows):
    return "".join(separator.join(str(cell) for cell in row) + "\n" for row in rows)


def official():
    items = [(i, title, "01-Jan-1995", "", "http://us.imdb.com/M/title-exact?x",
              *(int(genre in genres) for genre in GENRES)) for i, title, _, _, genres in ITEMS]
    return {
        "ml-100k/u.data": lines("\t", RATINGS).encode("latin-1"),
        "ml-100k/u.item": lines("|", items).encode("latin-1"),
        "ml-100k/u.user": lines("|", USERS).encode("latin-1"),
    }


def wheel():
    inside = "recbole/dataset_example/ml-100k/ml-100k"
    inter = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    item = "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
    user = "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n"
    items = [(i, title, year, " ".join(genres)) for i, _, title, year, genres in reversed(ITEMS)]
    return {
        f"{inside}.inter": (inter + lines("\t", reversed(RATINGS))).encode(),
        f"{inside}.item": (item + lines("\t", items)).encode(),
        f"{inside}.user": (user + lines("\t", USERS)).encode(),
        "recbole/__init__.py": b"raise SystemExit('never imported')\n",
    }


def pack(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def unpack(folder, members):
    folder.mkdir()
    for name, data in members.items():
        (folder / name.rsplit("/", 1)[-1]).write_bytes(data)
    return folder


def prepared(raw, lake, **settings):
    MovieLens100K(raw=str(raw), **settings).prepare(lake)
    return json.loads((lake / "_lake.json").read_text())


def rows_of(lake):
    parts = sorted(lake.glob("dt=*/part-0.parquet"))
    return pa.concat_tables([pq.ParquetFile(part).read() for part in parts]).to_pylist()


def test_zip_folder_and_wheel_give_the_same_rows_and_fingerprint(tmp_path):
    raws = {"zip": pack(tmp_path / "ml-100k.zip", official()),
            "wheel": pack(tmp_path / "recbole.whl", wheel()),
            "folder": unpack(tmp_path / "raw", official())}
    lakes = {name: prepared(raw, tmp_path / name) for name, raw in raws.items()}
    assert len({about["rows_sha256"] for about in lakes.values()}) == 1
    assert len({about["archive"]["sha256"] for about in lakes.values()}) == 3
    assert rows_of(tmp_path / "zip") == rows_of(tmp_path / "wheel") == rows_of(tmp_path / "folder")
    for about in lakes.values():
        assert about["rows"] == len(RATINGS)
        assert about["days"] == {"1997-12-31": 2, "1998-01-01": 2, "1998-01-03": 2}


def test_the_rows_by_hand(tmp_path):
    prepared(pack(tmp_path / "x.zip", official()), tmp_path / "lake")
    rows = rows_of(tmp_path / "lake")
    assert [(row["user_id"], row["item_id"], row["label"]) for row in rows] == [
        (1, 10, 1), (2, 10, 1), (1, 267, 0), (2, 10, 1), (1, 1412, 0), (2, 543, 1)]
    assert rows[3] == {
        "user_id": 2, "item_id": 10, "age": 53, "gender": "F", "occupation": "other",
        "zip_code": "T8H1N", "genres": ["Drama", "War"], "year": 1995, "hour": 0, "weekday": 3,
        "timestamp": FIRST_OF_1998, "label": 1, "user_count": 1.0, "item_count": 2.0,
        "user_mean_label": 1.0, "item_mean_label": 1.0}
    first = rows[0]
    assert (first["hour"], first["weekday"], first["user_count"]) == (23, 2, 0.0)
    assert first["user_mean_label"] is None
    assert (rows[2]["year"], rows[2]["genres"]) == (None, ["unknown"])
    assert (rows[4]["year"], rows[4]["genres"]) == (1995, ["Animation", "Children's"])
    assert (rows[4]["hour"], rows[4]["weekday"], rows[4]["user_mean_label"]) == (13, 5, 0.5)


def test_the_column_types_of_the_lake(tmp_path):
    prepared(pack(tmp_path / "x.zip", official()), tmp_path / "lake")
    schema = pq.read_schema(tmp_path / "lake" / "dt=1998-01-01" / "part-0.parquet")
    types = {field.name: str(field.type).replace("element", "item") for field in schema}
    assert "rating" not in types
    assert types == {
        "user_id": "int64", "item_id": "int64", "age": "int32", "gender": "string",
        "occupation": "string", "zip_code": "string", "genres": "list<item: string>",
        "year": "int32", "hour": "int8", "weekday": "int8", "timestamp": "int64", "label": "int8",
        "user_count": "float", "item_count": "float", "user_mean_label": "float",
        "item_mean_label": "float"}


def test_lag_and_threshold_change_the_rows_and_stand_in_lake_json(tmp_path):
    again = official()["ml-100k/u.data"] + lines("\t", [(1, 543, 5, LATER + 60)]).encode()
    raw = pack(tmp_path / "x.zip", official() | {"ml-100k/u.data": again})
    day = prepared(raw, tmp_path / "lake")
    assert rows_of(tmp_path / "lake")[-1]["user_count"] == 2
    now = prepared(raw, tmp_path / "lake", feature_lag=0)
    assert rows_of(tmp_path / "lake")[-1]["user_count"] == 3
    strict = prepared(raw, tmp_path / "lake", label_threshold=5)
    assert sum(row["label"] for row in rows_of(tmp_path / "lake")) == 2
    assert len({day["rows_sha256"], now["rows_sha256"], strict["rows_sha256"]}) == 3
    assert (day["feature_lag"], now["feature_lag"], strict["label_threshold"]) == ("1d", "0", 5)


def test_the_same_archive_is_not_read_twice(tmp_path, caplog):
    raw = pack(tmp_path / "x.zip", official())
    prepared(raw, tmp_path / "lake")
    with caplog.at_level("INFO"):
        prepared(raw, tmp_path / "lake")
    assert "used as it is" in caplog.text
    pack(raw, official() | {"ml-100k/u.data": lines("\t", RATINGS[:3]).encode()})
    assert prepared(raw, tmp_path / "lake")["rows"] == 3


def test_windows_line_ends_give_the_same_rows(tmp_path):
    crlf = {name: data.replace(b"\n", b"\r\n") for name, data in official().items()}
    one = prepared(unpack(tmp_path / "crlf", crlf), tmp_path / "one")
    other = prepared(unpack(tmp_path / "lf", official()), tmp_path / "other")
    assert one["rows_sha256"] == other["rows_sha256"]


@pytest.mark.parametrize(("title", "year"), [
    ("Toy Story (1995)", 1995), ("2001 (1968) (V)", 1968), ("(1990) (1991)", 1991),
    ("unknown", None), ("Year (95)", None), ("1984", None),
])
def test_the_year_is_the_last_one_in_parentheses(title, year):
    assert year_of_title(title) == year


def test_no_settings_are_no_mistake(tmp_path):
    assert MovieLens100K().mistakes(tmp_path / "lake") == []


def test_all_mistakes_are_told_at_once_before_data_is_read(tmp_path):
    source = MovieLens100K(feature_lag="7d", label_threshold=9, raw=str(tmp_path / "gone"))
    with pytest.raises(ConfigError) as caught:
        source.prepare(tmp_path / "lake")
    text = str(caught.value)
    assert "3 mistakes" in text
    assert "feature_lag must be one of 1d, 0, got '7d'" in text
    assert "label_threshold must be a whole number from 2 to 5, got 9" in text
    assert "expected the official ml-100k.zip or a folder with u.data, u.item, u.user, got" in text
    assert not (tmp_path / "lake").exists()


@pytest.mark.parametrize("wrong", [1, 6, 4.0, "4", True, None])
def test_a_threshold_that_is_no_rating_is_refused(wrong, tmp_path):
    [mistake] = MovieLens100K(label_threshold=wrong).mistakes(tmp_path / "lake")
    assert f"got {wrong!r}" in mistake


def test_a_folder_without_the_files_is_told_what_is_missing_and_what_is_there(tmp_path):
    (tmp_path / "u.data").write_text("")
    (tmp_path / "movies.csv").write_text("")
    [mistake] = MovieLens100K(raw=str(tmp_path)).mistakes(tmp_path / "lake")
    assert "lacks u.item, u.user; found movies.csv, u.data" in mistake
    assert MovieLens100K(raw="").mistakes(tmp_path / "lake") != []


def damaged(member, old, new):
    members = official()
    name = f"ml-100k/{member}"
    assert old in members[name]
    members[name] = members[name].replace(old, new, 1)
    return members


@pytest.mark.parametrize(("members", "message"), [
    (damaged("u.data", b"1\t267\t3", b"1\t267"),
     r"u\.data, line 3: expected 4 fields separated by '\\t' .*, got 3"),
    (damaged("u.data", b"\t3\t", b"\tx\t"),
     r"u\.data, line 3: rating must be a whole number from 1 to 5, got 'x'"),
    (damaged("u.data", b"\t3\t", b"\t6\t"), r"line 3: rating must .* got '6'"),
    (damaged("u.data", b"\t3\t", b"\tnan\t"), r"line 3: rating must .* got 'nan'"),
    (damaged("u.data", b"883612800", b"883612800000"),
     r"line 1: timestamp .* \(seconds since the epoch\), got '883612800000'"),
    (damaged("u.data", b"2\t10\t5", b"3\t10\t5"),
     r"u\.data, line 1: user_id 3 is not described in .*u\.user"),
    (damaged("u.data", b"2\t543\t", b"2\t544\t"), r"line 5: item_id 544 is not described in"),
    (damaged("u.data", b"1\t267", b"\n1\t267"), r"u\.data, line 3: expected 4 fields .*, got 1"),
    (damaged("u.data", b"2\t10\t5", b"user id\titem id\trating\ttimestamp\n2\t10\t5"),
     r"line 1: user_id must be a whole number .*, got 'user id'"),
    (damaged("u.item", b"|01-Jan-1995|", b"|"), r"u\.item, line 1: expected 24 fields .*, got 23"),
    (damaged("u.item", b"|0|1|", b"|2|1|"), r"u\.item, line 1: .* from 0 to 1, got '2'"),
    (damaged("u.item", b"267|", b"10|"),
     r"u\.item, line 2: item_id 10 was already described in line 1"),
    (damaged("u.user", b"2|53", b"1|53"),
     r"u\.user, line 2: user_id 1 was already described in line 1"),
    (damaged("u.user", b"T8H1N\n", b"T8"), r"u\.user, line 2: .* it looks cut off"),
    (official() | {"ml-100k/u.data": b""}, r"u\.data is empty \(0 bytes\)"),
    (official() | {"ml-100k/u.data": b"\n"}, r"u\.data, line 1: expected 4 fields .*, got 1"),
])
def test_damaged_official_text_is_told_with_file_line_and_reason(tmp_path, members, message):
    for raw in (pack(tmp_path / "x.zip", members), unpack(tmp_path / "raw", members)):
        with pytest.raises(DataError, match=message):
            MovieLens100K(raw=str(raw)).prepare(tmp_path / "lake")
    assert not (tmp_path / "lake").exists()


@pytest.mark.parametrize(("suffix", "old", "new", "message"), [
    (".inter", b"rating:float", b"user_id:float",
     r"\.inter, line 1: expected a header .*: user_id is there twice"),
    (".inter", b"rating:float", b"stars:float", r"line 1: .*: rating is missing"),
    (".inter", b"user_id:token\titem_id:token\trating:float\ttimestamp:float\n", b"",
     r"line 1: .*: user_id is missing"),
    (".inter", b"\t4\t", b"\t\t", r"\.inter, line 2: rating must .*, got ''"),
    (".item", b"Animation", b"Cartoon", r"\.item, line 2: expected genres .*, got 'Cartoon'"),
    (".item", b"\xc3", b"\xff", r"\.item, line 3: expected utf-8 text, got the byte 0xff"),
    (".user", b"\t53\t", b"\told\t", r"\.user, line 3: age must .*, got 'old'"),
])
def test_damaged_text_in_the_wheel_is_told_with_file_line_and_reason(
    tmp_path, suffix, old, new, message
):
    members = wheel()
    name = f"recbole/dataset_example/ml-100k/ml-100k{suffix}"
    assert old in members[name]
    members[name] = members[name].replace(old, new, 1)
    with pytest.raises(DataError, match=message):
        read_movielens(pack(tmp_path / "recbole.whl", members))


def test_an_archive_without_a_member_is_told_which(tmp_path):
    members = official()
    del members["ml-100k/u.user"]
    with pytest.raises(DataError, match=r"is not MovieLens-100K: .* missing ml-100k/u\.user\."):
        read_movielens(pack(tmp_path / "x.zip", members))
    with pytest.raises(DataError, match=r"missing ml-100k/u\.data, ml-100k/u\.item"):
        read_movielens(pack(tmp_path / "y.zip", {"README": b""}))
    members = {name: data for name, data in wheel().items() if not name.endswith(".item")}
    with pytest.raises(DataError, match=r"missing recbole/dataset_example/ml-100k/ml-100k\.item"):
        read_movielens(pack(tmp_path / "z.whl", members))


def test_a_cut_or_changed_zip_is_told(tmp_path):
    path = pack(tmp_path / "x.zip", official())
    data = path.read_bytes()
    for cut in (0, 10, len(data) // 2, len(data) - 5):
        path.write_bytes(data[:cut])
        with pytest.raises(DataError, match=r"cannot be read as a zip archive: .* get it again"):
            MovieLens100K(raw=str(path)).prepare(tmp_path / "lake")
    # Inside the compressed ratings: neither their code nor their checksum holds any more.
    path.write_bytes(data[:60] + bytes(byte ^ 0x55 for byte in data[60:70]) + data[70:])
    with pytest.raises(DataError, match="cannot be read as a zip archive"):
        MovieLens100K(raw=str(path)).prepare(tmp_path / "lake")
    assert not (tmp_path / "lake").exists()
