"""Speed and peak memory of the simulator, from settings to a finished lake on disk.

python -m benchmarks.data.simulator [rows ...]

Each size runs in a process of its own, whose peak memory is printed beside it: every regime at
2 million rows, then 10 million rows of about 10^6 items. Other sizes: the rows as arguments.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dualdnn.data.simulator.formula import REGIMES
from dualdnn.data.simulator.settings import FeedSettings
from dualdnn.data.simulator.writer import write_feed

ROWS = 2_000_000
# About 46 times as many items are shown in 31 days.
MANY = {"rows": 10_000_000, "new_items_a_day": 22_000, "users": 1_000_000}


def measured(settings: dict[str, Any], threads: int) -> tuple[float, float, float]:
    """Seconds, peak memory in MB and MB on disk."""
    with tempfile.TemporaryDirectory() as folder:
        lake = Path(folder) / "lake"
        began = time.perf_counter()
        write_feed(FeedSettings(**settings), lake, threads=threads)
        seconds = time.perf_counter() - began
        size = sum(path.stat().st_size for path in lake.rglob("*"))
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3, size / 1e6


def main(arguments: Sequence[str]) -> None:
    sizes: list[dict[str, Any]] = [{"rows": int(rows)} for rows in arguments]
    sizes = sizes or [*({"rows": ROWS, "regime": regime} for regime in REGIMES), MANY]
    threads = os.cpu_count() or 1
    context = multiprocessing.get_context("spawn")
    print(f"{threads} threads\n\n| settings | rows/s | peak memory, MB | on disk, MB |\n"
          "|---|---|---|---|")
    for settings in sizes:
        with context.Pool(1) as pool:
            seconds, memory, disk = pool.apply(measured, (settings, threads))
        what = ", ".join(f"{key}={value}" for key, value in settings.items())
        print(f"| {what} | {settings['rows'] / seconds:,.0f} | {memory:.0f} | {disk:.0f} |",
              flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
