import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dualdnn.data.sources.lake_writer import LakeOrigin, RawRows, prepare_lake, write_lake
from dualdnn.data.sources.row_fingerprint import rows_sha256
from dualdnn.errors import DataError

DAY = 86_400
ORIGIN = LakeOrigin(source="toy", feature_lag="1d", label_threshold=4, licence="free",
                    citation="nobody")


def rows(times=(5, 3, DAY, 3 * DAY, 3), users=(1, 2, 1, 3, 1), sha256="a" * 64):
    users = list(users)
    table = pa.table({
        "user_id": users,
        "timestamp": pa.array(times, pa.int64()),
        "genres": pa.array([[f"g{user}", "all"] for user in users]),
        "mean": pa.array([None if user == 3 else user / 2 for user in users], pa.float32()),
    })
    return RawRows(table=table, archive="toy.zip", sha256=sha256)


def write(lake, raw=None, origin=ORIGIN):
    write_lake(raw or rows(), lake, origin=origin, ties=["user_id"])
    return json.loads((lake / "_lake.json").read_text())


def read_day(lake, day):
    return pq.ParquetFile(lake / f"dt={day}" / "part-0.parquet").read().to_pylist()


def test_each_utc_day_is_a_complete_folder_in_order_of_time_then_ties(tmp_path):
    about = write(tmp_path / "lake")
    assert sorted(p.name for p in (tmp_path / "lake").iterdir()) == [
        "_lake.json", "dt=1970-01-01", "dt=1970-01-02", "dt=1970-01-04"]
    first = read_day(tmp_path / "lake", "1970-01-01")
    assert [(row["timestamp"], row["user_id"]) for row in first] == [(3, 1), (3, 2), (5, 1)]
    assert first[0]["genres"] == ["g1", "all"]
    assert all((tmp_path / "lake" / f"dt={day}" / "_SUCCESS").is_file() for day in about["days"])
    assert about["days"] == {"1970-01-01": 3, "1970-01-02": 1, "1970-01-04": 1}
    assert about["rows"] == 5
    assert about["archive"] == {"name": "toy.zip", "sha256": "a" * 64}
    assert about["licence"] == "free"
    assert about["citation"] == "nobody"


def test_the_lake_does_not_depend_on_the_order_of_the_input(tmp_path):
    shuffled = rows()
    shuffled = RawRows(table=shuffled.table.take(pa.array([4, 2, 0, 3, 1])), archive="toy.zip",
                       sha256="b" * 64)
    one, other = write(tmp_path / "one"), write(tmp_path / "other", shuffled)
    assert one["rows_sha256"] == other["rows_sha256"]
    assert read_day(tmp_path / "one", "1970-01-01") == read_day(tmp_path / "other", "1970-01-01")


def test_ties_that_are_left_keep_the_order_of_the_input(tmp_path):
    table = pa.table({"timestamp": [7] * 50, "n": list(range(50))})
    write_lake(RawRows(table=table, archive="x", sha256="x"), tmp_path / "lake", origin=ORIGIN,
               ties=[])
    assert [row["n"] for row in read_day(tmp_path / "lake", "1970-01-01")] == list(range(50))


def test_the_fingerprint_is_of_the_values_not_of_how_they_are_stored():
    small = pa.table({
        "n": pa.array([1, None], pa.int8()), "x": pa.array([0.5, None], pa.float32()),
        "s": pa.array(["é", None]), "l": pa.array([["a", "bc"], None]),
    })
    large = pa.table({
        "n": pa.array([1, None], pa.int64()), "x": pa.array([0.5, np.nan], pa.float64()),
        "s": pa.array(["é", None], pa.large_string()),
        "l": pa.array([["a", "bc"], None], pa.large_list(pa.large_string())),
    })
    chunks = pa.concat_tables([small.slice(0, 1), small.slice(1, 1)])
    assert rows_sha256(small) == rows_sha256(large) == rows_sha256(chunks)


@pytest.mark.parametrize(("column", "values"), [
    ("n", [1, 3]), ("n", [None, 2]), ("n", [2, 1]), ("x", [0.5, 0.0]), ("x", [0.5, 0.25]),
    ("s", ["ab", "c"]), ("s", ["a", None]), ("l", [["a"], ["b", "c"]]), ("l", [["a", "b"], []]),
    ("l", [["a", "b"], None]),
])
def test_every_change_of_a_value_changes_the_fingerprint(column, values):
    table = pa.table({"n": [1, 2], "x": [0.5, None], "s": ["a", "bc"],
                      "l": [["a", "b"], ["c"]]})
    position = table.column_names.index(column)
    changed = table.set_column(position, column, pa.array(values, table.schema.field(column).type))
    assert rows_sha256(changed) != rows_sha256(table)


def test_the_fingerprint_refuses_a_column_it_has_no_rule_for():
    with pytest.raises(DataError, match=r"column b: expected integers, .* got bool"):
        rows_sha256(pa.table({"b": [True]}))


class Reads:
    def __init__(self):
        self.count = 0

    def __call__(self):
        self.count += 1
        return rows()


def prepare(lake, read, *, origin=ORIGIN, archives=("a" * 64,)):
    prepare_lake(lake, origin=origin, archives=archives, ties=["user_id"], read=read)


def with_threshold(threshold):
    return LakeOrigin(source="toy", feature_lag="1d", label_threshold=threshold, licence="free",
                      citation="nobody")


def test_a_lake_with_the_same_parameters_is_used_and_says_so(tmp_path, caplog):
    read, lake = Reads(), tmp_path / "deep" / "lake"
    with caplog.at_level("INFO"):
        prepare(lake, read)
        stamp = lake.stat().st_ino
        prepare(lake, read)
    assert read.count == 1
    assert lake.stat().st_ino == stamp
    assert "is there already with the same parameters" in caplog.text


def test_other_parameters_or_another_archive_build_it_again(tmp_path):
    read, lake = Reads(), tmp_path / "lake"
    prepare(lake, read)
    prepare(lake, read, origin=with_threshold(5))
    assert json.loads((lake / "_lake.json").read_text())["label_threshold"] == 5
    prepare(lake, read, origin=with_threshold(5), archives=["c" * 64])
    assert read.count == 3


@pytest.mark.parametrize("lost", ["_SUCCESS", "part-0.parquet"])
def test_a_lake_that_lost_a_file_is_built_again(tmp_path, lost):
    read, lake = Reads(), tmp_path / "lake"
    prepare(lake, read)
    (lake / "dt=1970-01-02" / lost).unlink()
    prepare(lake, read)
    assert read.count == 2
    assert (lake / "dt=1970-01-02" / lost).is_file()


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"made_by": "me", "days": {}}'])
def test_a_folder_of_someone_else_is_never_overwritten(tmp_path, content):
    lake = tmp_path / "lake"
    (lake / "dt=2020-01-01").mkdir(parents=True)
    (lake / "dt=2020-01-01" / "mine.parquet").write_text("precious")
    if content is not None:
        (lake / "_lake.json").write_text(content)
    read = Reads()
    with pytest.raises(DataError, match=r"was not made by dualdnn .* not overwritten"):
        prepare(lake, read)
    with pytest.raises(DataError, match="was not made by dualdnn"):
        write(lake)
    assert read.count == 0
    assert (lake / "dt=2020-01-01" / "mine.parquet").read_text() == "precious"


def test_a_file_at_the_place_of_the_lake_is_not_overwritten(tmp_path):
    (tmp_path / "lake").write_text("precious")
    with pytest.raises(DataError, match="was not made by dualdnn"):
        prepare(tmp_path / "lake", Reads())


@pytest.mark.parametrize("added", ["dt=2020-01-01/x.parquet", "dt=1970-01-01/part-1.parquet"])
def test_days_that_someone_added_are_used_but_not_deleted(tmp_path, added):
    read, lake = Reads(), tmp_path / "lake"
    prepare(lake, read)
    (lake / added).parent.mkdir(exist_ok=True)
    (lake / added).write_text("precious")
    prepare(lake, read)
    with pytest.raises(DataError, match="which dualdnn did not put there"):
        prepare(lake, read, origin=with_threshold(5))
    assert read.count == 1
    assert (lake / added).read_text() == "precious"


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "lake").mkdir()
    prepare(tmp_path / "lake", Reads())
    assert (tmp_path / "lake" / "_lake.json").is_file()


def test_a_failure_while_writing_leaves_the_old_lake_and_nothing_else(tmp_path):
    lake = tmp_path / "lake"
    old = write(lake)
    bad = rows()
    # Refused by the fingerprint, when all day folders are written already.
    bad = RawRows(table=bad.table.append_column("b", pa.array([True] * 5)), archive="x", sha256="x")
    with pytest.raises(DataError, match="column b"):
        write(lake, bad)
    assert json.loads((lake / "_lake.json").read_text()) == old
    assert [p.name for p in tmp_path.iterdir()] == ["lake"]


def test_what_a_killed_builder_left_behind_is_cleared_away_and_nothing_else(tmp_path):
    for name in (".tmp-lake-123-0123abcd", ".tmp-lake2-123-0123abcd", ".tmp-mine"):
        (tmp_path / name / "dt=1970-01-01").mkdir(parents=True)
    prepare(tmp_path / "lake", Reads())
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        ".lake.lock", ".tmp-lake2-123-0123abcd", ".tmp-mine", "lake"]


def test_no_rows_make_no_lake(tmp_path):
    empty = RawRows(table=rows().table.slice(0, 0), archive="x", sha256="x")
    with pytest.raises(DataError, match="Expected rows to write into the lake, got none"):
        write(tmp_path / "lake", empty)
    assert not (tmp_path / "lake").exists()


def test_a_lake_below_a_file_says_that_it_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        prepare(tmp_path / "file" / "lake", Reads())
