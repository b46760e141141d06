"""What a backtest leaves: report.json, days.parquet, a picture, a page, a table."""

from __future__ import annotations

import datetime
import hashlib
import resource
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from rich import box
from rich.console import Console
from rich.table import Table

from dualdnn.data.encoded_day import EncodedDay
from dualdnn.errors import DataError
from dualdnn.evaluation.backtest_picture import backtest_picture
from dualdnn.evaluation.backtest_results import DayResult, day_rows, differences, pooled
from dualdnn.evaluation.results import plain
from dualdnn.storage import atomic_file, write_json
from dualdnn.training.strategies import PUBLISHED, REGRESSION
from pipelines.backtest_plan import BacktestPlan
from pipelines.backtest_replay import core_seconds
from pipelines.record import RunRecord
from pipelines.reporting import git_revision

Results = Mapping[str, Mapping[datetime.date, DayResult]]
_REFERENCES = (PUBLISHED, REGRESSION)
_DAYS_SCHEMA = pa.schema([
    ("strategy", pa.string()), ("day", pa.date32()), ("rows", pa.int64()),
    ("positives", pa.int64()),
    *((f"{tower}{metric}", pa.float64()) for tower in ("", "teacher_")
      for metric in ("auc", "log_loss", "calibration")),
    *((name, pa.float64()) for name in ("strength", "seconds", "wall_seconds", "core_seconds")),
])


def data_section(record: RunRecord, plan: BacktestPlan,
                 encoded: Sequence[EncodedDay]) -> dict[str, Any]:
    """`data` and `lineage` of the report.

    Raises:
        DataError: an earlier try of this run read other data.
    """
    digest = hashlib.sha256("".join(day.meta["fingerprint"] for day in encoded).encode())
    fingerprint = digest.hexdigest()
    data = {
        "name": plan.towers.schema.name, "fingerprint": fingerprint,
        "first_day": str(encoded[0].day), "last_day": str(encoded[-1].day),
        "rows_test": sum(day.rows for day in encoded if day.day >= plan.start),
        "dropped_fields": [], "feature_lag": plan.towers.feature_lag,
    }
    earlier = record.about.get("data", data)["fingerprint"]
    if earlier != fingerprint:
        raise DataError(f"{plan.towers.lake.path} has changed since {record.run} was started: its "
                        f"days had the fingerprint {earlier[:12]}, now {fingerprint[:12]}. Restore "
                        "the days, or delete the run folder to start anew.")
    lineage = {"git_revision": git_revision(), "schema_hash": plan.towers.schema.hash(),
               "data_fingerprint": fingerprint, "run_folder": str(record.run.resolve())}
    return {"data": data, "lineage": lineage}


def cost_section(started: float) -> dict[str, float]:
    """What this process has used; an earlier try's share stands under its strategies and days."""
    peak = max(resource.getrusage(who).ru_maxrss
               for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    # Linux counts in KiB.
    return {"seconds": time.monotonic() - started, "core_seconds": core_seconds(),
            "peak_memory_bytes": 1024 * peak}


def write_backtest(record: RunRecord, plan: BacktestPlan, report: dict[str, Any],
                   results: Results) -> None:
    """Write all files of the run folder, report.json last, and tell mlflow."""
    run = record.run
    rows = [row for name, days in results.items() for row in day_rows(name, days)]
    with atomic_file(run / "days.parquet") as temporary:
        pq.write_table(pa.Table.from_pylist(rows, _DAYS_SCHEMA), temporary)
    report["differences"] = differences({name: pooled(days) for name, days in results.items()},
                                        _REFERENCES, plan.towers.seed)
    report = plain(report)
    reference = next((name for name in reversed(_REFERENCES) if name in results), None)
    _write_text(run / "days.svg", backtest_picture(rows, reference))
    _write_text(run / "report.md", _page(report, plan.settings))
    record.mlflow.log_settings(
        {key: value for key, value in plan.settings.items()
         if key not in ("paths", "tracking", "debug")},
        {f"dualdnn.{key}": value for key, value in
         {"job": "backtest", **report["lineage"]}.items()})
    for number, row in enumerate(rows):
        for metric in ("auc", "log_loss", "calibration", "seconds"):
            if row[metric] is not None:
                record.mlflow.add(f"{row['strategy']}/{metric}", row[metric],
                                  number % len(results[row["strategy"]]))
    record.mlflow.flush()
    # Only now: a run that says done has everything.
    write_json(run / "report.json", report)
    record.mlflow.add_artifacts([*run.glob("report.*"), run / "days.svg", run / "days.parquet",
                                 run / "config.yaml"])
    record.mlflow.end(succeeded=True)


def _write_text(path: Path, text: str) -> None:
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


_HEADING = ("strategy", "AUC", "log loss", "grouped AUC", "calibration", "teacher's AUC",
            "train s")
Rows = list[list[str]]


def _tables(report: Mapping[str, Any]) -> list[Rows]:
    """The results, then the differences to each reference, as text with a heading."""

    def four(values: Mapping[str, Any], key: str) -> str:
        return f"{values[key]:.4f}" if key in values else ""

    def less(found: Mapping[str, float] | None) -> str:
        if not found:
            return ""
        inside = f" [{found['low']:+.4f}, {found['high']:+.4f}]" if "low" in found else ""
        return f"{found['difference']:+.4f}{inside}"

    tables = [[list(_HEADING), *(
        [name, *(four(one, key) for key in ("auc", "log_loss", "grouped_auc", "calibration")),
         four(one.get("teacher", {}), "auc"), f"{one['seconds']:.1f}"]
        for name, one in report["strategies"].items())]]
    for reference in _REFERENCES:
        rows = [[name, less(to[reference].get("auc")), less(to[reference].get("log_loss"))]
                for name, to in report["differences"].items() if reference in to]
        if rows:
            tables.append([[f"less {reference}", "AUC", "log loss"], *rows])
    return tables


def _cost_line(report: Mapping[str, Any]) -> str:
    cost = report["cost"]
    return (f"{cost['core_seconds']:,.0f} core-seconds, {cost['seconds']:,.0f} s, peak memory "
            f"{cost['peak_memory_bytes'] / 2**20:,.0f} MiB")


def _page(report: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cells)} |"

    data, tables = report["data"], []
    for heading, *rows in _tables(report):
        rule = line(["---", *["---:"] * (len(heading) - 1)])
        tables += [line(heading), rule, *map(line, rows), ""]
    return "\n".join([
        f"# Backtest of {data['name']}, {settings['start']} to {settings['end']}", "",
        f"{data['rows_test']:,} rows scored; days from {data['first_day']} were read. Differences "
        "are of students, with 95% intervals over days crossed with groups.", "",
        *tables, "![Days](days.svg)", "", f"Cost: {_cost_line(report)}.", "",
        f"```\n{report['command']}\n```", "",
        "## Configuration", "", "```yaml", yaml.safe_dump(dict(settings), sort_keys=False), "```",
        ""])


def show_backtest(console: Console, run: Path, report: Mapping[str, Any]) -> None:
    """The tables of strategies, and where everything lies."""
    for heading, *rows in _tables(report):
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for number, name in enumerate(heading):
            table.add_column(name, justify="right" if number else "left", no_wrap=True)
        for cells in rows:
            table.add_row(*(cell.replace("[", "\\[") for cell in cells))
        console.print(table)
    console.print(f"cost      {_cost_line(report)}")
    console.print(f"report    {run / 'report.md'}", soft_wrap=True)
    console.print(f"days      {run / 'days.parquet'}", soft_wrap=True)
