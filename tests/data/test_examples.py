import datetime
from dataclasses import replace
from itertools import chain

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from dualdnn.data import examples as examples_module
from dualdnn.data.examples import open_examples
from dualdnn.data.row_map import check_made_for, load_row_map
from dualdnn.data.signs import signs_of
from dualdnn.data.window import ChosenDays, Given, RandomFraction, Rolling, TimeFraction
from dualdnn.errors import DataError
from dualdnn.schema import schema_from_dict

USERS = [["ann", "bob", "ann", "cy"], ["bob", None, "ann", "dee"], ["eve", "ann", "", "bob"]]
TAGS = [[["x", "y", "cut"], ["x"], [], ["z"]], [None, ["y", None], [None, "x"], ["x", "x"]],
        [["new"], ["x", "new"], [""], ["z", "y"]]]
AGES = [[20, 30, None, 40], [25, 35, 45, None], [1, 99, None, 30]]
ROLLING = Rolling(days=2)


@pytest.fixture
def three_days(write_day, sound_columns):
    for number, (users, tags, ages) in enumerate(zip(USERS, TAGS, AGES, strict=True), start=1):
        columns = sound_columns(user=pa.array(users), tags=pa.array(tags, pa.list_(pa.string())),
                                age=pa.array(ages, pa.float64()))
        write_day(f"2024-01-0{number}", columns, success=True)


@pytest.fixture
def opened(lake, three_days, schema, tmp_path):
    """Returns a function that opens the three days."""

    def open_them(window=ROLLING, schema=schema, **options):
        return open_examples(lake=lake, schema=schema, window=window, state=tmp_path / "state",
                             **options)

    return open_them


def row_of(examples, field, value):
    """The row of the table that a raw value owns, or else its field's row for the unknown."""
    position = [one.name for one in examples.schema.fields].index(field)
    oov = int(examples.row_map.oov_rows[position])
    if field == "age":
        value = np.float32([np.nan if value is None else value])
        return int(examples.row_map.rows_of_numbers(position, value)[0])
    sign = signs_of(field, tf.constant([value or ""])).numpy()
    return int(examples.row_map.rows_of_signs(sign, oov)[0])


def test_every_cell_is_the_row_of_its_raw_value(opened):
    examples = opened()
    assert examples.rows.shape == (12, 4)
    assert examples.rows.dtype == np.int32
    users, tags, ages = (list(chain(*column)) for column in (USERS, TAGS, AGES))
    no_tags = row_of(examples, "tags", None)
    for example in range(12):
        assert examples.rows[example, examples.columns("user")].tolist() == [
            row_of(examples, "user", users[example])]
        assert examples.rows[example, examples.columns("age")].tolist() == [
            row_of(examples, "age", ages[example])]
        kept = (tags[example] or [])[:2]
        expected = [row_of(examples, "tags", tag) if tag else 0 for tag in kept]
        expected += [0] * (2 - len(expected))
        if expected == [0, 0]:
            expected = [no_tags, 0]
        assert examples.rows[example, examples.columns("tags")].tolist() == expected


def test_ids_of_the_holdout_alone_are_unknown(opened):
    examples = opened()
    assert examples.split.train.tolist() == list(range(8))
    assert examples.split.test.tolist() == [8, 9, 10, 11]
    # The holdout's users are eve (new), ann, missing, bob.
    assert examples.is_known("user", examples.split.test).tolist() == [False, True, False, True]
    assert row_of(examples, "user", "eve") == row_of(examples, "user", None) == 1
    assert row_of(examples, "tags", "new") == 2


def test_labels_weights_and_groups_stand_in_the_order_of_the_lake(opened):
    examples = opened()
    assert examples.labels.tolist() == [0, 1, 1, 0] * 3
    assert examples.labels.dtype == np.float32
    assert examples.weights.tolist() == [1, 0.5, 2, 0] * 3
    alone = np.array([not user for day in USERS for user in day])
    assert alone.sum() > 1
    # A row without a user is nobody's; all of these are not one user's.
    assert len(set(examples.groups[alone])) == alone.sum()
    assert not set(examples.groups[alone]) & set(examples.groups[~alone])
    assert examples.groups[0] == examples.groups[2] == examples.groups[6]
    rows, dense, labels, weights = examples.batch(np.array([2, 0]))
    assert dense.shape == (2, 0)
    np.testing.assert_array_equal(rows, examples.rows[[2, 0]])
    assert labels.tolist() == [1, 0]
    assert weights.tolist() == [2, 1]


def test_rows_without_a_group_stay_apart_where_days_are_opened_apart(opened):
    together = opened()
    apart = [opened(window=ChosenDays(train=[], test=[datetime.date(2024, 1, n)]),
                    row_map=together.row_map).groups for n in (1, 2, 3)]
    assert np.concatenate(apart).tolist() == together.groups.tolist()


def test_the_training_size_leaves_out_rows_of_weight_0(opened, schema_values):
    examples = opened()
    weights = examples.weights[examples.split.train]
    assert (weights == 0).any()
    assert examples.training_size == ((weights > 0).sum(), weights.sum() / (weights > 0).sum())
    plain = opened(schema=schema_from_dict({**schema_values, "weight": None}))
    assert plain.training_size == (len(plain.split.train), 1.0)


def test_without_weights_and_groups(opened, schema_values):
    examples = opened(schema=schema_from_dict({**schema_values, "group": None, "weight": None}))
    assert examples.weights is None
    assert examples.groups is None
    assert examples.batch(np.array([2, 0])).weights.tolist() == [1, 1]


def test_columns_follow_the_schema(opened):
    examples = opened()
    assert [examples.columns(name) for name in ("user", "tags", "age")] == [
        slice(0, 1), slice(1, 3), slice(3, 4)]
    with pytest.raises(KeyError, match="colour"):
        examples.columns("colour")


def test_a_mapped_file_gives_the_same_rows_as_memory(opened, monkeypatch, tmp_path):
    in_memory = opened()
    monkeypatch.setattr(examples_module, "_IN_MEMORY_BYTES", 0)
    mapped = opened()
    assert isinstance(mapped.rows, np.memmap)
    assert not isinstance(in_memory.rows, np.memmap)
    np.testing.assert_array_equal(mapped.rows, in_memory.rows)
    np.testing.assert_array_equal(mapped.batch(np.array([5, 1]))[0], in_memory.rows[[5, 1]])
    # The file has no name: nothing is left behind, however the process ends.
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["encoded"]


def test_the_fingerprint_changes_with_the_data_alone(opened, write_day):
    one, again, other_split = opened(), opened(), opened(window=TimeFraction())
    write_day("2024-01-02", success=True)
    assert one.fingerprint == again.fingerprint == other_split.fingerprint
    assert opened().fingerprint != one.fingerprint


def test_days_are_reported_as_they_are_opened(opened):
    seen = []
    opened(on_day=lambda day, reused: seen.append((day.day, reused)))
    opened(on_day=lambda day, reused: seen.append((day.day, reused)))
    assert seen == [(1, False), (2, False), (3, False), (1, True), (2, True), (3, True)]


# Label statistics.

@pytest.fixture
def with_statistic(schema_values):
    fields = [dict(field) for field in schema_values["fields"]]
    fields[2]["label_statistic"] = True
    return schema_from_dict({**schema_values, "fields": fields})


@pytest.mark.parametrize("window", [ROLLING, TimeFraction()], ids=["rolling", "time_fraction"])
def test_windows_in_the_order_of_time_keep_label_statistics(opened, with_statistic, window):
    examples = opened(window=window, schema=with_statistic)
    assert examples.dropped_fields == []
    assert examples.rows.shape[1] == 4


def test_a_random_split_drops_label_statistics(opened, with_statistic, schema):
    examples = opened(window=RandomFraction(seed=1), schema=with_statistic)
    assert examples.dropped_fields == ["age"]
    assert [field.name for field in examples.schema.fields] == ["user", "tags"]
    assert examples.rows.shape[1] == 3
    # The others read as if the field had never been there.
    plain = opened(window=RandomFraction(seed=1), schema=schema.without({"age"}))
    np.testing.assert_array_equal(examples.rows, plain.rows)


def test_nothing_left_but_label_statistics(opened, with_statistic):
    with pytest.raises(DataError, match=r"^every field is a label statistic, and this window "
                       r"cannot use those\."):
        opened(window=RandomFraction(seed=1), schema=with_statistic.without({"user", "tags"}))


# Windows on a real lake.

def test_a_random_split_takes_its_vocabulary_from_its_training_rows(opened):
    examples = opened(window=RandomFraction(seed=3, train=0.5, valid=0.25, test=0.25))
    users = np.array(list(chain(*USERS)), object)
    counted = examples.split.train[examples.weights[examples.split.train] > 0]
    trained = {user for user in users[counted] if user}
    known = examples.is_known("user", np.arange(12))
    assert known.tolist() == [user in trained for user in users]
    assert not known.all()


def test_the_given_column_splits_the_lake(lake, write_day, sound_columns, schema, tmp_path):
    for day, part in (("2024-01-01", ["train", "valid", "train", "test"]),
                      ("2024-01-02", ["test", "test", "train", "train"])):
        write_day(day, {**sound_columns(), "part": pa.array(part).dictionary_encode()},
                  success=True)
    examples = open_examples(lake=lake, schema=schema, window=Given(column="part"),
                             state=tmp_path / "state")
    assert examples.split.train.tolist() == [0, 2, 6, 7]
    assert examples.split.valid.tolist() == [1]
    assert examples.split.test.tolist() == [3, 4, 5]


def test_a_null_in_the_given_column(lake, write_day, sound_columns, schema, tmp_path):
    parts = pa.array(["train", None, "test", "test"])
    write_day(columns={**sound_columns(), "part": parts}, success=True)
    with pytest.raises(DataError, match=r"^window\.column `part` must say train, valid or test, "
                       r"got 'None' first, in 1 of 4 rows"):
        open_examples(lake=lake, schema=schema, window=Given(column="part"), state=tmp_path)


def test_a_missing_given_column(opened):
    with pytest.raises(DataError, match=r"column `part` is missing, which window\.column names"):
        opened(window=Given(column="part"))


def test_the_only_day_is_incomplete(lake, write_day, schema, tmp_path):
    write_day()
    with pytest.raises(DataError, match=r"holds one day, 2024-01-01, without _SUCCESS\. Write "
                       r"_SUCCESS into the folder when the day is complete\.$"):
        open_examples(lake=lake, schema=schema, window=TimeFraction(), state=tmp_path)


def test_the_newest_day_without_success_is_not_as_of(opened, lake):
    (lake.path / "dt=2024-01-03" / "_SUCCESS").unlink()
    examples = opened(window=Rolling(days=1))
    assert [day.day for day in examples.days] == [datetime.date(2024, 1, 1),
                                                  datetime.date(2024, 1, 2)]
    with pytest.raises(DataError, match=r"^window\.as_of=2024-01-03 is not complete"):
        opened(window=Rolling(days=1, as_of="2024-01-03"))


def test_only_days_of_the_window_are_read(opened, write_day):
    write_day("2024-01-01").write_bytes(b"damaged")
    assert len(opened(window=Rolling(days=1)).days) == 2
    with pytest.raises(DataError, match=r"dt=2024-01-01/part-0\.parquet cannot be read"):
        opened()


# The row map of a trained model.

def test_with_its_own_row_map_a_model_reads_the_same_rows(opened, tmp_path):
    trained = opened()
    (tmp_path / "map").mkdir()
    trained.row_map.save(tmp_path / "map")
    again = opened(row_map=load_row_map(tmp_path / "map"))
    np.testing.assert_array_equal(again.rows, trained.rows)


def test_new_data_does_not_change_a_given_row_map(opened):
    trained = opened(window=Rolling(days=1, as_of="2024-01-02"))
    later = opened(window=Rolling(days=1, as_of="2024-01-03"), row_map=trained.row_map)
    assert later.row_map is trained.row_map
    np.testing.assert_array_equal(later.rows[:4], trained.rows[4:])


def test_a_row_map_of_other_fields_is_refused(opened, with_statistic):
    trained = opened(window=RandomFraction(seed=1), schema=with_statistic)
    with pytest.raises(DataError, match=r"^the row map was built for 2 fields, but this window "
                       r"and schema leave 3: user, tags, age\. Use the schema and the kind of"):
        opened(window=ROLLING, schema=with_statistic, row_map=trained.row_map)


def test_a_row_map_of_as_many_other_fields_is_refused(opened, schema):
    trained = opened()
    first, *others = schema.fields
    changed = replace(schema, fields=(replace(first, name="weight_id"), *others))
    for other in (replace(schema, fields=(*others, first)), changed):
        with pytest.raises(DataError, match=r"^the row map was built for the field .*user.*, but "
                           r"this schema has .* in its place\. Use the schema and the kind"):
            check_made_for(trained.row_map, other)


# Odd but legal.

def test_nothing_known_and_nothing_given(lake, write_day, sound_columns, schema, tmp_path):
    columns = sound_columns(user=pa.nulls(4), tags=pa.nulls(4), age=pa.nulls(4),
                            click=pa.array([1, 1, 1, 1]))
    for day in ("2024-01-01", "2024-01-02"):
        write_day(day, columns, success=True)
    examples = open_examples(lake=lake, schema=schema, window=Rolling(days=1), state=tmp_path)
    assert examples.rows.tolist() == [[1, 2, 0, 3]] * 8
    assert not examples.is_known("user", np.arange(8)).any()


def test_days_that_write_an_id_in_different_types_agree(
    lake, write_day, sound_columns, schema, tmp_path
):
    for day, kind in (("2024-01-01", pa.int32()), ("2024-01-02", pa.int64()),
                      ("2024-01-03", pa.string())):
        write_day(day, sound_columns(user=pa.array([7, 8, 9, 7]).cast(kind)), success=True)
    examples = open_examples(lake=lake, schema=schema, window=Rolling(days=2), state=tmp_path)
    users = examples.rows[:, 0].reshape(3, 4)
    np.testing.assert_array_equal(users[0], users[1])
    np.testing.assert_array_equal(users[0], users[2])
    assert examples.is_known("user", np.arange(12)).all()
    np.testing.assert_array_equal(examples.groups[:4], examples.groups[8:])


def test_a_row_of_weight_0_admits_no_id_and_moves_no_boundary(opened, schema_values):
    # The last row of every day has weight 0.
    examples = opened()
    everyone = opened(schema=schema_from_dict({**schema_values, "weight": None}))
    assert examples.is_known("user", np.array([0, 3, 7])).tolist() == [True, False, False]
    assert everyone.is_known("user", np.array([0, 3, 7])).tolist() == [True, True, True]
    ages = [age for day in AGES[:2] for age in day[:3] if age is not None]
    position = [one.name for one in examples.schema.fields].index("age")
    assert max(examples.row_map.boundaries_of(position)) <= max(ages)
