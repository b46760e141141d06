"""A damaged or odd lake is refused by name, or read as plain Python reads it, row by row."""

import dualdnn  # noqa: F401, I001  (first: it selects the Keras API)

import datetime
import decimal
import json
import math
import os
import random
import shutil
import struct
import threading
from dataclasses import dataclass
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from dualdnn import storage
from dualdnn.data import encoding
from dualdnn.data.encoding import encoded_folder
from dualdnn.data.examples import open_examples
from dualdnn.data.lake import Lake
from dualdnn.data.window import Rolling
from dualdnn.errors import DataError
from dualdnn.schema import schema_from_dict

DAYS = ["2024-01-01", "2024-01-02", "2024-01-03"]
FIRST_SECOND = 1_704_067_200
ROWS_A_FILE = 34
FIELDS = [
    {"name": "user", "kind": "id"}, {"name": "item", "kind": "id"},
    {"name": "tags", "kind": "ids", "max_length": 3},
    {"name": "age", "kind": "number", "buckets": 4},
    {"name": "url", "kind": "hash", "buckets": 50},
    {"name": "seen", "kind": "sequence", "of": "item", "max_length": 2},
    {"name": "emb", "kind": "vector", "size": 3},
]
SCHEMA = schema_from_dict({"name": "feed", "label": "click", "timestamp": "ts", "group": "user",
                           "weight": "weight", "sampling_rate": "rate", "fields": FIELDS})
TYPES = {
    "click": pa.int64(), "ts": pa.int64(), "user": pa.string(), "item": pa.int64(),
    "tags": pa.list_(pa.string()), "age": pa.float64(), "url": pa.string(),
    "seen": pa.list_(pa.int64()), "emb": pa.list_(pa.float32()), "weight": pa.float64(),
    "rate": pa.float64(),
}
# Every message says what to do, in one of these words.
ADVICE = (r"\b(Write|Cast|Correct|Remove|"
          r"Derive|Divide|Repair|Rename|Move|Use|Start|Every row needs)\b")


def sound_table(seed, day):
    draw = random.Random(seed)

    def some(value):
        return value if draw.random() > 0.1 else None

    rows = [{
        "click": draw.randrange(2),
        "ts": FIRST_SECOND + 86_400 * DAYS.index(day) + draw.randrange(86_400),
        "user": some(f"u{draw.randrange(20)}"), "item": some(draw.randrange(30)),
        "tags": some([some(draw.choice("abcdé")) for _ in range(draw.randrange(5))]),
        "age": some(draw.uniform(-5, 90)), "url": some(f"/p/{draw.randrange(99)}"),
        "seen": some([draw.randrange(30) for _ in range(draw.randrange(4))]),
        "emb": some([draw.gauss(0, 1) for _ in range(3)]),
        "weight": draw.choice([0.0, 0.5, 1.0]), "rate": draw.choice([0.25, 1.0]),
    } for _ in range(ROWS_A_FILE)]
    return pa.table({name: pa.array([row[name] for row in rows], kind)
                     for name, kind in TYPES.items()})


def rewrite(path, data):
    """Some file systems wait for the disk where a file is written over, but not for a new one."""
    path.unlink()
    path.write_bytes(data)


def write(table, path, **options):
    path.unlink(missing_ok=True)
    pq.write_table(table, path, write_page_checksum=True, **options)


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A sound lake of three days with two files each."""
    root = tmp_path_factory.mktemp("sound") / "lake"
    for number, day in enumerate(DAYS):
        folder = root / f"dt={day}"
        folder.mkdir(parents=True)
        for part in (0, 1):
            write(sound_table(10 * number + part, day), folder / f"{'ab'[part]}.parquet")
    (root / f"dt={DAYS[-1]}" / "_SUCCESS").touch()
    return root


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    """Nobody pulls the plug here."""
    monkeypatch.setattr(storage, "_sync", lambda path: None)


@pytest.fixture
def root(template, tmp_path):
    return Path(shutil.copytree(template, tmp_path / "lake"))


# The slow reading: no code of the library, no vectorised step.

class Unsound(Exception):
    """The slow reading finds a value that means nothing."""


def text_of(value):
    if value is None or isinstance(value, bool | int | str):
        plain = str(value).lower() if isinstance(value, bool) else str(value)
        return None if value in (None, "") else plain
    raise Unsound(value)


def number_of(value):
    if value is None or isinstance(value, int | float | decimal.Decimal):
        with np.errstate(over="ignore"):
            found = math.nan if value is None else float(np.float32(float(value)))
        if math.isinf(found):
            raise Unsound(value)
        return None if math.isnan(found) else found if abs(found) >= 2.0**-126 else 0.0
    raise Unsound(value)


def seconds_of(value):
    if isinstance(value, datetime.datetime):
        value = value.replace(tzinfo=value.tzinfo or datetime.UTC)
        value = math.floor(value.timestamp())
    if type(value) is not int or not 0 <= value < 10**11:
        raise Unsound(value)
    return value


def list_of(values, width):
    if values is not None and not isinstance(values, list):
        raise Unsound(values)
    kept = [text_of(value) for value in values or []][:width]
    return kept + [None] * (width - len(kept))


def vector_of(values):
    if values is None:
        return None
    found = [number_of(value) for value in values]
    if len(found) != 3 or None in found:
        raise Unsound(values)
    return found


def row_of(given):
    weight, rate = number_of(given["weight"]), number_of(given["rate"])
    if given["click"] not in (0, 1) or weight is None or weight < 0 or not (
            rate is not None and 0 < rate <= 1):
        raise Unsound(given)
    return {
        "click": int(given["click"]), "ts": seconds_of(given["ts"]), "weight": weight,
        "rate": rate, "user": text_of(given["user"]), "item": text_of(given["item"]),
        "tags": list_of(given["tags"], 3), "age": number_of(given["age"]),
        "url": text_of(given["url"]), "seen": list_of(given["seen"], 2),
        "emb": vector_of(given["emb"]),
    }


def records_of(path):
    """The rows of a TFRecord file, by its frames: length, checksum, record, checksum."""
    data, at = path.read_bytes(), 0
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        features = tf.train.Example.FromString(data[at + 12:at + 12 + length]).features.feature
        row = {}
        for name, kind in TYPES.items():
            feature = features[name]
            kind_of_values = feature.WhichOneof("kind")
            values = list(getattr(feature, kind_of_values).value) if kind_of_values else []
            values = [one.decode() if isinstance(one, bytes) else one for one in values]
            row[name] = (values or None) if pa.types.is_list(kind) else (values or [None])[0]
        yield row
        at += length + 16


def slow_reading(root):
    """Every row of the lake, by day, in the order of the files' names."""
    found = {}
    for folder in sorted(root.glob("dt=*")):
        rows = []
        for path in sorted(folder.iterdir()):
            if path.name[0] in "._":
                continue
            if path.name.endswith(".parquet"):
                rows += [row_of(row) for row in pq.ParquetFile(path).read().to_pylist()]
            elif path.name.endswith(".tfrecord"):
                rows += [row_of(row) for row in records_of(path)]
        if rows:
            found[folder.name] = rows
    return found


# What the library read, as the same rows.

def rows_read(examples):
    found, start = {}, 0
    for day in examples.days:
        texts = [*day.values()]

        def cells(name, day=day, texts=texts):
            return [[texts[cell] if 0 <= cell < len(texts) else None for cell in row]
                    for row in day.cells(name).tolist()]

        part = slice(start, start + day.rows)
        start += day.rows
        columns = {
            "click": examples.labels[part].astype(int).tolist(),
            "ts": day.array("timestamps").tolist(), "weight": examples.weights[part].tolist(),
            "rate": examples.sampling_rates[part].tolist(),
            **{name: [value for value, in cells(name)] for name in ("user", "item", "url")},
            "tags": cells("tags"), "seen": cells("seen"),
            "age": [None if math.isnan(v) else v for v in day.numbers("age").tolist()],
            "emb": [None if math.isnan(v[0]) else v for v in day.vectors("emb").tolist()],
        }
        found[f"dt={day.day}"] = [dict(zip(columns, row, strict=True))
                                  for row in zip(*columns.values(), strict=True)]
    return found


def check_model_rows(examples, rows, trained):
    """Rows of the tables: one per value known from training, else that for unknown."""
    known = {"user": set(), "tags": set(), "item": set()}
    for row in (one for one in rows[:trained] if one["weight"] > 0):
        known["user"].add(row["user"])
        known["item"].update([row["item"], *row["seen"]])
        known["tags"].update(row["tags"])
    owner = {}
    for name, namespace in (("user", "user"), ("item", "item"), ("seen", "item"), ("tags", "tags"),
                            ("url", None)):
        oov = int(examples.row_map.oov_rows[SCHEMA.fields.index(SCHEMA.field(name))])
        got = examples.rows[:, SCHEMA.cells(name)].tolist()
        for row, cells in zip(rows, got, strict=True):
            values = row[name] if isinstance(row[name], list) else [row[name]]
            for place, (value, cell) in enumerate(zip(values, cells, strict=True)):
                if value is None:
                    alone = place == 0 and not any(values)
                    assert cell == (oov if alone else 0)
                elif namespace and value not in known[namespace]:
                    assert cell == oov
                else:
                    assert cell not in (0, oov)
                    assert owner.setdefault((namespace, value), cell) == cell
    owned = [cell for (namespace, _), cell in owner.items() if namespace]
    assert len(set(owned)) == len(owned)
    buckets = examples.rows[:, SCHEMA.cells("age")][:, 0].tolist()
    oov = int(examples.row_map.oov_rows[SCHEMA.fields.index(SCHEMA.field("age"))])
    assert [bucket == oov for bucket in buckets] == [row["age"] is None for row in rows]
    given = sorted((row["age"], bucket) for row, bucket in zip(rows, buckets, strict=True)
                   if row["age"] is not None)
    assert [bucket for _, bucket in given] == sorted(bucket for _, bucket in given)
    groups = {}
    for number, (row, group) in enumerate(zip(rows, examples.groups.tolist(), strict=True)):
        # A row without a user is one of its own.
        user = number if row["user"] is None else str(row["user"])
        assert groups.setdefault(user, group) == group
    assert len(set(groups.values())) == len(groups)
    assert np.isfinite(examples.dense).all()


def opened(lake, state):
    lake = lake if isinstance(lake, Lake) else Lake(lake)
    return open_examples(lake=lake, schema=SCHEMA, window=Rolling(days=2), state=state)


def refusal_or_truth(root, state):
    """The message of the refusal; None where every row is what the slow reading found.

    Any other error, and any other row, fails the test.
    """
    try:
        examples = opened(root, state)
    except DataError as error:
        return str(error)
    expected = slow_reading(root)
    assert rows_read(examples) == expected
    assert list(expected) == [f"dt={day}" for day in DAYS]
    rows = [row for day in expected.values() for row in day]
    trained = len(rows) - len(expected[f"dt={DAYS[-1]}"])
    assert examples.split.train.tolist() == list(range(trained))
    assert examples.split.test.tolist() == list(range(trained, len(rows)))
    check_model_rows(examples, rows, trained)
    return None


# Corruptions. Each changes one file (or its folder) of the lake.

def column(name, values, kind=None, *, cast=None):
    """Replace a column: `values` maps its list to another one; `cast` its Arrow type."""
    def apply(path):
        table = pq.ParquetFile(path).read()
        old = table[name]
        new = old.cast(cast) if cast else pa.array(values(old.to_pylist()), kind or old.type)
        write(table.set_column(table.column_names.index(name), name, new), path)
    return apply


def cell(name, value, kind=None):
    """Replace one value."""
    return column(name, lambda old: [*old[:5], value, *old[6:]], kind)


def every(name, value, kind=None):
    return column(name, lambda old: [value(one) for one in old], kind)


def table(change, **options):
    return lambda path: write(change(pq.ParquetFile(path).read()), path, **options)


def content(change):
    return lambda path: rewrite(path, change(path.read_bytes()))


def flipped(data, at):
    return data[:at] + bytes([data[at] ^ 0x41]) + data[at + 1:]


def flip_in_page(name):
    def apply(path):
        groups = pq.ParquetFile(path).metadata.row_group(0)
        chunk = next(groups.column(i) for i in range(groups.num_columns)
                     if groups.column(i).path_in_schema.split(".")[0] == name)
        at = chunk.data_page_offset + chunk.total_compressed_size - 3
        if chunk.has_dictionary_page:
            at = chunk.dictionary_page_offset + chunk.total_compressed_size - 3
        rewrite(path, flipped(path.read_bytes(), at))
    return apply


def invalid_utf8(name):
    def apply(path):
        # ~ is in no sound value.
        (every(name, lambda one: "~~") if name != "tags" else every(name, lambda one: ["~~"]))(path)
        found = pq.ParquetFile(path).read()
        path.unlink()
        # Without checksums, which would notice the change first.
        pq.write_table(found, path, compression="none", write_statistics=False)
        rewrite(path, path.read_bytes().replace(b"~~", b"\xff\xfe"))
    return apply


def loop(path):
    path.unlink()
    path.symlink_to(path.name)


def folder_loop(path):
    shutil.rmtree(path.parent)
    path.parent.symlink_to(path.parent.name)


def beside(name, data=b"no data"):
    return lambda path: (path.parent / name).write_bytes(data)


def nested(path):
    (path.parent / "hour=03").mkdir()
    shutil.copy(path, path.parent / "hour=03" / "c.parquet")


def without_files(path):
    for one in path.parent.glob("*.parquet"):
        one.unlink()


def without_rows(path):
    for one in path.parent.glob("*.parquet"):
        table(lambda found: found.slice(0, 0))(one)


def as_folder(path):
    path.unlink()
    path.mkdir()


def hidden_copies(path):
    for name in ("_metadata", "_common_metadata", f"._{path.name}", ".tmp-c.parquet",
                 "c.parquet.tmp", "c.parquet.crc", "_c.parquet"):
        shutil.copy(path, path.parent / name)


def named_twice(name):
    return table(lambda t: t.append_column(name, t[name]))


FILE = r"dt=2024-01-02/a\.parquet"
NO_PARQUET = "(?s)" + FILE + r" cannot be read as parquet: .+\. Write the file again\.$"


def typed(name, what="must be"):
    return rf"{FILE}: column `{name}` {what} .+, got .+\. Cast it where the lake is written"


def about(name, says):
    return rf"{FILE}: (label|timestamp|weight|sampling_rate|number|vector|column) `{name}` {says}"


@dataclass(frozen=True)
class Corruption:
    name: str
    apply: Callable[[Path], object]
    # The message of the refusal; None: the lake is odd, but means what it says.
    refused: str | None = None


def refused_columns(name, **cases):
    return [Corruption(f"{name}: {case.replace('_', ' ')}", apply, message)
            for case, (apply, message) in cases.items()]


EXACT = pa.decimal128(12, 3)
BROKEN_FILES = [
    Corruption("truncated", content(lambda data: data[:len(data) // 2]), NO_PARQUET),
    Corruption("last byte lost", content(lambda data: data[:-1]), NO_PARQUET),
    Corruption("zero bytes", content(lambda _: b""), NO_PARQUET),
    Corruption("only magic", content(lambda _: b"PAR1PAR1"), NO_PARQUET),
    Corruption("wrong magic", content(lambda data: data[:-4] + b"PAR2"), NO_PARQUET),
    Corruption("text", content(lambda _: b"click,ts\n1,2\n" * 30), NO_PARQUET),
    Corruption("zeros", content(lambda data: bytes(len(data))), NO_PARQUET),
    Corruption("footer length", content(lambda data: flipped(data, len(data) - 7)), NO_PARQUET),
    *[Corruption(f"flipped byte of {name}", flip_in_page(name), NO_PARQUET)
      for name in ("click", "user", "item", "age", "emb", "weight", "seen")],
    Corruption("page of zeros", content(lambda data: data[:40] + bytes(60) + data[100:]),
               NO_PARQUET),
    Corruption("folder as file", as_folder,
               FILE + " was listed but cannot be read: Is a directory.*write or remove"),
    Corruption("link to itself", loop, FILE + " was listed but cannot be read: .*symbolic links"),
]
BROKEN_FOLDERS = [
    Corruption("day links to itself", folder_loop, "dt=2024-01-02: .* link that leads nowhere or "
               "in a circle. Repair the link"),
    Corruption("day without files", without_files, "dt=2024-01-02 holds no parquet file. Write"),
    Corruption("day without rows", without_rows, "dt=2024-01-02 has parquet files but no rows. W"),
    Corruption("bad date", lambda path: (path.parent.parent / "dt=2024-02-30").mkdir(),
               "dt=2024-02-30: a partition folder must be named dt=YYYY-MM-DD, .* Rename it"),
    Corruption("date without dashes", lambda path: (path.parent.parent / "dt=20240102").mkdir(),
               "dt=20240102: a partition folder must be named dt=YYYY-MM-DD, .* Rename it"),
    Corruption("a folder of more files", nested,
               "dt=2024-01-02 must hold its files directly, got some in the folder hour=03"),
    Corruption("parquet beside TFRecord", beside("c.tfrecord"),
               "dt=2024-01-02 must hold parquet files or TFRecords, got both"),
]
BROKEN_COLUMNS = [
    Corruption("column missing in one file", table(lambda t: t.drop_columns(["age"])),
               FILE + ": column `age` is missing, .*Correct the schema or write the column"),
    Corruption("label missing", table(lambda t: t.drop_columns(["click"])),
               FILE + ": column `click` is missing"),
    Corruption("two missing", table(lambda t: t.drop_columns(["emb", "rate"])),
               FILE + ": columns `rate`, `emb` are missing"),
    Corruption("another case", table(lambda t: t.rename_columns(
        [name.upper() for name in t.column_names])), FILE + ": columns .*`user`.* are missing"),
    Corruption("no columns", table(lambda t: t.select([])), FILE + ": columns .* are missing"),
    Corruption("field twice", named_twice("age"),
               FILE + ": column `age` is in the file more than once. Write each column once"),
    Corruption("label twice", named_twice("click"),
               FILE + ": column `click` is in the file more than once"),
    *refused_columns(
        "click", two=(cell("click", 2), about("click", "must be 0 or 1, got 2 in 1 of 34 rows")),
        minus=(cell("click", -1), about("click", "must be 0 or 1, got -1 in 1 ")),
        null=(cell("click", None), about("click", "must be 0 or 1, got null in 1 ")),
        nan=(cell("click", math.nan, pa.float64()), about("click", "must be 0 or 1, got null")),
        half=(cell("click", 0.5, pa.float64()), about("click", r"must be 0 or 1, got 0\.5 in 1 ")),
        text=(column("click", None, cast=pa.string()), typed("click")),
        decimal=(column("click", None, cast=pa.decimal128(20, 0)),
                 typed("click")),
        all_null=(every("click", lambda _: None, pa.null()), typed("click"))),
    *refused_columns(
        "ts", milliseconds=(every("ts", lambda one: one * 1000),
                            about("ts", "must be in seconds .* milliseconds or finer. Divide")),
        one_in_microseconds=(cell("ts", FIRST_SECOND * 10**6), about("ts", "must be in seconds")),
        negative=(cell("ts", -1), about("ts", "must be >= 0 seconds .* got -1. Correct")),
        null=(cell("ts", None), about("ts", "is null in 1 of 34 rows. Every row needs")),
        float=(column("ts", None, cast=pa.float64()), typed("ts")),
        text=(column("ts", None, cast=pa.string()), typed("ts")),
        date=(every("ts", lambda _: datetime.date(2024, 1, 2), pa.date32()), typed("ts")),
        beyond_int64=(cell("ts", 2**64 - 1, pa.uint64()), about("ts", "must be in seconds"))),
    *refused_columns("weight", **{
        case: (cell("weight", value), about("weight", "must be finite and >= 0, .* in 1 of 34"))
        for case, value in (("nan", math.nan), ("infinite", math.inf), ("negative", -0.5),
                            ("null", None), ("beyond_float32", 1e39))}),
    *refused_columns("weight", text=(column("weight", None, cast=pa.string()), typed("weight"))),
    *refused_columns("rate", **{
        case: (cell("rate", value), about("rate", r"must lie in \(0, 1\], got .* in 1 of 34 rows"))
        for case, value in (("zero", 0.0), ("two", 2.0), ("nan", math.nan), ("null", None),
                            ("negative", -0.1))}),
    *refused_columns(
        "age", infinite=(cell("age", -math.inf), about("age", "is infinite .* in 1 of 34 rows")),
        beyond_float32=(cell("age", 1e39), about("age", "is infinite .* in 1 of 34 rows")),
        text=(column("age", None, cast=pa.string()), typed("age")),
        bool=(every("age", bool, pa.bool_()), typed("age")),
        list=(every("age", lambda one: [one], pa.list_(pa.float64())), typed("age"))),
    *refused_columns(
        "emb", short=(cell("emb", [1.0, 2.0]), about("emb", "must have 3 numbers, got 2 in 1 of")),
        empty=(cell("emb", []), about("emb", "must have 3 numbers, got 0 in 1 of 34 rows")),
        all_long=(every("emb", lambda _: [0.0] * 6), about("emb", "must have 3 numbers, got 6")),
        nan=(cell("emb", [1.0, math.nan, 2.0]), about("emb", "holds null, NaN or inf.* 1 of")),
        null=(cell("emb", [1.0, None, 2.0]), about("emb", "holds null, NaN or infinity .* 1 of")),
        scalar=(every("emb", lambda _: 1.0, pa.float32()), typed("emb")),
        text=(every("emb", lambda _: ["1", "2", "3"], pa.list_(pa.string())), typed("emb")),
        nested=(every("emb", lambda _: [[1.0]], pa.list_(pa.list_(pa.float32()))), typed("emb"))),
    *refused_columns(
        "tags", nested=(every("tags", lambda one: [one], pa.list_(pa.list_(pa.string()))),
                        typed("tags")),
        scalar=(every("tags", lambda _: "a,b", pa.string()), typed("tags")),
        floats=(every("tags", lambda _: [1.0], pa.list_(pa.float64())), typed("tags")),
        struct=(every("tags", lambda _: {"tag": "a"}, pa.struct({"tag": pa.string()})),
                typed("tags")),
        not_utf8=(invalid_utf8("tags"), FILE + ": column `tags` must be UTF-8 text.*Repair")),
    *refused_columns(
        "user", not_utf8=(invalid_utf8("user"), FILE + ": column `user` must be UTF-8 .*Repair"),
        float=(every("user", lambda _: 1.0, pa.float64()), typed("user")),
        date=(every("user", lambda _: datetime.date(2024, 1, 1), pa.date32()), typed("user")),
        decimal=(every("user", lambda _: decimal.Decimal("1.5"), EXACT), typed("user")),
        bytes=(every("user", lambda _: b"u1", pa.binary()), typed("user")),
        list=(every("user", lambda one: [one], pa.list_(pa.string())), typed("user")),
        struct=(every("user", lambda one: {"id": one}, pa.struct({"id": pa.string()})),
                typed("user"))),
    *refused_columns(
        "item", int_to_float=(column("item", None, cast=pa.float64()), typed("item")),
        time=(column("item", None, cast=pa.timestamp("s")), typed("item"))),
    *refused_columns(
        "seen", scalar=(every("seen", lambda _: 3, pa.int64()), typed("seen")),
        floats=(every("seen", lambda _: [1.0], pa.list_(pa.float64())), typed("seen"))),
]
HUGE = "x" * 3_000_000
ODD_BUT_SOUND = [
    Corruption("nothing", lambda path: None),
    Corruption("label bool", column("click", None, cast=pa.bool_())),
    Corruption("label float", column("click", None, cast=pa.float32())),
    Corruption("integers as text in one file", column("item", None, cast=pa.string())),
    Corruption("small integers", column("item", None, cast=pa.int8())),
    Corruption("ids over 2^63", cell("item", 2**64 - 1, pa.uint64())),
    Corruption("number over 2^63", every("age", lambda _: 2**64 - 1, pa.uint64())),
    Corruption("number beyond 2^53", every("age", lambda _: 2**53 + 1, pa.int64())),
    Corruption("numbers decimal", every(
        "age", lambda one: None if one is None else decimal.Decimal(f"{one:.3f}"), EXACT)),
    Corruption("a number NaN", cell("age", math.nan)),
    Corruption("a subnormal number", cell("age", 1e-42)),
    Corruption("half floats", every("weight", lambda one: one, pa.float32())),
    Corruption("ids bool", every("user", lambda one: one is None, pa.bool_())),
    Corruption("empty texts", every("user", lambda one: one or "")),
    Corruption("control characters", every("user", lambda one: f"a\nb\0{one}\x1f")),
    Corruption("huge texts", cell("url", HUGE)),
    Corruption("huge list", cell("tags", ["a", "b"] * 50_000)),
    Corruption("list of nulls", cell("tags", [None] * 9)),
    Corruption("lists null", every("tags", lambda _: None)),
    Corruption("column of nulls", every("user", lambda _: None, pa.null())),
    Corruption("lists of type null", every("seen", lambda _: None, pa.null())),
    Corruption("vectors null", every("emb", lambda _: None)),
    Corruption("vectors of fixed size", every("emb", lambda one: one or [0.0] * 3,
                                                pa.list_(pa.float64(), 3))),
    Corruption("vectors of integers", every("emb", lambda _: [1, 2, 3], pa.list_(pa.int32()))),
    Corruption("dictionary with nulls", column(
        "user", None, cast=pa.dictionary(pa.int32(), pa.string()))),
    Corruption("lists of a dictionary", column(
        "tags", None, cast=pa.list_(pa.dictionary(pa.int32(), pa.string())))),
    Corruption("times with a zone", every(
        "ts", lambda one: datetime.datetime.fromtimestamp(one, datetime.UTC),
        pa.timestamp("us", "Asia/Tokyo"))),
    Corruption("times without a zone", column("ts", None, cast=pa.timestamp("s"))),
    # The folder says the day: late events stand in the folder of their arrival.
    Corruption("times of another day", every("ts", lambda one: one + 40 * 86_400)),
    Corruption("extra column", table(lambda t: t.append_column("more", t["emb"]))),
    Corruption("an unread column twice", table(
        lambda t: t.append_column("more", t["emb"]).append_column("more", t["age"]))),
    Corruption("another order", table(lambda t: t.select(t.column_names[::-1]))),
    Corruption("many row groups", table(lambda t: t, row_group_size=3, compression="zstd")),
    Corruption("no dictionary, new pages", table(
        lambda t: t, use_dictionary=False, data_page_version="2.0", compression="none")),
    Corruption("empty file beside full ones", table(lambda t: t.slice(0, 0))),
    Corruption("the same rows twice", lambda path: shutil.copy(path, path.parent / "c.parquet")),
    Corruption("temporary files", hidden_copies),
    Corruption("other folders", lambda path: (path.parent.parent / "_delta_log").mkdir()),
    Corruption("linked file", lambda path: (path.rename(path.parent / "_moved"),
                                            path.symlink_to("_moved"))),
]
REFUSED = BROKEN_FILES + BROKEN_FOLDERS + BROKEN_COLUMNS
ALL = REFUSED + ODD_BUT_SOUND


def test_there_are_more_than_forty_ways_to_break_a_lake():
    names = [one.name for one in ALL]
    assert len(set(names)) == len(names)
    assert len(REFUSED) > 40


@pytest.mark.parametrize("corruption", ALL, ids=lambda one: one.name)
def test_one_corruption(corruption, root, tmp_path):
    corruption.apply(root / f"dt={DAYS[1]}" / "a.parquet")
    message = refusal_or_truth(root, tmp_path / "state")
    if corruption.refused is None:
        assert message is None
    else:
        with pytest.raises(DataError, match=corruption.refused):
            raise DataError(message or "not refused")
        with pytest.raises(DataError, match=ADVICE):
            raise DataError(message)


@pytest.mark.parametrize("seed", range(30))
def test_some_corruptions_together(seed, root, tmp_path, monkeypatch):
    draw = random.Random(seed)
    if seed % 3 == 0:
        monkeypatch.setattr(encoding, "_WHOLE_BYTES", 0)
    # Most pairs with a broken one are refused; take more of those that may pass.
    for one in draw.sample(ODD_BUT_SOUND * 3 + REFUSED, draw.choice([2, 3])):
        path = root / f"dt={draw.choice(DAYS)}" / draw.choice(["a.parquet", "b.parquet"])
        try:
            one.apply(path)
        # What an earlier corruption has destroyed, a later one may not be able to change.
        except (pa.ArrowException, OSError, KeyError):
            continue
    message = refusal_or_truth(root, tmp_path / "state")
    assert message is None or ("dt=2024" in message and len(message) < 1000)


def test_the_same_rows_twice_count_twice(root, tmp_path):
    path = root / f"dt={DAYS[1]}" / "a.parquet"
    shutil.copy(path, path.parent / "c.parquet")
    assert [day.rows for day in opened(root, tmp_path).days] == [68, 102, 68]


def test_flipped_bytes_along_a_file_are_noticed_or_change_nothing(root):
    lake, day = Lake(root), datetime.date(2024, 1, 2)
    path = root / "dt=2024-01-02" / "a.parquet"
    data, sound = path.read_bytes(), repr(lake.read(day, SCHEMA).to_pydict())
    refused = []
    for at in range(4, len(data) - 8, 29):
        rewrite(path, flipped(data, at))
        try:
            # The text of NaN is always the same.
            assert repr(lake.read(day, SCHEMA).to_pydict()) == sound, at
        except DataError as error:
            refused.append(str(error))
    assert all("dt=2024-01-02/a.parquet" in message for message in refused)
    # The others are statistics, offsets and names that reading does not need.
    assert len(refused) > 0.5 * (len(data) // 29)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(root, tmp_path):
    (root / "dt=2024-01-02" / "a.parquet").chmod(0)
    with pytest.raises(DataError, match=FILE + " was listed but cannot be read: Permission"):
        opened(root, tmp_path)


# Files that change while, or after, they are read.

class Vanishing(Lake):
    """The first file of the second day goes when the day has been listed."""

    def files(self, day):
        found = super().files(day)
        if str(day) == DAYS[1]:
            found[0].unlink(missing_ok=True)
        return found


class Rewritten(Lake):
    """A file of the second day is replaced, as long as before, while the day is read."""

    def read(self, day, schema):
        found = super().read(day, schema)
        if str(day) == DAYS[1]:
            path = self.path / f"dt={day}" / "a.parquet"
            aside = path.with_name(f".{threading.get_ident()}")
            write(sound_table(99, DAYS[1]), aside)
            aside.rename(path)
        return found


class Growing(Lake):
    """A file is added to the second day while the day is read."""

    def read(self, day, schema):
        found = super().read(day, schema)
        if str(day) == DAYS[1]:
            path = self.path / f"dt={day}" / "c.parquet"
            aside = path.with_name(f".{threading.get_ident()}")
            write(sound_table(99, DAYS[1]), aside)
            aside.rename(path)
        return found


@pytest.mark.parametrize("whole", [2**25, 0], ids=["whole", "by column"])
@pytest.mark.parametrize(("kind", "message"), [
    (Vanishing, FILE + " was listed but cannot be read: No such file.*Start again"),
    (Rewritten, "dt=2024-01-02: the day's files changed while they were read. Start again"),
    (Growing, "the day's files changed while they were read. Start again"),
])
def test_a_day_that_changes_while_it_is_read(kind, message, whole, root, tmp_path, monkeypatch):
    monkeypatch.setattr(encoding, "_WHOLE_BYTES", whole)
    with pytest.raises(DataError, match=message):
        opened(kind(root), tmp_path / "state")
    # Nothing of it is kept: the next run reads what the lake holds then.
    assert refusal_or_truth(root, tmp_path / "state") is None


# The size of the file then depends on that of its values alone.
PLAIN = {"use_dictionary": False, "compression": "none", "write_statistics": False}


def test_a_file_that_changes_without_changing_size_or_time(root, tmp_path):
    path = root / "dt=2024-01-02" / "a.parquet"
    found = pq.ParquetFile(path).read()
    pq.write_table(found, path, **PLAIN)
    assert refusal_or_truth(root, tmp_path / "state") is None
    before, times = path.read_bytes(), path.stat()
    turned = [1 - label for label in found["click"].to_pylist()]
    pq.write_table(found.set_column(0, "click", pa.array(turned)), path, **PLAIN)
    assert len(path.read_bytes()) == len(before)
    assert path.read_bytes() != before
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert refusal_or_truth(root, tmp_path / "state") is None
    assert opened(root, tmp_path / "state").labels[68:102].tolist() == turned


# Encoded days that are not what was written.

def array(name, change):
    def apply(folder):
        path = folder / f"{name}.npy"
        rewrite(path, change(path.read_bytes()))
    return apply


def meta(**changes):
    def apply(folder):
        about = json.loads((folder / "meta.json").read_text())
        rewrite(folder / "meta.json", json.dumps({**about, **changes}).encode())
    return apply


def of_another_day(folder):
    shutil.rmtree(folder)
    shutil.copytree(folder.parent / "dt=2024-01-01", folder)


def mixed_with_another_day(folder):
    shutil.copy(folder.parent / "dt=2024-01-01" / "labels.npy", folder / "labels.npy")


def file_instead(folder):
    shutil.rmtree(folder)
    folder.write_bytes(b"")


DAMAGED_DAYS = {
    "truncated array": array("cells-tags", lambda data: data[:-40]),
    "empty array": array("labels", lambda _: b""),
    "deleted array": lambda folder: (folder / "weights.npy").unlink(),
    "labels of another day": mixed_with_another_day,
    **{f"changed {name}": array(name, lambda data: flipped(data, len(data) - 2))
       for name in ("labels", "weights", "rates", "signs", "counts", "cells-user", "groups",
                    "numbers-age", "vectors-emb")},
    "another type in the header": array("numbers-age", lambda data: data.replace(b"<f4", b"<i4")),
    "extra array": lambda folder: np.save(folder / "more.npy", np.zeros(3)),
    "changed texts": lambda folder: (folder / "values.parquet").write_bytes(b"PAR1"),
    "no meta": lambda folder: (folder / "meta.json").unlink(),
    "meta cut off": lambda folder: (folder / "meta.json").write_text('{"rows": 6'),
    "meta of a list": lambda folder: (folder / "meta.json").write_text("[]"),
    "meta not text": lambda folder: (folder / "meta.json").write_bytes(b"\xff\xfe"),
    "other sections": meta(sections={"user": [0, 3], "item": [3, 5]}),
    "other rows": meta(rows=5), "older format": meta(format=2), "another day": of_another_day,
    "other day in meta": meta(day="2024-01-03"), "other contents": meta(contents={}),
    "a file instead": file_instead,
}


@pytest.mark.parametrize("damage", DAMAGED_DAYS.values(), ids=DAMAGED_DAYS)
def test_a_damaged_encoded_day_is_encoded_again(damage, root, tmp_path):
    state = tmp_path / "state"
    sound = opened(root, state)
    damage(encoded_folder(state, Lake(root), SCHEMA) / "dt=2024-01-02")
    assert refusal_or_truth(root, state) is None
    reused = []
    again = open_examples(lake=Lake(root), schema=SCHEMA, window=Rolling(days=2), state=state,
                          on_day=lambda day, old: reused.append(old))
    assert reused == [True] * 3
    assert again.fingerprint == sound.fingerprint


def test_a_row_map_of_another_schema(root, tmp_path):
    fewer = schema_from_dict({"name": "feed", "label": "click", "timestamp": "ts",
                              "fields": FIELDS[:2]})
    other = open_examples(lake=Lake(root), schema=fewer, window=Rolling(days=2), state=tmp_path)
    with pytest.raises(DataError, match=r"the row map was built for 2 fields, .* leave 7: user, "):
        open_examples(lake=Lake(root), schema=SCHEMA, window=Rolling(days=2), state=tmp_path,
                      row_map=other.row_map)


# Days of TFRecords.

def example(row):
    features = {}
    for name, value in row.items():
        values = value if isinstance(value, list) else [] if value is None else [value]
        if not values or None in values:
            values = [one for one in values if one is not None]
        if not values:
            features[name] = tf.train.Feature()
        elif isinstance(values[0], str | bytes):
            given = [one.encode() if isinstance(one, str) else one for one in values]
            features[name] = tf.train.Feature(bytes_list=tf.train.BytesList(value=given))
        elif isinstance(values[0], float):
            features[name] = tf.train.Feature(float_list=tf.train.FloatList(value=values))
        else:
            features[name] = tf.train.Feature(int64_list=tf.train.Int64List(value=values))
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def with_records(path, change=lambda rows: rows):
    """Write the second day as TFRecords instead; returns the first file."""
    for one in sorted(path.parent.glob("*.parquet")):
        rows = pq.ParquetFile(one).read().to_pylist()
        rows = change(rows) if one == path else rows
        with tf.io.TFRecordWriter(str(one.with_suffix(".tfrecord"))) as writer:
            for row in rows:
                writer.write(row if isinstance(row, bytes) else example(row))
        one.unlink()
    return path.with_suffix(".tfrecord")


def changed(name, value):
    return lambda rows: [*rows[:5], {**rows[5], name: value}, *rows[6:]]


RECORDS = r"dt=2024-01-02/a\.tfrecord"


@pytest.mark.parametrize(("change", "refused"), [
    (lambda rows: rows, None),
    (changed("age", math.nan), None),
    (changed("user", "é\n\0"), None),
    (lambda rows: [{**row, "user": None} for row in rows], None),
    (changed("click", 2), ": label `click` must be 0 or 1, got 2 in 1 of 34"),
    (changed("click", None), ": label `click` must be 0 or 1, got null"),
    (changed("ts", FIRST_SECOND * 1000), ": timestamp `ts` must be in seconds"),
    (changed("ts", 1.5), ", record 6: feature `ts` must be of one kind"),
    (changed("emb", [1.0]), ": vector `emb` must have 3 numbers, got 1 in 1 of 34"),
    (changed("emb", [1.0, math.inf, 1.0]), ": vector `emb` holds null, NaN or infinity"),
    (changed("item", [1, 2]), ", record 6: column `item` of kind id must hold at most one value"),
    (changed("item", "7"), ", record 6: feature `item` must be of one kind"),
    (changed("user", b"\xff"), ": column `user` must be UTF-8 text"),
    (changed("weight", -1.0), ": weight `weight` must be finite and >= 0"),
    (changed("rate", 0.0), r": sampling_rate `rate` must lie in \(0, 1\]"),
    (lambda rows: [{**row, "item": 1.0} for row in rows], ": column `item` must be string or int"),
    (lambda rows: [{n: v for n, v in row.items() if n != "age"} for row in rows],
     ": column `age` is missing in every example"),
    (lambda rows: [*rows[:3], b"no example", *rows[3:]], ", record 4: expected a tf.Example"),
], ids=lambda one: one if isinstance(one, str) else "changed")
def test_one_corruption_of_a_day_of_tfrecords(change, refused, root, tmp_path):
    with_records(root / "dt=2024-01-02" / "a.parquet", change)
    message = refusal_or_truth(root, tmp_path / "state")
    if refused is None:
        assert message is None
    else:
        with pytest.raises(DataError, match=RECORDS + refused):
            raise DataError(message or "not refused")


@pytest.mark.parametrize(("change", "refused"), [
    (lambda data: data[:len(data) // 2], ", record .*: expected a whole TFRecord, but the file e"),
    (lambda data: flipped(data, len(data) // 2), ", record .*: .* checksum does not hold"),
    (lambda data: data + b"\0" * 5, ", record 35: expected a whole TFRecord"),
    (lambda data: b"PAR1" + data, ", record 1: expected a whole TFRecord"),
], ids=["cut", "flipped", "longer", "shifted"])
def test_damaged_bytes_of_a_day_of_tfrecords(change, refused, root, tmp_path):
    path = with_records(root / "dt=2024-01-02" / "a.parquet")
    rewrite(path, change(path.read_bytes()))
    with pytest.raises(DataError, match=RECORDS + refused):
        raise DataError(refusal_or_truth(root, tmp_path / "state") or "not refused")
