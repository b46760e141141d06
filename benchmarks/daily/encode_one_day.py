"""What a retrain opens every night: a window of 30 days of which one is new.

python -m benchmarks.daily.encode_one_day [--rows 1000000] [--state FOLDER]
python -m benchmarks.daily.encode_one_day --tweetings FOLDER

Opens the training part and the holdout of `pipelines.retrain` for the first day that has a whole
window behind it, with nothing encoded, then for the next day, then for that day again. Default is
a simulated feed of that many rows in 32 days; with --tweetings it is MovieTweetings. Each time is
given in all and of the processor; where others use the machine, only the second can be compared.
"""

from __future__ import annotations

import argparse
import datetime
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.quality.in_process import checked_plan
from dualdnn.data.examples import open_examples
from dualdnn.data.window import ChosenDays
from pipelines.plan import Plan

WINDOW = 30


def show(what: str, plan: Plan, as_of: datetime.date, state: Path) -> None:
    """One line of the table: training part and holdout of a retrain."""
    days = [as_of - datetime.timedelta(days=i) for i in range(WINDOW, 0, -1)]
    reused: list[bool] = []
    began, used = time.perf_counter(), time.process_time()
    examples = open_examples(
        lake=plan.lake, schema=plan.schema, state=state,
        window=ChosenDays(train=days, test=[as_of]),
        on_day=lambda day, was_there: reused.append(was_there))
    print(f"| {what} | {len(reused)} | {reused.count(False)} | {len(examples.labels):,} | "
          f"{time.perf_counter() - began:.2f} s | {time.process_time() - used:.2f} s |", flush=True)


def overrides_of(rows: int, tweetings: Path | None) -> Sequence[str]:
    if tweetings:
        return ["data=movietweetings", f"data.raw={tweetings}"]
    return ["data=simulated_feed", f"data.source.rows={rows}", f"data.source.days={WINDOW + 2}"]


def main() -> None:
    """Read the command line, open three times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--tweetings", type=Path, help="folder of MovieTweetings")
    parser.add_argument("--state", type=Path, help="keep the lake here")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        plan, _ = checked_plan([*overrides_of(given.rows, given.tweetings), "window=rolling",
                                f"paths.state={given.state or scratch}"])
        if plan.source is None:
            raise TypeError("the data must name a source")
        plan.source.prepare(plan.lake.path)
        newest = plan.lake.days()[WINDOW + 1]
        state = Path(scratch) / "encoded_here"
        print("\n| | days | encoded now | rows | time | processor time |"
              "\n|---|---|---|---|---|---|")
        show("from nothing", plan, newest - datetime.timedelta(days=1), state)
        show("the next day", plan, newest, state)
        show("that day again", plan, newest, state)


if __name__ == "__main__":
    main()
