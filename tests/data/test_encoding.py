import datetime
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from dualdnn.data import encode_field, encoding
from dualdnn.data.encoding import (
    EncodedDay,
    encode_day,
    encode_days,
    encoded_folder,
    refuse_changed,
)
from dualdnn.data.signs import MISSING, signs_of
from dualdnn.errors import DataError
from dualdnn.schema import schema_from_dict

DAYS = [datetime.date(2024, 1, day) for day in (1, 2, 3)]


def contents(folder):
    """Every file of the encoded days below `folder`, by name."""
    return {str(path.relative_to(folder)): path.read_bytes()
            for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".lock"}


def values_of(day, field):
    """The text of every cell of a field, read back through the local index."""
    texts = day.values()
    unknown = {-1: "padding", **{len(texts) + i: f"missing {name}"
                                 for i, name in enumerate(day.categorical)}}
    return [[texts[c] if 0 <= c < len(texts) else unknown[c] for c in row]
            for row in day.cells(field).tolist()]


@pytest.fixture
def encoded(lake, write_day, sound_columns, schema, tmp_path):
    """Returns a function: write a day with these columns and open it encoded."""

    def encode(schema=schema, **changes):
        write_day(columns=sound_columns(**changes))
        return encode_days(lake, DAYS[:1], schema, tmp_path / "state")[0]

    return encode


@pytest.fixture
def three_days(write_day, sound_columns):
    for number, day in enumerate(DAYS):
        write_day(str(day), sound_columns(user=pa.array([f"u{number}", "ann", None, "bob"])))


def test_the_arrays_of_a_day(encoded):
    day = encoded()
    assert day.day == DAYS[0]
    assert day.rows == 4
    assert day.categorical == ["user", "tags"]
    np.testing.assert_array_equal(day.array("labels"), [0, 1, 1, 0])
    np.testing.assert_array_equal(day.array("timestamps") - 1_704_067_200, [0, 1, 2, 3])
    np.testing.assert_array_equal(day.array("weights"), [1, 0.5, 2, 0])
    np.testing.assert_array_equal(day.numbers("age"), np.float32([20, 30, np.nan, 40]))
    np.testing.assert_array_equal(day.array("groups"),
                                  signs_of("user", tf.constant(["ann", "bob", "ann", "cy"])))
    shapes = {name: (str(day.array(name).dtype), day.array(name).shape)
              for name in ("labels", "timestamps", "cells-user", "cells-tags", "numbers-age",
                           "signs", "counts")}
    assert shapes == {
        "labels": ("uint8", (4,)), "timestamps": ("int64", (4,)), "cells-user": ("int32", (4, 1)),
        "cells-tags": ("int32", (4, 2)), "numbers-age": ("float32", (4,)),
        "signs": ("int64", (6,)), "counts": ("int64", (6,)),
    }
    assert day.local_cells("tags").tolist()[2:] == [[3, -1], [day.cells("tags")[3, 0] - 3, -1]]


def test_the_local_index_leads_back_to_the_value(encoded):
    day = encoded(user=pa.array(["ann", "bob", "ann", "a\nb"]),
                  tags=pa.array([["x", "y"], ["é"], ["y", "x"], ["\0"]]))
    assert values_of(day, "user") == [["ann"], ["bob"], ["ann"], ["a\nb"]]
    assert values_of(day, "tags") == [["x", "y"], ["é", "padding"], ["y", "x"],
                                      ["\0", "padding"]]


def test_signs_are_sorted_and_unique_in_each_section_with_their_counts(encoded):
    day = encoded()
    texts = day.values()
    for field in day.categorical:
        signs = day.array("signs")[day.section(field)]
        assert (signs[1:] > signs[:-1]).all()
        np.testing.assert_array_equal(
            signs, signs_of(field, tf.constant(texts[day.section(field)])))
    counts = dict(zip(texts, day.array("counts").tolist(), strict=True))
    assert counts == {"ann": 2, "bob": 1, "cy": 1, "x": 2, "y": 1, "z": 1}


def test_missing_values(encoded):
    day = encoded(user=pa.array(["ann", None, "", "bob"]),
                  tags=pa.array([None, [], [None, ""], [""]], pa.list_(pa.string())))
    assert values_of(day, "user") == [["ann"], ["missing user"], ["missing user"], ["bob"]]
    assert values_of(day, "tags") == [["missing tags", "padding"]] * 4
    np.testing.assert_array_equal(day.array("groups") == MISSING, [False, True, True, False])


def test_null_and_empty_entries_keep_their_place_in_a_list(encoded):
    day = encoded(tags=pa.array([[None, "x"], ["x", ""], ["", "y", "z"], ["y"]]))
    assert values_of(day, "tags") == [["padding", "x"], ["x", "padding"], ["padding", "y"],
                                      ["y", "padding"]]


def test_lists_are_cut_to_their_first_values(encoded):
    day = encoded(tags=pa.array([["a", "b", "c"], ["d"] * 50, [None, "", "e"], []]))
    assert values_of(day, "tags") == [["a", "b"], ["d", "d"], ["missing tags", "padding"],
                                      ["missing tags", "padding"]]
    # What was cut off is not counted and owns no sign.
    assert sorted(day.values()[day.section("tags")]) == ["a", "b", "d"]
    assert day.array("counts")[day.section("tags")].sum() == 4


def test_the_same_value_in_two_fields_has_two_signs(encoded):
    day = encoded(user=pa.array(["x"] * 4), tags=pa.array([["x"]] * 4))
    assert day.values() == ["x", "x"]
    assert len(set(day.array("signs").tolist())) == 2


@pytest.mark.parametrize("kind", [pa.int8(), pa.int32(), pa.int64(), pa.uint64(), pa.string()],
                         ids=str)
def test_integers_and_their_decimal_text_have_the_same_signs(encoded, kind):
    day = encoded(user=pa.array([1, 20, 1, 3]).cast(kind),
                  tags=pa.array([[1, 2], [3], [], [4]]).cast(pa.list_(kind)))
    assert values_of(day, "user") == [["1"], ["20"], ["1"], ["3"]]
    assert set(day.array("signs")[day.section("user")].tolist()) == set(
        signs_of("user", tf.constant(["1", "20", "3"])).numpy().tolist())


def test_fields_without_any_value(encoded):
    day = encoded(user=pa.nulls(4), tags=pa.nulls(4), age=pa.nulls(4))
    assert len(day.array("signs")) == 0
    assert values_of(day, "user") == [["missing user"]] * 4
    assert values_of(day, "tags") == [["missing tags", "padding"]] * 4
    assert np.isnan(day.numbers("age")).all()
    assert (day.array("groups") == MISSING).all()


@pytest.mark.parametrize("kind", ["id", "number"])
def test_a_schema_of_one_kind_only(encoded, schema_values, kind):
    fields = [{"name": "user" if kind == "id" else "age", "kind": kind}]
    day = encoded(schema=schema_from_dict({**schema_values, "fields": fields}))
    assert day.categorical == (["user"] if kind == "id" else [])
    assert len(day.array("signs")) == (3 if kind == "id" else 0)
    assert len(day.values()) == len(day.array("signs"))


# Byte-identical, whoever encodes, and in whatever order.

def test_days_are_the_same_bytes_in_whatever_order_they_are_encoded(
    lake, three_days, schema, tmp_path
):
    encode_days(lake, DAYS, schema, tmp_path / "forwards")
    encode_days(lake, DAYS[::-1], schema, tmp_path / "backwards")
    encode_days(lake, DAYS[1:2], schema, tmp_path / "alone")
    forwards, backwards, alone = (contents(tmp_path / name)
                                  for name in ("forwards", "backwards", "alone"))
    assert forwards == backwards
    assert alone.items() < forwards.items()
    assert len(forwards) == 3 * 11


def test_days_are_opened_in_the_order_asked_for(lake, three_days, schema, tmp_path):
    opened = encode_days(lake, DAYS[::-1], schema, tmp_path)
    assert [day.day for day in opened] == DAYS[::-1]


def test_the_fingerprint_is_that_of_the_content_alone(lake, write_day, sound_columns, schema,
                                                     tmp_path):
    path = write_day()
    encode_day(lake, DAYS[0], schema, tmp_path / "one")
    write_day(columns=sound_columns(user=pa.array(["ann", "bob", "ann", "cy"])
                                    .dictionary_encode()))
    encode_day(lake, DAYS[0], schema, tmp_path / "same")
    write_day(columns=sound_columns(user=pa.array(["ann", "bob", "bob", "cy"])))
    encode_day(lake, DAYS[0], schema, tmp_path / "other")
    one, same, other = (EncodedDay(tmp_path / name) for name in ("one", "same", "other"))
    assert path.exists()
    assert one.meta["sha256"] != same.meta["sha256"]
    assert one.meta["fingerprint"] == same.meta["fingerprint"]
    assert one.meta["fingerprint"] != other.meta["fingerprint"]


ENCODE = """
import datetime, json, os, signal, sys
from pathlib import Path
import numpy as np
from dualdnn.data import encode_field, encoding
from dualdnn.data.lake import Lake
from dualdnn.schema import schema_from_dict

lake, state, schema, kill_at = sys.argv[1:]
saved, save = 0, np.save
def save_or_die(*arguments):
    global saved
    saved += 1
    if saved == int(kill_at):
        os.kill(os.getpid(), signal.SIGKILL)
    save(*arguments)
np.save = save_or_die
days = [datetime.date(2024, 1, day) for day in (1, 2, 3)]
encoding.encode_days(Lake(Path(lake)), days, schema_from_dict(json.loads(schema)), Path(state),
                     lambda day, reused: print(day, reused))
"""


@pytest.fixture
def encode_elsewhere(lake, schema_values, tmp_path):
    """Returns a function that starts a process which encodes the three days of `three_days`."""

    def start(kill_at=0):
        return subprocess.Popen(
            [sys.executable, "-c", ENCODE, str(lake.path), str(tmp_path / "state"),
             json.dumps(schema_values), str(kill_at)],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    return start


def test_two_processes_at_once_encode_every_day_once(
    lake, three_days, schema, tmp_path, encode_elsewhere
):
    processes = [encode_elsewhere(), encode_elsewhere()]
    printed = [process.communicate(timeout=120)[0].splitlines() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sorted(line for lines in printed for line in lines) == sorted(
        f"{day} {reused}" for day in DAYS for reused in (False, True))
    encode_days(lake, DAYS, schema, tmp_path / "here")
    assert contents(tmp_path / "state") == contents(tmp_path / "here")


def test_a_kill_half_way_leaves_whole_days_and_the_next_call_finishes(
    lake, three_days, schema, tmp_path, encode_elsewhere
):
    # Each of these days has 9 arrays; the kill hits the second day before its fourth.
    process = encode_elsewhere(kill_at=13)
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    folder = encoded_folder(tmp_path / "state", lake, schema)
    assert [path.name for path in folder.glob("dt=*")] == ["dt=2024-01-01"]
    assert len(list(folder.glob(".tmp-dt=2024-01-02-*"))) == 1

    reused = []
    encode_days(lake, DAYS, schema, tmp_path / "state", lambda day, old: reused.append(old))
    assert reused == [True, False, False]
    assert list(folder.glob(".tmp-*")) == []
    encode_days(lake, DAYS, schema, tmp_path / "here")
    assert contents(tmp_path / "state") == contents(tmp_path / "here")


def test_an_error_in_one_day_keeps_the_days_before_it(lake, three_days, write_day, schema,
                                                     tmp_path):
    write_day(str(DAYS[1])).write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"dt=2024-01-02/part-0\.parquet cannot be read"):
        encode_days(lake, DAYS, schema, tmp_path)
    folder = encoded_folder(tmp_path, lake, schema)
    assert sorted(path.name for path in folder.iterdir()) == [".lock", "dt=2024-01-01"]


# Encoded once, and again only when the bytes changed.

@pytest.fixture
def was_reused(lake, schema, tmp_path):
    """Returns a function: open the first day and say whether it was already encoded."""

    def ask(schema=schema):
        reused = []
        encode_days(lake, DAYS[:1], schema, tmp_path / "state", lambda day, old: reused.append(old))
        return reused[0]

    return ask


def test_a_day_is_encoded_once(write_day, was_reused):
    write_day()
    assert [was_reused(), was_reused(), was_reused()] == [False, True, True]


def test_a_touched_file_is_looked_at_once_and_not_encoded_again(write_day, was_reused,
                                                               monkeypatch):
    path = write_day()
    was_reused()
    os.utime(path, (1, 1))
    assert was_reused()
    monkeypatch.setattr(encoding, "sha256_of_file", lambda path: pytest.fail("hashed again"))
    assert was_reused()


def test_the_same_rows_written_again_are_not_encoded_again(write_day, was_reused):
    write_day()
    was_reused()
    write_day()
    assert was_reused()


def test_changed_bytes_are_encoded_again(write_day, sound_columns, was_reused):
    write_day()
    was_reused()
    write_day(columns=sound_columns(user=pa.array(["ann", "bob", "ann", "dee"])))
    assert [was_reused(), was_reused()] == [False, True]


def test_changed_bytes_of_the_same_size_and_time_are_encoded_again(write_day, sound_columns,
                                                                  was_reused):
    path = write_day(columns=sound_columns(user=pa.array(["ann", "bob", "ann", "cy"])))
    was_reused()
    before = path.stat()
    time.sleep(0.02)  # The kernel's clock for files ticks every few milliseconds.
    write_day(columns=sound_columns(user=pa.array(["ann", "bob", "bob", "cy"])))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert path.stat().st_size == before.st_size
    assert not was_reused()


def test_another_file_of_the_day_is_noticed(write_day, was_reused):
    write_day()
    was_reused()
    late = write_day(name="part-1.parquet")
    assert not was_reused()
    late.unlink()
    assert not was_reused()


def test_another_reading_of_the_schema_is_another_encoding(write_day, was_reused, schema_values):
    fields = schema_values["fields"]
    write_day()
    was_reused()
    wider = [fields[0], {**fields[1], "max_length": 3}, fields[2]]
    assert not was_reused(schema_from_dict({**schema_values, "fields": wider}))
    assert not was_reused(schema_from_dict({**schema_values, "group": None}))
    # What only the row map reads changes nothing.
    other = [{**fields[0], "min_count": 5}, {**fields[1], "side": "context"},
             {**fields[2], "buckets": 9}]
    assert was_reused(schema_from_dict({**schema_values, "fields": other}))


def test_two_values_with_one_sign_are_refused(encoded, monkeypatch):
    monkeypatch.setattr(encode_field, "signs_of",
                        lambda field, values: tf.ones(values.shape, tf.int64))
    with pytest.raises(DataError, match=r"^field `user`: two values have the same 64-bit sign\. "):
        encoded()


def test_a_day_that_is_written_again_while_it_is_in_use_is_refused(
        encoded, lake, write_day, sound_columns):
    day = encoded()
    refuse_changed(lake, day)
    path = write_day(columns=sound_columns())
    os.utime(path, (1, 1))  # the same bytes are the same day
    refuse_changed(lake, day)
    write_day(columns=sound_columns(click=pa.array([1, 1, 1, 0])))
    with pytest.raises(DataError, match="dt=2024-01-01 was written again while it was in use"):
        refuse_changed(lake, EncodedDay(day.path))
