import datetime
import gzip
import hashlib
import random
import zipfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from dualdnn.data.lake import Lake
from dualdnn.data.sources import criteo
from dualdnn.data.sources.criteo import CATEGORIES, NUMBERS, Criteo
from dualdnn.errors import ConfigError, DataError
from dualdnn.schema import schema_from_dict

ROWS = 6000
COLUMNS = ["label", *NUMBERS, *CATEGORIES]
FIRST = datetime.date(2000, 1, 1)


def lines_of(seed, rows=ROWS, ends="\n"):
    """Lines in the official layout with what is odd in it: empty cells, negative integers."""
    rng = random.Random(seed)
    lines = []
    for _ in range(rows):
        cells = [rng.choice("01")]
        cells += ["" if rng.random() < 0.3 else str(int(rng.paretovariate(0.5)) - 3)
                  for _ in NUMBERS]
        cells += ["" if rng.random() < 0.1 else f"{rng.randrange(2**32):08x}" for _ in CATEGORIES]
        lines.append("\t".join(cells) + (rng.choice(["\n", "\r\n"]) if ends == "mixed" else ends))
    return lines


def expected(lines):
    """The rows by plain Python."""
    rows = []
    for line in lines:
        cells = dict(zip(COLUMNS, line.rstrip("\r\n").split("\t"), strict=True))
        rows.append({name: (None if not cell else cell if name[0] == "C" else int(cell))
                     for name, cell in cells.items()})
    return rows


def write(path: Path, lines) -> Path:
    data = "".join(lines).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def prepare(raw, lake, **options):
    Criteo(raw=str(raw), **{"block_bytes": 2**18, **options}).prepare(lake)
    found = {}
    for folder in sorted(lake.glob("dt=*")):
        files = sorted(folder.glob("*.parquet"))
        found[folder.name[3:]] = [row for file in files
                                  for row in pq.ParquetFile(file).read().to_pylist()]
    return found


def midnight(day):
    moment = datetime.datetime.fromisoformat(f"{day}T00:00:00+00:00")
    return int(moment.timestamp())


def without(row, *names):
    return {name: value for name, value in row.items() if name not in names}


@pytest.mark.parametrize("name", ["train.txt", "train.txt.gz"])
@pytest.mark.parametrize("ends", ["\n", "mixed"])
def test_the_week_row_by_row(tmp_path, name, ends):
    lines = lines_of(0, ends=ends)
    days = prepare(write(tmp_path / name, lines), tmp_path / "lake", rows_per_day=1700)
    assert list(days) == ["2000-01-01", "2000-01-02", "2000-01-03", "2000-01-04"]
    assert [len(rows) for rows in days.values()] == [1700, 1700, 1700, 900]
    read = [row for rows in days.values() for row in rows]
    assert [without(row, "timestamp") for row in read] == expected(lines)
    for day, rows in days.items():
        assert {row["timestamp"] for row in rows} == {midnight(day)}


def test_24_days_by_their_files_one_of_them_missing(tmp_path, caplog):
    folder = tmp_path / "raw"
    folder.mkdir()
    lines = {number: lines_of(number, rows=1800) for number in (0, 2, 10)}
    for number, some in lines.items():
        write(folder / f"day_{number}.gz", some)
    (folder / "notes.md").write_text("mine")
    days = prepare(folder, tmp_path / "lake")
    assert "day_1 is missing (8 of the days" in caplog.text
    assert list(days) == ["2000-01-01", "2000-01-03", "2000-01-11"]
    for (number, some), (day, rows) in zip(lines.items(), days.items(), strict=True):
        assert day == str(FIRST + datetime.timedelta(days=number))
        assert [without(row, "timestamp") for row in rows] == expected(some)
    one = prepare(folder / "day_2.gz", tmp_path / "one")
    assert one == {"2000-01-03": days["2000-01-03"]}


def split_of(folder, label="label"):
    """The three files of a split and their rows, numbers as fractions."""
    folder.mkdir(exist_ok=True)
    rows = {}
    for part, number in (("train", 4000), ("valid", 500), ("test", 700)):
        rng = random.Random(part)
        rows[part] = [{"label": rng.randrange(2),
                       **{name: None if rng.random() < 0.1 else rng.random() for name in NUMBERS},
                       **{name: None if rng.random() < 0.1 else str(rng.randrange(999))
                          for name in CATEGORIES}} for _ in range(number)]
        text = ",".join([label, *NUMBERS, *CATEGORIES]) + "\n" + "".join(
            ",".join("" if value is None else str(value) for value in row.values()) + "\n"
            for row in rows[part])
        (folder / f"{part}.csv").write_text(text)
    return rows


@pytest.mark.parametrize("label", ["label", "Label"])
@pytest.mark.parametrize("packed", [True, False])
def test_a_split_keeps_its_parts(tmp_path, label, packed):
    raw = tmp_path / "x1"
    rows = split_of(raw, label)
    if packed:
        with zipfile.ZipFile(tmp_path / "x1.zip", "w") as archive:
            for path in raw.iterdir():
                archive.write(path, f"Criteo_x1/{path.name}")
        raw = tmp_path / "x1.zip"
    days = prepare(raw, tmp_path / "lake", rows_per_day=1500)
    assert [len(some) for some in days.values()] == [1500, 1500, 1000, 500, 700]
    read = [without(row, "timestamp") for some in days.values() for row in some]
    assert read == [{**row, "part": part} for part, some in rows.items() for row in some]


def test_a_release_is_verified_by_its_md5(tmp_path, monkeypatch):
    split_of(tmp_path / "x4")
    with pytest.raises(DataError, match=r"train\.csv: expected the published md5 4a53bb7c.*, got"):
        prepare(tmp_path / "x4", tmp_path / "lake", release="criteo_x4")
    monkeypatch.setitem(criteo.MD5, "criteo_x4", {
        path.name: hashlib.md5(path.read_bytes()).hexdigest()
        for path in (tmp_path / "x4").iterdir()})
    assert prepare(tmp_path / "x4", tmp_path / "lake", release="criteo_x4")


@pytest.mark.parametrize(("cell", "value", "reason"), [
    (0, "2", "label must be a whole number from 0 to 1, got '2'"),
    (0, "", "label must be a whole number from 0 to 1, got an empty cell"),
    (3, "x", "I3 must be a whole number, got 'x'"),
    (5, "1.5", r"I5 must be a whole number, got '1\.5'"),
    (20, "a\tb", r"expected 40 fields separated by '\\t', got 41"),
    (39, None, r"expected 40 fields separated by '\\t', got 39"),
])
def test_a_wrong_line_deep_inside_is_named(tmp_path, cell, value, reason):
    lines = lines_of(0)
    cells = lines[4711].rstrip("\n").split("\t")
    cells[cell:cell + 1] = [] if value is None else [value]
    lines[4711] = "\t".join(cells) + "\n"
    with pytest.raises(DataError, match=rf"train\.txt, line 4712: {reason}"):
        prepare(write(tmp_path / "train.txt", lines), tmp_path / "lake")
    assert not (tmp_path / "lake").exists()


def test_bytes_that_are_no_text_and_a_cut_file_are_named(tmp_path):
    lines = lines_of(0)
    data = "".join(lines).encode()
    start = len("".join(lines[:3000]).encode())
    path = tmp_path / "train.txt"
    path.write_bytes(data[:start + 80] + b"\xff" + data[start + 80:])
    with pytest.raises(DataError, match=r"line 3001: .*0xff"):
        prepare(path, tmp_path / "lake")
    packed = tmp_path / "train.txt.gz"
    packed.write_bytes(gzip.compress(data)[:-1000])
    with pytest.raises(DataError, match=r"train\.txt\.gz, line \d+ or soon after: .*cut off"):
        prepare(packed, tmp_path / "lake")
    path.write_bytes(data[:-1])
    with pytest.raises(DataError, match=f"line {ROWS}: expected the file to end"):
        prepare(path, tmp_path / "lake")


def test_the_config_reads_what_the_source_writes(tmp_path):
    write(tmp_path / "train.txt", lines_of(0))
    prepare(tmp_path / "train.txt", tmp_path / "lake", rows_per_day=ROWS)
    config = yaml.safe_load(Path("conf/data/criteo.yaml").read_text())
    schema = schema_from_dict({key: value for key, value in config.items()
                               if key not in ("source", "raw", "lake")})
    table = Lake(tmp_path / "lake").read(FIRST, schema)
    assert table.num_rows == ROWS
    assert len(schema.fields) == 39


@pytest.mark.parametrize(("options", "message"), [
    ({"raw": None}, r"data\.raw: expected train\.txt .*got None.*kaggle\.com.*ailab\.criteo\.com"),
    ({"raw": "nowhere"}, "does not exist"),
    ({"raw": "."}, r"found .* in \."),
    ({"rows_per_day": 0}, "rows_per_day must be >= 1"),
    ({"release": "criteo_x9"}, "release must be null or one of criteo_x1, criteo_x4"),
    ({"release": "criteo_x1"}, "asks to verify train.csv, valid.csv, test.csv"),
    ({"block_bytes": 1}, "block_bytes must lie between"),
    ({"threads": 0}, "threads must be >= 1"),
])
def test_wrong_settings_are_found_before_data_is_read(tmp_path, options, message):
    (tmp_path / "train.txt").touch()
    source = Criteo(**{"raw": str(tmp_path / "train.txt"), **options})
    (found,) = source.mistakes(tmp_path / "lake")
    with pytest.raises(ConfigError, match=message):
        source.prepare(tmp_path / "lake")
    assert found


def test_an_archive_has_to_be_unpacked(tmp_path):
    (tmp_path / "dac.tar.gz").touch()
    (found,) = Criteo(raw=str(tmp_path / "dac.tar.gz")).mistakes(tmp_path / "lake")
    assert "Unpack it with `tar xf`" in found


def test_a_lake_that_is_there_needs_no_raw_files(tmp_path):
    lake = tmp_path / "lake"
    prepare(write(tmp_path / "train.txt", lines_of(0)), lake)
    assert Criteo().mistakes(lake) == []
    Criteo().prepare(lake)
    with pytest.raises(ConfigError, match=r"built with other settings.*Pass data\.raw=PATH"):
        Criteo(rows_per_day=5).prepare(lake)
