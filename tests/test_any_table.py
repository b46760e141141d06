"""Any table that fits a schema comes out of the exported graph as the rows it went in as."""

import dualdnn  # noqa: F401, I001  (first: it selects the Keras API)

import math
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dualdnn.data import encoding
from dualdnn.data.examples import open_examples
from dualdnn.data.lake import Lake
from dualdnn.data.pseudonyms import pseudonym
from dualdnn.data.signs import signs_of
from dualdnn.data.window import Rolling
from dualdnn.export.serving_graph import ServingGraph, raw_features
from dualdnn.schema import schema_from_dict



class Long(str):
    """A text that hypothesis does not print in full."""

    __slots__ = ()

    def __repr__(self):
        return "a very long text"


KEY = b"0123456789abcdef"
HARD = ["", "a", "a\nb", "\0", "a\0", "é", "e\u0301", "日本", "🦊", " ", "a ", "'\"", "NaN", "None",
        "null", "\x1f", "a\x1fb", ",", str(2**63), str(-2**63), "1.0", "01", "\ufeff"]
TEXTS = st.one_of(st.none(), st.sampled_from(HARD), st.just(Long("x" * 70_000)),
                  st.text(st.characters(exclude_categories=["Cs"]), max_size=12))
INTEGERS = st.one_of(st.none(), st.integers(0, 2**64 - 1), st.sampled_from([0, 2**63, 2**64 - 1]))
LISTS = st.one_of(st.none(), st.lists(TEXTS, max_size=6))
NUMBERS = st.one_of(st.none(), st.just(math.nan), st.floats(-2.0**127, 2.0**127, width=32,
                                                           allow_subnormal=False),
                    st.sampled_from([0.0, -0.0, 1e-45, 3.4e38]))
VECTORS = st.one_of(st.none(), st.lists(
    st.floats(-2.0**60, 2.0**60, width=32, allow_subnormal=False), min_size=2, max_size=2))

FIELDS = [
    {"name": "text", "kind": "id"}, {"name": "rare", "kind": "id", "min_count": 2, "size": 3},
    {"name": "whole", "kind": "id"}, {"name": "hashed", "kind": "hash", "buckets": 7},
    {"name": "tags", "kind": "ids", "max_length": 3},
    {"name": "seen", "kind": "sequence", "of": "text", "max_length": 2},
    {"name": "more", "kind": "ids", "table": "tags", "max_length": 4},
    {"name": "person", "kind": "id", "pii": True},
    {"name": "level", "kind": "number", "buckets": 3},
    {"name": "amount", "kind": "number", "buckets": 3, "scale": "log"},
    {"name": "price", "kind": "number", "direct": True},
    {"name": "depth", "kind": "number", "direct": True, "scale": "log"},
    {"name": "cover", "kind": "vector", "size": 2},
    {"name": "both", "kind": "id", "cross": ["text", "hashed"]},
    {"name": "crossed", "kind": "hash", "cross": ["person", "whole"], "buckets": 5, "pii": True},
]
TYPES = {"text": pa.string(), "rare": pa.string(), "whole": pa.uint64(), "hashed": pa.string(),
         "tags": pa.list_(pa.string()), "seen": pa.list_(pa.string()),
         "more": pa.large_list(pa.large_string()), "person": pa.string(), "level": pa.float32(),
         "amount": pa.float64(), "price": pa.float32(), "depth": pa.float64(),
         "cover": pa.list_(pa.float32())}
ROW = st.fixed_dictionaries({
    "text": TEXTS, "rare": TEXTS, "whole": INTEGERS, "hashed": TEXTS, "tags": LISTS, "seen": LISTS,
    "more": LISTS, "person": TEXTS, "level": NUMBERS, "amount": NUMBERS, "price": NUMBERS,
    "depth": NUMBERS, "cover": VECTORS,
})
SCHEMA = schema_from_dict({"name": "any", "label": "y", "timestamp": "t", "fields": FIELDS,
                           "group": "person"})


@pytest.fixture(autouse=True, params=["whole", "by column"])
def key(monkeypatch, request):
    monkeypatch.setenv("DUALDNN_PII_KEY", KEY.decode())
    if request.param == "by column":
        monkeypatch.setattr(encoding, "_WHOLE_BYTES", 0)


def opened(folder, rows):
    part = folder / "lake" / "dt=2024-01-01"
    part.mkdir(parents=True)
    columns = {name: pa.array([row[name] for row in rows], kind) for name, kind in TYPES.items()}
    pq.write_table(pa.table({**columns, "y": pa.array([0] * len(rows)),
                             "t": pa.array([7] * len(rows))}), part / "p.parquet", row_group_size=4)
    (part / "_SUCCESS").touch()
    lake = Lake(folder / "lake")
    return lake, open_examples(lake=lake, schema=SCHEMA, state=folder / "state",
                               window=Rolling(days=1, holdout_days=0))


def expected_row(examples, name, value, namespace=None):
    """The row of one value by the row map and the definition of a sign; None is missing."""
    position = SCHEMA.fields.index(SCHEMA.field(name))
    oov = int(examples.row_map.oov_rows[position])
    if value in (None, ""):
        return oov
    sign = signs_of(namespace or name, tf.constant([str(value)])).numpy()
    if SCHEMA.field(name).kind == "hash":
        first = int(examples.row_map.bucket_rows[position])
        return first + int(sign[0]) % 2**64 % SCHEMA.field(name).buckets
    return int(examples.row_map.rows_of_signs(sign, oov)[0])


@settings(max_examples=12, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow,
                                 HealthCheck.data_too_large, HealthCheck.large_base_example])
@given(st.lists(ROW, min_size=1, max_size=8))
def test_any_table_comes_out_of_the_exported_graph_as_it_went_in(rows):
    with tempfile.TemporaryDirectory() as scratch:
        lake, examples = opened(Path(scratch), rows)
        everything = np.arange(len(rows))
        batch = examples.batch(everything[::-1])
        graph = ServingGraph(schema=SCHEMA, row_map=examples.row_map, variables=[],
                             score=lambda rows, _: tf.zeros(len(rows)))
        table = lake.read(examples.days[0].day, SCHEMA)
        features = {
            name: tf.constant(value, tf.string if value.dtype == object else tf.float32)
            for name, value in raw_features(SCHEMA, table, KEY).items()}
        served = tf.function(lambda given: (graph.rows_of(given), graph.dense_of(given)))
        found = served(features)
        np.testing.assert_array_equal(found[0], batch.rows[::-1])
        # Two libraries may round the last digit of a logarithm differently.
        np.testing.assert_allclose(found[1], batch.dense[::-1], rtol=1e-6, atol=1e-6)
        assert np.isfinite(examples.dense).all()

    for number, row in enumerate(rows):
        def cells(name, number=number):
            return examples.rows[number, SCHEMA.cells(name)].tolist()

        for name in ("text", "rare", "whole", "hashed"):
            assert cells(name) == [expected_row(examples, name, row[name])], (name, row[name])
        secret = pseudonym(row["person"] or "", KEY)
        assert cells("person") == [expected_row(examples, "person", secret)]
        for name, namespace in (("tags", None), ("seen", "text"), ("more", "tags")):
            width = SCHEMA.field(name).max_length
            kept = (row[name] or [])[:width]
            wanted = [expected_row(examples, name, value, namespace) if value else 0
                      for value in kept]
            wanted += [0] * (width - len(wanted))
            if not any(wanted):
                wanted[0] = expected_row(examples, name, None)
            assert cells(name) == wanted, (name, row[name])
        for name in ("level", "amount", "price", "depth", "cover"):
            position = SCHEMA.fields.index(SCHEMA.field(name))
            missing = row[name] is None or (name != "cover" and math.isnan(row[name]))
            assert (cells(name) == [examples.row_map.oov_rows[position]]) == missing
    # Every value that occurs has a row of its own, and no two values share one.
    values = {row["text"] for row in rows if row["text"]} | {
        value for row in rows for value in (row["seen"] or [])[:2] if value}
    owned = {expected_row(examples, "text", value) for value in values}
    assert len(owned) == len(values)
    assert 1 not in owned
