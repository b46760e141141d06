"""Logits of finished models for the rows of a run: read from files, checked, kept with the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dualdnn.data.examples import Examples
from dualdnn.errors import DataError
from dualdnn.storage import atomic_file

COLUMNS = ("day", "row", "label", "logit", "trained")
_FINGERPRINT = b"dualdnn.examples"


@dataclass(frozen=True, kw_only=True)
class FinishedScores:
    """What a finished model says about every example of a run.

    Attributes:
        logits: (num_examples,) float32.
        trained: (num_examples,) bool: did the model learn the label of this row?
        chosen: (num_examples,) bool: was the model chosen by it, as by early stopping?
    """

    logits: np.ndarray
    trained: np.ndarray
    chosen: np.ndarray

    def check(self, examples: Examples, what: str) -> None:
        """Refuse what would make a measurement of this run a memory of its labels.

        Args:
            examples: of the run.
            what: names the model.

        Raises:
            DataError: a logit is not finite; or the model has learned validation or test rows, or
                was chosen by test rows.
        """
        if not np.isfinite(self.logits).all():
            raise DataError(f"{what}: {int((~np.isfinite(self.logits)).sum())} of its logits are "
                            "not finite. Leave it out, or score anew.")
        split = examples.split
        for part, index, seen, how in (
                ("test", split.test, self.trained, "learned"),
                ("validation", split.valid, self.trained, "learned"),
                ("test", split.test, self.chosen, "been chosen by")):
            count = int(seen[index].sum())
            if count:
                raise DataError(
                    f"{what} has {how} {count} of the {len(index)} {part} rows of this run: what "
                    "it says about them is a memory of their labels. Take a model that ended "
                    "before, or a window whose validation and test rows it has not seen.")


def row_keys(examples: Examples, index: np.ndarray) -> np.ndarray:
    """(n,) int64, one for every row of a lake: its day, and its number in that day."""
    counts = [day.rows for day in examples.days]
    starts = np.concatenate([[0], np.cumsum(counts)])
    of_day = np.searchsorted(starts, index, side="right") - 1
    days = np.array([day.day.toordinal() for day in examples.days], np.int64)
    return (days[of_day] << 32) | (index - starts[of_day])


def read_scores(path: Path, examples: Examples, what: str) -> FinishedScores:
    """Scores from a parquet file, which may hold rows of other days as well.

    Args:
        path: with the columns `day` (a date), `row` (its number in that day of the lake, from 0),
            `label`, `logit` (as served, where negatives were sampled: of all rows, not of those
            that were kept) and `trained`.
        examples: of the run; every one of them must be there.
        what: names the model.

    Raises:
        DataError: a column is missing or of another type, a row is missing or there twice, or a
            label is another one, so that the rows are not those of this lake.
    """
    try:
        table = pq.read_table(path, columns=list(COLUMNS), partitioning=None)
        for name in COLUMNS:
            if table.column(name).null_count:
                raise ValueError(f"{name} holds nulls")
        day = table.column("day").cast(pa.date32()).cast(pa.int32()).to_numpy()
        row = table.column("row").cast(pa.int64()).to_numpy()
        label = table.column("label").cast(pa.float32()).to_numpy()
        logit = table.column("logit").cast(pa.float32()).to_numpy()
        trained = table.column("trained").cast(pa.bool_()).to_numpy()
    except (OSError, KeyError, ValueError, pa.ArrowException) as error:
        raise DataError(f"{what}: {path} must be a parquet file with the columns "
                        f"{', '.join(COLUMNS)}: {' '.join(str(error).split())}.") from error
    epoch = np.datetime64("1970-01-01", "D").astype(object).toordinal()
    given = ((day.astype(np.int64) + epoch) << 32) | row
    order = np.argsort(given, kind="stable")
    if len(given) and (np.diff(given[order]) == 0).any():
        raise DataError(f"{what}: {path} holds a row twice. Each row of a day must be there once.")
    wanted = row_keys(examples, np.arange(len(examples.labels)))
    place = np.searchsorted(given, wanted, sorter=order)
    found = order[np.minimum(place, len(order) - 1)] if len(order) else np.zeros(0, np.int64)
    missing = np.ones(len(wanted), bool) if not len(order) else given[found] != wanted
    if missing.any():
        first = examples.days[0].day.fromordinal(int(wanted[missing][0] >> 32))
        raise DataError(
            f"{what}: {path} lacks {int(missing.sum())} of the {len(wanted)} rows of this run, the "
            f"first is row {int(wanted[missing][0] & 0xFFFFFFFF)} of {first}. Score every row of "
            "the run's days.")
    if wrong := int((label[found] != examples.labels).sum()):
        raise DataError(f"{what}: {path} has another label for {wrong} of {len(wanted)} rows, so "
                        "that they are not the rows of this lake. Score its rows in their order.")
    # A teacher is trained on the negatives that were kept.
    of_sample = logit[found] - np.float32(np.log(examples.negative_rate))
    return FinishedScores(logits=of_sample, trained=trained[found],
                          chosen=np.zeros(len(wanted), bool))


def keep_scores(path: Path, examples: Examples, logits: Mapping[str, np.ndarray]) -> None:
    """Write the logits, (num_examples,) by member, of a run's finished members by one rename."""
    table = pa.table({name: values.astype(np.float32) for name, values in logits.items()})
    table = table.replace_schema_metadata({_FINGERPRINT: examples.fingerprint.encode()})
    with atomic_file(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def kept_scores(path: Path, examples: Examples, members: Sequence[str]) -> np.ndarray:
    """(num_examples, members) float32 of what `keep_scores` wrote.

    Raises:
        DataError: the file is missing or damaged, or of other examples or members.
    """
    try:
        table = pq.read_table(path, partitioning=None)
        fingerprint = (table.schema.metadata or {})[_FINGERPRINT].decode()
        columns = [table.column(name).to_numpy() for name in members]
    except (OSError, KeyError, pa.ArrowException) as error:
        raise DataError(f"{path} must hold the logits of {', '.join(members)}, but cannot be read: "
                        f"{' '.join(str(error).split())}. Start a new run.") from error
    if fingerprint != examples.fingerprint or table.num_rows != len(examples.labels):
        raise DataError(f"{path} holds logits of other examples than those of this run: the days "
                        "of the lake have changed. Restore them, or start a new run.")
    return np.stack(columns, axis=1)
