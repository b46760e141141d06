import datetime
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from dualdnn.data.admission import Admission
from dualdnn.data.encoding import encode_days
from dualdnn.data.row_map import build_row_map, load_row_map, readings
from dualdnn.data.row_map_growth import grown
from dualdnn.data.row_match import adapted, matched_rows
from dualdnn.data.signs import signs_of
from dualdnn.errors import DataError
from dualdnn.schema import schema_from_dict

DAYS = [datetime.date(2024, 1, day) for day in (1, 2)]
USER = {"name": "user", "kind": "id"}
TAGS = {"name": "tags", "kind": "ids", "max_length": 2}
AGE = {"name": "age", "kind": "number", "buckets": 2}
CITY = {"name": "city", "kind": "hash", "buckets": 3}
PRICE = {"name": "price", "kind": "number", "direct": True}
TEXT = {"name": "text", "kind": "vector", "size": 2}
PAIR = {"name": "pair", "kind": "id", "cross": ["user", "shop"]}
SHOP = {"name": "shop", "kind": "id"}


def schema_of(*fields):
    return schema_from_dict({"name": "feed", "label": "click", "timestamp": "ts",
                             "fields": list(fields)})


@pytest.fixture
def encoded(lake, write_day, sound_columns, tmp_path):
    """Returns a function: two days with all columns; ages 1 to 4, then 11 to 14."""
    for number, users in enumerate((["ann", "bob", "ann", "cy"], ["dee", "bob", "ann", "eve"])):
        write_day(str(DAYS[number]), sound_columns(
            user=pa.array(users), shop=pa.array(["s", "t", "u", "v"]),
            age=pa.array([1.0, 2, 3, 4]) if number == 0 else pa.array([11.0, 12, 13, 14]),
            city=pa.array(["rome", "oslo", "bern", "rome"]), price=pa.array([1.0, 2, 3, 4]),
            text=pa.array([[1.0, 0]] * 4)))

    def encode(schema, *numbers):
        return encode_days(lake, [DAYS[number] for number in numbers], schema, tmp_path / "state")

    return encode


@pytest.fixture
def built(encoded):
    """Returns a function: the row map of a schema from these days."""

    def build(schema, *numbers):
        days = encoded(schema, *numbers)
        return build_row_map(schema, days, [None] * len(days))

    return build


def row_of(row_map, schema, name, value):
    """The row that a value owns, or None."""
    sign = signs_of(name, tf.constant([value])).numpy()
    row = int(row_map.rows_of_signs(sign, -1)[0])
    return None if row < 0 else row


def pairs(matches):
    """Each (old table, old row) with its (new table, new row)."""
    found = [((match.old_table, old), (match.new_table, new)) for match in matches
             for old, new in zip(match.old_rows.tolist(), match.new_rows.tolist(), strict=True)]
    assert len({new for _, new in found}) == len(found), "a new row is matched twice"
    return dict(found)


# Matches.

def test_signs_match_by_themselves_and_what_is_new_not_at_all(built):
    schema = schema_of(USER, AGE)
    old, new = built(schema, 0), built(schema, 0, 1)
    (match,) = matched_rows(old, schema, new, schema)
    assert (match.old_table, match.new_table) == ("main", "main")
    assert match.old_rows.dtype == match.new_rows.dtype == np.int32
    found = pairs([match])
    # Padding, two rows out of vocabulary; ages fall into other buckets now.
    users = ("ann", "bob", "cy")
    assert found == {("main", row): ("main", row) for row in range(3)} | {
        ("main", row_of(old, schema, "user", one)): ("main", row_of(new, schema, "user", one))
        for one in users}
    assert {row_of(new, schema, "user", one) for one in ("dee", "eve")}.isdisjoint(match.new_rows)


def test_a_row_map_matches_itself_row_by_row(built):
    schema = schema_of(USER, TAGS, AGE, CITY, PRICE, TEXT, {**SHOP, "size": 4})
    row_map = built(schema, 0)
    matches = matched_rows(row_map, schema, row_map, schema)
    for match in matches:
        assert match.old_rows.tolist() == match.new_rows.tolist() == list(
            range(row_map.table_rows[match.new_table]))
    assert [match.new_table for match in matches] == ["main", "size4"]


def test_buckets_match_where_the_boundaries_are_equal(built):
    schema = schema_of(USER, AGE)
    old = built(schema, 0)
    moved = replace(old, boundaries=old.boundaries + np.float32(1))
    buckets = {("main", 3), ("main", 4)}
    assert old.bucket_rows.tolist() == [-1, 3]
    assert buckets <= pairs(matched_rows(old, schema, old, schema)).keys()
    assert pairs(matched_rows(old, schema, moved, schema)).keys().isdisjoint(buckets)


@pytest.mark.parametrize(("field", "change", "rows"), [
    (CITY, {"buckets": 4}, 3), (AGE, {"scale": "log"}, 2), (PRICE, {"scale": "log"}, 1)],
    ids=["hash", "number", "direct"])
def test_what_is_read_otherwise_matches_in_its_row_out_of_vocabulary_alone(
    built, field, change, rows
):
    old_schema, new_schema = schema_of(USER, field), schema_of(USER, {**field, **change})
    old, new = built(old_schema, 0), built(new_schema, 0)
    same = pairs(matched_rows(old, old_schema, old, old_schema))
    other = pairs(matched_rows(old, old_schema, new, new_schema))
    assert same.keys() - other.keys() == {("main", 3 + row) for row in range(rows)}
    assert other["main", 2] == ("main", 2)


def test_a_direct_number_matches_whatever_its_histogram(built):
    schema = schema_of(USER, PRICE)
    old = built(schema, 0)
    moved = replace(old, boundaries=old.boundaries + np.float32(1))
    assert pairs(matched_rows(old, schema, moved, schema))["main", 3] == ("main", 3)


def test_fields_may_change_tables_come_and_go(built):
    old_schema = schema_of(USER, TAGS, SHOP)
    new_schema = schema_of(CITY, {**SHOP, "privileged": True}, USER)
    old, new = built(old_schema, 0), built(new_schema, 0)
    matches = matched_rows(old, old_schema, new, new_schema)
    assert [(match.old_table, match.new_table) for match in matches] == [
        ("main", "main"), ("main", "privileged")]
    found = {pair for match in matches for pair in pairs([match]).items()}

    def owned(field, *values):
        tables = ["main", new_schema.table_name(new_schema.field(field))]
        return {((tables[0], row_of(old, old_schema, field, value)),
                 (tables[1], row_of(new, new_schema, field, value))) for value in values}

    def oov(name):
        before, after = (schema.fields.index(schema.field(name))
                         for schema in (old_schema, new_schema))
        table = new_schema.table_name(new_schema.field(name))
        return ("main", int(old.oov_rows[before])), (table, int(new.oov_rows[after]))

    # The privileged table has no namesake: its padding is that of where its rows come from.
    assert found == owned("user", "ann", "bob", "cy") | owned("shop", "s", "t", "u", "v") | {
        oov("user"), oov("shop"), (("main", 0), ("main", 0)), (("main", 0), ("privileged", 0))}


def test_a_table_that_has_nothing_in_common_has_no_match(built):
    old_schema, new_schema = schema_of(USER), schema_of(USER, {**SHOP, "size": 4})
    matches = matched_rows(built(old_schema, 0), old_schema, built(new_schema, 0), new_schema)
    assert [match.new_table for match in matches] == ["main"]


def test_vectors_of_a_file_match_by_key(built, tmp_path):
    def schema(keys):
        path = tmp_path / f"{len(keys)}.npz"
        np.savez(path, key=np.array(keys), vector=np.ones((len(keys), 2), np.float32))
        return schema_of(USER, {"name": "face", "kind": "vector", "file": str(path), "key": "user"})

    one, other = schema(["ann", "bob"]), schema(["ann", "cy", "dee"])
    old, new = built(one, 0), built(other, 0)
    found = pairs(matched_rows(old, one, new, other))
    assert found["vectors_face", row_of(old, one, "face", "ann")] == (
        "vectors_face", row_of(new, other, "face", "ann"))
    assert ("vectors_face", row_of(old, one, "face", "bob")) not in found


CHANGES = {
    "kind": (USER, {**USER, "kind": "hash", "buckets": 3}),
    "namespace": (TAGS, {**TAGS, "table": "user"}),
    "cross": (PAIR, SHOP | {"name": "pair"}),
    "pii": (USER, {**USER, "pii": True}),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_field_that_comes_to_mean_something_else_is_refused(built, monkeypatch, what):
    monkeypatch.setenv("DUALDNN_PII_KEY", "0" * 64)
    was, now = CHANGES[what]
    old_schema = schema_of(*{one["name"]: one for one in (USER, SHOP, was)}.values())
    new_schema = schema_of(*{one["name"]: one for one in (USER, SHOP, now)}.values())
    row_map = built(schema_of(USER), 0)
    old = replace(row_map, made_for=readings(old_schema))
    new = replace(row_map, made_for=readings(new_schema))
    message = rf"^field `{was['name']}` must keep its {what} .* Give the field another name, or"
    with pytest.raises(DataError, match=message):
        matched_rows(old, old_schema, new, new_schema)
    with pytest.raises(DataError, match=message):
        adapted(old, old_schema, new_schema, [], [])


@pytest.mark.parametrize("swapped", [0, 1])
def test_a_row_map_of_another_schema_is_refused(built, swapped):
    schemas = [schema_of(USER), schema_of(SHOP)]
    maps = [built(schema, 0) for schema in schemas]
    maps[swapped] = maps[1 - swapped]
    with pytest.raises(DataError, match=r"^the row map was built for the field "):
        matched_rows(maps[0], schemas[0], maps[1], schemas[1])


# Row maps of changed schemas.

def test_an_unchanged_schema_keeps_its_row_map(built):
    schema = schema_of(USER, AGE)
    row_map = built(schema, 0)
    assert adapted(row_map, schema, schema, [], []) is row_map
    assert adapted(row_map, schema, schema_of({**USER, "min_count": 2}, AGE), [], []) is row_map


def test_a_changed_schema_keeps_what_is_known_and_builds_what_is_new(encoded, built):
    old_schema = schema_of(USER, AGE, PRICE, TAGS)
    new_schema = schema_of(SHOP, PRICE, USER, AGE, CITY)
    old = built(old_schema, 0)
    new = adapted(old, old_schema, new_schema, encoded(new_schema, 1), [None])
    # Known from the first day, of the second nothing is admitted: that is for `grown`.
    assert [row_of(new, new_schema, "user", one) is not None
            for one in ("ann", "bob", "cy", "dee", "eve")] == [True] * 3 + [False] * 2
    assert new.last_seen[new.fields == 2].tolist() == [old.last_seen[0]] * 3
    assert new.boundaries_of(3).tolist() == old.boundaries_of(1).tolist() == [2]
    assert (new.shifts[1], new.factors[1]) == (old.shifts[2], old.factors[2])
    assert row_of(new, new_schema, "tags", "x") is None
    # The new field has its ids of the second day. No row is left over.
    assert (new.fields == 0).sum() == 4
    assert set(new.last_seen[new.fields == 0]) == {old.last_seen[0] + 1}
    assert new.table_rows == {"main": 1 + 5 + (1 + 2 + 3) + 4 + 3}
    assert sorted(new.rows) == list(range(12, 19))


def test_a_number_that_is_read_otherwise_is_built_anew(encoded, built):
    old_schema, new_schema = schema_of(USER, AGE), schema_of(USER, {**AGE, "buckets": 4})
    new = adapted(built(old_schema, 0), old_schema, new_schema, encoded(new_schema, 1), [None])
    # Of the ages of the second day, 11 to 14; below the smallest of them is no bucket.
    assert new.boundaries_of(1).tolist() == [12, 13]


def test_ids_stay_known_where_their_rows_move_to_another_table(encoded, built):
    old_schema, new_schema = schema_of(USER, SHOP), schema_of({**USER, "size": 4}, SHOP)
    new = adapted(built(old_schema, 0), old_schema, new_schema, encoded(new_schema, 1), [None])
    assert new.table_rows == {"size4": 2 + 3, "main": 2 + 4}
    assert row_of(new, new_schema, "user", "cy") is not None


def test_rows_that_were_free_are_gone(encoded, built):
    old_schema, new_schema = schema_of(USER), schema_of(USER, SHOP)
    day = encoded(old_schema, 1)
    emptied = grown(built(old_schema, 0), old_schema, day, [np.array([], np.int64)],
                    Admission(expire_after_days=1)).row_map
    assert len(emptied.signs) == 3
    emptied = replace(emptied, signs=emptied.signs[:1], rows=emptied.rows[:1],
                      fields=emptied.fields[:1], last_seen=emptied.last_seen[:1])
    new = adapted(emptied, old_schema, new_schema, encoded(new_schema, 1), [None])
    assert new.num_rows == 3 + 1 + 4


def test_vectors_of_a_file_stay_in_place(encoded, built, tmp_path):
    path = tmp_path / "faces.npz"
    np.savez(path, key=np.array(["ann", "bob"]), vector=np.float32([[1, 2], [3, 4]]))
    face = {"name": "face", "kind": "vector", "file": str(path), "key": "user"}
    old_schema, new_schema = schema_of(USER, face), schema_of(SHOP, USER, face)
    old = built(old_schema, 0)
    path.unlink()
    new = adapted(old, old_schema, new_schema, encoded(new_schema, 1), [None])
    np.testing.assert_array_equal(new.vectors["vectors_face"], old.vectors["vectors_face"])
    ann = row_of(new, new_schema, "face", "ann")
    assert new.vectors["vectors_face"][ann].tolist() == [1, 2]


def test_new_ids_share_what_known_ones_leave_of_the_capacity(encoded, built):
    old_schema, new_schema = schema_of(USER), schema_of(USER, SHOP)
    old = built(old_schema, 0)
    days = encoded(new_schema, 1)

    def ids(capacity):
        row_map = adapted(old, old_schema, new_schema, days, [None], Admission(capacity=capacity))
        assert row_map.num_rows <= capacity
        return np.bincount(row_map.fields, minlength=2).tolist()

    assert [ids(capacity) for capacity in (6, 8, 10, 99)] == [[3, 0], [3, 2], [3, 4], [3, 4]]
    with pytest.raises(DataError, match=r"^the capacity must hold the 3 ids of `main` that are "
                       r"known and its 3 other rows, got 5\. Set capacity to at least 6, or"):
        ids(5)


def test_an_adapted_row_map_matches_in_everything_that_stayed_and_can_grow(
    encoded, built, tmp_path
):
    old_schema, new_schema = schema_of(USER, AGE, TAGS), schema_of(TAGS, CITY, USER, AGE)
    old = built(old_schema, 0)
    day = encoded(new_schema, 1)
    new = adapted(old, old_schema, new_schema, day, [None])
    (match,) = matched_rows(old, old_schema, new, new_schema)
    assert match.old_rows.size == old.num_rows
    # Of the new rows only those of the city have no match: one out of vocabulary, three buckets.
    assert set(range(new.num_rows)) - set(match.new_rows.tolist()) == {
        int(new.oov_rows[1]), *(int(new.bucket_rows[1]) + row for row in range(3))}
    new.save(tmp_path)
    growth = grown(load_row_map(tmp_path), new_schema, day, [None])
    assert growth.admitted == 2
    assert growth.fresh_rows["main"].tolist() == [new.num_rows, new.num_rows + 1]
