import bz2
import csv
import datetime
import gzip
import io
import random
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from dualdnn.data.lake import Lake
from dualdnn.data.sources.avazu import CATEGORIES, NUMBERED, Avazu
from dualdnn.errors import ConfigError, DataError
from dualdnn.schema import schema_from_dict

HEADER = ["id", "click", "hour", "C1", "banner_pos", "site_id", "site_domain", "site_category",
          "app_id", "app_domain", "app_category", "device_id", "device_ip", "device_model",
          "device_type", "device_conn_type", "C14", "C15", "C16", "C17", "C18", "C19", "C20",
          "C21"]
ROWS = 5500


def log_of(seed, rows=ROWS, days=(21, 22, 24), shuffled=False):
    """Rows in the official layout, with empty cells, negative numbers and quoted commas."""
    rng = random.Random(seed)
    found = []
    for i in range(rows):
        row = {"id": str(rng.randrange(10**19, 2 * 10**19)), "click": rng.choice("01"),
               "hour": f"1410{days[i * len(days) // rows]}{rng.randrange(24):02d}"}
        for name in CATEGORIES:
            row[name] = rng.choice(["", f"{rng.randrange(2**32):08x}", "-1", str(rng.randrange(9)),
                                    'a,b', 'say "hi"', "NA"])
        found.append(row)
    if shuffled:
        rng.shuffle(found)
    return found


def text_of(rows, header=HEADER, ends="\n"):
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, header, lineterminator=ends)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def expected(rows):
    """day → rows by plain Python, in the order of the file."""
    days = {}
    for row in rows:
        moment = datetime.datetime.strptime(row["hour"], "%y%m%d%H").replace(tzinfo=datetime.UTC)
        days.setdefault(str(moment.date()), []).append({
            **{name: value or None for name, value in row.items() if name != "hour"},
            "click": int(row["click"]), "timestamp": int(moment.timestamp()),
            "hour": moment.hour, "weekday": moment.weekday()})
    return dict(sorted(days.items()))


def prepare(raw, lake, **options):
    Avazu(raw=str(raw), **{"block_bytes": 2**17, **options}).prepare(lake)
    return {folder.name[3:]: [row for file in sorted(folder.glob("*.parquet"))
                              for row in pq.ParquetFile(file).read().to_pylist()]
            for folder in sorted(lake.glob("dt=*"))}


@pytest.mark.parametrize(("name", "pack", "ends", "shuffled"), [
    ("train.csv", bytes, "\n", False),
    ("train.csv", bytes, "\r\n", True),
    ("train.gz", gzip.compress, "\n", True),
    ("train.csv.bz2", bz2.compress, "\n", False),
])
def test_the_log_row_by_row(tmp_path, name, pack, ends, shuffled):
    rows = log_of(0, shuffled=shuffled)
    (tmp_path / name).write_bytes(pack(text_of(rows, ends=ends).encode()))
    days = prepare(tmp_path, tmp_path / "lake")
    # The 23rd has no rows: no folder.
    assert list(days) == ["2014-10-21", "2014-10-22", "2014-10-24"]
    assert days == expected(rows)


def test_columns_in_another_order_are_the_same_rows(tmp_path):
    rows = log_of(0)
    (tmp_path / "train.csv").write_text(text_of(rows, header=HEADER[::-1]))
    assert prepare(tmp_path / "train.csv", tmp_path / "lake") == expected(rows)


def test_the_split_of_x4_keeps_its_parts(tmp_path):
    parts = {part: log_of(i, rows) for i, (part, rows) in enumerate(
        {"train": 3000, "valid": 400, "test": 300}.items())}
    for part, rows in parts.items():
        (tmp_path / f"{part}.csv").write_text(text_of(rows))
    days = prepare(tmp_path, tmp_path / "lake")
    for part, rows in parts.items():
        assert {day: [{k: v for k, v in row.items() if k != "part"} for row in some
                      if row["part"] == part] for day, some in days.items()} == expected(rows)


def test_the_split_of_x1_has_numbered_features_and_made_up_days(tmp_path):
    rng = random.Random(0)
    rows = {part: [{"label": rng.randrange(2),
                    **{name: str(rng.randrange(99)) for name in NUMBERED}} for _ in range(number)]
            for part, number in (("train", 1100), ("valid", 200), ("test", 300))}
    for part, some in rows.items():
        (tmp_path / f"{part}.csv").write_text(text_of(some, header=["label", *NUMBERED]))
    days = prepare(tmp_path, tmp_path / "lake", columns="x1", rows_per_day=1000)
    assert [len(some) for some in days.values()] == [1000, 100, 200, 300]
    read = [{k: v for k, v in row.items() if k != "timestamp"}
            for some in days.values() for row in some]
    assert read == [{**row, "part": part} for part, some in rows.items() for row in some]
    with pytest.raises(DataError, match=r"train\.csv, line 1: .*id is missing"):
        prepare(tmp_path, tmp_path / "other")


@pytest.mark.parametrize(("line", "reason"), [
    (",".join(HEADER), "the header comes again"),
    ("1,0,14130100" + ",a" * 21, "hour must be YYMMDDHH, such as 14102100 .*got 14130100"),
    ("1,0,2014102100" + ",a" * 21, "hour must be YYMMDDHH.*got 2014102100"),
    ("1,0,x" + ",a" * 21, "hour must be a whole number .*got 'x'"),
    ("1,0,14102100" + ",a" * 20, "expected 24 fields separated by ',', got 23"),
    (",0,14102100" + ",a" * 21, "id must be text, got an empty cell"),
    ('1,0,14102100,"a' + ",a" * 20, "the quotes do not match"),
])
def test_a_wrong_line_deep_inside_is_named(tmp_path, line, reason):
    lines = text_of(log_of(0)).splitlines(keepends=True)
    lines.insert(4000, line + "\n")
    (tmp_path / "train.csv").write_text("".join(lines))
    with pytest.raises(DataError, match=rf"train\.csv, line 4001: {reason}"):
        prepare(tmp_path / "train.csv", tmp_path / "lake")
    assert not (tmp_path / "lake").exists()


def test_the_file_without_clicks_is_refused(tmp_path):
    rows = [{k: v for k, v in row.items() if k != "click"} for row in log_of(0, 10)]
    (tmp_path / "test.csv").write_text(text_of(rows, [h for h in HEADER if h != "click"]))
    with pytest.raises(DataError, match=r"test\.csv, line 1: .*click is missing"):
        prepare(tmp_path / "test.csv", tmp_path / "lake")


@pytest.mark.parametrize(("options", "message"), [
    ({"raw": None}, r"data\.raw: expected train\.csv or train .*kaggle\.com/c/avazu"),
    ({"columns": "x2"}, "columns must be official, or x1"),
    ({"columns": "x1"}, "columns=x1 reads train.csv, valid.csv and test.csv"),
    ({"release": "criteo_x1"}, "release must be null or one of avazu_x1, avazu_x4"),
])
def test_wrong_settings_are_found_before_data_is_read(tmp_path, options, message):
    (tmp_path / "train.gz").touch()
    with pytest.raises(ConfigError, match=message):
        Avazu(**{"raw": str(tmp_path / "train.gz"), **options}).prepare(tmp_path / "lake")


def test_the_config_reads_what_the_source_writes(tmp_path):
    (tmp_path / "train.csv").write_text(text_of(log_of(0)))
    prepare(tmp_path, tmp_path / "lake")
    config = yaml.safe_load(Path("conf/data/avazu.yaml").read_text())
    schema = schema_from_dict({key: value for key, value in config.items()
                               if key not in ("source", "raw", "lake")})
    assert Lake(tmp_path / "lake").read(datetime.date(2014, 10, 22), schema).num_rows > 1000
    config = yaml.safe_load(Path("conf/data/avazu_x1.yaml").read_text())
    assert [field["name"] for field in config["fields"]] == list(NUMBERED)
