"""Hears how training goes: a progress bar, TensorBoard and mlflow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from dualdnn.tracking import MlflowRun, TensorBoardWriter


class TrainingListener:
    """Passes steps and values on; use it as a context manager around training."""

    def __init__(self, console: Console, tensorboard: TensorBoardWriter,
                 mlflow: MlflowRun) -> None:
        """Draw on `console`."""
        self.tensorboard = tensorboard
        self.mlflow = mlflow
        self._progress = Progress(
            TextColumn("training"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            TimeRemainingColumn(), TextColumn("{task.fields[news]}"), console=console,
        )
        self._task = self._progress.add_task("training", news="")
        self._news: dict[str, float] = {}

    def __enter__(self) -> TrainingListener:
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()
        self.tensorboard.flush()
        self.mlflow.flush()

    def on_step(self, step: int, steps: int) -> None:
        """Move the bar."""
        self._progress.update(self._task, completed=step, total=steps)

    def on_record(self, record: Mapping[str, Any]) -> None:
        """Write one value; validation log loss also shows beside the bar."""
        name = f"{record['part']}/{record['metric']}"
        self.tensorboard.add(record["tower"], name, record["value"], record["step"])
        self.mlflow.add(f"{record['tower']}/{name}", record["value"], record["step"])
        if name == "valid/log_loss" and "." not in record["tower"]:
            self._news[record["tower"]] = record["value"]
            news = "  ".join(f"{tower} {value:.4f}" for tower, value in self._news.items())
            self._progress.update(self._task, news=f"log loss {news}")
