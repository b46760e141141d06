"""What a job prints."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from dualdnn.data.examples import Examples
from dualdnn.evaluation.report import console_table
from pipelines.plan import Plan


def make_console() -> Console:
    """The terminal; a pipe gets lines wide enough for every column."""
    return Console(width=None if sys.stdout.isatty() else 110, soft_wrap=not sys.stdout.isatty())


def show_data(console: Console, plan: Plan, examples: Examples) -> None:
    """One line about the data."""
    split = examples.split
    console.print(
        f"{plan.schema.name}: {len(split.train):,} rows train, {len(split.valid):,} valid, "
        f"{len(split.test):,} test; {len(examples.schema.fields)} fields, "
        f"{examples.row_map.num_rows:,} table rows"
        + (f"; dropped {', '.join(examples.dropped_fields)}" if examples.dropped_fields else "")
    )


def show_requests(console: Console, answers: Sequence[Mapping[str, Any]]) -> None:
    """Example requests and what the exported SavedModel answered."""
    console.print("three requests through the exported SavedModel:")
    for answer in answers:
        console.print(f"  p={answer['probability']:.4f}  {json.dumps(answer['request'])}",
                      highlight=False, soft_wrap=True)


def show_published(console: Console, report: Mapping[str, Any],
                   published: Mapping[str, float]) -> None:
    """Teacher against student, beside what was published elsewhere."""
    teacher = report["teacher"]
    measures = {
        "latency_ratio": ("teacher latency / student latency, 500 rows",
                          lambda s: s.get("latency_ratio")),
        "size_ratio": ("teacher size / student size, dense parameters",
                       lambda s: teacher["params_dense"] / s["params_dense"]),
    }
    table = Table(title="beside the published figures", title_justify="left")
    table.add_column("")
    for name in report["students"]:
        table.add_column(name, justify="right")
    table.add_column("published", justify="right")
    for key, figure in published.items():
        title, measured = measures[key]
        cells = [measured(student) for student in report["students"].values()]
        table.add_row(title, *(f"{c:.1f}x" if c else "-" for c in cells), f"{figure:g}x")
    console.print(table)


def show_result(console: Console, run: Path, report: Mapping[str, Any],
                settings: Mapping[str, Any]) -> None:
    """The table of towers, the requests, and where everything lies."""
    console.print(console_table(report))
    for name, student in report["students"].items():
        if student.get("status") == "diverged":
            console.print(f"student {name} became NaN or infinite and dropped out")
    if settings.get("published"):
        show_published(console, report, settings["published"])
    if not report["students"]:
        console.print("no student in this run: nothing was exported")
    elif "export" in report:
        show_requests(console, report["requests"])
        export = report["export"]
        console.print(f"exported  {export['path']}  (student {export['student']}, version "
                      f"{export['version']}, parity {export['parity_max_abs']:.1e})")
    console.print(f"report    {run / 'report.md'}")
    console.print(f"run       {run}")
    console.print(f"tracking  mlflow ui --backend-store-uri {report['tracking_uri']}")
    console.print(f"          tensorboard --logdir {run / 'tensorboard'}")
