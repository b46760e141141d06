import pytest

from dualdnn.errors import ConfigError
from dualdnn.schema import Field, schema_from_dict


def mistakes_of(values):
    with pytest.raises(ConfigError) as caught:
        schema_from_dict(values)
    return caught.value.mistakes


def with_field(schema_values, **field):
    return {**schema_values, "fields": [{"name": "city", "kind": "id", **field}]}


def test_plain_values_and_schema_are_one_to_one(schema, schema_values):
    assert schema_from_dict(schema.to_dict() | {"fields": schema_values["fields"]}) == schema
    assert schema.width == 1 + 2 + 1
    assert schema.columns == ["click", "ts", "user", "weight", "tags", "age"]


def test_the_neutral_value_of_a_later_key_is_accepted(schema, schema_values):
    later = {"tasks": None, "request": None, "sampling_rate": None, "timezone": "UTC"}
    fields = [{**field, "pii": False, "privileged": False, "position": False, "of": None,
               "size": None, "cross": None, "table": None, "direct": False}
              for field in schema_values["fields"]]
    assert schema_from_dict({**schema_values, **later, "fields": fields}) == schema


def test_without_drops_fields_and_nothing_else(schema):
    kept = schema.without({"tags"})
    assert [field.name for field in kept.fields] == ["user", "age"]
    assert (kept.name, kept.label, kept.group, kept.weight) == ("feed", "click", "user", "weight")


def test_the_hash_changes_with_the_meaning(schema, schema_values):
    fields = schema_values["fields"]
    changed = [
        {**schema_values, "label": "ts", "timestamp": "click"},
        {**schema_values, "group": None},
        {**schema_values, "fields": fields[::-1]},
        {**schema_values, "fields": [{**fields[0], "min_count": 2}, *fields[1:]]},
    ]
    assert schema.hash() == schema_from_dict(schema_values).hash()
    assert len({schema.hash(), *(schema_from_dict(one).hash() for one in changed)}) == 5


@pytest.mark.parametrize(("field", "message"), [
    ({"kind": "text"}, "field `city`: kind must be one of id, ids, number, hash, sequence, "
                       "vector, got 'text'."),
    ({"kind": 3}, "field `city`: `kind` must be str, got 3."),
    ({"side": "seller"}, "field `city`: side must be user, item or context, got 'seller'."),
    ({"name": "home town"}, "field name must be letters, digits and underscores, got "
                            "'home town'. Rename the column in the lake."),
    ({"name": "city\n"}, "field name must be letters, digits and underscores, got 'city\\n'. "
                         "Rename the column in the lake."),
    ({"name": 5}, "field `5`: `name` must be str, got 5."),
    ({"colour": 1}, "field `city`: unknown key `colour`; known are name, kind, side, min_count, "
                    "max_length, buckets, scale, direct, size, of, table, cross, file, key, "
                    "frozen, privileged, pii, label_statistic."),
    ({"min_count": 0}, "field `city`: min_count must be >= 1, got 0. Use 1 to give every id of "
                       "the training part a row."),
    ({"min_count": "2"}, "field `city`: `min_count` must be int, got '2'."),
    ({"min_count": True}, "field `city`: `min_count` must be int, got True."),
    ({"min_count": 2.0}, "field `city`: `min_count` must be int, got 2.0."),
    ({"label_statistic": 1}, "field `city`: `label_statistic` must be bool, got 1."),
    ({"buckets": 5}, "field `city`: `buckets` belongs to kind number and hash, not id."),
    ({"max_length": 5}, "field `city`: `max_length` belongs to kind ids and sequence, not id."),
    ({"kind": "number", "min_count": 3},
     "field `city`: `min_count` belongs to kind id and ids, not number."),
    ({"kind": "number", "buckets": 1}, "field `city`: buckets must be >= 2, got 1."),
    ({"kind": "ids"}, "field `city`: kind ids needs max_length, the number of values to keep."),
    ({"kind": "ids", "max_length": 0}, "field `city`: max_length must be >= 1, got 0."),
    ({"position": True}, "field `city`: `position` is not supported by this version; remove it."),
    ({"of": "item_id"}, "field `city`: `of` belongs to kind sequence, not id."),
    ({"scale": "log"}, "field `city`: `scale` belongs to kind number, not id."),
    ({"kind": "number", "scale": "root"},
     "field `city`: scale must be one of quantile, log, got 'root'."),
    ({"kind": "number", "direct": True, "buckets": 5},
     "field `city`: a direct number has one row and no buckets; remove buckets."),
    ({"kind": "number", "pii": True},
     "field `city`: `pii` belongs to kind id, ids, hash and sequence, not number."),
    ({"kind": "number", "size": 4},
     "field `city`: `size` belongs to kind id, ids, hash and vector, not number."),
    ({"size": 0}, "field `city`: size must be >= 1, got 0."),
    ({"size": "8"}, "field `city`: `size` must be int, got '8'."),
    ({"privileged": 1}, "field `city`: `privileged` must be bool, got 1."),
    ({"kind": "hash"}, "field `city`: kind hash needs buckets, the number of its rows."),
    ({"kind": "hash", "buckets": 2**31},
     "field `city`: buckets must be >= 2 and <= 1073741824, got 2147483648."),
    ({"kind": "hash", "buckets": 9, "min_count": 2},
     "field `city`: `min_count` belongs to kind id and ids, not hash."),
    ({"kind": "sequence", "max_length": 3},
     "field `city`: kind sequence needs of, the field whose rows it shares."),
    ({"kind": "vector"}, "field `city`: kind vector needs size, the length of the column's lists, "
                         "or file and key."),
    ({"kind": "vector", "file": "a.parquet"},
     "field `city`: file and key belong together: the file of vectors and the field whose value "
     "is looked up in it. Give both, or size for a column of vectors."),
    ({"kind": "vector", "size": 4, "frozen": True},
     "field `city`: frozen belongs to vectors of a file; a column is never learned."),
    ({"cross": "ab"}, "field `city`: `cross` must be a list of two field names, got 'ab'."),
])
def test_a_wrong_field_is_named(schema_values, field, message):
    assert mistakes_of(with_field(schema_values, **field)) == [message]


@pytest.mark.parametrize(("change", "message"), [
    ({"tasks": [{"name": "click"}]},
     "data.tasks is not supported by this version; set it to null."),
    ({"request": "req"}, "data.request is not supported by this version; set it to null."),
    *(({"sampling_rate": rate},
       "data.sampling_rate must be a column or a number in (0, 1], the probability that a negative "
       f"was kept, got {rate!r}.") for rate in (0.0, -1.0, 1.5, True, "", [0.1])),
    ({"sampling_rate": "age"}, "data.sampling_rate `age` is also a field: the model would read "
                               "it."),
    ({"sampling_rate": "click"}, "data.sampling_rate is the label `click`; it must be another "
                                 "column."),
    ({"timezone": "Europe/Berlin"},
     "data.timezone must be UTC in this version, got 'Europe/Berlin'."),
    ({"labels": "click"}, "data: unknown key `labels`; known are fields, group, label, name, "
                          "sampling_rate, timestamp, weight."),
    ({"label": None}, "data.label must be a non-empty string, got None."),
    ({"label": ""}, "data.label must be a non-empty string, got ''."),
    ({"timestamp": 4}, "data.timestamp must be a non-empty string, got 4."),
    ({"group": 4}, "data.group must be a non-empty string, got 4."),
    ({"name": "my feed"}, "data.name must be letters, digits and underscores, got 'my feed'."),
    ({"name": "../feed"}, "data.name must be letters, digits and underscores, got '../feed'."),
    ({"fields": None}, "data.fields must be a list of at least one field, got None."),
    ({"fields": []}, "data.fields must be a list of at least one field, got []."),
    ({"fields": {"name": "user"}},
     "data.fields must be a list of at least one field, got {'name': 'user'}."),
    ({"fields": ["user"]}, "fields[0] must be a mapping with name and kind, got 'user'."),
    ({"fields": [{"kind": "id"}]}, "field `at position 0`: `name` is missing."),
    ({"fields": [{"name": "user"}]}, "field `user`: `kind` is missing."),
    ({"fields": [{"name": "user", "kind": "id"}] * 2}, "field `user` is listed 2 times; list it "
                                                       "once."),
    ({"label": "user", "group": None},
     "data.label `user` is also a field: the model would read it."),
    ({"weight": "age"}, "data.weight `age` is also a field: the model would read it."),
    ({"weight": "click"}, "data.weight is the label `click`; it must be another column."),
    ({"timestamp": "click"}, "data.timestamp is the label `click`; it must be another column."),
])
def test_a_wrong_schema_is_named(schema_values, change, message):
    assert mistakes_of({**schema_values, **change}) == [message]


def test_missing_keys_are_named(schema_values):
    assert mistakes_of({"fields": schema_values["fields"]}) == [
        "data.name must be a non-empty string, got None.",
        "data.label must be a non-empty string, got None.",
        "data.timestamp must be a non-empty string, got None.",
    ]


def test_all_mistakes_are_named_at_once(schema_values):
    broken = {
        **schema_values, "timestamp": 1, "tasks": ["x"], "colour": "red",
        "fields": [{"name": "a", "kind": "idd"}, {"name": "b", "kind": "id", "position": True},
                   {"name": "b", "kind": "id", "buckets": 3, "side": "left"}, 7],
    }
    with pytest.raises(ConfigError, match=r"^9 mistakes in the configuration: ") as caught:
        schema_from_dict(broken)
    for part in ("data.tasks", "`colour`", "data.timestamp", "'idd'", "`position`", "'left'",
                 "`buckets`", "fields[3]", "`b` is listed 2 times"):
        assert part in str(caught.value)


def test_a_single_mistake_is_not_numbered(schema_values):
    with pytest.raises(ConfigError, match=r"^data\.label must be a non-empty string, got 1\.$"):
        schema_from_dict({**schema_values, "label": 1})


def test_width_is_the_number_of_cells_of_one_example():
    assert Field(name="a", kind="id").width == 1
    assert Field(name="a", kind="number").width == 1
    assert Field(name="a", kind="ids", max_length=7).width == 7


# What fields must have in common.

USER = {"name": "user", "kind": "id"}
ITEM = {"name": "item", "kind": "id"}


def sequence(**changes):
    return {"name": "seen", "kind": "sequence", "of": "item", "max_length": 3, **changes}


def cross(*names, **changes):
    return {"name": "both", "kind": "id", "cross": list(names), **changes}


@pytest.mark.parametrize(("fields", "message"), [
    ([sequence()], "field `seen`: `of` names `item`, which is not a field of this schema."),
    ([sequence(of="user"), {"name": "user", "kind": "number"}],
     "field `seen`: `of` names `user`, but rows are shared by a field of kind id or ids that owns "
     "them and is no cross. Name the owner itself."),
    ([ITEM, {**USER, "table": "item"}, sequence(of="user")],
     "field `seen`: `of` names `user`, but rows are shared by a field of kind id or ids that owns "
     "them and is no cross. Name the owner itself."),
    ([ITEM, {**USER, "table": "item", "min_count": 2}],
     "field `user`: `table`: size and min_count are those of the owner `item`; remove them here."),
    ([{**ITEM, "pii": True}, sequence()],
     "field `seen`: `of` names `item`: both must have the same pii, else one value would have two "
     "signs, one of them without a key."),
    ([USER, {**ITEM, "privileged": True}, sequence()],
     "field `seen` shares the rows of `item`, which is privileged, so students could not be served "
     "with it either; set privileged: true."),
    ([{**USER, "table": "user"}], "field `user`: it shares rows with itself; name another field."),
    ([USER, cross("user", "item")],
     "field `both`: `cross` names `item`, which is not a field of this schema."),
    ([USER, cross("user", "user")],
     "field `both`: `cross` must name two different fields, got ['user', 'user']."),
    ([USER, ITEM, cross("user", "item", table="item")],
     "field `both`: `cross`: a cross has rows of its own; remove table."),
    ([USER, {"name": "age", "kind": "number"}, cross("user", "age")],
     "field `both`: `cross` names `age` of kind number, which has no identity. Write its bucket as "
     "a column of the lake, of kind id, and cross that."),
    ([USER, {"name": "tags", "kind": "ids", "max_length": 2}, cross("user", "tags")],
     "field `both`: `cross` names `tags` of kind ids; only fields with one value, of kind id or "
     "hash, can be crossed."),
    ([USER, {"name": "cover", "kind": "vector", "size": 2}, cross("user", "cover")],
     "field `both`: `cross` names `cover` of kind vector; only fields with one value, of kind id "
     "or hash, can be crossed."),
    ([USER, ITEM, cross("user", "item"), cross("user", "both", name="more")],
     "field `more`: `cross` names `both`, which is a cross itself; cross two columns."),
    ([{**USER, "pii": True}, ITEM, cross("user", "item")],
     "field `both`: `cross`: one of user, item is pii, so the cross must be as well; set pii: "
     "true."),
    ([USER, {**ITEM, "privileged": True}, cross("user", "item")],
     "field `both` is made from `item`, which is privileged, so students could not be served with "
     "it either; set privileged: true."),
    ([USER, {"name": "v", "kind": "vector", "file": "v.npz", "key": "item"}],
     "field `v`: `key` names `item`, which is not a field of this schema."),
    ([{"name": "age", "kind": "number"},
      {"name": "v", "kind": "vector", "file": "v.npz", "key": "age"}],
     "field `v`: `key` names `age`, but vectors are looked up by a column of kind id or hash."),
    ([{**USER, "pii": True}, {"name": "v", "kind": "vector", "file": "v.npz", "key": "user"}],
     "field `v`: `key` names `user`, which is pii: the file would hold what must be in no file."),
    ([{**USER, "privileged": True}],
     "every field is privileged: the students would have nothing to read. Leave at least one field "
     "that is known when the model is served."),
])
def test_fields_that_do_not_fit_each_other_are_refused_with_the_reason(schema_values, fields,
                                                                      message):
    assert mistakes_of({**schema_values, "group": None, "weight": None, "fields": fields}) == [
        message]


@pytest.fixture
def rich_values():
    """A schema with every kind."""
    return {"name": "rich", "label": "click", "timestamp": "ts", "sampling_rate": "rate",
            "fields": [
        {**USER, "pii": True, "min_count": 2}, ITEM, sequence(),
        {"name": "url", "kind": "hash", "buckets": 100, "size": 4},
        {"name": "city", "kind": "id", "size": 4},
        {"name": "age", "kind": "number", "scale": "log"},
        {"name": "dwell", "kind": "number", "direct": True, "privileged": True},
        {"name": "cover", "kind": "vector", "size": 3},
        {"name": "item_vec", "kind": "vector", "file": "v.npz", "key": "item", "frozen": True},
        cross("user", "item", pii=True), {"name": "next", "kind": "id", "privileged": True,
                                          "table": "item"},
    ]}


def test_every_kind_in_one_schema(rich_values):
    schema = schema_from_dict(rich_values)
    assert schema_from_dict(schema.to_dict()) == schema
    assert schema.width == 13
    assert schema.dense_width == 1 + 3
    assert schema.cells("seen") == slice(2, 5)
    assert schema.dense("cover") == slice(1, 4)
    # A cross and vectors by id have no column of their own.
    assert schema.columns == ["click", "ts", "rate", "user", "item", "seen", "url", "city", "age",
                              "dwell", "cover", "next"]
    assert {name: [field.name for field in fields] for name, fields in schema.tables().items()} == {
        "main": ["user", "item", "seen", "age", "cover", "both", "next"], "size4": ["url", "city"],
        "privileged": ["dwell"], "vectors_item_vec": ["item_vec"],
    }
    assert [field.namespace for field in schema.fields if field.namespace != field.name] == [
        "item", "item"]
    assert schema.pii_columns == {"user"}


def test_what_students_read_has_no_privileged_field(rich_values):
    public = schema_from_dict(rich_values).public
    assert "dwell" not in public.columns
    assert "next" not in public.columns
    assert public.dense_width == 3


def test_a_dropped_field_takes_along_what_is_made_from_it(rich_values):
    kept = schema_from_dict(rich_values).without({"item"})
    assert [field.name for field in kept.fields] == ["user", "url", "city", "age", "dwell", "cover"]
