"""Nine days of a log whose items come and go, and the commands that run on it."""

import datetime
import json
import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from dualdnn.export.champion import champion_of
from dualdnn.export.versions import faults_of, read_manifest, version_numbers
from tests.forked_jobs import ROOT
from tests.mlflow_store import put_store
from tests.pipelines.conftest import DATA, STUDENT, TEACHER

DAYS, ROWS = 9, 240
GATE = ["gate.holdout.min_rows=40", "gate.label_rate.severity=warn", "gate.auc_drop.hard=0.5",
        "gate.log_loss_rise.hard=0.9", "gate.score_change.severity=warn",
        "gate.calibration.severity=warn", "gate.ece.severity=warn",
        "gate.latency.ratio=20", "gate.beats_constant.severity=warn"]


def write_day(lake, number, rng, *, rows=ROWS):
    """One day; its items are those of the day before but for five new ones."""
    day = datetime.date(2024, 1, 1) + datetime.timedelta(days=number)
    user = rng.integers(0, 30, rows)
    item = 5 * number + rng.integers(0, 40, rows)
    chance = 1 / (1 + np.exp(-1.5 * (np.sin(user) + np.cos(item))))
    start = int(datetime.datetime(day.year, day.month, day.day, tzinfo=datetime.UTC).timestamp())
    folder = lake / f"dt={day}"
    folder.mkdir(parents=True)
    pq.write_table(pa.table({
        "click": (rng.random(rows) < chance).astype(np.int64), "ts": start + np.arange(rows),
        "user": [f"u{u}" for u in user], "item": item,
        "tags": [[f"t{i % 5}"] for i in item], "age": rng.integers(18, 70, rows).astype(float),
    }), folder / "part.parquet")
    (folder / "_SUCCESS").touch()


class Feed:
    """A user's folder with nine days of a log and the commands that run on it."""

    def __init__(self, folder):
        self.folder = folder
        rng = np.random.default_rng(3)
        for number in range(DAYS):
            write_day(folder / "feed", number, rng)
        put_store(folder / "outputs")
        for place, values in (("data/my_feed", DATA), ("teacher/small", TEACHER),
                              ("student/mini", STUDENT)):
            path = folder / "conf" / f"{place}.yaml"
            path.parent.mkdir(parents=True)
            path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
        self.given = ["--config-dir", "conf", "data=my_feed", "teacher=small", "student=mini",
                      "embedding.dim=4", "window.days=4", "training.batch_size=40", *GATE]

    @property
    def exported(self):
        return self.folder / "exported_models" / "my_feed"

    @property
    def state(self):
        return self.folder / "state" / "my_feed"

    def runs(self, job):
        return sorted((self.folder / "outputs" / job).glob("*/report.json"))

    def newest_report(self, job):
        return json.loads(max(self.runs(job), key=lambda path: path.stat().st_mtime).read_text())

    def start(self, job, *overrides):
        """The command as a process; its stderr goes to its stdout."""
        return subprocess.Popen(
            [sys.executable, "-m", f"pipelines.{job}", *self.given, *overrides], cwd=self.folder,
            text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT)

    def check_standing(self):
        """Whoever follows champion.json finds a sound version with a training state; or none."""
        champion = champion_of(self.exported)
        if champion is None:
            return 0
        assert faults_of(self.exported / str(champion.version)) == []
        assert (self.state / str(champion.version) / "weights" / "arrays.json").exists()
        return champion.version

    def check_served(self, version):
        assert f"versions: {version}\n" in (self.exported / "models.config").read_text()

    def check_agreement(self, days):
        """After a command that was done: one version a day, and everything agrees."""
        version = self.check_standing()
        numbers = version_numbers(self.exported)
        assert [read_manifest(self.exported / str(n))["as_of"] for n in numbers] == days
        assert version == numbers[-1]
        states = sorted(int(path.name) for path in self.state.iterdir() if path.name.isdecimal())
        assert states == numbers
        self.check_served(version)
        for folder in (self.exported, self.state, *(self.folder / "outputs").glob("*/*")):
            assert not list(folder.glob(".tmp-*"))
        outcomes = [json.loads(path.read_text())["version"]
                    for path in sorted(self.state.glob("outcomes/*/*.json"))]
        assert sorted(outcomes) == numbers
