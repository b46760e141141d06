"""Every kind of field from the lake to the rows of its table, checked by hand."""

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from dualdnn.data import encoding
from dualdnn.data.encoding import encode_days
from dualdnn.data.examples import open_examples
from dualdnn.data.pseudonyms import key_fingerprint, pseudonym
from dualdnn.data.row_map import load_row_map
from dualdnn.data.signs import buckets_in_graph, buckets_of, signs_of, signs_of_pairs
from dualdnn.data.window import Rolling
from dualdnn.errors import ConfigError, DataError
from dualdnn.schema import schema_from_dict
from tests.rich_feed import KEY, rich_schema, write_rich_lake

WHOLE = Rolling(days=1, holdout_days=0)


@pytest.fixture
def opened(lake, write_day, sound_columns, tmp_path):
    """Returns a function: the examples of one day with these columns and fields."""

    def open_day(fields, window=WHOLE, more=None, **columns):
        write_day(columns=sound_columns(**columns), success=True)
        schema = schema_from_dict({"name": "kinds", "label": "click", "timestamp": "ts",
                                   "fields": fields, **(more or {})})
        return open_examples(lake=lake, schema=schema, window=window, state=tmp_path / "state")

    return open_day


def rows_of(examples, name):
    return examples.rows[:, examples.columns(name)].tolist()


# hash

def test_a_hash_is_the_sign_modulo_its_buckets(opened):
    examples = opened([{"name": "user", "kind": "hash", "buckets": 5}],
                      user=pa.array(["ann", None, "", "bob"]))
    unsigned = signs_of("user", tf.constant(["ann", "bob"])).numpy().astype(np.uint64)
    ann, bob = (2 + int(sign) % 5 for sign in unsigned.tolist())
    assert rows_of(examples, "user") == [[ann], [1], [1], [bob]]
    assert examples.row_map.num_rows == 2 + 5
    assert len(examples.row_map.signs) == 0


@pytest.mark.parametrize("buckets", [2, 3, 97, 2**20, 2**30])
def test_the_modulo_in_the_graph_is_that_of_numpy(buckets):
    rng = np.random.default_rng(0)
    signs = rng.integers(-2**63, 2**63, 1000)
    signs[:4] = [-2**63, 2**63 - 1, -1, 0]
    expected = [int(sign) % 2**64 % buckets for sign in signs.tolist()]
    assert buckets_of(signs, buckets).tolist() == expected
    assert buckets_in_graph(tf.constant(signs), buckets).numpy().tolist() == expected


# shared rows

def test_a_sequence_shares_the_rows_of_its_field_and_keeps_the_first(opened):
    examples = opened(
        [{"name": "user", "kind": "id"},
         {"name": "tags", "kind": "sequence", "of": "user", "max_length": 2}],
        user=pa.array(["ann", "bob", None, "cy"]),
        tags=pa.array([["bob", "ann", "cy"], [], ["zoe"], ["cy", None]], pa.list_(pa.string())))
    ann, bob, cy = (rows_of(examples, "user")[i][0] for i in (0, 1, 3))
    zoe = rows_of(examples, "tags")[2][0]
    assert sorted([ann, bob, cy, zoe]) == [3, 4, 5, 6]
    assert rows_of(examples, "user")[2] == [1]
    assert rows_of(examples, "tags") == [[bob, ann], [2, 0], [zoe, 0], [cy, 0]]


def test_fields_that_share_rows_are_admitted_by_their_counts_together(opened):
    fields = [{"name": "user", "kind": "id", "min_count": 3},
              {"name": "tags", "kind": "ids", "table": "user", "max_length": 2}]
    columns = {"user": pa.array(["ann", "bob", "ann", "bob"]),
               "tags": pa.array([["ann"], ["bob", "x"], ["x", "x"], ["cy"]])}
    examples = opened(fields, **columns)
    admitted = set(examples.row_map.signs.tolist())
    assert admitted == set(signs_of("user", tf.constant(["ann", "bob", "x"])).numpy().tolist())
    # Both fields mean the same row by the same value; what has none goes to the field's own.
    assert rows_of(examples, "user")[0][0] == rows_of(examples, "tags")[0][0]
    assert rows_of(examples, "tags")[3] == [2, 0]


# crosses

def test_a_cross_is_the_pair_of_its_fields_and_no_column(opened):
    fields = [{"name": "user", "kind": "id"}, {"name": "city", "kind": "hash", "buckets": 9},
              {"name": "both", "kind": "id", "cross": ["user", "city"]}]
    examples = opened(fields, user=pa.array(["ann", "bob", "ann", None]),
                      city=pa.array(["x", "x", "x", "y"]))
    ann, bob = rows_of(examples, "both")[0], rows_of(examples, "both")[1]
    assert rows_of(examples, "both") == [ann, bob, ann, [3]]
    assert ann != bob
    day = examples.days[0]
    texts = day.values()[day.section("both")]
    assert sorted(texts) == ["ann × x", "bob × x"]
    signs = dict(zip(texts, day.array("signs")[day.section("both")].tolist(), strict=True))
    pair = [signs_of(name, tf.constant([value])) for name, value in (("user", "ann"),
                                                                     ("city", "x"))]
    assert signs["ann × x"] == int(signs_of_pairs("both", *pair)[0])
    assert day.array("counts")[day.section("both")].sum() == 3


def test_a_cross_tells_pairs_from_their_mirror_and_their_joined_text():
    one, other = (tf.constant([value], tf.int64) for value in (12, 3))
    signs = {int(signs_of_pairs("c", *pair)[0])
             for pair in ((one, other), (other, one), (tf.constant([1], tf.int64),
                                                       tf.constant([23], tf.int64)))}
    assert len(signs) == 3
    assert int(signs_of_pairs("c", one, tf.zeros(1, tf.int64))[0]) == 0


def test_a_cross_of_columns_without_values_is_missing_everywhere(opened):
    fields = [{"name": "user", "kind": "id"}, {"name": "city", "kind": "id"},
              {"name": "both", "kind": "hash", "cross": ["user", "city"], "buckets": 4}]
    assert rows_of(opened(fields, city=pa.nulls(4)), "both") == [[3]] * 4


# numbers

def test_log_buckets_are_even_in_the_logarithm(opened):
    examples = opened([{"name": "age", "kind": "number", "scale": "log", "buckets": 3}],
                      age=pa.array([0.0, np.e**3 - 1, np.e - 0.9, np.e**2 - 0.9]))
    np.testing.assert_allclose(examples.row_map.boundaries_of(0), [np.e - 1, np.e**2 - 1],
                               rtol=1e-6)
    assert rows_of(examples, "age") == [[2], [4], [3], [4]]


def test_log_buckets_of_both_signs_and_missing(opened):
    examples = opened([{"name": "age", "kind": "number", "scale": "log", "buckets": 2}],
                      age=pa.array([-9.0, 9.0, None, 1e-3]))
    assert examples.row_map.boundaries_of(0).tolist() == [0]
    assert rows_of(examples, "age") == [[2], [3], [1], [3]]


def test_a_direct_number_is_one_row_times_the_normalised_value(opened):
    examples = opened([{"name": "age", "kind": "number", "direct": True}],
                      age=pa.array([2.0, 4.0, None, 6.0]))
    deviation = np.sqrt(8 / 3)
    np.testing.assert_allclose(examples.dense[:, 0], [-2 / deviation, 0, 1, 2 / deviation],
                               rtol=1e-6)
    assert rows_of(examples, "age") == [[2], [2], [1], [2]]
    assert examples.row_map.num_rows == 3
    assert examples.numbers("age", np.array([3, 0])).tolist() == [6, 2]


def test_a_direct_number_far_out_is_clipped(opened):
    values = pa.array([0.0, 1.0] * 200 + [1e30, None])
    rest = {"click": pa.array([0, 1] * 201), "ts": pa.array(range(402)),
            "user": pa.array(["u"] * 402), "tags": None, "weight": None}
    examples = opened([{"name": "age", "kind": "number", "direct": True}], age=values, **rest)
    assert examples.dense[-2:, 0].tolist() == [10, 1]


def test_a_constant_and_an_empty_number_are_not_divided_by_zero(opened):
    fields = [{"name": name, "kind": "number", "direct": True} for name in ("age", "height")]
    examples = opened(fields, age=pa.array([3.0] * 4), height=pa.nulls(4))
    assert examples.dense.tolist() == [[0, 1]] * 4


# vectors

COVER = [[3.0, -4.0], None, [0.0, 0.0], [3.0, 4.0]]


@pytest.mark.parametrize("kind", [pa.float32(), pa.float64(), pa.int64()], ids=str)
@pytest.mark.parametrize("list_of", [pa.list_, pa.large_list], ids=["list", "large"])
def test_a_column_of_vectors(opened, kind, list_of):
    examples = opened([{"name": "cover", "kind": "vector", "size": 2}],
                      cover=pa.array(COVER, list_of(kind)))
    # Divided by the root of the mean square of its numbers, sqrt(50 / 6); angles stay.
    np.testing.assert_allclose(examples.dense,
                               np.array([[3, -4], [0, 0], [0, 0], [3, 4]]) / np.sqrt(50 / 6),
                               rtol=1e-6)
    assert rows_of(examples, "cover") == [[2], [1], [2], [2]]


def test_vectors_of_fixed_size_are_the_same(opened):
    examples = opened([{"name": "cover", "kind": "vector", "size": 2}],
                      cover=pa.array([[3.0, -4.0]] * 4, pa.list_(pa.float32(), 2)))
    assert (examples.dense[:, 1] < 0).all()
    assert rows_of(examples, "cover") == [[2]] * 4


@pytest.mark.parametrize(("cover", "message"), [
    (pa.array([[1.0, 2.0]] * 3 + [[1.0]]),
     r"vector `cover` must have 2 numbers, got 1 in 1 of 4 rows\. Correct size in the schema"),
    (pa.array([[1.0, 2.0]] * 3 + [[]]), r"must have 2 numbers, got 0 in 1 of 4 rows"),
    (pa.array([[1.0, np.nan], [np.inf, 1.0], None, [None, 1.0]]),
     r"vector `cover` holds null, NaN or infinity \(or numbers beyond float32\) in 3 of 4 rows\."),
    (pa.array([[1e300, 2.0]] * 4), r"holds null, NaN or infinity .* in 4 of 4 rows"),
    (pa.array([["a", "b"]] * 4), r"column `cover` must be a list of numbers for kind vector, got"),
    (pa.array([1.0, 2.0, 3.0, 4.0]), r"must be a list of numbers for kind vector, got double"),
    (pa.array([[[1.0, 2.0]]] * 4), r"must be a list of numbers for kind vector, got list"),
])
def test_wrong_vectors_are_refused_with_file_and_column(opened, cover, message):
    with pytest.raises(DataError, match=r"part-0\.parquet: .*" + message):
        opened([{"name": "cover", "kind": "vector", "size": 2}], cover=cover)


# vectors of a file

def vector_file(tmp_path, keys=("ann", "zoe"), vectors=((1.0, 2.0), (3.0, 4.0)), name="v.parquet"):
    path = tmp_path / name
    if path.suffix == ".npz":
        np.savez(path, key=np.array(keys), vector=np.array(vectors))
    else:
        pq.write_table(pa.table({"key": pa.array(list(keys)),
                                 "vector": pa.array(list(vectors))}), path)
    return {"name": "vec", "kind": "vector", "file": str(path), "key": "user"}


@pytest.mark.parametrize("name", ["v.parquet", "v.npz"])
def test_vectors_of_a_file_are_rows_of_a_table_of_their_own(opened, tmp_path, name):
    examples = opened([{"name": "user", "kind": "id"}, vector_file(tmp_path, name=name)],
                      user=pa.array(["ann", "bob", None, "ann"]))
    vectors = examples.row_map.vectors["vectors_vec"]
    assert examples.row_map.table_rows == {"main": 4, "vectors_vec": 4}
    (ann,), unseen, missing, again = rows_of(examples, "vec")
    assert vectors[ann].tolist() == [1, 2]
    assert ann == again[0]
    assert unseen == missing == [1]
    assert not vectors[:2].any()
    # A key that is in no row of the lake has its row as well: it may come when it is served.
    assert sorted(vectors[2:].tolist()) == [[1, 2], [3, 4]]
    folder = tmp_path / "map"
    folder.mkdir()
    examples.row_map.save(folder)
    np.testing.assert_array_equal(load_row_map(folder).vectors["vectors_vec"], vectors)


def test_the_fingerprint_of_the_examples_covers_the_file(opened, tmp_path):
    fields = [{"name": "user", "kind": "id"}, vector_file(tmp_path)]
    one = opened(fields).fingerprint
    assert opened(fields).fingerprint == one
    vector_file(tmp_path, vectors=((1.0, 2.0), (3.0, 5.0)))
    assert opened(fields).fingerprint != one


def test_integer_keys_are_those_of_integer_columns(opened, tmp_path):
    examples = opened([{"name": "user", "kind": "id"}, vector_file(tmp_path, keys=(7, 8))],
                      user=pa.array([7, 8, 9, None]))
    assert sorted(rows_of(examples, "vec")) == [[1], [1], [2], [3]]


@pytest.mark.parametrize(("keys", "vectors", "message"), [
    (("a", "a"), ((1.0,), (2.0,)), r"`key` 'a' stands in more than one row"),
    (("a", ""), ((1.0,), (2.0,)), r"`key` is null or empty in 1 of 2 rows"),
    (("a", None), ((1.0,), (2.0,)), r"`key` is null or empty in 1 of 2 rows"),
    (("a", "b"), ((1.0,), (2.0, 3.0)), r"every `vector` must have the same number of values, got "
                                       r"1, 2"),
    (("a", "b"), ((1.0,), None), r"every `vector` must have the same number of values, got null"),
    (("a", "b"), ((1.0,), (np.nan,)), r"`vector` holds NaN or infinity .* in 1 of 2 rows"),
    ((1.5, 2.5), ((1.0,), (2.0,)), r"column `key` must be string or integer for kind id"),
    (("a", "b"), ("x", "y"), r"cannot be read: .* Expected the columns `key`"),
    ((), (), r"v\.parquet .*(holds no vectors|cannot be read)"),
])
def test_a_wrong_file_of_vectors_is_refused(opened, tmp_path, keys, vectors, message):
    with pytest.raises(DataError, match=message):
        opened([{"name": "user", "kind": "id"}, vector_file(tmp_path, keys, vectors)])


@pytest.mark.parametrize("name", ["v.parquet", "v.npz"])
def test_what_is_no_file_of_vectors_is_refused(opened, tmp_path, name):
    field = vector_file(tmp_path, name=name)
    (tmp_path / name).write_bytes(b"something else")
    with pytest.raises(DataError, match=name + " cannot be read"):
        opened([{"name": "user", "kind": "id"}, field])


# tables by size, privileged fields

def test_rows_are_numbered_in_each_table(opened):
    examples = opened([{"name": "user", "kind": "id"}, {"name": "city", "kind": "id", "size": 2},
                       {"name": "zone", "kind": "id", "size": 2},
                       {"name": "age", "kind": "number", "privileged": True, "buckets": 2}],
                      city=pa.array(["x", "y", "x", "y"]), zone=pa.array(["n"] * 4))
    assert examples.row_map.table_rows == {"main": 5, "size2": 6, "privileged": 4}
    assert examples.row_map.oov_rows.tolist() == [1, 1, 2, 1]
    assert sorted(rows_of(examples, "city")) == [[3], [3], [4], [4]]
    assert rows_of(examples, "zone") == [[5]] * 4
    assert rows_of(examples, "age") == [[2], [3], [1], [3]]


def test_what_a_student_is_served_with_has_no_cell_of_a_privileged_field(opened):
    examples = opened([{"name": "age", "kind": "number", "direct": True, "privileged": True},
                       {"name": "user", "kind": "id"}, {"name": "city", "kind": "id",
                                                        "privileged": True}],
                      city=pa.array(["x", "y", "x", "y"]))
    rows, dense = examples.public_inputs(np.array([2, 1]))
    np.testing.assert_array_equal(rows, examples.rows[[2, 1], 1:2])
    assert dense.shape == (2, 0)
    row_map = examples.row_map.only(examples.schema, examples.schema.public)
    assert row_map.table_rows == {"main": 5}
    assert set(row_map.signs.tolist()) == set(
        signs_of("user", tf.constant(["ann", "bob", "cy"])).numpy().tolist())
    assert row_map.oov_rows.tolist() == [1]
    assert row_map.rows_of_signs(row_map.signs, 1).tolist() == row_map.rows.tolist()


# personal values

@pytest.fixture
def key(monkeypatch):
    monkeypatch.setenv("DUALDNN_PII_KEY", KEY)
    return KEY.encode()


def test_a_pseudonym_is_keyed_blake2b(key):
    expected = hashlib.blake2b("ann é".encode(), key=key, digest_size=16).hexdigest()
    assert pseudonym("ann é", key) == expected
    assert len(expected) == 32
    assert pseudonym("", key) == ""
    assert pseudonym("ann é", key + b"!") != expected


@pytest.mark.parametrize(("value", "problem"), [
    (None, "is not set"), ("", "is not set"), ("hunter", "has 6 bytes"), ("x" * 65, "has 65 bytes"),
])
def test_a_key_that_is_missing_or_short_is_refused_and_never_shown(monkeypatch, opened, value,
                                                                  problem):
    monkeypatch.delenv("DUALDNN_PII_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("DUALDNN_PII_KEY", value)
    with pytest.raises(ConfigError, match=f"environment variable DUALDNN_PII_KEY, but it {problem}"
                       ) as caught:
        opened([{"name": "user", "kind": "id", "pii": True}])
    assert not value or value not in str(caught.value)


def test_personal_values_are_signed_as_pseudonyms_and_leave_no_text(opened, key):
    examples = opened([{"name": "user", "kind": "id", "pii": True}, {"name": "city", "kind": "id"}],
                      more={"group": "user"}, city=pa.array(["x"] * 4),
                      user=pa.array(["ann", None, "", "bob"]))
    day = examples.days[0]
    names = [pseudonym(name, key) for name in ("ann", "bob")]
    expected = signs_of("user", tf.constant(names)).numpy()
    assert sorted(day.array("signs")[day.section("user")].tolist()) == sorted(expected.tolist())
    assert day.array("groups").tolist() == [expected[0], 0, 0, expected[1]]
    assert examples.groups[[0, 3]].tolist() == expected.tolist()
    assert day.values() == ["", "", "x"]
    for path in day.path.rglob("*"):
        assert b"ann" not in path.read_bytes()


def test_another_key_is_another_encoding(opened, key, monkeypatch, tmp_path):
    fields = [{"name": "user", "kind": "id", "pii": True}]
    one = opened(fields)
    monkeypatch.setenv("DUALDNN_PII_KEY", KEY + "!")
    other = opened(fields)
    assert one.days[0].path != other.days[0].path
    assert not set(one.row_map.signs.tolist()) & set(other.row_map.signs.tolist())
    assert key_fingerprint(key) != key_fingerprint(key + b"!")
    # Nobody tells the key from what is stored.
    for path in (tmp_path / "state").rglob("*"):
        assert KEY not in path.name
        assert not path.is_file() or KEY.encode() not in path.read_bytes()


# sampling rates

def test_sampling_rates_by_row(opened):
    examples = opened([{"name": "user", "kind": "id"}], more={"sampling_rate": "rate"},
                      rate=pa.array([0.5, 1.0, 0.25, 0.25]))
    assert examples.sampling_rates.tolist() == [0.5, 1, 0.25, 0.25]
    # The negatives, rows 0 and 3, stand for 2 and 4 rows: 2 of 6 were kept.
    assert examples.negative_rate == pytest.approx(2 / 6)


def test_one_sampling_rate_for_all(opened):
    examples = opened([{"name": "user", "kind": "id"}], more={"sampling_rate": 0.25})
    assert examples.sampling_rates.tolist() == [0.25] * 4
    assert examples.negative_rate == 0.25
    assert opened([{"name": "user", "kind": "id"}]).sampling_rates is None


@pytest.mark.parametrize("rate", [0.0, -0.5, 1.5, None, np.nan, 1e-60])
def test_a_rate_that_is_no_probability_is_refused(opened, rate):
    with pytest.raises(DataError, match=r"sampling_rate `rate` must lie in \(0, 1\], got .* in 1 "):
        opened([{"name": "user", "kind": "id"}], more={"sampling_rate": "rate"},
               rate=pa.array([0.5, rate, 1.0, 1.0]))


# every kind at once, whole or column by column

def test_reading_a_day_column_by_column_gives_the_same_bytes(tmp_path, key, monkeypatch):
    lake, schema = write_rich_lake(tmp_path), rich_schema(tmp_path, sampling_rate="rate")
    whole = encode_days(lake, lake.days(), schema, tmp_path / "whole")
    monkeypatch.setattr(encoding, "_WHOLE_BYTES", 0)
    split = encode_days(lake, lake.days(), schema, tmp_path / "split")
    for one, other in zip(whole, split, strict=True):
        assert one.meta == other.meta
        names = sorted(path.name for path in one.path.iterdir())
        assert names == sorted(path.name for path in other.path.iterdir())
        for name in names:
            assert (one.path / name).read_bytes() == (other.path / name).read_bytes(), name


def test_a_file_that_changes_while_it_is_read_is_noticed(opened, lake, monkeypatch):
    monkeypatch.setattr(encoding, "_WHOLE_BYTES", 0)
    read = type(lake).read

    def shorter(self, day, schema):
        table = read(self, day, schema)
        return table.slice(0, 3) if schema.fields and not schema.label else table

    monkeypatch.setattr(type(lake), "read", shorter)
    with pytest.raises(DataError, match="the column `user` has 3 rows, the label 4: the day's "
                                        "files changed"):
        opened([{"name": "user", "kind": "id"}])
