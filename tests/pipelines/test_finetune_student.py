"""`finetune scope=student` as an operator meets it: days of the lake, then a folder of files."""

import datetime
import json
import os
import re
import sys

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import pipelines  # noqa: F401  (chooses the Keras API, keeps TensorFlow quiet)
from dualdnn.data.examples import Examples
from dualdnn.export.champion import champion_of
from dualdnn.export.versions import faults_of, read_manifest, version_numbers
from dualdnn.storage import lock
from dualdnn.training.learner import open_state
from dualdnn.training.student_learner import open_student
from pipelines import finetune, publish, retrain
from pipelines.entry import start
from tests.daily_feed import ROWS, Feed
from tests.pipelines.test_daily_jobs import answers

# mlflow and SQLAlchemy deprecate things of each other's; as errors they would break the store.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
JOBS = {"retrain": retrain.main, "finetune": finetune.main, "publish": publish.main}
ALONE = ("finetune", "scope=student")
FOLLOW = (*ALONE, "source=dropped", "online.publish_rows=150", "online.idle_minutes=0")


@pytest.fixture(scope="module")
def feed(tmp_path_factory):
    feed = Feed(tmp_path_factory.mktemp("alone"))
    (feed.folder / "dropped").mkdir()
    # A part of a student's graph that a training alone has to keep.
    feed.given.append("student.fm=true")
    return feed


@pytest.fixture
def run(monkeypatch, capsys, feed, timed_here):
    """Returns a function: a job with more overrides; its code, stdout and stderr's last line."""
    monkeypatch.chdir(feed.folder)

    def run(job, *overrides):
        given = feed.given if job != "publish" else ["export.name=my_feed"]
        monkeypatch.setattr(sys, "argv", [job, *given, *overrides])
        with pytest.raises(SystemExit) as exit:
            start(job, JOBS[job])
        said = capsys.readouterr()
        return exit.value.code, said.out, (said.err.splitlines() or [""])[-1]

    return run


def drop(feed, day, number, of=4, change=None, name=None):
    """Drop a part of a day's rows by one rename; its name."""
    table = pq.read_table(feed.folder / "feed" / f"dt=2024-01-{day:02d}" / "part.parquet")
    rows = np.array_split(np.arange(len(table)), of)[number]
    table = table.slice(rows[0], len(rows))
    if change:
        table = change(table)
    name = name or f"2024-01-{day:02d}-{number}.parquet"
    hidden = feed.folder / "dropped" / f"_{name}"
    pq.write_table(table, hidden)
    os.rename(hidden, feed.folder / "dropped" / name)
    return name


def overlay_of(feed):
    return open_student(feed.state / str(champion_of(feed.exported).version) / "student")


def rows_of_table(feed, version, name):
    return open_state(feed.state / str(version)).arrays()[name]


# The tests of this file are one story, in this order.

def test_scope_and_source_are_checked(feed, run):
    code, _, last = run("finetune", "scope=teacher", "source=3", "online.publish_rows=0",
                        "online.idle_minutes=-1", "online.report_days=0")
    assert code == 2
    for mistake in ("scope must be both or student, got 'teacher'", "source must be a folder",
                    "online.publish_rows must be >= 1 or null, got 0",
                    "online.idle_minutes must be >= 0 or null, got -1",
                    "online.report_days must be >= 1, got 0"):
        assert mistake in last
    code, _, last = run("finetune", "source=dropped", "online.publish_rows=null",
                        "online.publish_minutes=null", "window.as_of=2024-01-06")
    assert code == 2
    for mistake in ("source needs scope=student", "nothing would ever be published",
                    "window.as_of chooses a day of the lake"):
        assert mistake in last
    for job in (ALONE, FOLLOW):
        code, _, last = run(*job)
        assert (code, "has no champion to go on from" in last) == (1, True)


def test_a_student_goes_on_alone_with_a_day(feed, run):
    assert run("retrain", "window.as_of=2024-01-05")[0] == 0
    code, out, last = run(*ALONE, "window.as_of=2024-01-06")
    assert (code, last) == (0, ""), out
    report = feed.newest_report("finetune")
    assert "teacher" not in report
    assert report["finetune"]["scope"] == "student"
    assert report["finetune"]["rows_held_back"] > 0
    assert 0 < report["finetune"]["changed_rows"] < 200
    manifest = read_manifest(feed.exported / "2")
    assert (manifest["scope"], manifest["offline_version"], manifest["changed_rows"]) == (
        "student", 1, report["finetune"]["changed_rows"])
    # The teacher's files are those of the offline model, under second names.
    for path in (feed.state / "1" / "weights").iterdir():
        assert path.samefile(feed.state / "2" / "weights" / path.name)
    overlay = overlay_of(feed)
    assert len(overlay.arrays()["rows/shared"]) == manifest["changed_rows"]
    assert len(overlay.row_map.signs) > len(open_state(feed.state / "2").row_map.signs)
    # It answers otherwise than its offline model, and a day is not done twice.
    day = datetime.date(2024, 1, 6)
    served = [answers(feed.exported / str(number), feed.folder / "feed", day)
              for number in (1, 2)]
    assert np.abs(served[0] - served[1]).max() > 1e-4
    assert "is done: version 2" in run(*ALONE, "window.as_of=2024-01-06")[1]


def test_it_goes_on_from_what_it_learned_alone(feed, run):
    before = overlay_of(feed).arrays()["rows/shared"]
    code, out, _ = run(*ALONE, "window.as_of=2024-01-07")
    assert code == 0, out
    after = overlay_of(feed)
    assert set(before) <= set(after.arrays()["rows/shared"])
    assert after.about["offline_version"] == 1
    # The rows that were held back on the 6th are learned now, and no others of that day.
    report = feed.newest_report("finetune")
    learned = report["finetune"]["rows"] + report["finetune"]["rows_held_back"]
    assert ROWS < learned < 1.5 * ROWS


def test_both_towers_go_on_from_the_offline_model(feed, run):
    """What the student learned alone is no part of it."""
    code, out, _ = run("finetune", "window.as_of=2024-01-08", "finetune.held_back=0.2")
    assert code == 0, out
    assert champion_of(feed.exported).version == 4
    assert overlay_of(feed) is None
    report = feed.newest_report("finetune")
    # From the 5th on, where the offline model has stopped.
    assert report["finetune"]["days"] == [f"2024-01-0{day}" for day in range(5, 9)]
    drops = {reason["subject"]: reason["sentence"] for reason in report["gate"]["reasons"]
             if reason["rule"] == "auc_drop"}
    assert "AUC" in drops["student"]
    assert "the champion has no finite scores to compare with" in drops["teacher"]


def test_other_towers_are_refused(feed, run):
    code, _, last = run(*FOLLOW, "student_overrides.mini.hidden_units=[5]")
    assert code == 1
    assert "version 4 was trained with other values of student_configs" in last
    code, _, last = run(*ALONE, "source=nowhere")
    assert (code, "source=" in last, "must be a folder" in last) == (1, True, True)


def test_files_are_scored_then_learned_and_published(feed, run):
    known = drop(feed, 8, 0)
    for number in range(4):
        drop(feed, 9, number)
    broken = feed.folder / "dropped" / "2024-01-09-a.parquet"
    broken.write_bytes(b"half a file")
    missing = drop(feed, 9, 1, name="2024-01-09-b.parquet",
                   change=lambda table: table.drop_columns(["user"]))
    ahead = drop(feed, 9, 1, name="2024-01-09-c.parquet", change=future(100_000))
    code, out, last = run(*FOLLOW)
    assert (code, last) == (0, ""), out
    assert "goes on from version 4 of my_feed" in out
    assert "refused 2024-01-09-a.parquet: " in out
    assert f"refused {missing}: " in out
    assert re.search(f"refused {ahead}: .*holds a row of 2297-10-.*not yet by the clock",
                     " ".join(out.split()))
    assert re.search(r"published version 5: 180 rows learned, \d+ rows of the table changed "
                     "since version 4", out)
    report = feed.newest_report("finetune")
    online = report["online"]
    # The held back fifth of the days before is newer than what the offline model knows.
    assert (online["published"], online["rejected"], online["restarts"]) == ([5, 6], 0, 0)
    assert set(online["refused_files"]) == {broken.name, missing, ahead}
    assert online["rows"] == report["strategies"]["online"]["rows"] == ROWS
    assert set(report["strategies"]) == {"online", "published", "offline"}
    assert [day["day"] for day in report["days"] if day["strategy"] == "online"] == ["2024-01-09"]
    assert "log_loss" in report["differences"]["online"]["offline"]
    svg = next((feed.folder / "outputs" / "finetune").glob("*/days.svg"))
    assert svg.read_text().startswith("<svg")
    assert known in overlay_of(feed).about["files"]
    manifest = read_manifest(feed.exported / "6")
    assert (manifest["offline_version"], manifest["reference"]["rows"]) == (4, 60)
    assert faults_of(feed.exported / "6") == []
    for folder in (feed.state, feed.exported, svg.parent):
        assert not list(folder.glob(".tmp-*"))
    assert not (svg.parent / "incoming").exists()
    broken.unlink()
    (feed.folder / "dropped" / missing).unlink()
    (feed.folder / "dropped" / ahead).unlink()


def test_nothing_is_learned_twice(feed, run):
    code, out, _ = run(*FOLLOW)
    assert code == 0, out
    assert "0 files, 0 rows learned; 0 versions published" in out
    assert champion_of(feed.exported).version == 6
    # What is rewritten under a known name is no new file.
    drop(feed, 9, 0)
    assert "0 files, 0 rows learned" in run(*FOLLOW)[1]


def test_one_process_follows_files(feed, run):
    with lock(feed.state / ".online.lock", wait=False):
        code, _, last = run(*FOLLOW)
    assert (code, f"is locked by pid {os.getpid()}" in last) == (1, True)


def future(day):
    """A change: the same rows, some days later."""
    seconds = 86_400 * day

    def change(table):
        column = table["ts"].to_numpy() + seconds
        return table.set_column(table.schema.get_field_index("ts"), "ts", [column])

    return change


def inverted(table):
    flipped = future(2)(table)
    return flipped.set_column(flipped.schema.get_field_index("click"), "click",
                              [1 - flipped["click"].to_numpy()])


def test_what_the_gate_rejects_is_never_learned(feed, run):
    name = drop(feed, 9, 0, of=1, change=inverted, name="2024-01-10-0.parquet")
    code, out, last = run(*FOLLOW, "gate.label_rate.severity=ignore", "gate.auc_drop.hard=0.0",
                          "gate.auc_drop.allowed=0.0", "gate.log_loss_rise.hard=0.0",
                          "gate.log_loss_rise.allowed=0.0", "gate.calibration.severity=reject",
                          "gate.calibration.high=1.0001", "gate.calibration.low=0.9999",
                          "gate.calibration.hard_low=0.9999", "gate.calibration.hard_high=1.0001")
    assert code == 3, out
    assert "240 rows were learned and rejected by" in out
    assert last.startswith("error: what was learned last was rejected by")
    assert "Version 6 stays." in last
    assert champion_of(feed.exported).version == 6
    assert name in json.loads((feed.state / "rejected_files.json").read_text())
    # Not again, also with the gate off.
    assert "0 files, 0 rows learned" in run(*FOLLOW)[1]


def test_too_few_rows_wait_for_more(feed, run):
    drop(feed, 9, 0, of=24, change=future(3), name="2024-01-12-0.parquet")
    code, out, _ = run(*FOLLOW, "online.publish_rows=1")
    assert (code, "1 files, 10 rows learned; 0 versions published" in out) == (0, True), out
    assert champion_of(feed.exported).version == 6
    drop(feed, 9, 1, of=4, change=future(3), name="2024-01-12-1.parquet")
    code, out, _ = run(*FOLLOW, "online.publish_rows=1")
    # The ten rows, which no version knew, were learned again.
    assert "2 files, 70 rows learned; 1 versions published" in out
    assert champion_of(feed.exported).version == 7


def test_the_offline_model_starts_it_anew(feed, run):
    """A new version of the daily jobs has no overlay; files that it does not know come again."""
    assert run("publish", "action=promote", "version=4")[0] == 0
    assert champion_of(feed.exported).version == 4
    code, out, _ = run(*FOLLOW, "online.publish_rows=10000")
    assert code == 0, out
    assert "goes on from version 4 of my_feed" in out
    # The 9th and the 12th: 240 and 70 rows.
    assert "310 rows learned; 1 versions published" in out
    about = overlay_of(feed).about
    assert (about["offline_version"], len(about["files"])) == (4, 7)


def test_files_that_are_gone_are_forgotten_once_the_offline_model_knows_their_rows(feed, run):
    dropped, away = feed.folder / "dropped", feed.folder / "away"
    os.rename(dropped, away)
    dropped.mkdir()
    drop(feed, 9, 0, of=3, change=future(4), name="2024-01-13-0.parquet")
    before = version_numbers(feed.exported)
    with lock(feed.state / ".daily.lock", wait=False):  # it may put any version before its gate
        assert run(*FOLLOW, "retention.versions=1")[0] == 0
    new = champion_of(feed.exported).version
    assert version_numbers(feed.exported) == [*before, new]
    files = overlay_of(feed).about["files"]
    assert {"2024-01-09-0.parquet", "2024-01-12-1.parquet", "2024-01-13-0.parquet"} <= set(files)
    assert "2024-01-08-0.parquet" not in files
    # A disk that was away for a moment: nothing is learned again.
    for path in away.iterdir():
        os.rename(path, dropped / path.name)
    assert "0 files, 0 rows learned" in run(*FOLLOW)[1]


def test_a_file_whose_rows_make_a_step_infinite_is_found_among_those_of_the_step(
        feed, run, monkeypatch):
    sound = [drop(feed, 9, 0, of=24, change=future(6), name="2024-01-15-0.parquet"),
             drop(feed, 9, 1, change=future(6), name="2024-01-15-2.parquet")]
    bad = drop(feed, 9, 5, of=ROWS // 7, change=future(6), name="2024-01-15-1.parquet")
    batch = Examples.batch

    def heavy(examples, order):
        found = batch(examples, order)
        if len(examples.labels) != 7:
            return found
        return found._replace(weights=np.full(len(order), np.inf, np.float32))

    monkeypatch.setattr(Examples, "batch", heavy)
    code, out, last = run(*FOLLOW)
    assert (code, last) == (0, ""), out
    assert "the student begins again and learns each by itself" in " ".join(out.split())
    assert f"gave up {bad}: " in out
    assert set(sound) <= set(overlay_of(feed).about["files"])
    rejected = json.loads((feed.state / "rejected_files.json").read_text())
    assert (bad in rejected, rejected.keys() & set(sound)) == (True, set())
    assert set(feed.newest_report("finetune")["online"]["refused_files"]) == {bad}


def test_rows_of_one_class_are_learned_and_reported_without_an_auc(feed, run):
    drop(feed, 9, 0, of=1, name="2024-01-14-0.parquet",
         change=lambda table: future(5)(table.filter(pc.equal(table["click"], 0))))
    code, out, last = run(*FOLLOW)
    assert (code, last) == (0, ""), out
    report = feed.newest_report("finetune")
    (day,) = (one for one in report["days"] if one["strategy"] == "online")
    assert day["day"] == "2024-01-14"
    assert report["online"]["rows"] == day["rows"] > 0
    for section in (day, report["strategies"]["online"]):
        assert ("auc" in section, "log_loss" in section) == (False, True)
    assert "auc" not in report["differences"]["online"]["offline"]


def test_a_retrain_is_compared_with_a_version_that_has_not_learned_its_holdout(feed, run):
    """The champion's student has learned the 9th alone: there it cannot be met fairly."""
    assert overlay_of(feed).about["offline_version"] == 4
    code, out, _ = run("retrain", "window.as_of=2024-01-09")
    assert code in (0, 3), out
    sentences = {(one["rule"], one["subject"]): one["sentence"]
                 for one in feed.newest_report("retrain")["gate"]["reasons"]}
    said = "Compared with version 4, the newest that has learned none of these rows."
    for rule in ("auc_drop", "log_loss_rise"):
        for tower in ("student", "teacher"):
            assert sentences[rule, tower].endswith(said)
    assert "version 4" not in sentences["score_change", "student"]
