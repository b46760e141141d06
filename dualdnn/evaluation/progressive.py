"""Progressive validation of a stream: what was said about rows before they were learned.

Blum, Kalai and Langford 1999, "Beating the Hold-Out": the mean over such rows says of an online
learner what a holdout says of a fixed model, and no row is lost to it.
"""

from __future__ import annotations

import datetime
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
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
        files: names of the files that they came in, where that was noted.
    """

    seconds: np.ndarray
    labels: np.ndarray
    groups: np.ndarray | None
    weights: np.ndarray | None
    logits: Mapping[str, np.ndarray]
    files: Sequence[str] = ()

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.labels)

    def save(self, path: Path) -> None:
        """Write them by one rename."""
        arrays = {"seconds": self.seconds, "labels": self.labels,
                  "files": np.array(self.files, np.str_),
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
            weights=arrays.get("weights"), files=arrays.get("files", np.array([])).tolist(),
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
        files=[name for part in parts for name in part.files],
        logits={name: np.concatenate([part.logits[name] for part in parts])
                for name in parts[0].logits})


def by_day(rows: ScoredRows) -> dict[datetime.date, ScoredRows]:
    """The rows of every UTC day, with the files of all."""
    days = rows.seconds.astype("datetime64[s]").astype("datetime64[D]")
    masks = {day.astype(object): days == day for day in np.unique(days)}
    return {day: ScoredRows(
        seconds=rows.seconds[mask], labels=rows.labels[mask],
        groups=None if rows.groups is None else rows.groups[mask],
        weights=None if rows.weights is None else rows.weights[mask], files=rows.files,
        logits={name: values[mask] for name, values in rows.logits.items()})
        for day, mask in masks.items()}


def results_by_day(
    days: Mapping[datetime.date, ScoredRows]
) -> dict[str, dict[datetime.date, DayResult]]:
    """By model and day, as a backtest has its strategies; there must be one day at least."""
    models = next(iter(days.values())).logits
    return {name: {day: DayResult(labels=rows.labels, student=rows.logits[name],
                                  groups=rows.groups, weights=rows.weights)
                   for day, rows in days.items()}
            for name in models}


class ScoredDays:
    """Scored rows of a run on disk: a file for each that came, until they are put into their days.

    A run that goes on for months reads and keeps the newest days alone, each as one file.
    """

    def __init__(self, folder: Path, most: int) -> None:
        """Go on with what is there.

        Args:
            folder: need not exist yet.
            most: days that are kept.
        """
        self._folder, self._most = folder, most
        self._files = {datetime.date.fromisoformat(path.stem): set(read_scored_rows(path).files)
                       for path in sorted((folder / "days").glob("*.npz"))}

    def _path(self, day: datetime.date) -> Path:
        return self._folder / "days" / f"{day}.npz"

    def add(self, name: str, rows: ScoredRows) -> None:
        """Keep the rows of a file; what was first said about them stays, however often it comes."""
        path = self._folder / f"{name}.npz"
        if not path.exists() and not any(name in files for files in self._files.values()):
            replace(rows, files=[name]).save(path)

    def collect(self) -> tuple[dict[datetime.date, ScoredRows], set[str]]:
        """Put what came since the last time into its days.

        Returns:
            the rows by day, in order; among them days that `forget` has not yet dropped. And the
            files that are left out: an earlier release kept neither weights nor scores as served,
            so that its rows go where there are any with weights.

        Raises:
            DataError: a file is damaged.
        """
        days = {day: read_scored_rows(self._path(day)) for day in self._files}
        came = sorted(self._folder.glob("*.npz"))
        parts = [part for path in came for part in self._new_parts(path)]
        left_out: set[str] = set()
        if any(rows.weights is not None for _, rows in [*parts, *days.items()]):
            left_out = {name for _, rows in [*parts, *days.items()] if rows.weights is None
                        for name in rows.files}
            for day in [day for day, rows in days.items() if rows.weights is None]:
                self._drop(day)
                del days[day]
            parts = [(day, rows) for day, rows in parts if rows.weights is not None]
        for day in sorted({day for day, _ in parts}):
            earlier = [days[day]] if day in days else []
            days[day] = joined([*earlier, *(rows for one, rows in parts if one == day)])
            days[day].save(self._path(day))
            self._files[day] = set(days[day].files)
        for path in came:
            path.unlink()
        return dict(sorted(days.items())), left_out

    def _new_parts(self, path: Path) -> list[tuple[datetime.date, ScoredRows]]:
        """What a file says of days that do not have it yet; a kill may come between two of them."""
        oldest = min(self._files, default=None) if len(self._files) >= self._most else None
        rows = replace(read_scored_rows(path), files=[path.name.removesuffix(".npz")])
        return [(day, part) for day, part in by_day(rows).items()
                # Late rows do not bring back a day that is no longer kept.
                if (oldest is None or day >= oldest)
                and not self._files.get(day, set()).intersection(part.files)]

    def _drop(self, day: datetime.date) -> None:
        self._path(day).unlink()
        del self._files[day]

    def newest(self, days: Iterable[datetime.date]) -> list[datetime.date]:
        """Those of `days` that are kept, in order."""
        return sorted(days)[-self._most :]

    def forget(self) -> None:
        """Delete the rows of days that are no longer kept."""
        for day in set(self._files) - set(self.newest(self._files)):
            self._drop(day)
