"""What a job that follows files has to say: in its folder while it goes, and at its end."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from dualdnn.evaluation.backtest_picture import backtest_picture
from dualdnn.evaluation.backtest_results import (
    DayResult,
    day_rows,
    differences,
    pooled,
    strategy_section,
)
from dualdnn.evaluation.progressive import ScoredDays, ScoredRows, results_by_day
from dualdnn.evaluation.results import plain
from dualdnn.storage import atomic_file, write_json
from pipelines.online_student import OFFLINE
from pipelines.record import RunRecord
from pipelines.runs import read_report

Results = Mapping[str, Mapping[datetime.date, DayResult]]
_METRICS = ("auc", "log_loss", "calibration")


class OnlineReport:
    """Counts and progressive validation of one run."""

    def __init__(self, record: RunRecord, days: int) -> None:
        """Go on with what an earlier try of this run has left.

        Args:
            record: of the run.
            days: the newest so many are kept by row; older ones keep their line.
        """
        self._record = record
        self._scores = ScoredDays(record.run / "progressive", days)
        report = read_report(record.run)
        earlier = report.get("online", {})
        self._lines: list[dict[str, Any]] = report.get("days", [])
        self.refused: dict[str, str] = earlier.pop("refused_files", {})
        self.counts: dict[str, Any] = {"files": 0, "rows": 0, "published": [], "rejected": 0,
                                       "restarts": 0, "left_out_files": 0, **earlier}

    def add(self, name: str, scored: ScoredRows) -> None:
        """Count a file; what was first said about its rows is kept, however often it is read."""
        self.counts["files"] += 1
        self.counts["rows"] += len(scored)
        self._scores.add(name, scored)

    def write(self, status: str, cost: Mapping[str, float], seed: int) -> dict[str, Any]:
        """Write report.json; of a run that is done, with intervals, days and a picture."""
        days, left_out = self._scores.collect()
        self.counts["left_out_files"] += len(left_out)
        values: dict[str, Any] = {"online": {**self.counts, "refused_files": self.refused},
                                  "cost": dict(cost)}
        if days:
            found = results_by_day(days)
            recent = {name: {day: of_day[day] for day in self._scores.newest(days)}
                      for name, of_day in found.items()}
            values["strategies"] = {name: strategy_section(one) for name, one in recent.items()}
            self._lines = [*(line for line in self._lines if not left_out
                             and datetime.date.fromisoformat(line["day"]) not in days),
                           *_lines(found)]
            values["days"] = self._lines
            if status == "done":
                values["differences"] = differences(
                    {name: pooled(one) for name, one in recent.items()}, (OFFLINE,), seed)
                rows = [{**dict.fromkeys((*_METRICS, "seconds")), **line,
                         "day": datetime.date.fromisoformat(line["day"])} for line in self._lines]
                with atomic_file(self._record.run / "days.svg") as temporary:
                    temporary.write_text(backtest_picture(rows, OFFLINE), encoding="utf-8")
        report = plain({"job": self._record.job, "status": status, **self._record.about, **values})
        write_json(self._record.run / "report.json", report)
        self._scores.forget()
        return report

    def close(self, report: Mapping[str, Any]) -> None:
        """Pass metrics and files on to mlflow."""
        mlflow, run = self._record.mlflow, self._record.run
        for name, section in report.get("strategies", {}).items():
            for metric in _METRICS:
                if section.get(metric) is not None:
                    mlflow.add(f"{name}/{metric}", section[metric], report["online"]["rows"])
        mlflow.add_artifacts([*run.glob("report.*"), *run.glob("days.svg"), run / "config.yaml"])
        mlflow.end(succeeded=True)


def show_online(console: Console, run: Path, report: Mapping[str, Any]) -> None:
    """The table of days, the pooled values, and where everything lies."""
    found = report.get("strategies", {})
    if found:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False,
                      title="scored before it was learned", title_justify="left")
        table.add_column("day")
        table.add_column("rows", justify="right")
        for name in found:
            table.add_column(f"{name} AUC", justify="right")
            table.add_column("log loss", justify="right")
        by_day: dict[str, list[Mapping[str, Any]]] = {}
        for row in report["days"]:
            by_day.setdefault(row["day"], []).append(row)
        for day, rows in by_day.items():
            table.add_row(day, f"{rows[0]['rows']:,}",
                          *(_shown(row.get(metric)) for row in rows
                                              for metric in _METRICS[:2]))
        table.add_section()
        first = next(iter(found.values()))
        pooled_days = "all" if first["days"] == len(by_day) else f"newest {first['days']}"
        table.add_row(pooled_days, f"{first['rows']:,}", *(
            _shown(one.get(metric)) for one in found.values() for metric in _METRICS[:2]))
        console.print(table)
    for name, to in report.get("differences", {}).items():
        for metric, value in to.get(OFFLINE, {}).items():
            inside = f" [{value['low']:+.4f}, {value['high']:+.4f}]" if "low" in value else ""
            console.print(f"{name} − {OFFLINE}: {metric} {value['difference']:+.4f}{inside}",
                          markup=False)
    counts = report["online"]
    console.print(f"{counts['files']:,} files, {counts['rows']:,} rows learned; "
                  f"{len(counts['published'])} versions published, {counts['rejected']} rejected, "
                  f"{counts['restarts']} new beginnings", soft_wrap=True)
    if counts["left_out_files"]:
        console.print(f"{counts['left_out_files']:,} files were scored by an earlier release, "
                      "without weights: their rows are not among those above.", soft_wrap=True)
    console.print(f"report    {run / 'report.json'}", soft_wrap=True)


def _lines(found: Results) -> list[dict[str, Any]]:
    """A line a model and day of the report."""
    return [{key: row[key] for key in ("strategy", "rows", *_METRICS)} | {"day": str(row["day"])}
            for name, days in found.items() for row in day_rows(name, days)]


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
