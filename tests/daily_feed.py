"""Nine days of a log whose items come and go, and the commands that run on it.

Also a program that ends itself at a write to the disk: python -m tests.daily_feed JOB N OVERRIDES
"""

import datetime
import json
import os
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from tests.pipelines.conftest import DATA, STUDENT, TEACHER

DAYS, ROWS = 9, 240
GATE = ["gate.holdout.min_rows=40", "gate.label_rate.severity=warn", "gate.auc_drop.hard=0.5",
        "gate.log_loss_rise.hard=0.9", "gate.score_change.severity=warn",
        "gate.calibration.severity=warn", "gate.ece.severity=warn", "gate.oov.severity=warn",
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


def main():
    """Run a job that is killed just before its N-th change of the disk."""
    import pipelines  # noqa: F401  (chooses the Keras API, keeps TensorFlow quiet)
    from pipelines import finetune, retrain
    from pipelines.entry import start
    from tests.tiny_versions import kill_at_write

    job, last, *overrides = sys.argv[1:]
    sys.argv = [job, *overrides]
    os.fsync = lambda descriptor: None  # slow, and a kill loses nothing that the kernel has
    kill_at_write(int(last))
    start(job, {"retrain": retrain.main, "finetune": finetune.main}[job])


if __name__ == "__main__":
    main()
