"""Ten million simulated rows, a million items: write, encode, train one pass in bounded memory.

python -m benchmarks.data.large_feed [--rows 10000000] [--items 1000000] [--state FOLDER]

One process does all of it; the peak is of the whole process, TensorFlow included.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

from benchmarks.quality.in_process import checked_plan, open_data, train

# Items shown in 31 days for every item that is born a day.
_SHOWN_FOR_EACH_BORN = 46


def peak_gigabytes() -> float:
    """Of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def show(what: str, rows: int, started: float) -> None:
    """One line of the table."""
    seconds = time.perf_counter() - started
    print(f"| {what} | {seconds:.0f} s | {rows / seconds:,.0f} | {peak_gigabytes():.2f} GB |",
          flush=True)


def main() -> None:
    """Read the command line, run the three steps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--state", type=Path, help="keep the lake and the encoded days here")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        overrides = [
            "data=simulated_feed", f"data.source.rows={given.rows}",
            f"data.source.new_items_a_day={given.items // _SHOWN_FOR_EACH_BORN}",
            "window=rolling", "training.epochs=1", "training.batch_size=4096", "controls=[]",
            f"paths.state={given.state or scratch}",
        ]
        plan, _ = checked_plan(overrides)
        if plan.source is None:
            raise TypeError("data=simulated_feed must name a source")
        print("\n| | time | rows/s | peak memory |\n|---|---|---|---|")
        started = time.perf_counter()
        plan.source.prepare(plan.lake.path)
        show("write the lake", given.rows, started)
        started = time.perf_counter()
        _, examples = open_data(overrides)
        show("encode and open 31 days", given.rows, started)
        started = time.perf_counter()
        trainer, _ = train(overrides)
        show("train one pass, teacher and student", trainer.step * 4096, started)
        print(f"\n{examples.row_map.num_rows:,} table rows")


if __name__ == "__main__":
    main()
