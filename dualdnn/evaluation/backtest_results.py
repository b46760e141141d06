"""Results of a backtest: one file per strategy and day, and the metrics over all of them."""

from __future__ import annotations

import datetime
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from dualdnn.errors import DataError
from dualdnn.evaluation.bootstrap import bootstrap
from dualdnn.evaluation.metrics import auc, calibration, log_loss, sigmoid, weighted_scores
from dualdnn.storage import atomic_file

_DIFFERENCES = ("auc", "log_loss")
_TIMES = ("seconds", "wall_seconds", "core_seconds")


@dataclass(frozen=True, kw_only=True)
class DayResult:
    """What one strategy said about one day.

    Attributes:
        labels: (rows,) 0 or 1.
        student: (rows,) logits of the first student, or of the regression.
        teacher: (rows,) logits, or None.
        groups: (rows,) int64, or None.
        weights: (rows,) float64, or None for equal ones.
        candidates: (strengths, rows) logits of the regression at every strength, or None.
        strength: the one that was chosen, or None.
        seconds: of training steps.
        wall_seconds: of everything that the day took.
        core_seconds: of the process while it did.
    """

    labels: np.ndarray
    student: np.ndarray
    teacher: np.ndarray | None = None
    groups: np.ndarray | None = None
    weights: np.ndarray | None = None
    candidates: np.ndarray | None = None
    strength: float | None = None
    seconds: float = 0.0
    wall_seconds: float = 0.0
    core_seconds: float = 0.0

    def save(self, path: Path) -> None:
        """Write it by one rename."""
        arrays = {one.name: np.asarray(getattr(self, one.name)) for one in fields(self)
                  if getattr(self, one.name) is not None}
        with atomic_file(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]


def day_path(folder: Path, strategy: str, day: datetime.date) -> Path:
    """Where the result of a strategy and day lies."""
    return folder / strategy / f"{day}.npz"


def read_day(path: Path) -> DayResult:
    """Read what `DayResult.save` wrote.

    Raises:
        DataError: the file is damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        values: dict[str, Any] = {name: array if array.ndim else float(array)
                                  for name, array in arrays.items()}
        return DayResult(**values)
    except (OSError, ValueError, TypeError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is not a readable result of a day: {error}. Delete {path.parent}, "
                        "and the same command plays this strategy again.") from error


@dataclass(frozen=True, kw_only=True)
class Pooled:
    """All days of one strategy in one.

    Attributes:
        days: (rows,) ordinal of the day of each row.
        labels: (rows,).
        student: (rows,) logits.
        teacher: (rows,) logits, or None.
        groups: (rows,) int64, or None.
        weights: (rows,) float64, or None.
    """

    days: np.ndarray
    labels: np.ndarray
    student: np.ndarray
    teacher: np.ndarray | None
    groups: np.ndarray | None
    weights: np.ndarray | None


def pooled(results: Mapping[datetime.date, DayResult]) -> Pooled:
    """Put days together, in their order.

    Raises:
        DataError: what is known of the rows differs from day to day.
    """
    ordered = sorted(results)

    def joined(name: str) -> np.ndarray | None:
        parts = [getattr(results[day], name) for day in ordered]
        if len({part is None for part in parts}) > 1:
            raise DataError(f"some days of a strategy have {name} and others have none: they were "
                            "scored by different releases or schemas. Delete its folder in the "
                            "run, and the same command plays it again.")
        return None if parts[0] is None else np.concatenate(parts)

    labels, student = joined("labels"), joined("student")
    assert labels is not None
    assert student is not None
    days = np.concatenate([np.full(len(results[day].labels), day.toordinal()) for day in ordered])
    return Pooled(days=days, labels=labels, student=student, teacher=joined("teacher"),
                  groups=joined("groups"), weights=joined("weights"))


def strategy_section(results: Mapping[datetime.date, DayResult]) -> dict[str, Any]:
    """`strategies.NAME` of the report: metrics over the rows of all days, and what it cost."""
    rows = pooled(results)
    times = {name: sum(getattr(one, name) for one in results.values()) for name in _TIMES}
    what = {"groups": rows.groups, "weights": rows.weights}
    section = {**weighted_scores(rows.labels, rows.student, **what), **times,
               "days": len(results), "rows": len(rows.labels)}
    if rows.teacher is not None:
        section["teacher"] = weighted_scores(rows.labels, rows.teacher, **what)
    return section


def difference(one: Pooled, other: Pooled, seed: int) -> dict[str, Any]:
    """Student less student on the same rows, with 95% intervals over days crossed with groups.

    Raises:
        DataError: the rows are not the same.
    """
    if not (np.array_equal(one.labels, other.labels) and np.array_equal(one.days, other.days)):
        raise DataError("two strategies were scored on different rows: the lake has changed since "
                        "the backtest was started. Start it anew with another window or seed.")
    factors = [one.days] if one.groups is None else [one.days, one.groups]
    found: dict[str, Any] = {}
    for metric in _DIFFERENCES:
        estimate = bootstrap(one.labels, one.student, other.student, metric=metric,
                             factors=factors, weights=one.weights, seed=seed)
        if estimate is None:
            continue
        found[metric] = {"difference": estimate.value}
        if estimate.error is not None:
            low, high = estimate.interval()
            found[metric] |= {"low": low, "high": high}
    return found


def differences(strategies: Mapping[str, Pooled], references: Sequence[str],
                seed: int) -> dict[str, dict[str, Any]]:
    """Each strategy less each reference, by strategy, then reference, then metric."""
    return {name: {to: difference(rows, strategies[to], seed)
                   for to in references if to in strategies and to != name}
            for name, rows in strategies.items()}


def day_rows(strategy: str, results: Mapping[datetime.date, DayResult]) -> list[dict[str, Any]]:
    """One row per day for `days.parquet`; None where a metric is not defined on the day."""
    return [{
        "strategy": strategy, "day": day, "rows": len(one.labels),
        "positives": int(one.labels.sum()), **_metrics(one, one.student, ""),
        **_metrics(one, one.teacher, "teacher_"), "strength": one.strength,
        **{name: getattr(one, name) for name in _TIMES},
    } for day, one in sorted(results.items())]


def _metrics(day: DayResult, logits: np.ndarray | None, prefix: str) -> dict[str, Any]:
    if logits is None:
        return {f"{prefix}{name}": None for name in ("auc", "log_loss", "calibration")}
    labels, weights = day.labels, day.weights
    return {f"{prefix}auc": auc(labels, logits, weights),
            f"{prefix}log_loss": log_loss(labels, logits, weights),
            f"{prefix}calibration": calibration(labels, sigmoid(logits), weights)}
