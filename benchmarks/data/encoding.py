"""From a day of parquet to encoded days to batches: speed and peak memory.

python -m benchmarks.data.encoding [rows]

Writes one day of that many rows (2,000,000) in two layouts, `wide`: 20 ids, and `criteo`: 26 ids
as text and 13 numbers, ids drawn by Zipf's law. Prints rows a second of encoding it, of opening
the encoded day (admission and translation to rows of the table) and of reading it back as
shuffled batches of 1,024, beside pandas' plain reading of the same file. Each step runs in a
process of its own, whose peak memory is printed beside it with that of the imports alone, and
rows a second of processor time: where others use the machine, only these can be compared. Medians
of three turns, taken alternately.
"""

from __future__ import annotations

import datetime
import multiprocessing
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import pipelines  # noqa: F401  (keeps TensorFlow quiet)
from dualdnn.data.encoding import encode_days
from dualdnn.data.examples import Examples, open_examples
from dualdnn.data.lake import Lake
from dualdnn.data.window import Rolling
from dualdnn.schema import Field, Schema

TURNS, BATCH_ROWS = 3, 1024
DAY = datetime.date(2024, 1, 1)
# Most distinct ids of a column, in turn: as many as rows allow, down to a handful.
CARDINALITIES = (10**7, 10**6, 10**5, 10**4, 1000, 100, 10)


def ids(rng: np.random.Generator, rows: int, column: int) -> np.ndarray:
    return rng.zipf(1.2, rows) % CARDINALITIES[column % len(CARDINALITIES)]


def write_day(folder: Path, layout: str, rows: int) -> Schema:
    rng = np.random.default_rng(0)
    columns: dict[str, pa.Array] = {
        "label": pa.array(rng.integers(0, 2, rows)),
        "ts": pa.array(1_704_067_200 + np.arange(rows) * 86_400 // rows),
    }
    fields = []
    for column in range(20 if layout == "wide" else 26):
        values = pa.array(ids(rng, rows, column))
        # Half of the wide ids are integers, half are text; Criteo's are text.
        text = layout == "criteo" or column % 2
        columns[f"id{column}"] = values.cast(pa.string()) if text else values
        fields.append(Field(name=f"id{column}", kind="id", min_count=2))
    for column in range(0 if layout == "wide" else 13):
        missing = rng.random(rows) < 0.2
        columns[f"number{column}"] = pa.array(rng.exponential(10, rows), mask=missing)
        fields.append(Field(name=f"number{column}", kind="number"))
    part = folder / f"dt={DAY}"
    part.mkdir(parents=True)
    pq.write_table(pa.table(columns), part / "part-0.parquet")
    (part / "_SUCCESS").touch()
    return Schema(name="speed", label="label", timestamp="ts", fields=tuple(fields))


def open_day(folder: Path, schema: Schema) -> Examples:
    return open_examples(lake=Lake(folder / "lake"), schema=schema, state=folder / "state",
                         window=Rolling(days=1, holdout_days=0))


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds that passed, and those of processor time."""
    started, used = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - started, time.process_time() - used


def imports_alone(folder: Path, schema: Schema) -> tuple[float, float]:
    return 0.0, 0.0


def pandas_reads(folder: Path, schema: Schema) -> tuple[float, float]:
    import pandas as pd

    return timed(lambda: pd.read_parquet(folder / "lake" / f"dt={DAY}" / "part-0.parquet"))


def encode(folder: Path, schema: Schema) -> tuple[float, float]:
    shutil.rmtree(folder / "state", ignore_errors=True)
    return timed(lambda: encode_days(Lake(folder / "lake"), [DAY], schema, folder / "state"))


def open_encoded(folder: Path, schema: Schema) -> tuple[float, float]:
    return timed(lambda: open_day(folder, schema))


def batches(folder: Path, schema: Schema) -> tuple[float, float]:
    examples = open_day(folder, schema)
    order = np.random.default_rng(0).permutation(len(examples.labels))

    def read() -> None:
        for start in range(0, len(order), BATCH_ROWS):
            examples.batch(order[start : start + BATCH_ROWS])

    return timed(read)


Step = Callable[[Path, Schema], tuple[float, float]]
STEPS: dict[str, Step] = {
    "imports alone": imports_alone, "pandas.read_parquet": pandas_reads, "encode": encode,
    "open": open_encoded, "batches": batches,
}


def _in_process(queue: multiprocessing.Queue, step: Step, folder: Path, schema: Schema) -> None:
    seconds, processor = step(folder, schema)
    # Not ru_maxrss, which is never below that of the process that started this one.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    queue.put((seconds, processor, int(status["VmHWM"].split()[0]) / 2**10))


def run(step: Step, folder: Path, schema: Schema) -> tuple[float, float, float]:
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_in_process, args=(queue, step, folder, schema))
    process.start()
    measured = queue.get()
    process.join()
    return measured


def main(rows: int) -> None:
    for layout in ("wide", "criteo"):
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            schema = write_day(folder / "lake", layout, rows)
            size = sum(path.stat().st_size for path in folder.rglob("*.parquet"))
            print(f"{layout}: {rows:,} rows, {len(schema.fields)} fields, {size / 2**20:,.0f} MB")
            taken: dict[str, list[tuple[float, float, float]]] = {name: [] for name in STEPS}
            for _ in range(TURNS):
                for name, step in STEPS.items():
                    taken[name].append(run(step, folder, schema))
            for name, measured in taken.items():
                seconds, processor = (statistics.median(one[i] for one in measured)
                                      for i in range(2))
                speed = (f"{rows / seconds:12,.0f} rows/s {rows / processor:12,.0f} rows/s of "
                         "processor time" if seconds else " " * 51)
                print(f"  {name:20s} {speed}  {max(one[2] for one in measured):7,.0f} MB at most")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2_000_000)
