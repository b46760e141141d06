import json
import logging
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dualdnn.data.sources.delimited_table import Column, TableFormat, parse_block
from dualdnn.data.sources.lake_builder import build_lake
from dualdnn.data.sources.raw_log import LogOrigin, RawLog
from dualdnn.data.sources.text_blocks import TextFile
from dualdnn.errors import DataError

ROOT = Path(__file__).resolve().parents[3]
FORM = TableFormat(columns={"timestamp": Column(kind="whole", required=True), "name": Column()},
                   separator=",", quoted=True)
ORIGIN = LogOrigin(source="toy", address="nowhere", licence="free", citation="nobody",
                   settings={"n": [1]})
DAY = 86_400
# What subprocesses run: the same log, built with a callback of their own.
CHILD = """
import os, resource, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_lake_builder import build, raw_log
raw, lake = Path(sys.argv[1]), Path(sys.argv[2])
"""


def table_of(block, earlier):
    assert all(rows > 0 for rows in earlier)
    return parse_block(block, FORM)


def raw_log(*paths, **options):
    return RawLog(files=[TextFile(path=path) for path in paths], header=False,
                  open_table=lambda: table_of, **options)


def build(lake, *paths, origin=ORIGIN, **options):
    build_lake(lake, origin=origin, raw=raw_log(*paths), block_bytes=2048,
               **{"threads": 2, **options})


@pytest.fixture
def log(tmp_path):
    """2,000 rows over 3 days, the second one without rows, not in the order of time."""
    path = tmp_path / "log.csv"
    path.write_text("".join(f"{(0, 2 * DAY, 3 * DAY)[i * 7 // 3 % 3] + i},r{i}\n"
                            for i in range(2000)))
    return path


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes()
            for path in sorted(folder.rglob("*")) if path.is_file()}


def names_of(lake, day):
    return [row["name"] for path in sorted((lake / f"dt={day}").glob("*.parquet"))
            for row in pq.ParquetFile(path).read().to_pylist()]


def run_child(body, *arguments):
    script = CHILD.format(tests=str(Path(__file__).parent)) + textwrap.dedent(body)
    return subprocess.run([sys.executable, "-c", script, *map(str, arguments)], cwd=ROOT,
                          capture_output=True, text=True, check=False)


def test_every_row_is_in_the_folder_of_its_day_in_the_order_of_the_file(tmp_path, log):
    build(tmp_path / "lake", log)
    lake = tmp_path / "lake"
    rows = [line.split(",") for line in log.read_text().splitlines()]
    for day, number in (("1970-01-01", 0), ("1970-01-03", 2), ("1970-01-04", 3)):
        assert names_of(lake, day) == [
            name for second, name in rows if int(second) // DAY == number]
        assert (lake / f"dt={day}" / "_SUCCESS").is_file()
    assert {path.name for path in lake.iterdir()} == {
        "_lake.json", "dt=1970-01-01", "dt=1970-01-03", "dt=1970-01-04"}
    about = json.loads((lake / "_lake.json").read_text())
    assert about["made_by"] == "dualdnn"
    assert about["rows"] == sum(about["days"].values()) == 2000
    assert about["archives"][0]["name"] == "log.csv"
    assert about["settings"] == {"n": [1]}
    # Nothing hidden is left beside it but the lock.
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == [".lake.lock"]


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_bytes_do_not_depend_on_the_number_of_threads(tmp_path, log, threads):
    build(tmp_path / "one", log, threads=1)
    build(tmp_path / "lake", log, threads=threads)
    assert contents(tmp_path / "lake") == contents(tmp_path / "one")


def test_progress_grows_to_the_end_and_is_logged(tmp_path, log, caplog, monkeypatch):
    monkeypatch.setattr("dualdnn.data.sources.ingest_progress._SECONDS_BETWEEN_LINES", 0)
    seen = []
    with caplog.at_level(logging.INFO):
        build(tmp_path / "lake", log, on_progress=lambda *one: seen.append(one))
    assert seen == sorted(seen)
    assert len(seen) > 5
    assert seen[-1] == (log.stat().st_size, log.stat().st_size, 2000)
    assert "toy: 0.00 of 0.00 GB read" in caplog.text
    assert "2000 rows written from 1 files" in caplog.text


def test_an_interrupted_ingest_goes_on_to_the_same_bytes(tmp_path, log, caplog):
    build(tmp_path / "whole", log)

    def stop(done, total, rows):
        if rows > 700:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "lake", log, on_progress=stop)
    assert not (tmp_path / "lake").exists()
    with caplog.at_level(logging.INFO):
        build(tmp_path / "lake", log)
    assert "going on after" in caplog.text
    assert contents(tmp_path / "lake") == contents(tmp_path / "whole")
    assert not (tmp_path / ".ingest-lake").exists()


def test_a_killed_ingest_goes_on_to_the_same_bytes(tmp_path, log):
    build(tmp_path / "whole", log)
    done = run_child("""
        def kill(done, total, rows):
            if rows > 700:
                os.kill(os.getpid(), signal.SIGKILL)
        build(lake, raw, on_progress=kill)
    """, log, tmp_path / "lake")
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "lake").exists()
    staging = tmp_path / ".ingest-lake"
    before = {path.name: path.stat().st_mtime_ns for path in (staging / "blocks").iterdir()}
    assert before
    # As a kill inside a write leaves it.
    (next((staging / "lake").iterdir()) / ".tmp-part-000000.parquet-1-aaaaaaaa").write_text("half")
    read = []
    build(tmp_path / "lake", log, on_progress=lambda done, total, rows: read.append(rows))
    assert read[0] > 0
    assert contents(tmp_path / "lake") == contents(tmp_path / "whole")


def test_finished_blocks_are_not_parsed_again(tmp_path, log):
    def stop(done, total, rows):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "lake", log, on_progress=stop, threads=1)
    recorded = {int(p.stem) for p in (tmp_path / ".ingest-lake" / "blocks").iterdir()}
    parsed = []

    def note(block, earlier):
        parsed.append(block.first_row)
        return table_of(block, earlier)

    raw = RawLog(files=[TextFile(path=log)], header=False, open_table=lambda: note)
    build_lake(tmp_path / "lake", origin=ORIGIN, raw=raw, block_bytes=2048, threads=1)
    assert recorded
    assert 0 not in parsed


def test_other_raw_files_begin_anew(tmp_path, log):
    def stop(done, total, rows):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "lake", log, on_progress=stop)
    log.write_text("5,only\n")
    build(tmp_path / "lake", log)
    assert names_of(tmp_path / "lake", "1970-01-01") == ["only"]
    assert json.loads((tmp_path / "lake" / "_lake.json").read_text())["rows"] == 1


def test_a_current_lake_is_used_and_another_one_replaced(tmp_path, log, caplog):
    lake = tmp_path / "lake"
    build(lake, log)
    inode = lake.stat().st_ino
    with caplog.at_level(logging.INFO):
        build(lake, log)
    assert "used as it is" in caplog.text
    os.utime(log, (1, 1))  # touched: the bytes are compared, and the new time is noted
    build(lake, log)
    assert lake.stat().st_ino == inode
    assert json.loads((lake / "_lake.json").read_text())["archives"][0]["mtime_ns"] == 10**9
    log.write_text("5,only\n")
    build(lake, log)
    assert names_of(lake, "1970-01-01") == ["only"]
    other = LogOrigin(source="toy", address="nowhere", licence="free", citation="nobody")
    build(lake, log, origin=other)
    assert json.loads((lake / "_lake.json").read_text())["settings"] == {}
    (lake / "dt=1970-01-01" / "_SUCCESS").unlink()
    build(lake, log, origin=other)
    assert (lake / "dt=1970-01-01" / "_SUCCESS").exists()


def test_what_others_put_there_is_never_deleted(tmp_path, log):
    lake = tmp_path / "lake"
    lake.mkdir()
    (lake / "thesis.txt").write_text("all of it")
    with pytest.raises(DataError, match="was not made by dualdnn"):
        build(lake, log)
    (lake / "thesis.txt").unlink()
    build(lake, log)
    (lake / "thesis.txt").write_text("all of it")
    log.write_text("5,only\n")
    with pytest.raises(DataError, match=r"holds thesis\.txt, which dualdnn did not put there"):
        build(lake, log)
    assert len(names_of(lake, "1970-01-03")) > 100


@pytest.mark.parametrize("threads", [1, 4])
def test_the_first_wrong_line_is_the_one_that_is_named(tmp_path, log, threads):
    lines = log.read_text().splitlines(keepends=True)
    lines[300], lines[301], lines[1500] = "x,a\n", "y,b\n", "z,c\n"
    log.write_text("".join(lines) + "no end")
    with pytest.raises(DataError, match=r"log\.csv, line 301: timestamp must be a whole number, "
                                        "got 'x'"):
        build(tmp_path / "lake", log, threads=threads)
    assert not (tmp_path / "lake").exists()


def test_several_files_and_the_md5_that_their_owners_publish(tmp_path):
    one, other = tmp_path / "one.csv", tmp_path / "two.csv"
    one.write_text("1,a\n2,b\n")
    other.write_text("3,c\n")
    md5 = {"one.csv": "0f6ad0e2c3b2b2fd9b2b3d5e0b4ba55a"}
    with pytest.raises(DataError, match=r"one\.csv: expected the published md5 0f6a.*, got "):
        build_lake(tmp_path / "lake", origin=ORIGIN, raw=raw_log(one, other, md5=md5))
    build(tmp_path / "lake", one, other)
    assert names_of(tmp_path / "lake", "1970-01-01") == ["a", "b", "c"]


def test_a_file_beside_the_log_counts(tmp_path, log):
    beside = tmp_path / "users.csv"
    beside.write_text("old")
    raw = raw_log(log, beside=[TextFile(path=beside)])
    build_lake(tmp_path / "lake", origin=ORIGIN, raw=raw)
    inode = (tmp_path / "lake").stat().st_ino
    beside.write_text("new")
    build_lake(tmp_path / "lake", origin=ORIGIN, raw=raw)
    assert (tmp_path / "lake").stat().st_ino != inode


def test_a_raw_file_that_changes_meanwhile_is_refused(tmp_path, log):
    def grow(done, total, rows):
        os.utime(log, (1, 1))

    with pytest.raises(DataError, match="changed while it was read"):
        build(tmp_path / "lake", log, on_progress=grow)
    assert not (tmp_path / "lake").exists()


def test_a_full_disk_ends_with_a_line_and_can_be_continued(tmp_path, log):
    build(tmp_path / "whole", log)
    done = run_child("""
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        def fill(done, total, rows):
            resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))
        try:
            build(lake, raw, on_progress=fill)
        except Exception as error:
            print(type(error).__name__, error)
    """, log, tmp_path / "lake")
    assert done.stdout.startswith(f"DataError The lake {tmp_path / 'lake'} cannot be written: "), (
        done.stdout + done.stderr)
    assert "File too large" in done.stdout
    assert "The finished blocks are kept" in done.stdout
    assert done.stdout.count("\n") == 1
    assert not (tmp_path / "lake").exists()
    build(tmp_path / "lake", log)
    assert contents(tmp_path / "lake") == contents(tmp_path / "whole")


def test_two_processes_build_one_lake(tmp_path, log):
    build(tmp_path / "whole", log)
    script = CHILD.format(tests=str(Path(__file__).parent)) + (
        "import logging; logging.basicConfig(level='INFO'); build(lake, raw)")
    both = [subprocess.Popen([sys.executable, "-c", script, str(log), str(tmp_path / "lake")],
                             cwd=ROOT, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [one.communicate()[1] for one in both]
    assert [one.returncode for one in both] == [0, 0], said
    assert sum("rows written" in one for one in said) == 1
    assert sum("used as it is" in one for one in said) == 1
    assert contents(tmp_path / "lake") == contents(tmp_path / "whole")


def test_a_table_without_time_order_keeps_the_order_within_each_day():
    from dualdnn.data.sources.block_ingest import _by_day

    table = pa.table({"timestamp": [DAY, 0, DAY + 5, 1, 0], "n": [0, 1, 2, 3, 4]})
    assert [(day, rows["n"].to_pylist()) for day, rows in _by_day(table)] == [
        ("1970-01-01", [1, 3, 4]), ("1970-01-02", [0, 2])]
