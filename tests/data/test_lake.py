import datetime
import math
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dualdnn.data.lake import Lake
from dualdnn.errors import DataError
from dualdnn.schema import schema_from_dict

DAY = datetime.date(2024, 1, 1)


@pytest.fixture
def refused(lake, write_day, sound_columns, schema):
    """Returns a function: write a day with these columns and return the error of reading it."""

    def message_of(**changes):
        path = write_day(columns=sound_columns(**changes))
        with pytest.raises(DataError) as caught:
            lake.read(DAY, schema)
        assert str(caught.value).startswith(str(path))
        return str(caught.value).removeprefix(str(path))

    return message_of


def test_a_sound_day_is_read_in_the_promised_form(lake, write_day, schema):
    write_day()
    table = lake.read(DAY, schema)
    assert table.schema.names == [":label", ":timestamp", ":group", ":weight", "user", "tags",
                                  "age"]
    assert table[":label"].type == pa.uint8()
    assert table[":label"].to_pylist() == [0, 1, 1, 0]
    assert table[":timestamp"].type == pa.int64()
    assert table[":group"].to_pylist() == ["ann", "bob", "ann", "cy"]
    assert table[":weight"].to_pylist() == [1.0, 0.5, 2.0, 0.0]
    assert table["tags"].to_pylist() == [["x", "y"], ["x"], [], ["z"]]
    assert table["age"].type == pa.float32()
    np.testing.assert_array_equal(table["age"].to_numpy(), [20, 30, math.nan, 40])


# Days and files.

def test_days_are_the_dt_folders_in_order_whatever_else_lies_there(lake, write_day):
    for day in ("2024-01-03", "2023-12-31", "2024-01-01"):
        write_day(day)
    (lake.path / "_delta_log").mkdir()
    (lake.path / "dt=2024-01-02").touch()
    assert [str(day) for day in lake.days()] == ["2023-12-31", "2024-01-01", "2024-01-03"]


def test_files_are_read_in_order_of_name_without_hidden_ones(lake, write_day, schema,
                                                            sound_columns):
    for name, user in (("b.parquet", "2"), ("a.parquet", "1"), ("_tmp.parquet", "no"),
                       (".part.parquet", "no")):
        write_day(columns=sound_columns(user=pa.array([user] * 4)), name=name)
    (lake.path / f"dt={DAY}" / "a.crc").write_bytes(b"no parquet")
    assert lake.read(DAY, schema)["user"].to_pylist() == ["1"] * 4 + ["2"] * 4


def test_a_day_is_complete_when_a_later_one_exists_or_success_says_so(lake, write_day):
    for day in ("2024-01-01", "2024-01-02"):
        write_day(day)
    assert lake.is_complete(DAY)
    assert not lake.is_complete(datetime.date(2024, 1, 2))
    write_day("2024-01-02", success=True)
    assert lake.is_complete(datetime.date(2024, 1, 2))


def test_a_missing_lake(lake):
    with pytest.raises(DataError, match=rf"^data\.lake must be a directory of dt=YYYY-MM-DD "
                       rf"folders, but {re.escape(str(lake.path))} does not exist\. Check"):
        lake.days()


def test_a_lake_that_is_a_file(tmp_path):
    (tmp_path / "log.csv").touch()
    with pytest.raises(DataError, match=r"but .*log\.csv is a file\. Check the path"):
        Lake(tmp_path / "log.csv").days()


def test_a_lake_without_partitions(lake):
    (lake.path / "2024-01-01").mkdir(parents=True)
    with pytest.raises(DataError, match=r"holds no dt=YYYY-MM-DD folder\. Expected one folder a"):
        lake.days()


@pytest.mark.parametrize("name", ["dt=2020-13-01", "dt=2023-02-29", "dt=20240101",
                                  "dt=2024-W01-1", "dt=", "dt=__HIVE_DEFAULT_PARTITION__"])
def test_a_partition_whose_name_is_no_day(lake, write_day, name):
    write_day()
    (lake.path / name).mkdir()
    with pytest.raises(DataError, match=rf"a partition folder must be named dt=YYYY-MM-DD, got "
                       rf"'{name}'\. Rename it or move it out of the lake\.$"):
        lake.days()


def test_an_empty_partition_folder(lake, schema):
    (lake.path / f"dt={DAY}").mkdir(parents=True)
    with pytest.raises(DataError, match=r"dt=2024-01-01 holds no parquet file\. Write the day's "
                       r"rows, or remove the folder if the day has none\.$"):
        lake.read(DAY, schema)


def test_a_day_of_files_without_rows(lake, write_day, sound_columns, schema):
    for name in ("a.parquet", "b.parquet"):
        write_day(columns=pa.table(sound_columns()).slice(0, 0), name=name)
    with pytest.raises(DataError, match=r"dt=2024-01-01 has parquet files but no rows\. Write"):
        lake.read(DAY, schema)


def test_one_file_without_rows_beside_others_is_fine(lake, write_day, sound_columns, schema):
    write_day(columns=pa.table(sound_columns()).slice(0, 0), name="a.parquet")
    write_day(name="b.parquet")
    assert lake.read(DAY, schema).num_rows == 4


def test_a_truncated_file(lake, write_day, schema):
    path = write_day()
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"part-0\.parquet cannot be read as parquet: .*\. Write "
                       r"the file again\.$"):
        lake.read(DAY, schema)


def test_a_damaged_page(lake, write_day, sound_columns, schema):
    path = write_day(columns=sound_columns(user=pa.array([f"user{i}" for i in range(4)])))
    content = bytearray(path.read_bytes())
    content[4:200] = bytes(196)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"part-0\.parquet cannot be read as parquet: "):
        lake.read(DAY, schema)


@pytest.mark.parametrize("content", [b"", b"user,click\nann,1\n"], ids=["empty", "csv"])
def test_a_file_that_is_not_parquet(lake, write_day, schema, content):
    write_day().write_bytes(content)
    with pytest.raises(DataError, match=r"part-0\.parquet cannot be read as parquet: "):
        lake.read(DAY, schema)


def test_a_folder_named_like_a_file(lake, write_day, schema):
    write_day()
    (lake.path / f"dt={DAY}" / "x.parquet").mkdir()
    with pytest.raises(DataError, match=r"x\.parquet cannot be read as parquet: "):
        lake.read(DAY, schema)


# Columns.

def test_a_missing_column(refused):
    assert refused(age=None) == (
        ": column `age` is missing, which the schema names; the file has click, ts, user, tags, "
        "weight. Correct the schema or write the column.")


def test_several_missing_columns_are_named_together(refused):
    assert refused(age=None, click=None, weight=None).startswith(
        ": columns `click`, `weight`, `age` are missing, which the schema names; the file has "
        "ts, user, tags.")


def test_a_column_missing_in_the_second_file_of_a_day(lake, write_day, sound_columns, schema):
    write_day(name="a.parquet")
    write_day(columns=sound_columns(tags=None), name="b.parquet")
    with pytest.raises(DataError, match=r"b\.parquet: column `tags` is missing"):
        lake.read(DAY, schema)


def test_a_column_that_the_file_has_twice(lake, sound_columns, schema):
    columns = sound_columns()
    table = pa.table([*columns.values(), columns["age"]], [*columns, "age"])
    folder = lake.path / f"dt={DAY}"
    folder.mkdir(parents=True)
    pq.write_table(table, folder / "a.parquet")
    with pytest.raises(DataError, match=r"a\.parquet: column `age` is in the file more than "
                       r"once\. Write each column once\.$"):
        lake.read(DAY, schema)


TYPE_HINT = ". Cast it where the lake is written, or correct the schema."


@pytest.mark.parametrize(("column", "values", "message"), [
    ("ts", pa.array(["2024-01-01"] * 4), "whole seconds since the epoch, got string"),
    ("ts", pa.array([1.7e9] * 4), "whole seconds since the epoch, got double"),
    ("user", pa.array([1.0, 2.0, 3.0, 4.0]), "string or integer for kind group, got double"),
    ("user", pa.array([["a"]] * 4), "string or integer for kind group, got list<"),
    ("user", pa.array([b"a"] * 4), "string or integer for kind group, got binary"),
    ("tags", pa.array(["x"] * 4), "a list of string or integer for kind ids, got string"),
    ("tags", pa.array([[1.5]] * 4), "a list of string or integer for kind ids, got list<"),
    ("tags", pa.array([[["x"]]] * 4), "a list of string or integer for kind ids, got list<"),
    ("tags", pa.array([{"a": 1}] * 4), "a list of string or integer for kind ids, got struct<"),
    ("age", pa.array(["20"] * 4), "a number for kind number, got string"),
    ("age", pa.array([True] * 4), "a number for kind number, got bool"),
    ("age", pa.array([[1.0]] * 4), "a number for kind number, got list<"),
    ("click", pa.array(["1"] * 4), "a label of 0 and 1, got string"),
    ("click", pa.nulls(4), "a label of 0 and 1, got null"),
    ("weight", pa.array(["1"] * 4), "a number, got string"),
], ids=lambda value: str(value)[:12] if isinstance(value, str) else "")
def test_a_column_of_the_wrong_type(refused, column, values, message):
    found = refused(**{column: values})
    assert found.startswith(f": column `{column}` must be {message}")
    assert found.endswith(TYPE_HINT)


def test_a_float_id_is_refused(lake, write_day, sound_columns, schema):
    write_day(columns={**sound_columns(), "city": pa.array([1.0] * 4)})
    values = schema.to_dict() | {"fields": [{"name": "city", "kind": "id"}]}
    with pytest.raises(DataError, match=r"column `city` must be string or integer for kind id, "
                       r"got double\. Cast it"):
        lake.read(DAY, schema_from_dict(values))


@pytest.mark.parametrize(("values", "shown"), [
    ([0, 1, 2, 2], "2 in 2 of 4"),
    ([0, -1, 1, 1], "-1 in 1 of 4"),
    ([0.0, 0.5, 1.0, 1.0], "0.5 in 1 of 4"),
    ([0, None, 1, None], "null in 2 of 4"),
    ([0.0, math.nan, 1.0, 1.0], "null in 1 of 4"),
    ([0.0, math.inf, 1.0, 1.0], "inf in 1 of 4"),
    ([2**60 + 1, 0, 0, 0], "1.15292e+18 in 1 of 4"),
    ([True, None, False, False], "null in 1 of 4"),
], ids=str)
def test_a_label_other_than_0_and_1(refused, values, shown):
    assert refused(click=pa.array(values)) == (
        f": label `click` must be 0 or 1, got {shown} rows. Derive a 0/1 column where the lake "
        "is written.")


def test_timestamps_in_milliseconds(refused):
    assert refused(ts=pa.array([1_704_067_200_000] * 4)) == (
        ": timestamp `ts` must be in seconds since the epoch, got 1704067200000, which looks "
        "like milliseconds or finer. Divide where the lake is written.")


def test_one_timestamp_in_microseconds_among_seconds(refused):
    assert "got 1704067200000000, which looks like milliseconds or finer" in refused(
        ts=pa.array([1_704_067_200, 1_704_067_200_000_000, 1, 2]))


def test_timestamps_beyond_int64(refused):
    assert "got 18446744073709551615, which looks like milliseconds" in refused(
        ts=pa.array([2**64 - 1, 1, 2, 3], pa.uint64()))


def test_negative_timestamps(refused):
    assert refused(ts=pa.array([1, -5, 2, 3])) == (
        ": timestamp `ts` must be >= 0 seconds since the epoch, got -5. Correct the rows where "
        "the lake is written.")


def test_missing_timestamps(refused):
    assert refused(ts=pa.array([1, None, 2, None])) == (
        ": timestamp `ts` is null in 2 of 4 rows. Every row needs the second at which it "
        "happened.")


@pytest.mark.parametrize(("values", "rows"), [
    ([1.0, math.inf, 2.0, -math.inf], 2), ([1.0, 1e300, 2.0, 3.0], 1)], ids=str)
def test_an_infinite_number(refused, values, rows):
    assert refused(age=pa.array(values)) == (
        f": number `age` is infinite (or beyond float32) in {rows} of 4 rows. Write null where "
        "the value is unknown, or clip it.")


@pytest.mark.parametrize(("value", "shown"), [
    (-1.0, "-1.0"), (math.nan, "nan"), (None, "nan"), (math.inf, "inf"), (1e300, "1e+300")])
def test_a_weight_that_is_none(refused, value, shown):
    assert refused(weight=pa.array([1.0, value, 0.0, 2.0])) == (
        f": weight `weight` must be finite and >= 0, got {shown} in 1 of 4 rows. Use 0 to leave "
        "a row out.")


@pytest.mark.parametrize("column", ["user", "tags"])
def test_text_that_is_not_utf_8(refused, column):
    offsets = pa.py_buffer(np.array([0, 2, 2, 2, 2], np.int32).tobytes())
    broken = pa.Array.from_buffers(pa.string(), 4, [None, offsets, pa.py_buffer(b"\xff\xfe")])
    if column == "tags":
        broken = pa.ListArray.from_arrays(pa.array([0, 1, 2, 3, 4], pa.int32()), broken)
    found = refused(**{column: broken})
    assert found.startswith(f": column `{column}` must be UTF-8 text: ")
    assert found.endswith("Invalid UTF8 sequence at string index 0. Repair or escape the values "
                          "where the lake is written.")


# The column of the window `given`.

def test_the_column_of_a_window_is_read_from_all_files(lake, write_day, sound_columns):
    for name, part in (("a.parquet", "train"), ("b.parquet", "test")):
        parts = pa.array([part] * 4).dictionary_encode()
        write_day(columns={**sound_columns(), "part": parts}, name=name)
    assert lake.read_column(DAY, "part") == ["train"] * 4 + ["test"] * 4


def test_the_column_of_a_window_is_missing(lake, write_day):
    write_day()
    with pytest.raises(DataError, match=r"column `part` is missing, which window\.column names; "
                       r"the file has click, ts, user, tags, age, weight\."):
        lake.read_column(DAY, "part")


def test_the_column_of_a_window_has_another_type(lake, write_day):
    write_day()
    with pytest.raises(DataError, match=r"column `age` must be string or integer .*got double"):
        lake.read_column(DAY, "age")
