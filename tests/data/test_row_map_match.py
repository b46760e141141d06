"""Rows of two row maps that mean the same thing, across changes of the schema."""

import dualdnn  # noqa: F401, I001  (first: it selects the Keras API)

import numpy as np
import pytest

from dualdnn.data.admission import Admission
from dualdnn.data.row_map import bucket_count, build_row_map, readings
from dualdnn.data.row_map_growth import grown
from dualdnn.data.row_match import matched_rows
from dualdnn.errors import DataError
from dualdnn.schema import schema_from_dict
from tests.data.days_of_signs import day_of

FIELDS = {
    "user": {"kind": "id"},
    "item": {"kind": "id"},
    "seen": {"kind": "sequence", "of": "item", "max_length": 2},
    "city": {"kind": "id", "size": 2},
    "hour": {"kind": "hash", "buckets": 3},
    "age": {"kind": "number", "buckets": 2},
    "price": {"kind": "number", "direct": True},
    "cover": {"kind": "vector", "size": 2},
}
COLUMNS = {"user": [11, 12, 13, 11], "item": [51, 52, 53, 51], "seen": [[52], [54, 51], [], [53]],
           "city": [71, 72, 71, 72], "hour": [81, 82, 83, 84], "age": np.float32([1, 2, 3, 4]),
           "price": np.float32([5, 6, 7, 8]), "cover": np.ones((4, 2), np.float32),
           "added": [91, 92, 93, 91]}


def schema_of(**changes):
    """The schema of `FIELDS`: a field changed or added, or left out where it is None."""
    fields = []
    for name, field in {**FIELDS, **changes}.items():
        if field is not None:
            changed = {"name": name, **FIELDS.get(name, {}), **field}
            fields.append({key: value for key, value in changed.items() if value is not None})
    return schema_from_dict({"name": "log", "label": "click", "timestamp": "ts",
                             "fields": fields})


@pytest.fixture
def map_of(tmp_path):
    """Returns a function: the map of one day, some columns of which are replaced."""

    def make(schema, **columns):
        return build_row_map(schema, [day_of(tmp_path, 1, **{**COLUMNS, **columns})], [None])

    return make


def meanings(row_map, schema):
    """What every row of every table means, written down one by one."""
    found = {}
    for table in schema.tables():
        found[table, 0] = "padding"
    for position, (field, reading) in enumerate(zip(schema.fields, readings(schema), strict=True)):
        table, bounds = schema.table_name(field), row_map.boundaries_of(position)
        found[table, int(row_map.oov_rows[position])] = f"unknown {field.name}"
        bounds_told = [] if field.direct else bounds.tolist()
        for bucket in range(bucket_count(field, bounds)):
            found[table, int(row_map.bucket_rows[position]) + bucket] = (
                f"bucket {bucket} of {reading} at {bounds_told}")
    for sign, row, position in zip(row_map.signs, row_map.rows, row_map.fields, strict=True):
        found[schema.table_name(schema.fields[position]), int(row)] = f"id {sign}"
    assert len(found) == row_map.num_rows
    return found


def pairs_of(matches):
    """Pairs of (old table, old row) and (new table, new row)."""
    return [((one.old_table, old), (one.new_table, new)) for one in matches
            for old, new in zip(one.old_rows.tolist(), one.new_rows.tolist(), strict=True)]


CHANGES = {
    "nothing": {},
    "a field more": {"added": {"kind": "id"}},
    "a field less": {"hour": None},
    "the owner of a sequence less": {"item": None, "seen": None},
    "another size": {"user": {"size": 2}},
    "a table that leaves": {"city": {"size": None}},
    "a privileged field": {"user": {"privileged": True}},
    "privileged numbers": {"age": {"privileged": True}},
    "other buckets of a number": {"age": {"buckets": 4}},
    "another scale": {"age": {"scale": "log"}},
    "a number now direct": {"age": {"direct": True, "buckets": None}},
    "a direct number now in buckets": {"price": {"direct": False}},
    "other buckets of a hash": {"hour": {"buckets": 5}},
    "longer vectors": {"cover": {"size": 3}},
    "a longer sequence": {"seen": {"max_length": 7}},
    "several at once": {"user": None, "added": {"kind": "id"}, "item": {"size": 2},
                        "hour": {"buckets": 9}},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_rows_match_where_they_mean_the_same_and_nowhere_else(map_of, change):
    old_schema, new_schema = schema_of(), schema_of(**change)
    old = map_of(old_schema)
    cover = np.ones((4, 3 if change.get("cover") else 2), np.float32)
    new = map_of(new_schema, user=[12, 14, 10, 12], seen=[[56], [54, 51], [55], [53]], cover=cover)
    was, now = meanings(old, old_schema), meanings(new, new_schema)
    found = pairs_of(matched_rows(old, old_schema, new, new_schema))
    at = {meaning: place for place, meaning in was.items() if meaning != "padding"}
    expected = {(at[meaning], place) for place, meaning in now.items() if meaning in at}
    assert {pair for pair in found if pair[1][1] != 0} == expected
    padded = [pair for pair in found if pair[1][1] == 0]
    assert all(old_row == 0 for (_, old_row), _ in padded)
    assert sorted(table for _, (table, _) in padded) == sorted(
        {table for _, (table, _) in found})
    # Whoever copies by these pairs writes every row once.
    assert len({place for _, place in found}) == len(found)


def test_a_map_matches_itself_row_by_row(map_of):
    schema = schema_of()
    row_map = map_of(schema)
    matches = matched_rows(row_map, schema, row_map, schema)
    assert [(one.old_table, one.new_table) for one in matches] == [("main", "main"),
                                                                   ("size2", "size2")]
    for one in matches:
        every = list(range(row_map.table_rows[one.new_table]))
        assert one.old_rows.tolist() == one.new_rows.tolist() == every
        assert one.old_rows.dtype == one.new_rows.dtype == np.int32


def test_rows_by_hand(map_of):
    old_schema = schema_from_dict({"name": "log", "label": "click", "timestamp": "ts", "fields": [
        {"name": "user", "kind": "id"}, {"name": "hour", "kind": "hash", "buckets": 2}]})
    new_schema = schema_from_dict({"name": "log", "label": "click", "timestamp": "ts", "fields": [
        {"name": "item", "kind": "id"}, {"name": "hour", "kind": "hash", "buckets": 2},
        {"name": "user", "kind": "id"}]})
    # Old: padding, unknown user and hour, hours 3 and 4, users 11, 12, 13 in 5, 6, 7.
    # New: padding, unknown item, hour and user, hours 4 and 5, item 51 in 6, users 12, 14 in 7, 8.
    [match] = matched_rows(map_of(old_schema), old_schema,
                           map_of(new_schema, item=[51] * 4, user=[14, 12, 12, 14]), new_schema)
    assert match.new_rows.tolist() == [0, 2, 3, 4, 5, 7]
    assert match.old_rows.tolist() == [0, 2, 1, 3, 4, 6]


def test_a_field_that_moves_to_another_table_is_found_there(map_of):
    old_schema, new_schema = schema_of(), schema_of(user={"privileged": True})
    matches = matched_rows(map_of(old_schema), old_schema, map_of(new_schema), new_schema)
    moved = [one for one in matches if one.new_table == "privileged"]
    # Padding, unknown, three users; there was no table of that name to take padding from.
    assert [one.old_table for one in moved] == ["main"]
    assert moved[0].new_rows.tolist() == [0, 1, 2, 3, 4]
    assert moved[0].old_rows[0] == 0


def test_buckets_with_other_boundaries_do_not_match(map_of):
    schema = schema_of()
    old, new = map_of(schema), map_of(schema, age=np.float32([1, 3, 3, 4]))
    age = list(FIELDS).index("age")
    assert old.boundaries_of(age).tolist() != new.boundaries_of(age).tolist()
    rows = {new_row for _, (table, new_row) in pairs_of(matched_rows(old, schema, new, schema))
            if table == "main"}
    buckets = {int(new.bucket_rows[age]) + i for i in range(2)}
    assert set(range(new.table_rows["main"])) - rows == buckets
    # The row of a direct number is the same whatever its numbers are.
    other = map_of(schema, price=np.float32([50, 60, 70, 80]))
    [main, _] = matched_rows(old, schema, other, schema)
    assert len(main.new_rows) == other.table_rows["main"]


def test_a_grown_map_matches_the_previous_one_by_owner_and_not_by_row(tmp_path):
    schema = schema_from_dict({"name": "log", "label": "click", "timestamp": "ts", "fields": [
        {"name": "user", "kind": "id"}]})
    old = build_row_map(schema, [day_of(tmp_path, 1, user=[11, 12])], [None])
    growth = grown(old, schema, [day_of(tmp_path, 5, user=[12, 13])], [None],
                   Admission(expire_after_days=1))
    # 13 has the row that was of 11.
    assert growth.fresh_rows["main"].tolist() == [2]
    [match] = matched_rows(old, schema, growth.row_map, schema)
    assert match.new_rows.tolist() == match.old_rows.tolist() == [0, 1, 3]


@pytest.mark.parametrize(("change", "what"), [
    ({"user": {"kind": "hash", "buckets": 5}}, r"`user` must keep its kind .* it was 'id', now it "
     r"is 'hash'"),
    ({"seen": {"of": "user"}}, r"`seen` must keep its namespace .* it was 'item', now it is "
     r"'user'"),
    ({"user": {"table": "item"}}, r"`user` must keep its namespace .* it was 'user', now it is "
     r"'item'"),
    ({"user": {"pii": True}}, r"`user` must keep its pii .* it was False, now it is True"),
    ({"hour": {"cross": ["user", "item"]}}, r"`hour` must keep its cross .* it was None"),
], ids=["kind", "of", "table", "pii", "cross"])
def test_a_field_that_came_to_mean_something_else_is_refused(map_of, change, what):
    old_schema, new_schema = schema_of(), schema_of(**change)
    with pytest.raises(DataError, match=what + r".*\. Give the field another name, or train from "
                       "scratch"):
        matched_rows(map_of(old_schema), old_schema, map_of(new_schema), new_schema)


def test_maps_and_schemas_that_do_not_belong_together_are_refused(map_of):
    one, other = schema_of(), schema_of(hour=None)
    for old_schema, new_schema in ((one, other), (other, one)):
        with pytest.raises(DataError, match=r"^the row map was built for [87] fields"):
            matched_rows(map_of(one), old_schema, map_of(one), new_schema)
