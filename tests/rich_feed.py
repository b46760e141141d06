"""A tiny feed with every kind of field, beside `tiny_run`, whose models and trainers it uses."""

import dualdnn  # noqa: F401, I001  (first: it selects the Keras API)

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dualdnn.data.examples import open_examples
from dualdnn.data.lake import Lake
from dualdnn.data.window import TimeFraction
from dualdnn.schema import schema_from_dict

KEY = "sixteen bytes or more"
DAYS, ROWS_A_DAY, ITEMS = 3, 120, 30
# Items 0 to 24 have a vector in the file, and so has one that is in no row.
FILE_KEYS = [*range(25), "unseen"]


def fields(vector_file):
    return [
        {"name": "user", "kind": "id", "side": "user", "pii": True},
        {"name": "item", "kind": "id", "side": "item", "min_count": 3},
        {"name": "hour", "kind": "hash", "buckets": 7, "size": 2},
        {"name": "seen", "kind": "sequence", "of": "item", "max_length": 3, "side": "user"},
        {"name": "related", "kind": "ids", "table": "item", "max_length": 2, "side": "item"},
        {"name": "city", "kind": "id", "size": 2},
        {"name": "age", "kind": "number", "scale": "log", "buckets": 4, "side": "user"},
        {"name": "price", "kind": "number", "direct": True, "side": "item"},
        {"name": "balance", "kind": "number", "direct": True, "scale": "log"},
        {"name": "cover", "kind": "vector", "size": 3, "side": "item"},
        {"name": "item_vec", "kind": "vector", "file": str(vector_file), "key": "item",
         "frozen": True},
        {"name": "tuned_vec", "kind": "vector", "file": str(vector_file), "key": "item"},
        {"name": "user_x_hour", "kind": "id", "cross": ["user", "hour"], "pii": True},
        {"name": "item_x_city", "kind": "hash", "cross": ["item", "city"], "buckets": 50},
        {"name": "dwell", "kind": "number", "privileged": True},
        {"name": "touch", "kind": "vector", "size": 2, "privileged": True},
        {"name": "next", "kind": "id", "table": "item", "privileged": True},
        {"name": "stop", "kind": "id", "privileged": True, "size": 3},
    ]


def rich_schema(folder, *, only=None, **changes):
    """The schema of the feed in `folder`; `only` some of its fields."""
    kept = [field for field in fields(folder / "vectors.parquet")
            if only is None or field["name"] in only]
    return schema_from_dict({"name": "rich", "label": "click", "timestamp": "ts", "group": "user",
                             "fields": kept, **changes})


def some_missing(rng, values, share=0.1):
    return [None if rng.random() < share else value for value in values]


def write_rich_lake(folder):
    """Three days in which items decide about the click; of every column some values are missing.

    The column `rate` is the probability with which the row would have been kept as a negative.
    """
    rng = np.random.default_rng(11)
    taste = rng.normal(size=ITEMS)
    for day in range(DAYS):
        item = rng.integers(0, ITEMS, ROWS_A_DAY)
        user = rng.integers(0, 12, ROWS_A_DAY)
        click = rng.random(ROWS_A_DAY) < 1 / (1 + np.exp(-taste[item]))
        part = folder / "lake" / f"dt=2024-03-0{day + 1}"
        part.mkdir(parents=True)
        lists = [rng.integers(0, ITEMS, rng.integers(0, 5)).tolist() for _ in item]
        columns = {
            "click": pa.array(click.astype(np.int64)),
            "ts": pa.array(1_709_251_200 + 86_400 * day + np.arange(ROWS_A_DAY)),
            "user": pa.array(some_missing(rng, [f"person-{u}" for u in user])),
            "item": pa.array(some_missing(rng, item.tolist()), pa.int64()),
            "hour": pa.array(some_missing(rng, rng.integers(0, 24, ROWS_A_DAY).tolist())),
            "seen": pa.array(some_missing(rng, lists), pa.list_(pa.int64())),
            "related": pa.array([[str(i), "none"][: i % 3] for i in item], pa.list_(pa.string())),
            "city": pa.array(some_missing(rng, [f"c{u % 4}é" for u in user])),
            "age": pa.array(some_missing(rng, (rng.normal(size=ROWS_A_DAY) * 40).tolist())),
            "price": pa.array(some_missing(rng, rng.exponential(9, ROWS_A_DAY).tolist())),
            "balance": pa.array(some_missing(rng, (rng.normal(size=ROWS_A_DAY) * 1e4).tolist())),
            "cover": pa.array(some_missing(rng, rng.normal(size=(ROWS_A_DAY, 3)).tolist()),
                              pa.list_(pa.float32())),
            "dwell": pa.array(rng.exponential(30, ROWS_A_DAY) * (1 + click)),
            "touch": pa.array(some_missing(rng, rng.normal(size=(ROWS_A_DAY, 2)).tolist()),
                              pa.list_(pa.float64())),
            "next": pa.array(some_missing(rng, rng.integers(0, ITEMS, ROWS_A_DAY).tolist())),
            "stop": pa.array(np.where(click, "finished", "left")),
            "rate": pa.array(np.where(item % 2, 0.5, 0.2)),
        }
        pq.write_table(pa.table(columns), part / "part.parquet")
    (part / "_SUCCESS").touch()
    pq.write_table(pa.table({
        "key": pa.array([str(key) for key in FILE_KEYS]),
        "vector": pa.array(rng.normal(size=(len(FILE_KEYS), 6)).tolist(), pa.list_(pa.float32())),
    }), folder / "vectors.parquet")
    return Lake(folder / "lake")


def open_rich(folder, **changes):
    """The examples of the feed in `folder`, written there if it is missing."""
    lake = Lake(folder / "lake") if (folder / "lake").exists() else write_rich_lake(folder)
    return open_examples(lake=lake, schema=rich_schema(folder, **changes), state=folder / "state",
                         window=TimeFraction(train=0.6, valid=0.2, test=0.2))
