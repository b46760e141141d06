"""Unusual ways to write a sound column: all are read as the usual one is."""

import datetime
import decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dualdnn.schema import schema_from_dict

DAY = datetime.date(2024, 1, 1)
USERS = ["ann", "bob", None, "cy"]
TAGS = [["x", "y"], [], None, [None, "z"]]


@pytest.fixture
def read(lake, write_day, sound_columns, schema):
    """Returns a function: write a day with these columns and read one back."""

    def column(name, **changes):
        write_day(columns=sound_columns(**changes))
        return lake.read(DAY, schema)[name].combine_chunks()

    return column


@pytest.mark.parametrize("values", [
    pa.array(USERS, pa.large_string()),
    pa.array(USERS, pa.string_view()),
    pa.array(USERS).dictionary_encode(),
    pa.chunked_array([pa.array(USERS[:2]).dictionary_encode(),
                      pa.array(USERS[2:]).dictionary_encode()]),
    pa.array(USERS, pa.dictionary(pa.int8(), pa.large_string())),
], ids=lambda values: str(values.type))
def test_text_ids(read, values):
    found = read("user", user=values)
    assert found.type == pa.large_string()
    assert found.to_pylist() == USERS


@pytest.mark.parametrize(("values", "expected"), [
    (pa.array([1, 2, None, -3], pa.int8()), ["1", "2", None, "-3"]),
    (pa.array([2**63 + 1, 2**64 - 1, None, 0], pa.uint64()),
     ["9223372036854775809", "18446744073709551615", None, "0"]),
    (pa.array([7, 8, None, 7]).dictionary_encode(), ["7", "8", None, "7"]),
    (pa.array([True, False, None, True]), ["true", "false", None, "true"]),
    (pa.nulls(4), [None] * 4),
], ids=lambda value: str(getattr(value, "type", "")))
def test_other_ids_are_text_integers_in_decimal(read, values, expected):
    assert read("user", user=values).to_pylist() == expected


@pytest.mark.parametrize("values", [
    pa.array(TAGS, pa.large_list(pa.string())),
    pa.array(TAGS, pa.list_(pa.field("element", pa.large_string()))),
    pa.array(TAGS, pa.list_(pa.dictionary(pa.int32(), pa.string()))),
    pa.chunked_array([pa.array(TAGS[:1], pa.list_(pa.string())),
                      pa.array(TAGS[1:], pa.list_(pa.string()))]),
], ids=lambda values: str(values.type))
def test_lists_of_ids(read, values):
    found = read("tags", tags=values)
    assert found.type == pa.large_list(pa.large_string())
    assert found.to_pylist() == TAGS


@pytest.mark.parametrize(("values", "expected"), [
    (pa.array([[1, None], [], None, [-2]]), [["1", None], [], None, ["-2"]]),
    (pa.array([[1, 2], [3, None], [7, 8], [5, 6]], pa.list_(pa.int16(), 2)),
     [["1", "2"], ["3", None], ["7", "8"], ["5", "6"]]),
    (pa.array([[None], [], None, [None]]), [[None], [], None, [None]]),
    (pa.nulls(4), [None] * 4),
], ids=lambda value: str(getattr(value, "type", "")))
def test_other_lists_are_lists_of_text(read, values, expected):
    assert read("tags", tags=values).to_pylist() == expected


@pytest.mark.parametrize("values", [
    pa.array([1, 2, None, 4], pa.int8()),
    pa.array([1, 2, None, 4], pa.uint64()),
    pa.array(np.array([1, 2, np.nan, 4], np.float16)),
    pa.array([decimal.Decimal("1.00"), 2, None, 4], pa.decimal128(9, 2)),
    pa.array([decimal.Decimal("1.00"), 2, None, 4], pa.decimal256(50, 2)),
    pa.array([1.0, 2.0, None, 4.0]).dictionary_encode(),
], ids=lambda values: str(values.type))
def test_numbers(read, values):
    np.testing.assert_array_equal(read("age", age=values), np.float32([1, 2, np.nan, 4]))


def test_a_number_that_is_always_missing(read):
    assert np.isnan(read("age", age=pa.nulls(4))).all()


@pytest.mark.parametrize("values", [
    pa.array([0, 1, 1, 0], pa.uint8()),
    pa.array([0.0, 1.0, 1.0, 0.0], pa.float32()),
    pa.array(np.array([0, 1, 1, 0], np.float16)),
    pa.array([False, True, True, False]),
    pa.array([0, 1, 1, 0]).dictionary_encode(),
], ids=lambda values: str(values.type))
def test_labels(read, values):
    assert read(":label", click=values).to_pylist() == [0, 1, 1, 0]


SECONDS = [0, 1_704_067_200, 1_704_067_201, 4_102_444_800]


@pytest.mark.parametrize("values", [
    pa.array(SECONDS, pa.uint32()),
    pa.array(SECONDS, pa.uint64()),
    pa.array(SECONDS, pa.timestamp("s")),
    pa.array([s * 1000 + 999 for s in SECONDS], pa.timestamp("ms", "UTC")),
    pa.array([s * 10**6 + 1 for s in SECONDS], pa.timestamp("us", "America/New_York")),
    pa.array([s * 10**9 + 999_999_999 for s in SECONDS], pa.timestamp("ns")),
], ids=lambda values: str(values.type))
def test_timestamps_are_whole_seconds_in_utc(read, values):
    assert read(":timestamp", ts=values).to_pylist() == SECONDS


def test_a_day_of_files_that_differ_in_order_types_and_extra_columns(
    lake, write_day, sound_columns, schema
):
    columns = sound_columns(user=pa.array([1, 2, 3, 4], pa.int32()),
                            age=pa.array([1, 2, 3, 4], pa.int64()))
    write_day(columns=columns, name="a.parquet")
    reordered = {"extra": pa.array([{"a": 1}] * 4),
                 **dict(reversed({**columns, "user": pa.array(["1", "2", "3", "4"]),
                                  "age": pa.array([1.0, 2.0, 3.0, 4.0])}.items()))}
    write_day(columns=reordered, name="b.parquet")
    table = lake.read(DAY, schema)
    assert table.num_rows == 8
    assert table.slice(0, 4).to_pylist() == table.slice(4).to_pylist()


def test_a_column_of_several_row_groups(lake, sound_columns, write_day, schema):
    path = write_day()
    pq.write_table(pa.table(sound_columns()), path, row_group_size=1)
    assert lake.read(DAY, schema)["user"].to_pylist() == ["ann", "bob", "ann", "cy"]


def test_the_order_of_the_schema_is_the_order_of_the_columns(lake, write_day, schema_values):
    write_day()
    turned = schema_from_dict({**schema_values, "fields": schema_values["fields"][::-1],
                               "group": None, "weight": None})
    assert lake.read(DAY, turned).schema.names == [":label", ":timestamp", "age", "tags", "user"]
