"""From raw text in Criteo's layout to encoded days: speed and peak memory.

python -m benchmarks.data.readers [rows] [gz]

Writes that many rows (1,000,000) into a temporary folder, ids drawn by Zipf's law, plain or
gzipped, and prints rows a second of each step and of pandas reading the same file. Each step
runs in a process of its own, whose peak memory is printed beside it, and rows a second of
processor time: where others use the machine, only these can be compared. Medians of three turns,
taken alternately.
"""

from __future__ import annotations

import gzip
import multiprocessing
import os
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import yaml

import pipelines  # noqa: F401  (keeps TensorFlow quiet)

DAYS, TURNS, CHUNK = 4, 3, 100_000
# Ids of each category in the week of 2014.
CARDINALITIES = (
    1460, 583, 10_131_227, 2_202_608, 305, 24, 12_517, 633, 3, 93_145, 5_683, 8_351_593, 3_194,
    27, 14_992, 5_461_306, 10, 5_652, 2_173, 4, 7_046_547, 18, 15, 286_181, 105, 142_572)
CONFIG = Path(__file__).resolve().parents[2] / "conf" / "data" / "criteo.yaml"


def write_raw(path: Path, rows: int) -> None:
    rng = np.random.default_rng(0)
    with gzip.open(path, "wt", 1) if path.suffix == ".gz" else open(path, "w") as file:
        for first in range(0, rows, CHUNK):
            size = min(CHUNK, rows - first)
            columns = [rng.integers(0, 2, size).astype(str)]
            for _ in range(13):
                column = (rng.geometric(0.02, size) - 2).astype(str)
                column[rng.random(size) < 0.15] = ""
                columns.append(column)
            for cardinality in CARDINALITIES:
                ids = rng.zipf(1.2, size) % cardinality * 2_654_435_761 % 2**32
                column = np.array([f"{value:08x}" for value in ids.tolist()])
                column[rng.random(size) < 0.05] = ""
                columns.append(column)
            file.writelines("\t".join(row) + "\n"
                            for row in zip(*(c.tolist() for c in columns), strict=True))


def ingest(raw: Path, lake: Path, rows: int) -> None:
    from dualdnn.data.sources.criteo import Criteo

    Criteo(raw=str(raw), rows_per_day=-(-rows // DAYS)).prepare(lake)


def encode(lake: Path, state: Path) -> None:
    from dualdnn.data.encoding import encode_days
    from dualdnn.data.lake import Lake
    from dualdnn.schema import schema_from_dict

    config = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    schema = schema_from_dict({key: value for key, value in config.items()
                               if key not in ("source", "raw", "lake")})
    encode_days(Lake(lake), Lake(lake).days(), schema, state)


def read_with_pandas(raw: Path) -> None:
    import pandas as pd

    pd.read_csv(raw, sep="\t", header=None)


def measured(step: Callable[[], None]) -> tuple[float, float, float]:
    """Seconds, processor seconds and peak memory in MB of a step in a process of its own."""
    context = multiprocessing.get_context("fork")
    receive, send = context.Pipe(duplex=False)

    def run() -> None:
        started, used = time.perf_counter(), time.process_time()
        step()
        seconds, processor = time.perf_counter() - started, time.process_time() - used
        send.send((seconds, processor,
                   resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))

    process = context.Process(target=run)
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"a step ended with {process.exitcode}")
    return receive.recv()


def warm_up() -> None:
    """Import what the steps import, before they are timed."""
    import pandas  # noqa: F401

    import dualdnn.data.encoding
    import dualdnn.data.sources.criteo  # noqa: F401


def main(rows: int, packed: bool) -> None:
    warm_up()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        raw, lake, state = folder / f"train.txt{'.gz' * packed}", folder / "lake", folder / "state"
        write_raw(raw, rows)

        def from_text() -> None:
            shutil.rmtree(lake, ignore_errors=True)
            ingest(raw, lake, rows)

        def from_lake() -> None:
            shutil.rmtree(state, ignore_errors=True)
            encode(lake, state)

        def both() -> None:
            from_text()
            from_lake()

        steps = {"text to lake": from_text, "lake to encoded days": from_lake,
                 "text to encoded days": both, "pandas.read_csv": lambda: read_with_pandas(raw)}
        taken: dict[str, list[tuple[float, float, float]]] = {name: [] for name in steps}
        for _ in range(TURNS):
            for name, step in steps.items():
                taken[name].append(measured(step))
        parts = [path.stat().st_size for path in lake.rglob("*.parquet")]
        print(f"{rows:,} rows, {raw.stat().st_size / rows:.0f} bytes a row of {raw.name}, "
              f"{sum(parts) / rows:.0f} of parquet, {os.cpu_count()} cores")
        for name, turns in taken.items():
            seconds, processor = (statistics.median(turn[i] for turn in turns) for i in (0, 1))
            print(f"{name:22s} {rows / seconds:11,.0f} rows/s {rows / processor:11,.0f} rows a "
                  f"processor second {max(turn[2] for turn in turns):6,.0f} MB at most")


if __name__ == "__main__":
    words = sys.argv[1:]
    main(next((int(word) for word in words if word.isdigit()), 1_000_000), "gz" in words)
