"""The daily cycle as an operator meets it: exit codes, last lines, versions, reports."""

import datetime
import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
import yaml

import pipelines  # noqa: F401  (chooses the Keras API, keeps TensorFlow quiet)
from dualdnn.data.lake import Lake
from dualdnn.export.champion import champion_of
from dualdnn.export.latency import measure_latency
from dualdnn.export.versions import read_manifest, versions_of
from dualdnn.storage import lock
from dualdnn.training.learner import open_state
from pipelines import challenge, finetune, publish, reporting, retrain
from pipelines.entry import start
from tests.daily_feed import ROWS, Feed
from tests.pipelines.conftest import DATA

# mlflow and SQLAlchemy deprecate things of each other's; as errors they would break the store.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
JOBS = {"retrain": retrain.main, "finetune": finetune.main}


@pytest.fixture(scope="module")
def feed(tmp_path_factory):
    return Feed(tmp_path_factory.mktemp("feed"))


@pytest.fixture
def run(monkeypatch, capsys, feed, timed_here):
    """Returns a function: a job with more overrides; its code, stdout and stderr's last line."""
    monkeypatch.chdir(feed.folder)

    def run(job, *overrides):
        monkeypatch.setattr(sys, "argv", [job, *feed.given, *overrides])
        with pytest.raises(SystemExit) as exit:
            start(job, JOBS[job])
        said = capsys.readouterr()
        return exit.value.code, said.out, (said.err.splitlines() or [""])[-1]

    return run


def answers(path, lake, day):
    """What a served version says of the first rows of a day, from raw features."""
    table = pq.read_table(lake / f"dt={day}" / "part.parquet").slice(0, 20)
    served = tf.saved_model.load(str(path)).signatures["serving_default"]
    return served(
        user=tf.constant(table["user"].to_pylist()),
        item=tf.constant([str(value) for value in table["item"].to_pylist()]),
        tags=tf.constant(table["tags"].to_pylist()),
        age=tf.constant(table["age"].to_pylist(), tf.float32))["probability"].numpy()


# The tests of this file are one story, in this order.

def test_a_first_fine_tune_needs_a_champion(feed, run):
    code, _, last = run("finetune")
    assert code == 1
    assert "has no champion to go on from. Run python -m pipelines.retrain data=my_feed" in last
    assert feed.runs("finetune") == []


def test_a_cycle_trains_gates_fine_tunes_and_publishes(feed, run, monkeypatch):
    for module in (challenge, reporting):  # for once as it is served: in a process of its own
        monkeypatch.setattr(module, "measure_latency", measure_latency)
    code, out, last = run("retrain", "window.as_of=2024-01-05")
    assert (code, last) == (0, ""), out
    assert "There is no champion yet" in out
    assert re.search(r"opened 5 days in \d+\.\d s, 5 of them encoded now", out)
    assert re.search(r"cost +\d+ core-seconds, \d+ s, peak memory [\d,]+ MB", out)
    report = feed.newest_report("retrain")
    assert (report["job"], report["status"], report["as_of"]) == ("retrain", "done", "2024-01-05")
    assert (report["data"]["rows_train"], report["data"]["rows_test"]) == (4 * ROWS, ROWS)
    assert "rows_valid" not in report["data"]
    # One pass together, then one of the student behind the teacher that has finished.
    steps = 4 * ROWS // 40
    assert {tower: one["best_step"] for tower, one in report["progress"].items()} == {
        "teacher": steps, "mini": 2 * steps}
    # All of the holdout but its newest tenth is learned after it was measured.
    assert (report["finetune"]["days"], report["finetune"]["rows"]) == (["2024-01-05"], 216)
    assert report["finetune"]["admitted"] > 0
    assert report["cost"]["core_seconds"] > 0
    assert report["cost"]["peak_memory_bytes"] > 10**8
    champion = champion_of(feed.exported)
    assert (champion.version, champion.previous) == (1, None)
    assert report["export"]["path"] == str(feed.exported / "1")
    manifest = read_manifest(feed.exported / "1")
    assert manifest["days"] == ["2024-01-01", "2024-01-05"]
    assert manifest["gate"]["accepted"] is True
    about = open_state(feed.state / "1").about
    day, second = about["learned_until"]
    assert day == "2024-01-05"
    assert second == int(datetime.datetime(2024, 1, 5, tzinfo=datetime.UTC).timestamp()) + 215
    assert sorted(about["recorded"]) == [f"2024-01-0{n}" for n in range(1, 6)]


def test_a_day_is_not_done_twice(feed, run):
    before = len(feed.runs("retrain"))
    code, out, _ = run("retrain", "window.as_of=2024-01-05")
    assert code == 0
    assert "retrain of 2024-01-05 is done: version 1" in out
    assert "with another configuration" not in out
    code, out, _ = run("retrain", "window.as_of=2024-01-05", "seed=2")
    assert "with another configuration" in out
    assert (len(feed.runs("retrain")), champion_of(feed.exported).version) == (before, 1)


def test_the_gate_rejects_and_the_same_day_again_is_rejected_without_training(feed, run):
    served = answers(feed.exported / "1", feed.folder / "feed", "2024-01-06")
    code, out, last = run("retrain", "window.as_of=2024-01-06", "gate.size.maximum=1000")
    assert code == 3, out
    assert "opened 5 days in" in out
    assert "1 of them encoded now" in out
    assert "error: 2024-01-06 was rejected by 1 of" in last
    assert "never above 1,000 bytes" in last
    assert last.endswith("Nothing was published.")
    report = feed.newest_report("retrain")
    assert (report["status"], "export" in report) == ("rejected", False)
    assert [one["rule"] for one in report["gate"]["reasons"]
            if not one["passed"] and one["severity"] == "reject"] == ["size"]
    before = len(feed.runs("retrain"))
    code, out, last = run("retrain", "window.as_of=2024-01-06", "gate.size.maximum=1000")
    assert (code, len(feed.runs("retrain"))) == (3, before)
    assert last.endswith("force=true tries it again.")
    assert [one.version for one in versions_of(feed.exported)] == [1]
    np.testing.assert_array_equal(
        answers(feed.exported / "1", feed.folder / "feed", "2024-01-06"), served)


def test_a_fine_tune_goes_on_where_the_champion_has_stopped(feed, run):
    code, out, last = run("finetune", "window.as_of=2024-01-06")
    assert (code, last) == (0, ""), out
    report = feed.newest_report("finetune")
    # 24 rows of the day before were held back; three quarters of all new rows are learned.
    assert report["finetune"]["rows"] + report["finetune"]["rows_held_back"] == ROWS + 24
    assert report["finetune"]["rows_held_back"] == 66
    assert report["warm_start"] == {"version": 1, "variables": []}
    assert "auc_drop" in {one["rule"] for one in report["gate"]["reasons"]}
    champion = champion_of(feed.exported)
    assert (champion.version, champion.previous) == (2, 1)
    assert read_manifest(feed.exported / "2")["parent_version"] == 1
    old, new = (open_state(feed.state / name).row_map for name in ("1", "2"))
    place = np.searchsorted(new.signs, old.signs)
    np.testing.assert_array_equal(new.signs[place], old.signs)
    np.testing.assert_array_equal(new.rows[place], old.rows)
    assert len(new.signs) > len(old.signs)
    assert report["finetune"]["admitted"] == len(new.signs) - len(old.signs)


def test_a_new_field_takes_part_after_a_warm_start(feed, run):
    data = {**DATA, "fields": [*DATA["fields"], {"name": "ts_hour", "kind": "id"}]}
    for folder in (feed.folder / "feed").iterdir():
        path = folder / "part.parquet"
        table = pq.read_table(path)
        hours = pa.array([str(value % 5) for value in table["ts"].to_pylist()])
        pq.write_table(table.append_column("ts_hour", hours), path)
    (feed.folder / "conf" / "data" / "my_feed.yaml").write_text(yaml.safe_dump(data))
    code, out, last = run("finetune", "window.as_of=2024-01-07")
    assert (code, last) == (0, ""), out
    fates = {one["name"]: (one["fate"], one["rows"], one["of"])
             for one in feed.newest_report("finetune")["warm_start"]["variables"]}
    # Four fields of four floats each are known, the fifth is new.
    assert fates["tower/mini/mini/mini_mlp/dense_0/kernel"] == ("copied in part", 16, 20)
    assert fates["tower/mini/mini/output/kernel"][0] == "copied"
    assert fates["tower/teacher/teacher/output/kernel"][0] == "initialised"
    assert fates["table/shared/shared_vectors"][0] == "copied in part"
    assert not any(fate == "dropped" for fate, _, _ in fates.values())


def test_a_changed_meaning_is_refused(feed, run):
    data = yaml.safe_load((feed.folder / "conf" / "data" / "my_feed.yaml").read_text())
    data["fields"][2] = {"name": "tags", "kind": "sequence", "of": "item", "max_length": 3}
    (feed.folder / "conf" / "data" / "my_feed.yaml").write_text(yaml.safe_dump(data))
    code, _, last = run("finetune", "window.as_of=2024-01-08")
    assert code == 1
    assert "field `tags` must keep its kind where rows are taken over" in last
    (feed.folder / "conf" / "data" / "my_feed.yaml").write_text(yaml.safe_dump(DATA))


def test_a_missing_day_ends_the_job_or_is_left_out(feed, run, tmp_path):
    shutil.move(feed.folder / "feed" / "dt=2024-01-05", tmp_path)
    code, _, last = run("retrain", "window.as_of=2024-01-08")
    assert code == 1
    assert "2024-01-05" in last
    code, out, last = run("retrain", "window.as_of=2024-01-08", "partitions.missing_days=continue",
                          "partitions.min_days=3", "finetune_newest=false", "gate=off")
    assert (code, last) == (0, ""), out
    report = feed.newest_report("retrain")
    assert report["data"]["rows_train"] == 3 * ROWS
    assert "finetune" not in report
    assert "accepted unseen: the gate is off" in out
    assert "missing_day" in {one["kind"] for one in report["findings"]}
    assert open_state(feed.state / str(report["export"]["version"])).about[
        "learned_until"][0] == "2024-01-07"
    shutil.move(tmp_path / "dt=2024-01-05", feed.folder / "feed")


def test_nothing_new_is_nothing_to_do(feed, run):
    code, _, _ = run("finetune", "window.as_of=2024-01-06", "force=true")
    assert code == 0
    before = champion_of(feed.exported)
    code, out, _ = run("finetune", "window.as_of=2024-01-02", "force=true")
    assert code == 0
    assert "nothing is newer than 2024-01-07" in out
    assert champion_of(feed.exported) == before


def test_a_day_that_is_still_being_written_is_not_learned(feed, run):
    half = feed.folder / "feed" / "dt=2024-01-10"
    shutil.copytree(feed.folder / "feed" / "dt=2024-01-09", half)
    (half / "_SUCCESS").unlink()
    for job in ("retrain", "finetune"):
        code, _, last = run(job, "window.as_of=2024-01-10")
        assert (code, "window.as_of=2024-01-10 is not complete" in last) == (1, True), last
    shutil.rmtree(half)


def test_a_failed_try_begins_anew_where_a_day_was_written_again(feed, run, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    given = ("retrain", "window.as_of=2024-01-09", "finetune_newest=false", "gate=off")
    with monkeypatch.context() as patched:
        patched.setattr(retrain, "_passed_gate", full)
        assert run(*given)[0] == 1
    (tried,) = (feed.folder / "outputs" / "retrain").glob("*/trained")
    # As one that has failed on an earlier day, and that nobody went on with.
    older = tried.parent.parent / "20240101T000000Z"
    shutil.copytree(tried.parent, older)
    config = (older / "config.yaml").read_text()
    (older / "config.yaml").write_text(config.replace("as_of: '2024-01-09'", "as_of: '2024-01-03'"))
    part = feed.folder / "feed" / "dt=2024-01-07" / "part.parquet"
    pq.write_table(pq.read_table(part).slice(0, 200), part)
    code, out, last = run(*given)
    assert (code, last) == (0, ""), out
    report = json.loads((tried.parent / "report.json").read_text())
    assert (report["status"], report["data"]["rows_train"]) == ("done", 3 * ROWS + 200)
    assert report["progress"]["teacher"]["best_step"] == (3 * ROWS + 200) // 40
    assert not (older / "trained").exists()


def test_versions_are_not_pruned_while_a_daily_job_is_at_work(feed, monkeypatch, capsys):
    monkeypatch.chdir(feed.folder)
    monkeypatch.setattr(sys, "argv", ["publish", "export.name=my_feed", "action=prune", "keep=1"])
    before = versions_of(feed.exported)
    with lock(feed.state / ".daily.lock", wait=False), pytest.raises(SystemExit) as exit:
        start("publish", publish.main)
    assert (exit.value.code, versions_of(feed.exported)) == (1, before)
    assert ".daily.lock is locked by pid" in capsys.readouterr().err


def test_all_mistakes_are_named_before_data_is_read(feed, run):
    code, _, last = run("retrain", "window.valid_days=1", "finetune.held_back=1.5", "students=[]",
                        "admission.capacity=1", "gate.level=2", "retention.encoded_days=2",
                        "partitions.missing_days=maybe", "scheme=two_stage")
    assert code == 2
    for part in ("window.valid_days must be 0", "finetune.held_back must lie", "students=[]",
                 "admission.capacity must be", "gate.level", "retention.encoded_days must be",
                 "partitions.missing_days must be",
                 "scheme must be co_training in a daily job, got two_stage: teacher and students"):
        assert part in last
    code, _, last = run("retrain", "window._target_=dualdnn.data.window.TimeFraction")
    assert code == 2
    assert "needs window=rolling" in last


def test_the_lake_was_encoded_once(feed):
    (encoded,) = [folder for folder in (feed.folder / "state" / "encoded").iterdir()
                  if len(list(folder.glob("dt=*"))) > 5]
    assert Lake(feed.folder / "feed").days()[0].isoformat() == "2024-01-01"
    assert {path.name for path in encoded.glob("dt=*")} >= {"dt=2024-01-01", "dt=2024-01-08"}
    assert not list(Path(feed.folder / "outputs").glob("*/*/trained"))
