import dataclasses
import datetime
import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dualdnn.data.encoding import EncodedDay, encode_day, encode_days
from dualdnn.data.finding import Finding, in_order, refuse_errors
from dualdnn.data.partition_checks import (
    RecordedDay,
    check_encoded,
    check_lake,
    check_window,
    usable_days,
)
from dualdnn.data.partition_rows import copies
from dualdnn.data.partition_settings import PartitionSettings
from dualdnn.errors import DataError
from dualdnn.storage import sha256_of_file

DAYS = [datetime.date(2024, 1, 1) + datetime.timedelta(days=i) for i in range(12)]
ROWS = 400
BAD = 7
STRICT = PartitionSettings()


def columns_of(number, rows=ROWS, rate=0.2):
    """A sound day: 40 users, 25 tags, an age that a tenth of the rows lack."""
    rng = np.random.default_rng([1, number])
    start = 1_704_067_200 + 86_400 * number
    age = rng.normal(40, 10, rows)
    age[rng.random(rows) < 0.1] = np.nan
    return {
        "click": pa.array((rng.random(rows) < rate).astype(np.int64)),
        "ts": pa.array(np.sort(rng.integers(start, start + 86_400, rows))),
        "user": pa.array([f"u{i}" for i in rng.integers(0, 40, rows)]),
        "tags": pa.array([[f"t{i}", f"t{j}"] for i, j in rng.integers(0, 25, (rows, 2))]),
        "age": pa.array(age, from_pandas=True),
        "weight": pa.array(rng.random(rows)),
    }


@pytest.fixture(scope="module")
def sound_files(tmp_path_factory):
    """One file for each of the twelve days."""
    folder = tmp_path_factory.mktemp("sound")
    for number in range(len(DAYS)):
        pq.write_table(pa.table(columns_of(number)), folder / f"{number}.parquet")
    return folder


@pytest.fixture
def month(lake, write_day, sound_files):
    """Returns a function: write twelve days, some with columns replaced or not at all."""

    def write(days=None, without=()):
        for number, day in enumerate(DAYS):
            if number in (days or {}):
                write_day(str(day), days[number])
            elif number not in without:
                folder = lake.path / f"dt={day}"
                folder.mkdir(parents=True)
                shutil.copy(sound_files / f"{number}.parquet", folder / "part-0.parquet")

    return write


@pytest.fixture(scope="module")
def encoded_before(tmp_path_factory):
    """A folder for encoded days, and those in it by day, schema and contents."""
    return tmp_path_factory.mktemp("encoded"), {}


@pytest.fixture
def encode(lake, schema, encoded_before):
    """Returns a function: encode days, each of the same contents once for all tests."""
    folder, known = encoded_before

    def encode(days, schema=schema):
        opened = []
        for day in days:
            digests = [(path.name, sha256_of_file(path)) for path in lake.files(day)]
            key = (day, schema.hash(), *digests)
            if key not in known:
                known[key] = EncodedDay(folder / str(len(known)))
                encode_day(lake, day, schema, known[key].path)
            opened.append(known[key])
        return opened

    return encode


@pytest.fixture
def findings(lake, schema, encode):
    """Returns a function: what is found in the whole window."""

    def check(settings=STRICT, **options):
        usable = usable_days(DAYS, check_lake(lake, DAYS, schema, settings))
        return check_window(lake, DAYS, schema, encode(usable), settings, **options)

    return check


def told(found):
    return [(one.kind, one.severity, one.day) for one in found]


def test_a_clean_month_has_no_findings(month, findings):
    month()
    assert findings() == []


@pytest.mark.parametrize("rows", [3, 30])
def test_small_and_uneven_days_have_none_either(month, findings, rows):
    sizes = np.random.default_rng(2).integers(1, 2 * rows, len(DAYS))
    month({number: columns_of(number, size) for number, size in enumerate(sizes.tolist())})
    assert findings() == []


def test_a_missing_day_stops(month, findings, lake, schema):
    month(without=[BAD])
    (one,) = findings()
    assert told([one]) == [("missing_day", "error", DAYS[BAD])]
    assert one.message == ("dt=2024-01-08 has no folder. Write the day, or set "
                           "missing_days=continue to train without it while at least 25 days are "
                           "there.")
    with pytest.raises(DataError, match="dt=2024-01-08 has no folder"):
        refuse_errors(check_lake(lake, DAYS, schema, STRICT))


def test_it_may_be_left_out_and_this_is_said(month, findings):
    month(without=[BAD])
    found = findings(PartitionSettings(missing_days="continue", min_days=11))
    assert told(found) == [("short_window", "warning", None),
                           ("missing_day", "warning", DAYS[BAD])]
    assert found[0].message == ("11 of the window's 12 days have rows; at least 11 are asked for, "
                                "that is enough to go on.")
    refuse_errors(found)


def test_too_many_may_not(month, findings):
    month(without=[BAD, BAD + 1])
    found = findings(PartitionSettings(missing_days="continue", min_days=11))
    assert told(found) == [("short_window", "error", None), ("missing_day", "error", DAYS[BAD]),
                           ("missing_day", "error", DAYS[BAD + 1])]
    with pytest.raises(DataError, match=r"3 errors .*\(1\) 10 of .*\(2\) dt=2024-01-08.*\(3\)"):
        refuse_errors(found)


def test_the_holdout_may_never_be_missing(month, findings):
    month(without=[11])
    found = findings(PartitionSettings(missing_days="continue", min_days=11), required=DAYS[11:])
    assert told(found) == [("missing_day", "error", DAYS[11])]
    assert "needed for the holdout" in found[0].message


@pytest.mark.parametrize("how", ["no file", "a file without rows", "only hidden files"])
def test_an_empty_day(month, findings, lake, how):
    month(without=[BAD])
    folder = lake.path / f"dt={DAYS[BAD]}"
    folder.mkdir()
    if how == "a file without rows":
        empty = {name: values[:0] for name, values in columns_of(BAD).items()}
        pq.write_table(pa.table(empty), folder / "part-0.parquet")
    elif how == "only hidden files":
        (folder / "_SUCCESS").touch()
    assert told(findings()) == [("empty_day", "error", DAYS[BAD])]
    continued = findings(PartitionSettings(missing_days="continue", min_days=5))
    assert told(continued) == [("short_window", "warning", None),
                               ("empty_day", "warning", DAYS[BAD])]


def test_a_broken_file_is_an_error_whatever_the_policy(month, lake, schema):
    month()
    path = lake.path / f"dt={DAYS[BAD]}" / "part-0.parquet"
    path.write_bytes(path.read_bytes()[:100])
    found = check_lake(lake, DAYS, schema, PartitionSettings(missing_days="continue", min_days=1))
    assert told(found) == [("unreadable_file", "error", DAYS[BAD])]
    assert DAYS[BAD] not in usable_days(DAYS, found)


def test_files_of_two_kinds_are_an_error(month, lake, schema):
    month()
    (lake.path / f"dt={DAYS[BAD]}" / "part.tfrecord").write_bytes(b"0")
    (one,) = check_lake(lake, DAYS, schema, STRICT)
    assert told([one]) == [("unreadable_file", "error", DAYS[BAD])]
    assert "must hold parquet files or TFRecords, got both" in one.message


@pytest.mark.parametrize(("click", "held"), [
    (pa.array([0, 1, 2] + [0] * 397), "0 to 2"), (pa.array([-1, 1] * 200), "-1 to 1"),
    (pa.array([0, None] * 200, pa.int64()), "0 to 0 and 200 nulls"),
    (pa.array([0.0, 5.0] * 200), "0 to 5")], ids=["two", "minus one", "null", "float"])
def test_new_label_values_are_found_without_reading(month, lake, schema, click, held):
    month({BAD: {**columns_of(BAD), "click": click}})
    (one,) = [one for one in check_lake(lake, DAYS, schema, STRICT) if one.severity == "error"]
    assert told([one]) == [("label_values", "error", DAYS[BAD])]
    assert f"`click` of dt=2024-01-08 holds {held}; expected 0 and 1" in one.message


def test_a_changed_day(month, findings, lake, encode, write_day):
    month()
    encoded = encode(DAYS)
    # Through JSON, as a manifest keeps it.
    stored = json.loads(json.dumps({str(d.day): RecordedDay.of(d).to_dict() for d in encoded}))
    recorded = {datetime.date.fromisoformat(day): RecordedDay.from_dict(one)
                for day, one in stored.items()}
    assert findings(recorded=recorded) == []
    write_day(str(DAYS[BAD]), columns_of(99 + BAD, 410)
              | {"ts": columns_of(BAD, 410)["ts"]})
    # Another compression: other bytes, the same rows.
    path = lake.path / f"dt={DAYS[2]}" / "part-0.parquet"
    pq.write_table(pq.read_table(path), path, compression="none")
    found = findings(recorded=recorded)
    assert told(found) == [("changed_day", "warning", DAYS[BAD]),
                           ("changed_day", "info", DAYS[2])]
    assert "400 rows then, 410 now (+10)" in found[0].message


def test_another_schema_is_no_change(month, schema, encode):
    month()
    recorded = {day.day: RecordedDay.of(day) for day in encode(DAYS)}
    fewer = schema.without({"age"})
    again = encode(DAYS, fewer)
    assert again[0].meta["fingerprint"] != recorded[DAYS[0]].fingerprint
    assert check_encoded(again, fewer, STRICT, recorded=recorded) == []


@pytest.mark.parametrize(("moved", "severity"), [(1, "warning"), (300, "error")])
def test_late_rows(month, findings, moved, severity):
    sound = columns_of(BAD)
    seconds = sound["ts"].to_numpy().copy()
    seconds[:moved] -= 86_400
    month({BAD: {**sound, "ts": pa.array(seconds)}})
    (one,) = findings()
    assert told([one]) == [("rows_outside_day", severity, DAYS[BAD])]
    assert f"{moved} of 400 rows of dt=2024-01-08 happened before that day" in one.message
    assert "and 0 after it" in one.message


def test_a_few_late_rows_are_an_info(month, findings):
    sound = columns_of(BAD)
    seconds = sound["ts"].to_numpy().copy()
    seconds[-1] += 86_400
    month({BAD: {**sound, "ts": pa.array(seconds)}})
    found = findings(dataclasses.replace(STRICT, outside_share=0.01))
    assert told(found) == [("rows_outside_day", "info", DAYS[BAD])]


def repeated(number, copied):
    """A day whose first rows stand there twice."""
    table = pa.table(columns_of(number))
    return dict(zip(table.column_names, pa.concat_tables([table, table[:copied]]).columns,
                    strict=True))


@pytest.mark.parametrize(("copied", "severity"), [(20, "warning"), (400, "error")])
def test_duplicate_rows(month, findings, copied, severity):
    month({BAD: repeated(BAD, copied)})
    found = findings()
    assert told(found) == [("duplicate_rows", severity, DAYS[BAD])]
    assert f"{copied / (400 + copied):.1%} of the rows of dt=2024-01-08 are exact" \
        in found[0].message


def test_copies_that_are_usual_are_said_once(month, findings):
    month({number: repeated(number, 40) for number in range(12)})
    assert told(findings()) == [("duplicate_rows", "info", None)]


@pytest.mark.parametrize("group", ["user", None])
def test_copies_are_counted_in_a_sample_as_in_all_rows(write_day, lake, schema, tmp_path, group):
    rng = np.random.default_rng(3)
    table = pa.table(columns_of(0, 8000))
    write_day(columns={name: column for name, column in zip(
        table.column_names, pa.concat_tables([table, table.take(rng.permutation(8000)[:4000])])
        .columns, strict=True)})
    schema = dataclasses.replace(schema, group=group)
    (day,) = encode_days(lake, DAYS[:1], schema, tmp_path / "state")
    assert copies(day, schema, 20_000) == (4000, 12_000)
    same, rows = copies(day, schema, 2000)
    assert 1500 < rows < 2500
    assert same / rows == pytest.approx(1 / 3, abs=0.04)


@pytest.mark.parametrize("column", ["click", "ts", "user", "tags", "age"])
def test_rows_that_differ_in_one_column_are_no_copies(write_day, lake, schema, tmp_path, column):
    one = {"click": 0, "ts": 1_704_067_200, "user": "ann", "tags": ["x"], "age": None,
           "weight": 1.0}
    other = {"click": 1, "ts": 1_704_067_201, "user": "bob", "tags": ["x", "y"], "age": 3.0}
    rows = [one, one, {**one, column: other[column]}]
    write_day(columns={name: pa.array([row[name] for row in rows]) for name in one})
    (day,) = encode_days(lake, DAYS[:1], schema, tmp_path / "state")
    assert copies(day, schema, 100) == (1, 3)


def test_a_file_that_stands_twice(month, findings, lake):
    month()
    folder = lake.path / f"dt={DAYS[BAD]}"
    shutil.copy(folder / "part-0.parquet", folder / "part-1.parquet")
    found = findings()
    assert told(found) == [("copied_file", "error", DAYS[BAD]),
                           ("duplicate_rows", "error", DAYS[BAD])]
    assert "dt=2024-01-08/part-0.parquet, dt=2024-01-08/part-1.parquet" in found[0].message


def test_files_without_rows_are_no_copies(month, findings, lake):
    month()
    for day in DAYS[2:5]:
        table = pq.read_table(lake.path / f"dt={day}" / "part-0.parquet")
        pq.write_table(table.slice(0, 0), lake.path / f"dt={day}" / "part-1.parquet")
    assert findings() == []


def test_a_day_that_is_another_days_copy(month, findings, lake):
    month(without=[BAD])
    shutil.copytree(lake.path / f"dt={DAYS[BAD - 1]}", lake.path / f"dt={DAYS[BAD]}")
    assert told(findings()) == [("copied_file", "error", DAYS[BAD]),
                                ("rows_outside_day", "error", DAYS[BAD])]


def test_a_new_column(month, findings):
    month({n: {**columns_of(n), "dwell": pa.array(np.zeros(ROWS))} for n in (10, 11)})
    (one,) = findings()
    assert told([one]) == [("new_column", "info", DAYS[10])]
    assert "`dwell` is in 2 of 12 days only: 2024-01-11, 2024-01-12." in one.message


def test_a_missing_column(month, lake, schema):
    def without(number, *names):
        return {name: values for name, values in columns_of(number).items() if name not in names}

    extra = pa.array(np.zeros(ROWS))
    days = {n: {**columns_of(n), "extra": extra} for n in range(12) if n != 4}
    month({**days, BAD: {**without(BAD, "user"), "extra": extra}})
    assert told(check_lake(lake, DAYS, schema, STRICT)) == [
        ("missing_column", "error", DAYS[BAD]), ("missing_column", "info", DAYS[4])]


def test_a_column_that_one_of_two_files_lacks(month, lake, schema, write_day):
    month()
    table = {name: values for name, values in columns_of(50).items() if name != "age"}
    write_day(str(DAYS[BAD]), table, name="part-1.parquet")
    (one,) = check_lake(lake, DAYS, schema, STRICT)
    assert told([one]) == [("missing_column", "error", DAYS[BAD])]
    assert "`age`, which the schema reads, is not in (all) files of 1 of 12 days" in one.message


@pytest.mark.parametrize(("column", "values", "severity"), [
    ("user", pa.array(range(ROWS)), "info"),
    ("user", pa.array(["u1"] * ROWS, pa.large_string()), "info"),
    ("user", pa.array(["u1"] * ROWS).dictionary_encode(), "info"),
    ("user", pa.array(np.arange(ROWS) / 2), "warning"),
    ("user", pa.nulls(ROWS), "warning"),
    ("age", pa.array(range(ROWS), pa.int32()), "info"),
    ("age", pa.array(["40"] * ROWS), "warning"),
    ("click", pa.array([True, False] * 200), "info"),
    ("ts", pa.array(columns_of(BAD)["ts"].to_numpy().astype("datetime64[s]")), "info"),
    ("ts", pa.array(columns_of(BAD)["ts"].to_numpy() / 2), "warning"),
    ("tags", pa.array([[1, 2]] * ROWS), "info"),
    ("tags", pa.array(["t1"] * ROWS), "warning"),
], ids=str)
def test_a_type_change(month, lake, schema, column, values, severity):
    month({BAD: {**columns_of(BAD), column: values}})
    found = check_lake(lake, DAYS, schema, STRICT)
    assert told(found) == [("type_change", severity, DAYS[BAD])]
    assert f"column `{column}` is {values.type}".split(" ")[3][:4] in found[0].message


def test_a_new_type_of_a_column_that_nobody_reads(month, lake, schema):
    month({n: {**columns_of(n), "note": pa.array(["x"] * ROWS if n < 9 else range(ROWS))}
           for n in range(12)})
    (one,) = check_lake(lake, DAYS, schema, STRICT)
    assert told([one]) == [("type_change", "info", DAYS[9])]
    assert "`note` is int64 on 2024-01-10, 2024-01-11, 2024-01-12 and string otherwise" \
        in one.message


def test_tfrecords_are_said_to_be_unchecked(month, lake, schema):
    month(without=[BAD])
    folder = lake.path / f"dt={DAYS[BAD]}"
    folder.mkdir()
    (folder / "part.tfrecord").write_bytes(b"0")
    assert told(check_lake(lake, DAYS, schema, STRICT)) == [
        ("unchecked_types", "info", DAYS[BAD])]
    (folder / "part.tfrecord").write_bytes(b"")
    assert told(check_lake(lake, DAYS, schema, STRICT)) == [("empty_day", "error", DAYS[BAD])]


@pytest.mark.parametrize(("rows", "factor"), [(100, "4.0 times fewer"), (2000, "5.0 times more")])
def test_a_row_count_far_off(month, findings, rows, factor):
    month({BAD: columns_of(BAD, rows)})
    (one,) = findings()
    assert told([one]) == [("row_count", "warning", DAYS[BAD])]
    assert factor in one.message


@pytest.mark.parametrize("rate", [0.05, 0.5])
def test_a_label_rate_far_off(month, findings, rate):
    month({BAD: columns_of(BAD, 1000, rate=rate)})
    assert told(findings()) == [("label_rate", "warning", DAYS[BAD])]


@pytest.mark.parametrize("label", [0, 1])
def test_labels_that_have_not_arrived(month, findings, label):
    month({BAD: {**columns_of(BAD), "click": pa.array([label] * ROWS)}})
    (one,) = findings()
    assert told([one]) == [("one_class", "error", DAYS[BAD])]
    assert f"all 400 labels of dt=2024-01-08 are {label}; on the other days 0.2" in one.message


def test_one_large_broken_day_does_not_accuse_the_others(month, findings):
    month({BAD: columns_of(BAD, 9000, rate=0.9)})
    assert told(findings()) == [("label_rate", "warning", DAYS[BAD]),
                                ("row_count", "warning", DAYS[BAD])]


def test_category_explosion(month, findings):
    month({BAD: {**columns_of(BAD), "user": pa.array([f"u{i}-{i}" for i in range(ROWS)])}})
    (one,) = findings()
    assert told([one]) == [("category_explosion", "warning", DAYS[BAD])]
    assert "`user` has 400 distinct values in 400 rows of dt=2024-01-08, the median of the " \
        "other days is 40 in 400 rows." in one.message


@pytest.mark.parametrize("rows", [130, 1200])
def test_more_or_fewer_rows_are_no_explosion(month, findings, rows):
    # A request id is new in every row, so its distinct values go with the rows.
    days = {n: {**columns_of(n), "user": pa.array([f"{n}-{i}" for i in range(ROWS)])}
            for n in range(12)}
    days[BAD] = {**columns_of(BAD, rows), "user": pa.array([f"{BAD}-{i}" for i in range(rows)])}
    month(days)
    assert [one for one in findings() if one.kind.startswith("category")] == []


def test_category_collapse(month, findings):
    month({BAD: {**columns_of(BAD), "user": pa.array(["default"] * ROWS)}})
    found = findings()
    assert ("category_collapse", "warning", DAYS[BAD]) in told(found)
    assert {one.day for one in found} == {DAYS[BAD]}


@pytest.mark.parametrize(("column", "values"), [
    ("user", ["u1", None] * 200), ("age", [40.0, None] * 200),
    ("tags", [["t1", "t2"], []] * 200)], ids=["id", "number", "ids"])
def test_missing_values(month, findings, column, values):
    month({BAD: {**columns_of(BAD), column: pa.array(values)}})
    found = findings(dataclasses.replace(STRICT, ignored=("category_collapse",)))
    assert told(found) == [("missing_values", "warning", DAYS[BAD])]
    assert f"`{column}` has " in found[0].message


def test_several_at_once(month, findings, lake):
    late = columns_of(3)
    seconds = late["ts"].to_numpy().copy()
    seconds[:40] -= 86_400
    month({3: {**late, "ts": pa.array(seconds)}, 5: repeated(5, 100), 6: columns_of(6, 60),
           8: {**columns_of(8), "click": pa.array([0] * ROWS)},
           9: {**columns_of(9), "user": pa.array([f"x{i}" for i in range(ROWS)]),
               "new": pa.array(range(ROWS))}}, without=[1])
    found = findings(PartitionSettings(missing_days="continue", min_days=10))
    assert told(found) == [
        ("one_class", "error", DAYS[8]), ("short_window", "warning", None),
        ("missing_day", "warning", DAYS[1]), ("rows_outside_day", "warning", DAYS[3]),
        ("duplicate_rows", "warning", DAYS[5]), ("row_count", "warning", DAYS[6]),
        ("category_explosion", "warning", DAYS[9]), ("new_column", "info", DAYS[9]),
    ]


def test_kinds_can_be_left_out_or_made_errors(month, findings):
    month({BAD: columns_of(BAD, 100)})
    assert findings(PartitionSettings(ignored=("row_count",))) == []
    assert told(findings(PartitionSettings(errors=("row_count",)))) == [
        ("row_count", "error", DAYS[BAD])]


def test_few_days_are_not_compared(lake, schema, write_day, tmp_path):
    for number in range(4):
        write_day(str(DAYS[number]), columns_of(number, 10 if number == 2 else ROWS))
    encoded = encode_days(lake, DAYS[:4], schema, tmp_path / "state")
    assert check_window(lake, DAYS[:4], schema, encoded, STRICT) == []


def test_findings_are_plain_and_in_order():
    one = Finding(kind="row_count", severity="warning", day=DAYS[1], message="few.")
    whole = dataclasses.replace(one, day=None)
    worst = dataclasses.replace(one, severity="error", day=DAYS[2])
    assert in_order([one, worst, whole]) == [worst, whole, one]
    assert json.loads(json.dumps([one.to_dict(), whole.to_dict()])) == [
        {"kind": "row_count", "severity": "warning", "day": "2024-01-02", "message": "few."},
        {"kind": "row_count", "severity": "warning", "day": None, "message": "few."}]
    refuse_errors([one, whole])
    with pytest.raises(DataError, match=r"^few\.$"):
        refuse_errors([one, worst])


@pytest.mark.parametrize(("change", "mistake"), [
    ({"missing_days": "skip"}, "checks.missing_days must be one of fail, continue, got 'skip'."),
    ({"min_days": 0}, "checks.min_days must be >= 1, got 0."),
    ({"outside_share": 1.5}, r"checks.outside_share must lie in \[0, 1\], got 1.5."),
    ({"rows_factor": 0.5}, "checks.rows_factor must be >= 1, got 0.5."),
    ({"errors": ("rows",)}, "checks.errors must hold names of missing_day, .*, got 'rows'."),
])
def test_settings_out_of_range(change, mistake):
    assert PartitionSettings().mistakes("checks") == []
    (found,) = PartitionSettings(**change).mistakes("checks")
    with pytest.raises(AssertionError, match=mistake):
        raise AssertionError(found)
