import datetime
import re
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from dualdnn.data.admission import Admission
from dualdnn.data.encoding import EncodedDay, encode_day, encode_days
from dualdnn.data.lake import Lake
from dualdnn.data.row_map import PADDING_ROW, build_row_map, load_row_map
from dualdnn.data.signs import signs_of
from dualdnn.errors import DataError
from dualdnn.schema import schema_from_dict
from tests.data.days_of_signs import day_of, owners

DAYS = [datetime.date(2024, 1, day) for day in (1, 2)]
USER, TAGS, AGE = 0, 1, 2


@pytest.fixture
def days(lake, write_day, sound_columns, schema, tmp_path):
    """Two days; ages 1 to 8 and users ann 4, bob 2, cy 1, dee 1 times over both."""
    write_day("2024-01-01", sound_columns(age=pa.array([1, 2, 3, 4]),
                                          user=pa.array(["ann", "bob", "ann", "cy"])))
    write_day("2024-01-02", sound_columns(age=pa.array([5, 6, 7, 8]),
                                          user=pa.array(["ann", "bob", "ann", "dee"]),
                                          tags=pa.array([["x", "w"], [None, "x"], None, []])))
    return encode_days(lake, DAYS, schema, tmp_path / "state")


@pytest.fixture
def schema_with(schema_values):
    """Returns a function: the schema with changed fields."""

    def make(user=None, tags=None, age=None):
        fields = [{**field, **(change or {})}
                  for field, change in zip(schema_values["fields"], (user, tags, age),
                                           strict=True)]
        return schema_from_dict({**schema_values, "fields": fields})

    return make


def signs(field, values):
    return signs_of(field, tf.constant(values, tf.string)).numpy()


def rows_of(row_map, field, values):
    position = ["user", "tags"].index(field)
    return row_map.rows_of_signs(signs(field, values), row_map.oov_rows[position]).tolist()


def test_the_layout_of_the_table(schema, days):
    row_map = build_row_map(schema, days, [None, None])
    # Padding, 3 rows out of vocabulary, 2 buckets of age, 4 users, 4 tags.
    assert row_map.num_rows == 1 + 3 + 2 + 4 + 4
    assert PADDING_ROW == 0
    assert row_map.oov_rows.tolist() == [1, 2, 3]
    assert row_map.bucket_rows.tolist() == [-1, -1, 4]
    users = rows_of(row_map, "user", ["ann", "bob", "cy", "dee"])
    tags = rows_of(row_map, "tags", ["w", "x", "y", "z"])
    assert sorted(users) == [6, 7, 8, 9]
    assert sorted(tags) == [10, 11, 12, 13]
    assert (row_map.signs[1:] > row_map.signs[:-1]).all()


def test_rows_of_a_field_are_in_order_of_their_signs(schema, days):
    row_map = build_row_map(schema, days, [None, None])
    for field, values in (("user", ["ann", "bob", "cy", "dee"]), ("tags", ["w", "x", "y", "z"])):
        ascending = np.sort(signs(field, values))
        rows = row_map.rows_of_signs(ascending, 1)
        assert (np.diff(rows) == 1).all()


def test_the_map_does_not_depend_on_the_order_of_the_days(schema, days, tmp_path):
    for name, order in (("one", days), ("other", days[::-1])):
        (tmp_path / name).mkdir()
        build_row_map(schema, order, [None, None]).save(tmp_path / name)
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert [(tmp_path / "one" / name).read_bytes() for name in files] == [
        (tmp_path / "other" / name).read_bytes() for name in files]


@pytest.mark.parametrize(("least", "admitted"), [
    (1, ["ann", "bob", "cy", "dee"]), (2, ["ann", "bob"]), (4, ["ann"]), (5, [])])
def test_an_id_needs_min_count_occurrences_over_all_training_days(
    schema_with, days, least, admitted
):
    row_map = build_row_map(schema_with(user={"min_count": least}), days, [None, None])
    found = rows_of(row_map, "user", ["ann", "bob", "cy", "dee"])
    assert [name for name, row in zip(["ann", "bob", "cy", "dee"], found, strict=True)
            if row != row_map.oov_rows[USER]] == admitted
    assert (row_map.fields == USER).sum() == len(admitted)


def test_unseen_and_missing_values_share_the_fields_own_oov_row(schema, days):
    row_map = build_row_map(schema, days, [None, None])
    assert rows_of(row_map, "user", ["nobody", "", "ann"])[:2] == [1, 1]
    assert rows_of(row_map, "tags", ["nothing", ""]) == [2, 2]
    ages = row_map.rows_of_numbers(AGE, np.float32([np.nan]))
    assert ages.tolist() == [3]


def test_only_training_rows_count(schema_with, days):
    # Training: rows 0 and 1 of the first day, rows 0 and 3 of the second: ann twice, bob once.
    parts = [np.array([0, 1]), np.array([0, 3])]
    row_map = build_row_map(schema_with(user={"min_count": 2}), days, parts)
    assert rows_of(row_map, "user", ["bob", "cy", "dee"]) == [1, 1, 1]
    assert rows_of(row_map, "user", ["ann"]) != [1]
    # Of the tags of those rows (x y, x, x w, none) z is not one.
    assert rows_of(row_map, "tags", ["z"]) == [2]
    assert 2 not in rows_of(row_map, "tags", ["x", "y", "w"])


def test_a_day_that_only_tests_adds_nothing(schema, days):
    first = build_row_map(schema, days[:1], [None])
    with_test = build_row_map(schema, days, [None, np.array([], np.int64)])
    assert first.num_rows == with_test.num_rows
    for name in ("signs", "rows", "fields", "last_seen", "boundaries"):
        np.testing.assert_array_equal(getattr(first, name), getattr(with_test, name))


def test_all_rows_by_number_equal_all_rows(schema, days):
    every = build_row_map(schema, days, [None, None])
    numbered = build_row_map(schema, days, [np.arange(4), np.arange(4)])
    np.testing.assert_array_equal(every.signs, numbered.signs)
    np.testing.assert_array_equal(every.rows, numbered.rows)


def test_last_seen_is_the_newest_training_day_of_a_sign(schema, days):
    row_map = build_row_map(schema, days, [None, None])
    seen = {name: np.datetime64(int(row_map.last_seen[row_map.signs == signs("user", [name])][0]),
                                "D").item()
            for name in ("ann", "cy", "dee")}
    assert seen == {"ann": DAYS[1], "cy": DAYS[0], "dee": DAYS[1]}


def test_a_null_beside_a_value_in_a_list_is_not_counted(schema_with, days):
    row_map = build_row_map(schema_with(tags={"min_count": 4}), days, [None, None])
    # x stands twice in the first day, twice in the second.
    assert rows_of(row_map, "tags", ["x"]) != [2]
    assert rows_of(row_map, "tags", ["y", "z", "w"]) == [2, 2, 2]


# Capacity.

@pytest.fixture
def map_of(tmp_path):
    """Returns a function: the map of one day or more, each by its columns of signs."""

    def make(*days, fields, **limits):
        schema = schema_from_dict({"name": "s", "label": "click", "timestamp": "ts",
                                   "fields": fields})
        encoded = [day_of(tmp_path, i + 1, **columns) for i, columns in enumerate(days)]
        return build_row_map(schema, encoded, [None] * len(encoded), Admission(**limits))

    return make


USER_FIELD = {"name": "user", "kind": "id"}


@pytest.mark.parametrize(("capacity", "admitted"), [
    (2, []), (3, [13]), (4, [12, 13]), (5, [11, 12, 13]), (6, [11, 12, 13]),
    (None, [11, 12, 13])])
def test_under_a_capacity_the_most_frequent_are_admitted(map_of, capacity, admitted):
    row_map = map_of({"user": [12, 13]}, {"user": [13, 11, 12, 13]}, fields=[USER_FIELD],
                     capacity=capacity)
    # Padding and unknown users have the rows 0 and 1; the others are in order of their signs.
    assert owners(row_map) == {sign: 2 + i for i, sign in enumerate(admitted)}
    assert row_map.table_rows == {"main": 2 + len(admitted)}


def test_of_equally_frequent_ids_the_later_seen_and_then_the_smaller_are_admitted(map_of):
    days = {"user": [11, 12, 11, 14]}, {"user": [14, 13, 13, 12]}
    for capacity, admitted in ((3, [12]), (4, [12, 13]), (5, [12, 13, 14])):
        row_map = map_of(*days, fields=[USER_FIELD], capacity=capacity)
        assert row_map.signs.tolist() == admitted


def test_fields_of_one_table_share_its_capacity_by_their_counts(map_of):
    fields = [USER_FIELD, {"name": "item", "kind": "id"},
              {"name": "seen", "kind": "sequence", "of": "item", "max_length": 2},
              {"name": "city", "kind": "id", "size": 2}]
    day = {"user": [11, 11, 12], "item": [51, 52, None], "seen": [[53, 52], [53, 52], [53]],
           "city": [71, 72, 73]}
    row_map = map_of(day, fields=fields, capacity=4 + 3)
    # 52 and 53 occur three times, 11 twice; cities have a table and a capacity for themselves.
    assert owners(row_map) == {11: 4, 52: 5, 53: 6, 71: 2, 72: 3, 73: 4}
    assert map_of(day, fields=fields, capacity=4).table_rows == {"main": 4, "size2": 4}


def test_min_count_holds_under_a_capacity_too(map_of):
    row_map = map_of({"user": [11, 11, 12]}, fields=[{**USER_FIELD, "min_count": 2}], capacity=9)
    assert row_map.signs.tolist() == [11]


def test_a_retrain_forgets_what_its_window_does_not_hold_and_nothing_else(map_of):
    days = [{"user": [sign]} for sign in (11, 12, 13)]
    row_map = map_of(*days, fields=[USER_FIELD], expire_after_days=1)
    assert row_map.signs.tolist() == [11, 12, 13]


def test_a_capacity_must_hold_the_rows_that_no_id_owns(map_of):
    fields = [USER_FIELD, {"name": "hour", "kind": "hash", "buckets": 7},
              {"name": "age", "kind": "number", "buckets": 2}]
    day = {"user": [11], "hour": [80], "age": np.float32([1])}
    # Padding, three out of vocabulary, seven hours, one bucket of age.
    with pytest.raises(DataError, match=r"^a table must hold .* `main` has 12 of them, but the "
                       r"capacity is 11\. Set capacity to more than 12, or use fewer buckets\.$"):
        map_of(day, fields=fields, capacity=11)
    assert map_of(day, fields=fields, capacity=12).table_rows == {"main": 12}


@pytest.mark.parametrize(("values", "mistake"), [
    ({"expire_after_days": 0}, r"^daily\.expire_after_days must be >= 1 or null, got 0\. Use null"),
    ({"capacity": 1}, r"^daily\.capacity must be >= 2 or null, got 1\. Use null"),
])
def test_limits_out_of_range_are_named(values, mistake):
    found = Admission(**values).mistakes("daily")
    assert len(found) == 1
    assert re.search(mistake, found[0])


@pytest.mark.parametrize("values", [{}, {"expire_after_days": 1, "capacity": 2}], ids=str)
def test_limits_in_range_are_no_mistakes(values):
    assert Admission(**values).mistakes("daily") == []


# Buckets of numbers.

def test_buckets_are_quantiles(schema_with, days):
    row_map = build_row_map(schema_with(age={"buckets": 4}), days, [None, None])
    # Of 1..8 the quarters end with 2, 4 and 6.
    assert row_map.boundaries_of(AGE).tolist() == [2, 4, 6]
    ages = np.float32([-9, 1, 1.9, 2, 3, 4, 5, 6, 8, 1e30, np.nan])
    first = row_map.bucket_rows[AGE]
    expected = [first, first, first, first + 1, first + 1, first + 2, first + 2, first + 3,
                first + 3, first + 3, row_map.oov_rows[AGE]]
    assert row_map.rows_of_numbers(AGE, ages).tolist() == expected


def test_boundaries_come_from_the_training_rows_alone(schema, days):
    row_map = build_row_map(schema, days, [np.array([1, 2, 3]), np.array([], np.int64)])
    # Of 2, 3, 4 the half ends with 3; the ages 5 to 8 of the second day are not looked at.
    assert row_map.boundaries_of(AGE).tolist() == [3]


@pytest.mark.parametrize(("ages", "boundaries"), [
    ([7, 7, 7, 7], []),
    ([1, 7, 7, 7], [7]),
    ([1, 1, 1, 7], []),
    ([None, None, None, None], []),
    ([None, 1, 2, None], []),
    ([None, 1, 1, 2], []),
    ([None, 1, 2, 2], [2]),
], ids=str)
def test_few_distinct_values_give_few_buckets(encoded_ages, schema, ages, boundaries):
    row_map = build_row_map(schema, [encoded_ages(ages)], [None])
    assert row_map.boundaries_of(AGE).tolist() == boundaries
    # Every bucket has a row, so that the first user's row follows.
    assert row_map.rows.min() == 4 + len(boundaries) + 1


@pytest.fixture
def encoded_ages(lake, write_day, sound_columns, schema, tmp_path):
    def encode(ages):
        write_day(columns=sound_columns(age=pa.array(ages, pa.float64())))
        return encode_days(lake, DAYS[:1], schema, tmp_path / "state")[0]

    return encode


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=60), st.integers(2, 8))
def test_every_bucket_has_a_training_value_and_keeps_their_order(ages, buckets):
    schema = schema_from_dict({"name": "s", "label": "click", "timestamp": "ts", "fields": [
        {"name": "age", "kind": "number", "buckets": buckets}]})
    with tempfile.TemporaryDirectory() as folder:
        day = encode_column(Path(folder), schema, "age", pa.array(ages, pa.float32()))
        row_map = build_row_map(schema, [day], [None])
        rows = row_map.rows_of_numbers(0, np.sort(np.float32(ages)))
    used = np.unique(rows)
    assert used.tolist() == list(range(2, row_map.num_rows))
    assert len(used) <= buckets
    assert (np.diff(rows) >= 0).all()


# There and back again.

def encode_column(folder, schema, name, values):
    """A day with one field."""
    day = folder / f"lake/dt={DAYS[0]}"
    day.mkdir(parents=True)
    rows = len(values)
    pq.write_table(pa.table({"click": pa.array([1] * rows), "ts": pa.array([1] * rows),
                             name: values}), day / "a.parquet")
    encode_day(Lake(folder / "lake"), DAYS[0], schema, folder / "encoded")
    return EncodedDay(folder / "encoded")


@settings(max_examples=30, deadline=None)
@given(st.lists(st.none() | st.text(max_size=4) | st.sampled_from(["a", "b", "c"]), min_size=1,
                max_size=40),
       st.integers(1, 3))
def test_a_column_through_the_map_and_back_is_the_same_or_oov(values, min_count):
    schema = schema_from_dict({"name": "s", "label": "click", "timestamp": "ts", "fields": [
        {"name": "city", "kind": "id", "min_count": min_count}]})
    with tempfile.TemporaryDirectory() as folder:
        day = encode_column(Path(folder), schema, "city", pa.array(values, pa.string()))
        row_map = build_row_map(schema, [day], [None])
        sign_of_row = dict(zip(row_map.rows.tolist(), row_map.signs.tolist(), strict=True))
        text_of_sign = dict(zip(day.array("signs").tolist(), day.values(), strict=True))
    rows = row_map.rows_of_signs(signs("city", [value or "" for value in values]), 1).tolist()
    back = [text_of_sign[sign_of_row[row]] if row in sign_of_row else "OOV" for row in rows]
    counts = Counter(values)
    assert back == [value if value and counts[value] >= min_count else "OOV" for value in values]
    assert all(row in sign_of_row or row == row_map.oov_rows[0] for row in rows)


def test_saving_and_loading_changes_nothing(schema_with, days, tmp_path):
    row_map = build_row_map(schema_with(age={"buckets": 4}), days, [None, None])
    row_map.save(tmp_path)
    loaded = load_row_map(tmp_path)
    assert loaded.num_rows == row_map.num_rows
    for name in ("signs", "rows", "fields", "last_seen", "oov_rows", "bucket_rows", "boundaries"):
        before, after = getattr(row_map, name), getattr(loaded, name)
        assert before.dtype == after.dtype
        np.testing.assert_array_equal(before, after)
    assert loaded.boundaries_of(AGE).tolist() == [2, 4, 6]


def test_without_any_admitted_value_there_is_still_a_row_for_everything(
    schema_with, days, tmp_path
):
    row_map = build_row_map(schema_with(user={"min_count": 99}, tags={"min_count": 99}),
                            days, [None, None])
    assert row_map.num_rows == 1 + 3 + 2
    assert rows_of(row_map, "user", ["ann", ""]) == [1, 1]
    row_map.save(tmp_path)
    assert rows_of(load_row_map(tmp_path), "tags", ["x"]) == [2]


def test_a_dropped_field_takes_its_ids_along(schema, days):
    row_map = build_row_map(schema.without({"user"}), days, [None, None])
    assert row_map.num_rows == 1 + 2 + 2 + 4
    assert not np.isin(signs("user", ["ann", "bob"]), row_map.signs).any()
    assert np.isin(signs("tags", ["x", "y"]), row_map.signs).all()
