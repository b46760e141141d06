import hashlib
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dualdnn.data.simulator.settings import BLOCK_ROWS, FeedSettings
from dualdnn.data.simulator.writer import feed_is_current, prepare_feed, write_feed
from dualdnn.errors import DataError

SMALL = {"rows": 3_000, "days": 3, "users": 50, "new_items_a_day": 5}


def files_of(lake):
    return {path.relative_to(lake).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(lake.rglob("*")) if path.is_file()}


@pytest.fixture
def lake(tmp_path):
    return tmp_path / "lake"


def test_a_day_is_a_complete_folder_and_the_lake_says_what_it_is(lake):
    write_feed(FeedSettings(**SMALL), lake, threads=1)
    assert sorted(path.name for path in lake.iterdir()) == [
        "_lake.json", "dt=2024-01-01", "dt=2024-01-02", "dt=2024-01-03"]
    about = json.loads((lake / "_lake.json").read_text())
    tables = [pq.ParquetFile(lake / f"dt={day}" / "part-000000.parquet").read()
              for day in about["days"]]
    assert [table.num_rows for table in tables] == list(about["days"].values()) == [1_000] * 3
    assert about["rows"] == 3_000
    assert about["clicks"] == sum(sum(table["click"].to_pylist()) for table in tables)
    assert about["settings"]["regime"] == "pairwise"
    assert all((lake / f"dt={day}" / "_SUCCESS").is_file() for day in about["days"])


def test_the_bytes_depend_on_the_settings_alone_not_on_the_threads(tmp_path):
    settings = FeedSettings(rows=330_000, days=2, users=50, new_items_a_day=5,
                            rows_per_file=BLOCK_ROWS)
    for name, threads in (("one", 1), ("two", 2), ("five", 5)):
        write_feed(settings, tmp_path / name, threads=threads)
    one = files_of(tmp_path / "one")
    assert one == files_of(tmp_path / "two") == files_of(tmp_path / "five")
    assert sum(name.endswith(".parquet") for name in one) == 8


def test_the_rows_do_not_depend_on_the_size_of_files(tmp_path):
    for rows_per_file in (BLOCK_ROWS, 2 * BLOCK_ROWS, 500_000):
        write_feed(FeedSettings(rows=260_000, days=2, users=50, new_items_a_day=5,
                                rows_per_file=rows_per_file),
                   tmp_path / str(rows_per_file), threads=2)
    days = [[pq.ParquetFile(path).read() for path in sorted(lake.glob("dt=2024-01-02/*.parquet"))]
            for lake in sorted(tmp_path.iterdir())]
    assert sorted(len(parts) for parts in days) == [1, 2, 3]
    rows = [pa.concat_tables(parts) for parts in days]
    assert rows[0].num_rows == 130_000
    assert rows[0].equals(rows[1])
    assert rows[0].equals(rows[2])


def test_memory_holds_a_block_not_a_day(lake):
    write_feed(FeedSettings(rows=120_000, days=1, users=50, new_items_a_day=5), lake, threads=1)
    with pq.ParquetFile(lake / "dt=2024-01-01" / "part-000000.parquet") as file:
        groups = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    assert groups == [BLOCK_ROWS, BLOCK_ROWS, 20_000]


def test_sampling_counts_what_is_left(lake):
    write_feed(FeedSettings(**SMALL, kept_negatives=0.1), lake, threads=1)
    about = json.loads((lake / "_lake.json").read_text())
    assert about["rows"] == sum(about["days"].values()) < 1_600
    rows = pq.ParquetFile(lake / "dt=2024-01-02" / "part-000000.parquet").read().num_rows
    assert rows == about["days"]["2024-01-02"]


def test_a_feed_of_the_same_settings_is_used_as_it_is(lake, caplog):
    settings = FeedSettings(**SMALL)
    prepare_feed(settings, lake, threads=1)
    before = {path: path.stat().st_mtime_ns for path in lake.rglob("*")}
    with caplog.at_level("INFO"):
        prepare_feed(settings, lake, threads=2)
    assert "used as it is" in caplog.text
    assert {path: path.stat().st_mtime_ns for path in lake.rglob("*")} == before


@pytest.mark.parametrize("change", [
    {"seed": 2}, {"regime": "additive"}, {"rows": 3_001}, {"kept_negatives": 0.5}])
def test_a_feed_of_other_settings_is_written_again(lake, change):
    prepare_feed(FeedSettings(**SMALL), lake, threads=1)
    before = files_of(lake)
    other = FeedSettings(**{**SMALL, **change})
    assert not feed_is_current(lake, other)
    prepare_feed(other, lake, threads=1)
    assert feed_is_current(lake, other)
    assert files_of(lake) != before


@pytest.mark.parametrize("lost", ["part-000000.parquet", "_SUCCESS"])
def test_a_feed_that_lost_a_file_is_written_again(lake, lost):
    settings = FeedSettings(**SMALL)
    prepare_feed(settings, lake, threads=1)
    whole = files_of(lake)
    (lake / "dt=2024-01-02" / lost).unlink()
    assert not feed_is_current(lake, settings)
    prepare_feed(settings, lake, threads=1)
    assert files_of(lake) == whole


def test_what_a_killed_writer_left_is_cleared_away(lake):
    leftover = lake.parent / ".tmp-lake-12345-0123abcd"
    other = lake.parent / ".tmp-other-12345-0123abcd"
    for folder in (leftover, other):
        (folder / "dt=2024-01-01").mkdir(parents=True)
    prepare_feed(FeedSettings(**SMALL), lake, threads=1)
    assert not leftover.exists()
    assert other.exists()


@pytest.mark.parametrize("content", [None, "{", '{"made_by": "me", "days": {}}'])
def test_a_folder_of_someone_else_is_not_touched(lake, content):
    (lake / "dt=2024-01-01").mkdir(parents=True)
    if content is not None:
        (lake / "_lake.json").write_text(content)
    before = files_of(lake)
    with pytest.raises(DataError, match=r"was not made by dualdnn .* choose another"):
        prepare_feed(FeedSettings(**SMALL), lake, threads=1)
    assert files_of(lake) == before


def test_files_that_others_put_into_a_feed_are_not_deleted(lake):
    prepare_feed(FeedSettings(**SMALL), lake, threads=1)
    (lake / "dt=2024-01-02" / "mine.parquet").touch()
    before = files_of(lake)
    with pytest.raises(DataError, match=r"holds dt=2024-01-02/mine.parquet, which dualdnn did"):
        prepare_feed(FeedSettings(**{**SMALL, "seed": 2}), lake, threads=1)
    assert files_of(lake) == before


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written"):
        prepare_feed(FeedSettings(**SMALL), tmp_path / "file" / "lake", threads=1)
