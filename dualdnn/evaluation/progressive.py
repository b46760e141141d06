"""Progressive validation of a stream: what was said about rows before they were learned.

Blum, Kalai and Langford 1999, "Beating the Hold-Out": the mean over such rows says of an online
learner what a holdout says of a fixed model, and no row is lost to it.
"""

from __future__ import annotations

import datetime
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dualdnn.errors import DataError
from dualdnn.evaluation.backtest_results import DayResult
from dualdnn.storage import atomic_file

_LOGITS = "logits/"


@dataclass(frozen=True, kw_only=True)
class ScoredRows:
    """Rows in the order of time, and what several models said about them.

    Attributes:
        seconds: (rows,) int64 since the epoch.
        labels: (rows,) 0 or 1.
        groups: (rows,) int64, or None.
        weights: (rows,) float64 of `Examples.population_weights`, or None for equal ones.
        logits: (rows,) float32 by model, as served.
    """

    seconds: np.ndarray
    labels: np.ndarray
    groups: np.ndarray | None
    weights: np.ndarray | None
    logits: Mapping[str, np.ndarray]

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.labels)

    def save(self, path: Path) -> None:
        """Write them by one rename."""
        arrays = {"seconds": self.seconds, "labels": self.labels,
                  **{name: values for name, values in (("groups", self.groups),
                                                       ("weights", self.weights))
                     if values is not None},
                  **{f"{_LOGITS}{name}": values for name, values in self.logits.items()}}
        with atomic_file(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]


def read_scored_rows(path: Path) -> ScoredRows:
    """Read what `ScoredRows.save` wrote.

    Raises:
        DataError: the file is damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        return ScoredRows(
            seconds=arrays["seconds"], labels=arrays["labels"], groups=arrays.get("groups"),
            weights=arrays.get("weights"),
            logits={name.removeprefix(_LOGITS): values for name, values in arrays.items()
                    if name.startswith(_LOGITS)})
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is not readable: {error}. Delete it; its rows are then missing "
                        "in the report.") from error


def joined(parts: Sequence[ScoredRows]) -> ScoredRows:
    """All parts as one, in their order; there must be one at least, all with the same models."""
    groups = [part.groups for part in parts if part.groups is not None]
    weights = [part.weights for part in parts if part.weights is not None]
    return ScoredRows(
        seconds=np.concatenate([part.seconds for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        groups=np.concatenate(groups) if len(groups) == len(parts) else None,
        weights=np.concatenate(weights) if len(weights) == len(parts) else None,
        logits={name: np.concatenate([part.logits[name] for part in parts])
                for name in parts[0].logits})


def results_by_day(rows: ScoredRows) -> dict[str, dict[datetime.date, DayResult]]:
    """By model and UTC day, as a backtest has its strategies."""
    days = rows.seconds.astype("datetime64[s]").astype("datetime64[D]")
    masks = {day.astype(object): days == day for day in np.unique(days)}
    return {
        name: {day: DayResult(labels=rows.labels[mask], student=logits[mask],
                              groups=None if rows.groups is None else rows.groups[mask],
                              weights=None if rows.weights is None else rows.weights[mask])
               for day, mask in masks.items()}
        for name, logits in rows.logits.items()}
