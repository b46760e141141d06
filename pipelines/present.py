"""What a job prints."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dualdnn.data.examples import Examples
from dualdnn.evaluation.results import (
    console_table,
    divergences,
    efficiency_text,
    importance_table,
    published_table,
)
from dualdnn.evaluation.student_search import choice_in_words, search_table
from dualdnn.training.settings import TrainingSettings
from pipelines.plan import Plan
from pipelines.present_schemes import show_schemes
from pipelines.runs import read_report


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
    if plan.feature_lag == "0":
        console.print("data.feature_lag=0: past statistics are up to the second, which assumes a "
                      "real-time feature store at serving")


def show_passes(console: Console, settings: TrainingSettings, examples: Examples) -> None:
    """Where there is nothing that would end a training sooner, how long it is."""
    if len(examples.split.valid):
        return
    console.print("no validation part, so nothing stops early: training.epochs="
                  f"{settings.epochs} and training.consolidation_epochs="
                  f"{settings.consolidation_epochs} are taken in full")


def show_requests(console: Console, answers: Sequence[Mapping[str, Any]]) -> None:
    """Example requests and what the exported SavedModel answered."""
    if answers:
        console.print("three requests through the exported SavedModel:")
    for answer in answers:
        request = json.dumps(answer["request"], ensure_ascii=False)
        console.print(f"  p={answer['probability']:.4f}  {request}", highlight=False,
                      soft_wrap=True)


def show_export(console: Console, export: Mapping[str, Any]) -> None:
    """Where the exported student lies."""
    ended = ", which became NaN or infinite" if export.get("status") == "diverged" else ""
    console.print(f"exported  {export['path']}  (student {export['student']}{ended}, version "
                  f"{export['version']}, parity {export['parity_max_abs']:.1e})")


def agreement_words(agreement: Mapping[str, Any]) -> str:
    """Overlap of the first places and NDCG, of what was measured."""
    words = []
    if "top_overlap" in agreement:
        words.append(f"top-10 overlap {agreement['top_overlap']:.3f} (by chance "
                     f"{agreement['top_overlap_by_chance']:.3f}, {agreement['top_groups']:,} "
                     "groups of more than 10 rows)")
    words.append(f"NDCG@10 {agreement['ndcg']:.4f} ({agreement['ndcg_groups']:,} groups)")
    return ", ".join(words)


def show_published(console: Console, report: Mapping[str, Any]) -> None:
    """Teacher against student and baseline, beside what was published elsewhere."""
    heading, rows = published_table(report)
    if not rows:
        return
    table = Table(title="beside the published figures", title_justify="left",
                  title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    table.add_column("published", justify="right")
    for name in heading[2:]:
        table.add_column(name, justify="right", style="bold cyan")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def show_search(console: Console, search: Mapping[str, Any]) -> None:
    """The students of a search, the fastest first, and which is chosen."""
    heading, rows = search_table(search)
    table = Table(title="student search: > chosen, o on the frontier of validation AUC and "
                        "latency; without sample weights",
                  title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False,
                  collapse_padding=True)
    for place, name in enumerate(heading):
        words = place < 2
        table.add_column(name if words else "\n".join(name.rsplit(" ", 1)), no_wrap=not words,
                         justify="left" if words else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row),
                      style="bold cyan" if row[0] == ">" else "bold" if row[0] else None)
    console.print(table)
    console.print(choice_in_words(search), highlight=False, soft_wrap=True)


def _tool(name: str) -> str:
    """A command of this environment, to be pasted; by its path where that is not on the PATH."""
    beside = Path(sys.executable).parent / name
    if shutil.which(name) == str(beside) or not beside.exists():
        return name
    return os.path.relpath(beside) if beside.is_relative_to(Path.cwd()) else str(beside)


def _show_run(console: Console, run: Path, report: Mapping[str, Any]) -> None:
    """What one training or evaluation has found."""
    console.print(console_table(report))
    show_published(console, report)
    if "student_search" in report:
        show_search(console, report["student_search"])
    if "importance" in report:
        console.print(importance_table(report["importance"]))
    for name, student in report["students"].items():
        shown = report.get("student_search", {}).get("chosen", name)
        if (share := efficiency_text(student)) and name == shown:
            console.print(f"distillation efficiency of {name}: {share}")
        if (agreement := student.get("ranking_agreement")) and name == shown:
            console.print(f"{name} ranks as the teacher does: {agreement_words(agreement)}")
    for line in divergences(report):
        console.print(line, highlight=False, soft_wrap=True)
    if "export" in report:
        show_requests(console, report.get("requests", []))
        show_export(console, report["export"])
    elif report["job"] == "train":
        with_weights = [one for name, one in report["students"].items() if name in report["towers"]]
        why = None
        if "student_search" in report:
            why = "no student is near enough"
        elif with_weights and all(one.get("status") == "diverged" for one in with_weights):
            why = "every student became NaN or infinite"
        console.print("nothing was exported: " + (
            f"{why}; python -m pipelines.export run={run} export.student=NAME exports one all the "
            "same" if why else "this run has no student with weights"))


def show_result(console: Console, run: Path, report: Mapping[str, Any]) -> None:
    """The table of towers, the requests, and where everything lies."""
    if "scheme_comparison" in report:
        show_schemes(console, report["scheme_comparison"])
    else:
        _show_run(console, run, report)
    console.print(f"report    {run / 'report.md'}")
    console.print(f"mlflow    {_tool('mlflow')} ui --backend-store-uri {report['tracking_uri']}")
    if (run / "tensorboard").is_dir():
        console.print(f"curves    {_tool('tensorboard')} --logdir {run / 'tensorboard'}")


def show_finished(console: Console, run: Path) -> None:
    """A run that is done already."""
    report = read_report(run)
    console.print(f"{run} has trained this configuration already "
                  f"(revision {report['lineage']['git_revision']}); it is shown again")
    show_result(console, run, report)
    export = report.get("export")
    if export and not Path(export["path"]).is_dir():
        console.print(f"{export['path']} is gone; `python -m pipelines.export run={run}` "
                      "exports the student again")
