"""Replay the daily cycle and its alternatives over past days, and compare them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.console import Console

from dualdnn.data.encoding import encode_days
from dualdnn.errors import DataError
from dualdnn.evaluation.backtest_results import strategy_section
from dualdnn.storage import lock
from dualdnn.training.strategies import days_read
from pipelines.backtest_plan import BacktestPlan, backtest_plan_from
from pipelines.backtest_replay import Replay
from pipelines.backtest_report import cost_section, data_section, show_backtest, write_backtest
from pipelines.compose import resolved
from pipelines.entry import start
from pipelines.present import make_console
from pipelines.record import RunRecord, recorded
from pipelines.runs import new_run, read_report, same_run


def main(config: DictConfig) -> None:
    """Check the configuration, go on with its unfinished run or begin one, replay, report."""
    mistakes: list[str] = []
    settings = resolved(config, mistakes)
    plan = backtest_plan_from(settings, mistakes)
    console = make_console()
    outputs = Path(settings["paths"]["outputs"])
    run = same_run(outputs, "backtest", settings, finished=False)
    if run:
        console.print(f"going on with {run}", soft_wrap=True)
    run = run or new_run(outputs, "backtest", settings)
    with (lock(run / ".lock", wait=False),
          recorded(run, "backtest", settings, plan.towers.schema.name) as record):
        _replay(record, plan, console)
    show_backtest(console, run, read_report(run))


def _replay(record: RunRecord, plan: BacktestPlan, console: Console) -> None:
    """Encode all days, play every strategy, report."""
    started = time.monotonic()
    towers, state = plan.towers, Path(plan.settings["paths"]["state"])
    if towers.source:
        towers.source.prepare(towers.lake.path)
    schedules = plan.schedules()
    wanted = sorted(set().union(*map(days_read, schedules.values())))
    available, newest = set(towers.lake.days()), towers.lake.newest_complete()
    if missing := [str(day) for day in wanted if day not in available or day > newest]:
        raise DataError(
            f"a backtest of {plan.start} to {plan.end} reads {wanted[0]} to {wanted[-1]}, but "
            f"{', '.join(missing[:5])}{' ...' if len(missing) > 5 else ''} ({len(missing)} days) "
            f"have no complete folder in the lake, which holds {min(available)} to {newest}. "
            "Choose other days or fewer window.days.")
    encoded = encode_days(towers.lake, wanted, towers.schema, state)
    record.about |= data_section(record, plan, encoded)
    record.write("running")

    replay = Replay(plan, record.run, state, console)
    results = {name: replay.play(name, scored) for name, scored in schedules.items()}
    report: dict[str, Any] = {
        "job": "backtest", "status": "done", **record.about,
        "strategies": {name: strategy_section(days) for name, days in results.items()},
    }
    report["cost"] = cost_section(started)
    write_backtest(record, plan, report, results)


if __name__ == "__main__":
    start("backtest", main)
