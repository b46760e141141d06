"""Online fine-tuning from dropped files on MovieTweetings, scored before it was learned.

python -m benchmarks.quality.online_table --tweetings FOLDER [--files 8] [--seed 1]

The offline model is what `pipelines.retrain` publishes on 2013-06-30. The days from 2013-07-01 to
2013-09-05 are cut into files of a few hours and dropped into a folder, from which
`pipelines.finetune scope=student` learns and publishes. Columns: the student as of the last file,
the version that was published at the time, and the offline model, which stays as it was. All
settings are the defaults of conf/; nothing was chosen on these days.
"""

from __future__ import annotations

import argparse
import datetime
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

FIRST, LAST = datetime.date(2013, 7, 1), datetime.date(2013, 9, 5)
_DAY = datetime.timedelta(days=1)


def run(job: str, place: Path, *overrides: str) -> None:
    """Run a job below `place`; what it prints is shown."""
    subprocess.run(
        [sys.executable, "-m", f"pipelines.{job}", "data=movietweetings",
         f"paths.outputs={place / 'outputs'}", f"paths.state={place / 'state'}",
         f"paths.exported_models={place / 'exported'}", *overrides], check=True)


def drop(lake: Path, day: datetime.date, folder: Path, files: int) -> None:
    """Cut a day of the lake into files, in the order of time."""
    table = pq.read_table(lake / f"dt={day}").sort_by("timestamp")
    for number, rows in enumerate(np.array_split(np.arange(len(table)), files)):
        if len(rows):
            pq.write_table(table.slice(rows[0], len(rows)),
                           folder / f"{day}-{number:03d}.parquet")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tweetings", required=True, help="raw MovieTweetings")
    parser.add_argument("--files", type=int, default=8, help="files a day")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    raw = f"data.raw={Path(given.tweetings).absolute()}"
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        run("retrain", place, raw, f"window.as_of={FIRST - _DAY}", f"seed={given.seed}")
        folder = place / "dropped"
        folder.mkdir()
        for number in range((LAST - FIRST).days + 1):
            drop(place / "state" / "lakes" / "movietweetings", FIRST + number * _DAY, folder,
                 given.files)
        run("finetune", place, raw, "scope=student", f"source={folder}", f"seed={given.seed}",
            "online.publish_rows=2000", "online.idle_minutes=0",
            f"online.report_days={(LAST - FIRST).days + 1}")


if __name__ == "__main__":
    main()
