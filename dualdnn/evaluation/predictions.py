"""Scores of the test rows of one run, kept so that runs can be compared row by row.

One parquet file: `day` and `row` (its place in the lake's day) say which row it is, `label` is 0
or 1, `group` numbers the groups of the test part (a user, never their name or sign), `weight` is
the sample weight, times how many rows one stands for where negatives were sampled, `logit.TOWER`
are the scores as served, and `slice.NAME` says which rows a slice has. Days, rows, timestamps and
labels make the fingerprint: two files of one fingerprint hold the same rows in the same order.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dualdnn.data.examples import Examples
from dualdnn.errors import DataError
from dualdnn.storage import atomic_file

PREDICTIONS_FILE = "predictions.parquet"
_FINGERPRINT = b"dualdnn.test_rows"
_LOGIT, _SLICE = "logit.", "slice."


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """Test rows and what every tower of a run says about them.

    Attributes:
        days: (n,) datetime64[D] partition of the lake.
        rows: (n,) int32 place in the partition.
        labels: (n,) uint8.
        fingerprint: hex digest of which rows these are.
        logits: (n,) float32 by tower, corrected for sampled negatives as the exported graph is.
        groups: (n,) int32 numbers of users, or of what else the schema groups by; or None.
        weights: (n,) float32 of `Examples.population_weights`, or None.
        slices: (n,) bool by name.
    """

    days: np.ndarray
    rows: np.ndarray
    labels: np.ndarray
    fingerprint: str
    logits: Mapping[str, np.ndarray]
    groups: np.ndarray | None = None
    weights: np.ndarray | None = None
    slices: Mapping[str, np.ndarray] = field(default_factory=dict)


def predictions_of(examples: Examples, index: np.ndarray, logits: Mapping[str, np.ndarray],
                   slices: Mapping[str, np.ndarray]) -> Predictions:
    """The rows `index` with their scores.

    Args:
        examples: the data.
        index: (n,) row numbers of the test part.
        logits: (n,) by tower, as trained.
        slices: (n,) bool by name.
    """
    counts = [day.rows for day in examples.days]
    starts = np.concatenate([[0], np.cumsum(counts)])
    of_day = np.searchsorted(starts, index, side="right") - 1
    days = np.array([day.day for day in examples.days], "datetime64[D]")[of_day]
    rows = (index - starts[of_day]).astype(np.int32)
    labels = examples.labels[index].astype(np.uint8)
    digest = hashlib.sha256()
    for part in (days.astype(np.int64), rows, examples.timestamps[index], labels):
        digest.update(np.ascontiguousarray(part).tobytes())
    groups, weights = None, examples.population_weights(index)
    if examples.groups is not None:
        groups = np.unique(examples.groups[index], return_inverse=True)[1].astype(np.int32)
    served = np.float32(np.log(examples.negative_rate))
    return Predictions(
        days=days, rows=rows, labels=labels, fingerprint=digest.hexdigest(),
        logits={tower: scores + served for tower, scores in logits.items()},
        groups=groups, weights=None if weights is None else weights.astype(np.float32),
        slices=dict(slices),
    )


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write the file by one rename."""
    columns = {"day": predictions.days, "row": predictions.rows, "label": predictions.labels}
    if predictions.groups is not None:
        columns["group"] = predictions.groups
    if predictions.weights is not None:
        columns["weight"] = predictions.weights
    columns |= {f"{_LOGIT}{tower}": one for tower, one in predictions.logits.items()}
    columns |= {f"{_SLICE}{name}": one for name, one in predictions.slices.items()}
    table = pa.table(columns).replace_schema_metadata(
        {_FINGERPRINT: predictions.fingerprint.encode()})
    with atomic_file(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_predictions(path: Path) -> Predictions:
    """Read the file back.

    Raises:
        DataError: the file is missing, damaged, or of another layout.
    """
    try:
        table = pq.read_table(path, partitioning=None)
        fingerprint = (table.schema.metadata or {})[_FINGERPRINT].decode()
        columns = {name: table.column(name).to_numpy() for name in table.column_names}
        return Predictions(
            days=columns["day"].astype("datetime64[D]"), rows=columns["row"],
            labels=columns["label"], fingerprint=fingerprint, groups=columns.get("group"),
            weights=columns.get("weight"), logits=_named(columns, _LOGIT),
            slices=_named(columns, _SLICE),
        )
    except (OSError, KeyError, pa.ArrowException) as error:
        raise DataError(f"{path} must hold the predictions of a run, but it cannot be read: "
                        f"{' '.join(str(error).split())}. Score the run with `python -m "
                        f"pipelines.evaluate run={_trained(path.parent)}`, and compare the folder "
                        "that this makes.") from error


def _trained(run: Path) -> Path:
    """The folder of the training whose scores a run's folder holds: of an evaluation another."""
    report = run / "report.json"
    found = json.loads(report.read_text(encoding="utf-8")) if report.exists() else {}
    return Path(found["run"]) if found.get("job") == "evaluate" else run


def _named(columns: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): values for name, values in columns.items()
            if name.startswith(prefix)}
