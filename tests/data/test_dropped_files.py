"""A folder as a stream: which files count, and how one of them is read."""

import datetime
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dualdnn.data.dropped_files import as_lake, day_of, dropped_files
from dualdnn.errors import DataError


def write(path, seconds=(5, 9, 7)):
    pq.write_table(pa.table({"ts": list(seconds)}), path)


def test_whole_parquet_files_count_in_the_order_of_their_names(tmp_path):
    for name in ("b.parquet", "a.parquet", "_half.parquet", ".hidden.parquet", "a.csv"):
        write(tmp_path / name)
    (tmp_path / "gone.parquet").symlink_to(tmp_path / "nowhere")
    found = dropped_files(tmp_path)
    assert [file.path.name for file in found] == ["a.parquet", "b.parquet"]
    assert found[0].signature == [os.stat(tmp_path / "a.parquet").st_size,
                                  os.stat(tmp_path / "a.parquet").st_mtime_ns]
    with pytest.raises(DataError, match=r"source=.*nowhere must be a folder .* Make it"):
        dropped_files(tmp_path / "nowhere")


def test_the_newest_second_of_a_file(tmp_path):
    write(tmp_path / "a.parquet")
    write(tmp_path / "text.parquet", ["x", "y"])
    write(tmp_path / "none.parquet", np.zeros(0, np.int64))
    write(tmp_path / "odd.parquet", [np.inf, np.nan])
    (tmp_path / "y.parquet").mkdir()
    (tmp_path / "z.parquet").write_bytes(b"PAR1")
    a, none, odd, text, folder, broken = dropped_files(tmp_path)
    assert [file.newest("ts") for file in (a, none, odd, text)] == [9, None, None, None]
    with pytest.raises(DataError, match=r"y\.parquet is a folder, expected a file\. Move"):
        folder.newest("ts")
    for file, column in ((broken, "ts"), (a, "clock")):
        with pytest.raises(DataError, match=f"cannot be read as parquet with a column `{column}`"):
            file.newest(column)


@pytest.mark.parametrize(("second", "day"), [
    (0, datetime.date(1970, 1, 1)), (86_400, datetime.date(1970, 1, 2)),
    (1_375_315_199, datetime.date(2013, 7, 31)), (None, None),
    (1_375_315_199_000, None), (10**30, None)])  # milliseconds are refused when they are read
def test_the_day_of_a_second(second, day):
    today = datetime.datetime.now(datetime.UTC).date()
    assert day_of(second) in ((today, today + datetime.timedelta(days=1)) if day is None
                              else (day,))


def test_a_file_is_a_lake_of_one_complete_day(tmp_path):
    write(tmp_path / "a.parquet")
    (file,) = dropped_files(tmp_path)
    day = datetime.date(2024, 1, 2)
    (tmp_path / "lake" / "dt=2024-01-01").mkdir(parents=True)
    lake = as_lake(file, day, tmp_path / "lake")
    assert (lake.days(), lake.newest_complete()) == ([day], day)
    # It stays readable when whoever dropped it takes it away.
    file.path.unlink()
    assert len(pq.read_table(lake.files(day)[0])) == 3
    with pytest.raises(DataError, match="was listed and is gone"):
        as_lake(file, day, tmp_path / "other")
