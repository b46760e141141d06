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
    fields = [{**field, "pii": False, "privileged": False, "position": False}
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
    ({"kind": "text"}, "field `city`: kind must be one of id, ids, number, got 'text'."),
    ({"kind": "hash"}, "field `city`: kind `hash` is not supported by this version; "
                       "use one of id, ids, number."),
    ({"kind": "sequence"}, "field `city`: kind `sequence` is not supported by this version; "
                           "use one of id, ids, number."),
    ({"kind": 3}, "field `city`: `kind` must be str, got 3."),
    ({"side": "seller"}, "field `city`: side must be user, item or context, got 'seller'."),
    ({"name": "home town"}, "field name must be letters, digits and underscores, got "
                            "'home town'. Rename the column in the lake."),
    ({"name": "city\n"}, "field name must be letters, digits and underscores, got 'city\\n'. "
                         "Rename the column in the lake."),
    ({"name": 5}, "field `5`: `name` must be str, got 5."),
    ({"colour": 1}, "field `city`: unknown key `colour`; known are name, kind, side, min_count, "
                    "max_length, buckets, label_statistic."),
    ({"min_count": 0}, "field `city`: min_count must be >= 1, got 0. Use 1 to give every id of "
                       "the training part a row."),
    ({"min_count": "2"}, "field `city`: `min_count` must be int, got '2'."),
    ({"min_count": True}, "field `city`: `min_count` must be int, got True."),
    ({"min_count": 2.0}, "field `city`: `min_count` must be int, got 2.0."),
    ({"label_statistic": 1}, "field `city`: `label_statistic` must be bool, got 1."),
    ({"buckets": 5}, "field `city`: `buckets` belongs to kind number, not id."),
    ({"max_length": 5}, "field `city`: `max_length` belongs to kind ids, not id."),
    ({"kind": "number", "min_count": 3},
     "field `city`: `min_count` belongs to kind id and ids, not number."),
    ({"kind": "number", "buckets": 1}, "field `city`: buckets must be >= 2, got 1."),
    ({"kind": "ids"}, "field `city`: kind ids needs max_length, the number of values to keep."),
    ({"kind": "ids", "max_length": 0}, "field `city`: max_length must be >= 1, got 0."),
    ({"pii": True}, "field `city`: `pii` is not supported by this version; remove it."),
    ({"privileged": True},
     "field `city`: `privileged` is not supported by this version; remove it."),
    ({"position": True}, "field `city`: `position` is not supported by this version; remove it."),
    ({"of": "item_id"}, "field `city`: `of` is not supported by this version; remove it."),
])
def test_a_wrong_field_is_named(schema_values, field, message):
    assert mistakes_of(with_field(schema_values, **field)) == [message]


@pytest.mark.parametrize(("change", "message"), [
    ({"tasks": [{"name": "click"}]},
     "data.tasks is not supported by this version; set it to null."),
    ({"request": "req"}, "data.request is not supported by this version; set it to null."),
    ({"sampling_rate": 0.1},
     "data.sampling_rate is not supported by this version; set it to null."),
    ({"timezone": "Europe/Berlin"},
     "data.timezone must be UTC in this version, got 'Europe/Berlin'."),
    ({"labels": "click"}, "data: unknown key `labels`; known are fields, group, label, name, "
                          "timestamp, weight."),
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
        "fields": [{"name": "a", "kind": "idd"}, {"name": "b", "kind": "id", "pii": True},
                   {"name": "b", "kind": "id", "buckets": 3, "side": "left"}, 7],
    }
    with pytest.raises(ConfigError, match=r"^9 mistakes in the configuration: ") as caught:
        schema_from_dict(broken)
    for part in ("data.tasks", "`colour`", "data.timestamp", "'idd'", "`pii`", "'left'",
                 "`buckets`", "fields[3]", "`b` is listed 2 times"):
        assert part in str(caught.value)


def test_a_single_mistake_is_not_numbered(schema_values):
    with pytest.raises(ConfigError, match=r"^data\.label must be a non-empty string, got 1\.$"):
        schema_from_dict({**schema_values, "label": 1})


def test_width_is_the_number_of_cells_of_one_example():
    assert Field(name="a", kind="id").width == 1
    assert Field(name="a", kind="number").width == 1
    assert Field(name="a", kind="ids", max_length=7).width == 7
