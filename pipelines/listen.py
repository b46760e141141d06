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

from dualdnn.models.dual_dnn import TEACHER
from dualdnn.tracking import MlflowRun, TensorBoardWriter
from pipelines import interrupts

# Students whose losses are shown one by one.
_MOST_SHOWN = 6


def _in_words(losses: Mapping[str, float]) -> str:
    """The loss of every tower; of many students the range."""
    students = [value for tower, value in losses.items() if tower != TEACHER]
    if len(students) <= _MOST_SHOWN:
        return "  ".join(f"{tower} {value:.4f}" for tower, value in losses.items())
    teacher = f"{TEACHER} {losses[TEACHER]:.4f}  " if TEACHER in losses else ""
    return f"{teacher}{len(students)} students {min(students):.4f} to {max(students):.4f}"


class TrainingListener:
    """Passes steps and values on; use it as a context manager around training."""

    def __init__(self, console: Console, tensorboard: TensorBoardWriter,
                 mlflow: MlflowRun) -> None:
        """Draw a bar on `console`; a pipe gets a line an evaluation instead."""
        self.tensorboard = tensorboard
        self.mlflow = mlflow
        self._console = console
        self._progress = Progress(
            TextColumn("training"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            TimeRemainingColumn(), TextColumn("{task.fields[news]}"), console=console,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("training", total=None, news="compiling")
        self._step, self._steps = 0, 0
        self._news: dict[str, dict[str, float]] = {}

    def __enter__(self) -> TrainingListener:
        interrupts.wait_for_steps(True)
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        interrupts.wait_for_steps(False)
        self._tell()
        if exception[0] is None:  # all is done, be it before the last step
            self._progress.update(self._task, total=self._step)
        self._progress.stop()
        self.tensorboard.flush()
        if exception[0] is None:
            interrupts.pass_on()

    def on_step(self, step: int, steps: int) -> None:
        """Move the bar; here an interrupt ends the training."""
        interrupts.pass_on()
        self._tell()
        self._step, self._steps = step, steps
        self._progress.update(self._task, completed=step, total=steps)

    def on_record(self, record: Mapping[str, Any]) -> None:
        """Write one value; the newest losses also show beside the bar."""
        name = f"{record['part']}/{record['metric']}"
        self.tensorboard.add(record["tower"], name, record["value"], record["step"])
        self.mlflow.add(f"{record['tower']}/{name}", record["value"], record["step"])
        is_control = "." in record["tower"]
        if name in ("valid/log_loss", "train/label_loss") and not is_control:
            self._news.setdefault(record["part"], {})[record["tower"]] = record["value"]

    def _tell(self) -> None:
        """Send and show an evaluation, once all of its values are in."""
        # At once: a killed run that is resumed does not record again what it had recorded.
        self.mlflow.flush()
        if not self._news:
            return
        part = "valid" if "valid" in self._news else "train"
        news = f"{part} log loss {_in_words(self._news[part])}"
        self._news = {}  # a tower that has stopped has no news
        self._progress.update(self._task, news=news)
        if not self._console.is_terminal:
            self._console.print(f"step {self._step} of at most {self._steps}: {news}")
