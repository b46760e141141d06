"""Negatives that are sampled at another rate from one day on: every job keeps to one space.

What is served is judged on the complete log of a day that nobody has learned.
"""

import datetime
import os
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
import yaml

import pipelines  # noqa: F401  (chooses the Keras API, keeps TensorFlow quiet)
from dualdnn.evaluation.metrics import calibration
from dualdnn.export.champion import champion_of
from dualdnn.export.versions import read_manifest
from pipelines import backtest, finetune, retrain
from pipelines.entry import start
from tests.daily_feed import Feed, write_day
from tests.pipelines.conftest import DATA

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
JOBS = {"retrain": retrain.main, "finetune": finetune.main, "backtest": backtest.main}
DAYS, ROWS = 8, 1500
# Days 1 to 5 keep every second negative, the later ones one in twenty.
RATES = [0.5] * 5 + [0.05] * 3
# Fine-tunes that move the models far: in their own space they would be off by up to ten times.
LEARNED = ["gate.enabled=false", "window.days=4", "finetune.epochs=10",
           "finetune.batch_size=20", "optimizer.teacher.learning_rate=0.02",
           "optimizer.student.learning_rate=0.02", "optimizer.table.learning_rate=0.1"]


@pytest.fixture(scope="module")
def feed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rates")
    feed = Feed(folder)
    rng = np.random.default_rng(8)
    for name in os.listdir(folder / "feed"):
        for path in (folder / "feed" / name).iterdir():
            path.unlink()
        (folder / "feed" / name).rmdir()
    for number in range(DAYS):
        write_day(folder / "complete", number, rng, rows=ROWS)
        day = datetime.date(2024, 1, 1 + number)
        table = pq.read_table(folder / "complete" / f"dt={day}" / "part.parquet")
        kept = (table["click"].to_numpy() == 1) | (rng.random(ROWS) < RATES[number])
        to = folder / "feed" / f"dt={day}"
        to.mkdir()
        pq.write_table(table.filter(kept).append_column(
            "rate", [np.full(int(kept.sum()), RATES[number])]), to / "part.parquet")
        (to / "_SUCCESS").touch()
    (folder / "conf" / "data" / "my_feed.yaml").write_text(
        yaml.safe_dump({**DATA, "sampling_rate": "rate"}, sort_keys=False), encoding="utf-8")
    feed.given = [one for one in feed.given if not one.startswith(("gate.", "window."))] + LEARNED
    return feed


@pytest.fixture
def run(monkeypatch, capsys, feed, timed_here):
    """Returns a function that runs a job to its end."""
    monkeypatch.chdir(feed.folder)

    def run(job, *overrides):
        given = feed.given if job != "backtest" else [
            one for one in feed.given if not one.startswith("gate.")]
        monkeypatch.setattr(sys, "argv", [job, *given, *overrides])
        with pytest.raises(SystemExit) as exit:
            start(job, JOBS[job])
        said = capsys.readouterr()
        assert exit.value.code == 0, said.out + said.err

    return run


def served_calibration(feed):
    """Of the champion on the complete log of the last day."""
    table = pq.read_table(feed.folder / "complete" / f"dt=2024-01-{DAYS:02d}" / "part.parquet")
    served = tf.saved_model.load(
        str(feed.exported / str(champion_of(feed.exported).version))).signatures["serving_default"]
    found = served(
        user=tf.constant(table["user"].to_pylist()),
        item=tf.constant([str(value) for value in table["item"].to_pylist()]),
        tags=tf.constant(table["tags"].to_pylist()),
        age=tf.constant(table["age"].to_pylist(), tf.float32))["probability"].numpy()
    return calibration(table["click"].to_numpy(), found)


def check(feed, version):
    manifest = read_manifest(feed.exported / str(version))
    assert manifest["sampling_rate"] == pytest.approx(0.5)
    assert champion_of(feed.exported).version == version
    assert served_calibration(feed) == pytest.approx(1, abs=0.2)


# The tests of this file are one story, in this order.

def test_a_fine_tune_of_both_towers(feed, run):
    run("retrain", "window.as_of=2024-01-05", "finetune_newest=false")
    check(feed, 1)
    run("finetune", "window.as_of=2024-01-06")
    check(feed, 2)


def test_a_student_that_goes_on_alone(feed, run):
    run("finetune", "scope=student", "window.as_of=2024-01-07")
    check(feed, 3)


def test_a_student_that_follows_files(feed, run):
    dropped = feed.folder / "dropped"
    dropped.mkdir()
    pq.write_table(pq.read_table(feed.folder / "feed" / "dt=2024-01-08" / "part.parquet"),
                   dropped / "a.parquet")
    run("finetune", "scope=student", "source=dropped", "online.publish_rows=100",
        "online.idle_minutes=0")
    check(feed, 4)
    # What was said before the rows were learned is reported of the complete log.
    report = feed.newest_report("finetune")
    assert report["strategies"]["online"]["calibration"] == pytest.approx(1, abs=0.2)
    metrics = read_manifest(feed.exported / "4")["metrics"]
    assert metrics["calibration"] == pytest.approx(1, abs=0.2)


@pytest.mark.prove
def test_a_backtest(feed, run):
    run("backtest", "start=2024-01-06", "end=2024-01-08", "window.days=4",
        "strategies=[frozen,finetune_only,logistic_regression]")
    report = feed.newest_report("backtest")
    for name, section in report["strategies"].items():
        assert section["calibration"] == pytest.approx(1, abs=0.25), name
    (folder,) = (path.parent for path in feed.runs("backtest"))
    for path in folder.glob("days/*/*.npz"):
        day = np.load(path)
        # 1 / .05 for each negative.
        assert sorted(set(day["weights"])) == pytest.approx([1.0, 20.0])
