import datetime
import gzip
import math

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from dualdnn.data import tfrecord
from dualdnn.data.encoding import encode_days
from dualdnn.data.lake import Lake
from dualdnn.data.tfrecord import read_tfrecord
from dualdnn.errors import DataError
from dualdnn.schema import schema_from_dict

DAY = datetime.date(2024, 1, 1)


LISTS = {str: lambda v: {"bytes_list": tf.train.BytesList(value=[x.encode() for x in v])},
         bytes: lambda v: {"bytes_list": tf.train.BytesList(value=v)},
         int: lambda v: {"int64_list": tf.train.Int64List(value=v)},
         float: lambda v: {"float_list": tf.train.FloatList(value=v)}}


def feature(value):
    """The tf.train.Feature of a value or a list; None has no kind; [int] is no integers."""
    values = value if isinstance(value, list) else [value]
    if values in ([], [None]):
        return tf.train.Feature()
    if isinstance(values[0], type):
        return tf.train.Feature(**LISTS[values[0]]([]))
    return tf.train.Feature(**LISTS[type(values[0])](values))


def example(**values):
    features = {name: feature(value) for name, value in values.items()}
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def written(path, records):
    path.parent.mkdir(parents=True, exist_ok=True)
    compression = "GZIP" if path.suffix == ".gz" else None
    with tf.io.TFRecordWriter(str(path), compression) as writer:
        for record in records:
            writer.write(record)
    return path


def examples_of(columns):
    """One tf.Example per row; null is left out."""
    return [example(**{name: value for name, value in row.items() if value is not None})
            for row in pa.table(columns).to_pylist()]


def read(path, *columns, **kinds):
    return read_tfrecord(path, columns=columns, kinds=kinds, wanted_by="the schema").to_pydict()


@pytest.fixture
def write_records(lake):
    """Returns a function that writes one TFRecord file of the day and returns its path."""

    def write(records, name="part-0.tfrecord"):
        return written(lake.path / f"dt={DAY}" / name, records)

    return write


@pytest.fixture
def refused(lake, write_records, sound_columns, schema):
    """Returns a function: write a day of these records and return the error of reading it."""

    def message_of(records=None, name="part-0.tfrecord", **changes):
        path = write_records(records or examples_of(sound_columns(**changes)), name)
        with pytest.raises(DataError) as caught:
            lake.read(DAY, schema)
        assert str(caught.value).startswith(str(path))
        return str(caught.value).removeprefix(str(path))

    return message_of


# The same rows as from parquet.

@pytest.mark.parametrize("name", ["a.tfrecord", "a.tfrecord.gz"])
def test_a_day_of_tfrecords_is_the_table_that_parquet_gives(
        lake, tmp_path, write_day, sound_columns, schema, name):
    columns = sound_columns(age=pa.array([20.0, 30.0, 0.1, 40.0]))  # NaN is not equal to itself
    write_day(columns=columns)
    other = Lake(tmp_path / "other")
    written(other.path / f"dt={DAY}" / name, examples_of(columns))
    assert other.read(DAY, schema).equals(lake.read(DAY, schema))


HOSTILE = {
    "click": pa.array([0, 1, 1, 0, 1, 0, 1]),
    "ts": pa.array([1_704_067_200 + i for i in range(7)]),
    "user": pa.array(["é\n", "", "漢字", "a\0b", None, "x" * 70_000, " "]),
    "item": pa.array([2**63 - 1, -(2**63), 0, None, 7, 7, -1]),
    "tags": pa.array([["x", "x", "", "\n"], [], None, ["b"], ["x"], ["c", "a"], []],
                     pa.list_(pa.string())),
    "codes": pa.array([[1, 2], [], [2**62], None, [3], [-4, 4, 4], []], pa.list_(pa.int64())),
    "age": pa.array([1.5, None, math.nan, -0.0, 3e38, 1e-45, 7.0]),
    "count": pa.array([5, None, -2, 0, 2**40, 1, 1]),
    "weight": pa.array([1.0, 0.5, 0.1, 0.0, 2.0, 3.0, 1.0]),
    "url": pa.array(["/a", None, "/b", "/a", "", "/c", "/a"]),
    "history": pa.array([None, [7, 7], [], [0], [2**63 - 1], [-1, 7, 0, 5], []],
                        pa.list_(pa.int64())),
    "picture": pa.array([None, [0.5, -1.0], None, [0.0, 0.1], [1.0, 2.0], None, [1e-3, 3e3]],
                        pa.list_(pa.float32())),
}


def hostile_schema():
    return schema_from_dict({
        "name": "feed", "label": "click", "timestamp": "ts", "group": "user", "weight": "weight",
        "fields": [{"name": "user", "kind": "id"}, {"name": "item", "kind": "id"},
                   {"name": "tags", "kind": "ids", "max_length": 3},
                   {"name": "codes", "kind": "ids", "max_length": 2},
                   {"name": "age", "kind": "number"}, {"name": "count", "kind": "number"},
                   {"name": "url", "kind": "hash", "buckets": 100},
                   {"name": "history", "kind": "sequence", "of": "item", "max_length": 3},
                   {"name": "picture", "kind": "vector", "size": 2}]})


@pytest.mark.parametrize("batch", [1, 3, 8192])
def test_encoded_days_of_both_lakes_have_one_fingerprint(
        lake, tmp_path, write_day, monkeypatch, batch):
    """Also where a batch ends before a feature has had its first value."""
    monkeypatch.setattr(tfrecord, "_BATCH_RECORDS", batch)
    days = [DAY, DAY + datetime.timedelta(days=1)]
    other = Lake(tmp_path / "other")
    table = pa.table(HOSTILE)
    for day in days:
        write_day(str(day), columns=table)
        rows = examples_of(table)
        written(other.path / f"dt={day}" / "a.tfrecord", rows[:4])
        written(other.path / f"dt={day}" / "b.tfrecord.gz", rows[4:])
        table = table.take([6, 5, 4, 3, 2, 1, 0])
    one = encode_days(lake, days, hostile_schema(), tmp_path / "state")
    two = encode_days(other, days, hostile_schema(), tmp_path / "state")
    assert [d.meta["fingerprint"] for d in one] == [d.meta["fingerprint"] for d in two]
    assert [d.values() for d in one] == [d.values() for d in two]


def test_many_rows_have_the_fingerprint_of_parquet(lake, tmp_path, write_day):
    random = np.random.default_rng(0)
    rows = 20_000
    lengths = random.integers(0, 5, rows)
    columns = {
        "click": random.integers(0, 2, rows), "ts": 1_704_067_200 + np.arange(rows),
        "user": [f"u{i}" for i in random.integers(0, 500, rows)],
        "item": random.integers(0, 1000, rows),
        "tags": [[f"t{t}" for t in random.integers(0, 9, n)] for n in lengths],
        "codes": [random.integers(0, 9, n).tolist() for n in lengths],
        "age": random.random(rows), "count": random.integers(0, 99, rows),
        "weight": np.ones(rows),
        "url": [f"/{i}" for i in random.integers(0, 5000, rows)],
        "history": [random.integers(0, 1000, n).tolist() for n in lengths],
        "picture": random.random((rows, 2)).astype(np.float32).tolist(),
    }
    write_day(columns=columns)
    other = Lake(tmp_path / "other")
    written(other.path / f"dt={DAY}" / "a.tfrecord", examples_of(columns))
    [one] = encode_days(lake, [DAY], hostile_schema(), tmp_path / "state")
    [two] = encode_days(other, [DAY], hostile_schema(), tmp_path / "state")
    assert one.meta["fingerprint"] == two.meta["fingerprint"]
    assert two.rows == rows


# What a feature becomes.

def test_each_kind_of_feature_has_one_type(tmp_path):
    path = written(tmp_path / "a.tfrecord", [example(text="a", whole=1, number=1.5, tags=["b"])])
    table = read_tfrecord(path, columns=["number", "text", "whole", "tags"],
                          kinds={"tags": "ids"}, wanted_by="")
    assert table.schema.names == ["number", "text", "whole", "tags"]
    assert [str(kind) for kind in table.schema.types[:3]] == ["float", "large_string", "int64"]
    assert table["tags"].to_pylist() == [["b"]]


@pytest.mark.parametrize("empty", [{}, {"x": None}, {"x": [str]}],
                         ids=["absent", "kindless", "no values"])
def test_a_feature_without_a_value_is_missing(tmp_path, empty):
    records = [example(y=1, **empty), example(y=2, x="a"), example(y=3, **empty)]
    path = written(tmp_path / "a.tfrecord", records)
    assert read(path, "x", "y") == {"x": [None, "a", None], "y": [1, 2, 3]}
    assert read(path, "x", x="ids") == {"x": [[], ["a"], []]}
    assert read(path, "x", x="sequence") == {"x": [[], ["a"], []]}


def test_a_vector_without_numbers_is_missing(tmp_path):
    records = [example(v=[1.0, 2.0], y=1), example(y=2), example(v=[3.0, 4.0], y=3)]
    path = written(tmp_path / "a.tfrecord", records)
    assert read(path, "v", v="vector") == {"v": [[1.0, 2.0], None, [3.0, 4.0]]}


@pytest.mark.parametrize("value", ["a", 7, 0.5])
def test_the_kind_may_show_as_late_as_in_the_last_record(tmp_path, monkeypatch, value):
    monkeypatch.setattr(tfrecord, "_BATCH_RECORDS", 4)
    records = [example(y=1) for _ in range(10)] + [example(y=2, x=value)]
    path = written(tmp_path / "a.tfrecord", records)
    assert read(path, "x")["x"] == [None] * 10 + [value]
    assert read(path, "x", x="ids")["x"] == [[]] * 10 + [[value]]


@pytest.mark.parametrize("empty", [None, [str], [int]], ids=str)
def test_a_feature_that_never_has_a_value_is_a_column_of_nulls(tmp_path, empty):
    path = written(tmp_path / "a.tfrecord", [example(y=1), example(y=1, x=empty)])
    assert read(path, "x") == {"x": [None, None]}
    assert len(read(path, "x", x="ids")["x"]) == 2


def test_features_that_nobody_wants_may_be_anything(tmp_path):
    path = written(tmp_path / "a.tfrecord", [example(y=1, z="a"), example(y=2, z=[1.0, 2.0])])
    assert read(path, "y") == {"y": [1, 2]}


def test_joined_files_of_gzip_are_read_to_the_end(tmp_path):
    path = tmp_path / "a.tfrecord.gz"
    one = written(path, [example(y=1)]).read_bytes()
    two = written(path, [example(y=2)]).read_bytes()
    path.write_bytes(one + two)
    assert read(path, "y") == {"y": [1, 2]}


# The files of a day.

def test_the_files_of_a_day_are_read_in_order_of_name(lake, write_records, sound_columns, schema):
    for name, user in (("b.tfrecord", "2"), ("a.tfrecord.gz", "1"), ("_tmp.tfrecord", "no"),
                       (".part.tfrecord", "no"), ("c.tfrecord.crc", "no")):
        write_records(examples_of(sound_columns(user=pa.array([user] * 4))), name)
    assert [path.name for path in lake.files(DAY)] == ["a.tfrecord.gz", "b.tfrecord"]
    assert lake.read(DAY, schema)["user"].to_pylist() == ["1"] * 4 + ["2"] * 4


@pytest.mark.parametrize("name", ["a.tfrecord", "a.tfrecord.gz"])
def test_a_day_of_parquet_and_tfrecord_is_refused(
        lake, write_day, write_records, sound_columns, schema, name):
    write_day()
    write_records(examples_of(sound_columns()), name)
    with pytest.raises(DataError, match=rf"dt=2024-01-01 must hold parquet files or TFRecords, "
                       rf"got both: part-0\.parquet and {name}\. Remove one kind, or write"):
        lake.read(DAY, schema)


def test_days_may_differ_in_their_kind(lake, write_day, write_records, sound_columns, schema):
    write_day("2024-01-02")
    write_records(examples_of(sound_columns()))
    assert [lake.read(day, schema).num_rows for day in lake.days()] == [4, 4]


def test_a_file_without_records_beside_others_is_fine(
        lake, write_records, sound_columns, schema):
    write_records([], "a.tfrecord")
    write_records(examples_of(sound_columns()), "b.tfrecord")
    assert lake.read(DAY, schema).num_rows == 4
    assert lake.read_column(DAY, "user") == ["ann", "bob", "ann", "cy"]


def test_a_day_of_files_without_records(lake, write_records, schema):
    write_records([], "a.tfrecord")
    write_records([], "b.tfrecord.gz")
    with pytest.raises(DataError, match=r"dt=2024-01-01 has TFRecord files but no rows\. Write"):
        lake.read(DAY, schema)


def test_the_column_of_a_window_is_read_from_all_files(lake, write_records):
    write_records([example(part="train"), example(part="test")], "a.tfrecord")
    write_records([example(part="valid"), example(y=1)], "b.tfrecord")
    assert lake.read_column(DAY, "part") == ["train", "test", "valid", None]
    with pytest.raises(DataError, match=r"a\.tfrecord: column `kind` is missing in every example, "
                       r"which window\.column names; the examples have part\."):
        lake.read_column(DAY, "kind")


# Refused.

def test_missing_columns_are_named_together(refused):
    assert refused(age=None, tags=None) == (
        ": columns `tags`, `age` are missing in every example, which the schema names; the "
        "examples have click, ts, user, weight. Correct the schema or write the feature.")


def test_a_feature_of_two_kinds_is_named_with_both_records(tmp_path, monkeypatch):
    monkeypatch.setattr(tfrecord, "_BATCH_RECORDS", 3)
    records = [example(y=1), example(y=1, x="a"), *[example(y=1)] * 5, example(y=1, x=5)]
    path = written(tmp_path / "a.tfrecord", records)
    for other in (path, written(tmp_path / "b.tfrecord.gz", records)):
        with pytest.raises(DataError, match=rf"{other.name}, record 8: feature `x` must be of one "
                           r"kind in all examples, got int64_list after bytes_list in record 2\. "
                           r"Write one kind; leave the feature out where its value is missing\.$"):
            read(other, "x", "y")


def test_an_empty_list_of_another_kind_is_another_kind(tmp_path):
    path = written(tmp_path / "a.tfrecord", [example(x=1), example(x=[str])])
    with pytest.raises(DataError, match="record 2: feature `x` must be of one kind"):
        read(path, "x")


def test_several_values_where_one_is_expected(refused, sound_columns, tmp_path, monkeypatch):
    monkeypatch.setattr(tfrecord, "_BATCH_RECORDS", 2)
    users = pa.array([["ann"], [], ["cy"], ["a", "b"]])
    assert refused(user=users) == (
        ", record 4: column `user` of kind id must hold at most one value, got 2. Write one "
        "value, or give the field a kind that takes lists (ids, sequence, vector).")
    assert refused(click=pa.array([[0, 1], [1], [1], [1]])).startswith(
        ", record 1: column `click` must hold at most one value, got 2.")


@pytest.mark.parametrize(("changes", "message"), [
    ({"click": pa.array([0, 1, None, 1])}, "label `click` must be 0 or 1, got null in 1 of 4"),
    ({"click": pa.array([0, 1, 2, 1])}, "label `click` must be 0 or 1, got 2 in 1 of 4"),
    ({"ts": pa.array([1.7e9] * 4)}, "whole seconds since the epoch, got float"),
    ({"ts": pa.array([1, None, 3, 4])}, "timestamp `ts` is null in 1 of 4 rows"),
    ({"user": pa.array([1.0] * 4)}, "string or integer for kind group, got float"),
    ({"tags": pa.array([[1.5]] * 4)}, "a list of string or integer for kind ids, got large_list"),
    ({"age": pa.array(["20"] * 4)}, "a number for kind number, got large_string"),
    ({"age": pa.array([math.inf] * 4)}, "number `age` is infinite"),
    ({"weight": pa.array([1.0, None, 1.0, 1.0])}, "weight `weight` must be finite and >= 0"),
    ({"user": pa.array([b"a", b"\xff", b"b", b"c"])}, "column `user` must be UTF-8 text"),
    ({"tags": pa.array([[b"\xff"], [], [], []])}, "column `tags` must be UTF-8 text"),
], ids=lambda one: one if isinstance(one, str) else "".join(one))
def test_columns_are_checked_as_those_of_parquet(refused, changes, message):
    assert message in refused(**changes)


@pytest.mark.parametrize("record", [
    b"", b"hello", b'{"click": 1}', b"\n\x05abc", b"\xff" * 10, b"\n\x03\n\xff\xff"], ids=repr)
@pytest.mark.parametrize("name", ["a.tfrecord", "a.tfrecord.gz"])
@pytest.mark.parametrize("before", [0, 2, 4])
def test_a_record_that_is_no_example(refused, sound_columns, record, name, before):
    rows = examples_of(sound_columns())
    assert refused([*rows[:before], record, *rows[before:]], name) == (
        f", record {before + 1}: expected a tf.Example with features, got {len(record)} bytes "
        "that are none. Write every record as a serialized tf.train.Example.")


# Damaged files.

def test_every_cut_is_noticed_unless_it_falls_between_records(tmp_path):
    records = [example(y=1, x="a"), example(y=2, x="b")]
    path = written(tmp_path / "a.tfrecord", records)
    content = path.read_bytes()
    between = len(records[0]) + 16
    for length in [*range(1, len(content), 4), between]:
        path.write_bytes(content[:length])
        if length == between:
            assert read(path, "y") == {"y": [1]}
            continue
        number = 1 if length < between else 2
        with pytest.raises(DataError, match=rf"a\.tfrecord, record {number}: expected a whole "
                           r"TFRecord, but the file ends inside it\. Write the file again, and "
                           r"name it \.tfrecord\.gz if it is compressed\.$"):
            read(path, "y")


def test_every_changed_byte_is_noticed(tmp_path):
    records = [example(y=1, x="a"), example(y=2, x="b")]
    path = written(tmp_path / "a.tfrecord", records)
    content = path.read_bytes()
    for position in range(0, len(content), 3):
        path.write_bytes(content[:position] + bytes([content[position] ^ 0x10])
                         + content[position + 1:])
        number = 1 if position < len(records[0]) + 16 else 2
        with pytest.raises(DataError, match=rf"a\.tfrecord, record {number}: expected a whole "
                           "TFRecord, but"):
            read(path, "y")


def test_every_cut_of_a_compressed_file_is_noticed(tmp_path):
    path = written(tmp_path / "a.tfrecord.gz", [example(y=1, x="a"), example(y=2, x="b")])
    content = path.read_bytes()
    for length in range(0, len(content), 2):
        path.write_bytes(content[:length])
        with pytest.raises(DataError, match=r"a\.tfrecord\.gz cannot be read as TFRecord: .* Write "
                           r"the file again"):
            read(path, "y")


def test_records_cut_before_they_were_compressed(tmp_path):
    content = written(tmp_path / "a.tfrecord", [example(y=1), example(y=2)]).read_bytes()
    path = tmp_path / "b.tfrecord.gz"
    path.write_bytes(gzip.compress(content[:-3]))
    with pytest.raises(DataError, match=r"b\.tfrecord\.gz, record 2: expected a whole TFRecord, "
                       r"but the file ends inside it\. Write the file again\.$"):
        read(path, "y")


def test_a_name_that_does_not_fit_the_compression(tmp_path):
    plain = written(tmp_path / "a.tfrecord", [example(y=1)])
    packed = written(tmp_path / "b.tfrecord.gz", [example(y=1)])
    plain.rename(tmp_path / "c.tfrecord.gz")
    packed.rename(tmp_path / "d.tfrecord")
    with pytest.raises(DataError, match=r"c\.tfrecord\.gz cannot be read as TFRecord: Not a gzip"):
        read(tmp_path / "c.tfrecord.gz", "y")
    with pytest.raises(DataError, match=r"d\.tfrecord, record 1: .* name it \.tfrecord\.gz if"):
        read(tmp_path / "d.tfrecord", "y")


def test_a_folder_named_like_a_file(lake, write_records, sound_columns, schema):
    write_records(examples_of(sound_columns()))
    (lake.path / f"dt={DAY}" / "x.tfrecord").mkdir()
    with pytest.raises(DataError, match=r"x\.tfrecord cannot be read as TFRecord: .*directory"):
        lake.read(DAY, schema)
