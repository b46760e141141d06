"""A row map from day to day: ids come and go, the others stay where they are."""

import dualdnn  # noqa: F401, I001  (first: it selects the Keras API)

import tempfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from dualdnn.data.admission import Admission
from dualdnn.data.encoding import encode_days
from dualdnn.data.pseudonyms import KEY_VARIABLE
from dualdnn.data.row_map import build_row_map, load_row_map
from dualdnn.data.row_map_growth import grown
from dualdnn.data.translation import translate_day
from dualdnn.errors import DataError
from dualdnn.export.serving_graph import ServingGraph, raw_features
from dualdnn.schema import schema_from_dict
from tests.data.days_of_signs import day_of, owners, seen_on
from tests.rich_feed import KEY, rich_schema, write_rich_lake

ARRAYS = ("signs", "rows", "fields", "last_seen", "oov_rows", "bucket_rows", "boundaries",
          "shifts", "factors")
FOREVER = Admission()


def schema_of(*fields):
    return schema_from_dict({"name": "log", "label": "click", "timestamp": "ts",
                             "fields": list(fields)})


# Rows 0 to 2 are padding, unknown users and unknown items: the first id has row 3.
TWO = schema_of({"name": "user", "kind": "id"}, {"name": "item", "kind": "id"})
# Row 0 is padding, row 1 unknown users.
ONE = schema_of({"name": "user", "kind": "id"})


@pytest.fixture
def users(tmp_path):
    """Returns a function: a day of these users, one a row."""
    return lambda number, *signs: day_of(tmp_path, number, user=list(signs))


def first_map(*days, schema=ONE, admission=FOREVER):
    return build_row_map(schema, days, [None] * len(days), admission)


def grow(row_map, *days, schema=ONE, parts=None, **limits):
    return grown(row_map, schema, days, parts or [None] * len(days), Admission(**limits))


# Rows.

def test_known_ids_keep_their_rows_and_new_ones_come_after(tmp_path):
    first = day_of(tmp_path, 1, user=[12, 11], item=[51, 52])
    second = day_of(tmp_path, 2, user=[10, 12], item=[52, 50])
    row_map = first_map(first, schema=TWO)
    assert owners(row_map) == {11: 3, 12: 4, 51: 5, 52: 6}
    growth = grow(row_map, second, schema=TWO)
    assert owners(growth.row_map) == {10: 7, 11: 3, 12: 4, 50: 8, 51: 5, 52: 6}
    assert growth.row_map.table_rows == {"main": 9}
    assert growth.row_map.fields.tolist() == [0, 0, 0, 1, 1, 1]
    assert growth.fresh_rows["main"].tolist() == [7, 8]
    assert growth.fresh_rows["main"].dtype == np.int32
    assert (growth.expired, growth.admitted, growth.refused) == (0, 2, 0)


def test_rows_of_the_expired_are_given_away_before_the_table_gets_longer(users):
    row_map = first_map(users(1, 11, 12, 13, 14))
    # 11 and 13 leave the rows 2 and 4; 21 occurs most often and takes the lower one.
    growth = grow(row_map, users(3, 12, 14, 20, 22, 21, 21, 22, 21), expire_after_days=1)
    assert owners(growth.row_map) == {12: 3, 14: 5, 21: 2, 22: 4, 20: 6}
    assert growth.fresh_rows["main"].tolist() == [2, 4, 6]
    assert (growth.expired, growth.admitted, growth.refused) == (2, 3, 0)


def test_a_table_never_gets_shorter(users):
    row_map = first_map(users(1, 11, 12, 13))
    growth = grow(row_map, users(9, 13), expire_after_days=1)
    assert owners(growth.row_map) == {13: 4}
    assert growth.row_map.table_rows == row_map.table_rows == {"main": 5}
    # What is free now is not new: nobody reads these rows.
    assert growth.fresh_rows["main"].tolist() == []


def test_tables_grow_by_themselves(tmp_path):
    schema = schema_of({"name": "user", "kind": "id"}, {"name": "city", "kind": "id", "size": 2})
    row_map = first_map(day_of(tmp_path, 1, user=[11, 12], city=[71, 71]), schema=schema)
    growth = grow(row_map, day_of(tmp_path, 2, user=[12, 12], city=[72, 73]), schema=schema)
    assert owners(growth.row_map) == {11: 2, 12: 3, 71: 2, 72: 3, 73: 4}
    assert growth.row_map.table_rows == {"main": 4, "size2": 5}
    assert {name: rows.tolist() for name, rows in growth.fresh_rows.items()} == {
        "main": [], "size2": [3, 4]}


def test_the_previous_map_is_left_as_it_was(users, tmp_path):
    row_map = first_map(users(1, 11, 12))
    row_map.save(tmp_path)
    grow(row_map, users(5, 12, 13, 14), expire_after_days=2)
    before = load_row_map(tmp_path)
    assert row_map.table_rows == before.table_rows
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(row_map, name), getattr(before, name))


def test_the_first_ids_of_all_find_their_rows(users):
    growth = grow(first_map(users(1, None, None)), users(2, 12, 11, None))
    assert owners(growth.row_map) == {11: 2, 12: 3}


# Expiry.

@pytest.mark.parametrize(("newest", "left"), [(3, [11]), (4, [])])
def test_an_id_may_be_unseen_for_so_many_days_and_no_more(users, newest, left):
    growth = grow(first_map(users(1, 11)), users(newest, None), expire_after_days=2)
    assert growth.row_map.signs.tolist() == left
    assert growth.expired == 1 - len(left)


def test_being_seen_postpones_the_end(users):
    row_map = grow(first_map(users(1, 11, 12)), users(3, 11), expire_after_days=2).row_map
    assert seen_on(row_map) == {11: 3, 12: 1}
    row_map = grow(row_map, users(5, None), expire_after_days=2).row_map
    assert seen_on(row_map) == {11: 3}


def test_one_occurrence_keeps_an_id_that_needed_many(users):
    schema = schema_of({"name": "user", "kind": "id", "min_count": 3})
    row_map = first_map(users(1, 11, 11, 11, 12), schema=schema)
    growth = grow(row_map, users(9, 11, 12), schema=schema, expire_after_days=1)
    assert seen_on(growth.row_map) == {11: 9}


def test_days_that_are_read_again_make_nothing_older(users):
    row_map = first_map(users(1, 11), users(5, 12))
    growth = grow(row_map, users(2, 11, 12), expire_after_days=1)
    assert seen_on(growth.row_map) == {11: 2, 12: 5}


def test_an_id_that_comes_back_is_a_newcomer(users):
    row_map = grow(first_map(users(1, 11, 12)), users(5, 12), expire_after_days=1).row_map
    growth = grow(row_map, users(6, 12, 11), expire_after_days=1)
    assert owners(growth.row_map) == {11: 2, 12: 3}
    assert growth.fresh_rows["main"].tolist() == [2]
    assert growth.admitted == 1


def test_what_would_leave_at_once_is_not_admitted(users):
    growth = grow(first_map(users(1, 11)), users(2, 20), users(8, 21), expire_after_days=3)
    assert growth.row_map.signs.tolist() == [21]
    assert (growth.expired, growth.admitted, growth.refused) == (1, 1, 0)


def test_a_day_without_training_rows_is_no_day_that_passes(users):
    row_map = first_map(users(1, 11))
    days, parts = [users(2, 12), users(9, 13)], [None, np.zeros(0, np.int64)]
    growth = grow(row_map, *days, parts=parts, expire_after_days=1)
    assert seen_on(growth.row_map) == {11: 1, 12: 2}
    nothing = grow(row_map, days[1], parts=parts[1:], expire_after_days=1)
    assert seen_on(nothing.row_map) == {11: 1}


# Counts.

def test_a_newcomer_needs_min_count_in_the_given_rows_alone(users):
    schema = schema_of({"name": "user", "kind": "id", "min_count": 2})
    row_map = first_map(users(1, 11, 11, 12), schema=schema)
    days = users(2, 12, 13, 13), users(3, 14, 14, 15)
    # 12 occurred once before and once now; of the second day the last two rows are left out.
    growth = grow(row_map, *days, schema=schema, parts=[None, np.array([0])])
    assert sorted(owners(growth.row_map)) == [11, 13]
    whole_window = grow(row_map, users(1, 11, 11, 12), *days, schema=schema)
    assert sorted(owners(whole_window.row_map)) == [11, 12, 13, 14]


def test_fields_that_share_rows_are_counted_together(tmp_path):
    schema = schema_of({"name": "item", "kind": "id", "min_count": 3},
                       {"name": "seen", "kind": "sequence", "of": "item", "max_length": 2})
    row_map = first_map(day_of(tmp_path, 1, item=[11] * 3, seen=[[], [], []]), schema=schema)
    growth = grow(row_map, day_of(tmp_path, 4, item=[12, 13, None],
                                  seen=[[12, 13], [11, 12], [14]]),
                  schema=schema, expire_after_days=2)
    # 11 was seen in the sequence alone; 12 occurs three times in all, 13 twice.
    assert seen_on(growth.row_map) == {11: 4, 12: 4}
    assert growth.row_map.fields.tolist() == [0, 0]


def test_the_order_of_the_days_does_not_matter(users):
    row_map = first_map(users(1, 11, 12))
    days = [users(2, 13, 14), users(3, 15, 14), users(4, 13, 16)]
    one, other = (grow(row_map, *order, expire_after_days=2, capacity=4)
                  for order in (days, days[::-1]))
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(one.row_map, name), getattr(other.row_map, name))
    assert one.refused == other.refused == 2


# Capacity.

def test_a_full_table_admits_nothing_until_rows_expire(users):
    row_map = first_map(users(1, 11, 12))
    full = grow(row_map, users(2, 12, 13, 13, 13), capacity=4, expire_after_days=2)
    assert owners(full.row_map) == {11: 2, 12: 3}
    assert (full.expired, full.admitted, full.refused) == (0, 0, 1)
    later = grow(full.row_map, users(4, 13, 13, 14), capacity=4, expire_after_days=2)
    assert owners(later.row_map) == {12: 3, 13: 2}
    assert (later.expired, later.admitted, later.refused) == (1, 1, 1)


def test_the_most_frequent_newcomers_come_in(users):
    growth = grow(first_map(users(1, 11)), users(2, 12, 13, 13, 14, 14, 14, 15), capacity=5)
    assert owners(growth.row_map) == {11: 2, 14: 3, 13: 4}
    assert (growth.admitted, growth.refused) == (2, 2)


def test_of_equals_the_later_seen_and_then_the_smaller_comes_in(users):
    row_map = first_map(users(1, 11))
    days = users(2, 12, 13, 14), users(3, 14, 13, 15, 15)
    # 13, 14 and 15 occur twice and were seen on the third day; 12 but once.
    assert sorted(owners(grow(row_map, *days, capacity=4).row_map)) == [11, 13]
    days = users(2, 12, 12, 13), users(3, 13)
    assert sorted(owners(grow(row_map, *days, capacity=4).row_map)) == [11, 13]


def test_fields_of_a_table_share_its_capacity_by_count(tmp_path):
    row_map = first_map(day_of(tmp_path, 1, user=[11], item=[51]), schema=TWO)
    day = day_of(tmp_path, 2, user=[12, 12, 12, 13, 13, None], item=[52, 52, 52, 52, 53, 54])
    growth = grow(row_map, day, schema=TWO, capacity=3 + 2 + 3)
    assert owners(growth.row_map) == {11: 3, 51: 4, 52: 5, 12: 6, 13: 7}
    assert growth.refused == 2


def test_every_table_has_the_capacity_for_itself(tmp_path):
    schema = schema_of({"name": "user", "kind": "id"}, {"name": "city", "kind": "id", "size": 2})
    row_map = first_map(day_of(tmp_path, 1, user=[11, 12], city=[71, 71]), schema=schema)
    day = day_of(tmp_path, 2, user=[13, 14], city=[72, 73])
    growth = grow(row_map, day, schema=schema, capacity=4)
    assert owners(growth.row_map) == {11: 2, 12: 3, 71: 2, 72: 3}
    assert growth.refused == 3


def test_a_table_beyond_a_lowered_capacity_stays_whole_but_does_not_grow(users):
    row_map = first_map(users(1, 11, 12, 13))
    growth = grow(row_map, users(2, 11, 14), capacity=3)
    assert owners(growth.row_map) == owners(row_map)
    assert growth.row_map.table_rows == {"main": 5}
    assert growth.refused == 1


def test_a_capacity_below_the_rows_that_every_table_needs_is_refused(tmp_path):
    schema = schema_of({"name": "user", "kind": "id"}, {"name": "hour", "kind": "hash",
                                                        "buckets": 7})
    day = day_of(tmp_path, 1, user=[11], hour=[80])
    row_map = first_map(day, schema=schema)
    message = (r"`main` has 10 of them, but the capacity is 9\. Set capacity to more than 10, or "
               r"use fewer buckets")
    with pytest.raises(DataError, match=message):
        grow(row_map, day, schema=schema, capacity=9)
    assert grow(row_map, day, schema=schema, capacity=10).admitted == 0


# What stays.

def test_numbers_are_read_as_the_weights_were_learned(tmp_path):
    schema = schema_of({"name": "user", "kind": "id"},
                       {"name": "age", "kind": "number", "buckets": 4},
                       {"name": "price", "kind": "number", "direct": True},
                       {"name": "cover", "kind": "vector", "size": 2})

    def day(number, user, numbers):
        values = np.float32(numbers)
        return day_of(tmp_path, number, user=user, age=values, price=values,
                      cover=np.stack([values, values], axis=1))

    row_map = first_map(day(1, [11, 12, 13, 14], [1, 2, 3, 4]), schema=schema)
    other = day(2, [15, 16, 17, 18], [100, 200, 300, 400])
    growth = grow(row_map, other, schema=schema, expire_after_days=1)
    for name in ("oov_rows", "bucket_rows", "boundaries", "shifts", "factors"):
        np.testing.assert_array_equal(getattr(growth.row_map, name), getattr(row_map, name))
    assert growth.admitted == 4
    # The new day by itself would be read otherwise.
    anew = first_map(other, schema=schema)
    assert (anew.boundaries != row_map.boundaries).any()
    assert (anew.factors != row_map.factors).any()


def test_pretrained_vectors_stay_whole_whatever_the_limits(tmp_path):
    np.savez(tmp_path / "v.npz", key=np.array(["a", "b", "c"]), vector=np.ones((3, 2)))
    schema = schema_of({"name": "item", "kind": "id"},
                       {"name": "text", "kind": "vector", "key": "item",
                        "file": str(tmp_path / "v.npz")})
    first = day_of(tmp_path, 1, item=[51, 52], text=[None, None])
    row_map = first_map(first, schema=schema, admission=Admission(capacity=3))
    assert row_map.table_rows == {"main": 3, "vectors_text": 2 + 3}
    # The file need not be there any more.
    (tmp_path / "v.npz").unlink()
    later = day_of(tmp_path, 90, item=[53, 54], text=[None, None])
    growth = grow(row_map, later, schema=schema, capacity=3, expire_after_days=1)
    assert growth.row_map.table_rows == row_map.table_rows
    np.testing.assert_array_equal(growth.row_map.vectors["vectors_text"],
                                  row_map.vectors["vectors_text"])
    of_file = row_map.fields == 1
    for sign, row in zip(row_map.signs[of_file], row_map.rows[of_file], strict=True):
        assert growth.row_map.rows[growth.row_map.signs == sign].tolist() == [row]
    assert growth.fresh_rows["vectors_text"].tolist() == []
    assert (growth.expired, growth.admitted, growth.refused) == (1, 1, 1)


def test_a_map_of_another_schema_is_refused(tmp_path):
    day = day_of(tmp_path, 1, user=[11], item=[51])
    with pytest.raises(DataError, match=r"^the row map was built for 1 fields, but this window "
                       r"and schema leave 2: user, item\. Use the schema and the kind of"):
        grow(first_map(day), day, schema=TWO)
    renamed = schema_of({"name": "item", "kind": "id"})
    with pytest.raises(DataError, match=r"^the row map was built for the field .*user.*, but this "
                       r"schema has .*item.* in its place\. Use the schema"):
        grow(first_map(day), day, schema=renamed)


def test_min_count_may_change_from_day_to_day(users):
    stricter = schema_of({"name": "user", "kind": "id", "min_count": 2})
    growth = grow(first_map(users(1, 11)), users(2, 12, 13, 13), schema=stricter)
    assert owners(growth.row_map) == {11: 2, 13: 3}


# Through a file and into the graph.

def test_a_grown_map_grows_on_after_saving_and_loading(users, tmp_path):
    growth = grow(first_map(users(1, 11, 12, 13)), users(3, 12, 14), expire_after_days=1)
    growth.row_map.save(tmp_path)
    loaded = load_row_map(tmp_path)
    one, other = (grow(row_map, users(4, 15, 16, 12), expire_after_days=1, capacity=6)
                  for row_map in (growth.row_map, loaded))
    assert one.row_map.table_rows == other.row_map.table_rows
    for name in ARRAYS:
        before, after = getattr(one.row_map, name), getattr(other.row_map, name)
        assert before.dtype == after.dtype == getattr(loaded, name).dtype
        np.testing.assert_array_equal(before, after)


def test_the_graph_looks_up_the_rows_of_a_grown_map(tmp_path, monkeypatch):
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    lake, schema = write_rich_lake(tmp_path), rich_schema(tmp_path)
    days = encode_days(lake, lake.days(), schema, tmp_path / "state")
    # A pair of user and hour seldom comes again on the next day, and so rows change hands.
    growth = grow(first_map(days[0], schema=schema), days[2], schema=schema, expire_after_days=1)
    assert growth.expired > 0
    assert growth.admitted > 0
    assert growth.fresh_rows["main"].min() < growth.row_map.rows.max()
    row_map = growth.row_map
    graph = ServingGraph(schema=schema, row_map=row_map, variables=[], score=lambda rows, _: rows)
    np.testing.assert_array_equal(graph.row_of_sign.lookup(row_map.signs), row_map.rows)
    np.testing.assert_array_equal(row_map.rows_of_signs(row_map.signs, -1), row_map.rows)

    key = KEY.encode()
    for day in days:
        rows = np.zeros((day.rows, schema.width), np.int32)
        translate_day(day, schema, row_map, rows,
                      np.zeros((day.rows, schema.dense_width), np.float32))
        given = {name: tf.constant(value, tf.string if value.dtype == object else tf.float32)
                 for name, value in raw_features(schema, lake.read(day.day, schema), key).items()}
        np.testing.assert_array_equal(graph.rows_of(given), rows)


# Any log.

NEWEST, ROWS = 8, 12
LOG = schema_of({"name": "user", "kind": "id"}, {"name": "hour", "kind": "hash", "buckets": 2},
                {"name": "item", "kind": "id", "min_count": 2},
                {"name": "seen", "kind": "sequence", "of": "item", "max_length": 2},
                {"name": "city", "kind": "id", "size": 2})
FIXED = {"main": {0, 1, 2, 3, 4, 5, 6}, "size2": {0, 1}}
TABLE_OF_FIELD = ["main", "main", "main", "main", "size2"]


@st.composite
def logs(draw):
    """The columns of a few days, some of which may be left out."""
    def sign(first):
        return st.none() | st.integers(first, first + 8)

    numbers = sorted(draw(st.sets(st.integers(1, NEWEST), min_size=2, max_size=5)))
    rows = st.tuples(sign(10), sign(30), sign(50), st.lists(st.integers(50, 58), max_size=2),
                     sign(70))
    days = []
    for number in numbers:
        table = draw(st.lists(rows, min_size=1, max_size=ROWS))
        user, hour, item, seen, city = map(list, zip(*table, strict=True))
        days.append((number, {"user": user, "hour": hour, "item": item, "seen": seen,
                              "city": city}))
    return days


@settings(max_examples=40, deadline=None)
@given(logs(), st.none() | st.integers(1, 4), st.none() | st.integers(7, 24))
def test_what_holds_for_every_log(log, expire_after_days, capacity):
    admission = Admission(expire_after_days=expire_after_days, capacity=capacity)
    with tempfile.TemporaryDirectory() as folder:
        days = [day_of(Path(folder), number, **columns) for number, columns in log]
        row_map = build_row_map(LOG, days[:1], [None], admission)
        for (number, columns), day in zip(log[1:], days[1:], strict=True):
            growth = grown(row_map, LOG, [day], [None], admission)
            check_growth(row_map, growth, admission, number, columns)
            row_map = growth.row_map


def rows_by_table(row_map):
    """Of every table, sign by row; a row with two owners is found here."""
    found = {name: {} for name in row_map.table_rows}
    for sign, row, field in zip(row_map.signs.tolist(), row_map.rows.tolist(),
                                row_map.fields.tolist(), strict=True):
        table = found[TABLE_OF_FIELD[field]]
        assert row not in table, "two signs share a row"
        table[row] = sign
    return found


def check_growth(old, growth, admission, number, columns):
    new = growth.row_map
    assert (np.diff(new.signs) > 0).all()
    before, after = owners(old), owners(new)
    assert all(after[sign] == before[sign] for sign in before.keys() & after.keys())

    was, now = rows_by_table(old), rows_by_table(new)
    full = {}
    for table, owned in now.items():
        assert not owned.keys() & FIXED[table]
        assert max(owned, default=0) < new.table_rows[table]
        assert new.table_rows[table] >= old.table_rows[table]
        assert growth.fresh_rows[table].tolist() == sorted(
            row for row, sign in owned.items() if was[table].get(row) != sign)
        used = len(owned) + len(FIXED[table])
        if admission.capacity is not None:
            assert new.table_rows[table] <= admission.capacity
        full[table] = used == admission.capacity
        # Nothing is appended where a row was free.
        if new.table_rows[table] > old.table_rows[table]:
            assert used == new.table_rows[table]

    assert growth.expired == len(before.keys() - after.keys())
    assert growth.admitted == len(after.keys() - before.keys())
    assert bool(growth.refused) <= any(full.values())

    user, item, city = (columns[name] for name in ("user", "item", "city"))
    shared = [sign for one in columns["seen"] for sign in one if sign] + item
    today = {sign for sign in user + shared + city if sign}
    seen = seen_on(new)
    assert all(seen[sign] == number for sign in today & seen.keys())
    if admission.expire_after_days is not None:
        assert min(seen.values(), default=number) >= number - admission.expire_after_days
    else:
        assert growth.expired == 0
    # Whoever occurs often enough has a row, or stands before a full table.
    often = today - {sign for sign in shared if sign and shared.count(sign) < 2}
    outside = often - after.keys()
    assert len(outside) == growth.refused
    assert all(full["size2" if sign >= 70 else "main"] for sign in outside)


def test_memory_stays_constant_where_ids_come_and_go(tmp_path):
    # Of 400 ids 5% are replaced every day, and everyone left is seen. An id lives 20 days, then
    # its row waits 10 more: 400 ids + 10 days of 20 are in use, whatever the day.
    alive, daily, days, wait = 400, 20, 200, 10
    row_map, used, lengths, fresh = None, [], [], 0
    for number in range(1, days + 1):
        newest = alive + daily * number
        day = day_of(tmp_path, number, user=list(range(newest - alive + 1, newest + 1)))
        if row_map is None:
            row_map = first_map(day)
        else:
            growth = grow(row_map, day, expire_after_days=wait)
            row_map, fresh = growth.row_map, fresh + len(growth.fresh_rows["main"])
        used.append(len(row_map.signs))
        lengths.append(row_map.table_rows["main"])
    assert used[wait:] == [alive + daily * wait] * (days - wait)
    # The row that is given away today served until yesterday.
    assert lengths[wait:] == [2 + alive + daily * wait] * (days - wait)
    assert fresh == daily * (days - 1)
    assert len(set(row_map.rows.tolist())) == len(row_map.rows)
