"""The rows of a window as the model reads them: table rows, floats, labels, weights."""

from __future__ import annotations

import datetime
import hashlib
import itertools
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dualdnn.data.encoding import EncodedDay, encode_days
from dualdnn.data.lake import Lake
from dualdnn.data.row_map import RowMap, build_row_map, check_made_for
from dualdnn.data.signs import MISSING
from dualdnn.data.translation import translate_day
from dualdnn.data.window import Given, Split, Window
from dualdnn.errors import DataError
from dualdnn.schema import Schema

# Rows of a window up to this many bytes are kept in memory, beyond it in a mapped file.
_IN_MEMORY_BYTES = 2**30
# As `build_row_map`: schema, days, and of each day the training rows, None for all of them.
RowMapMaker = Callable[[Schema, Sequence[EncodedDay], Sequence[np.ndarray | None]], RowMap]


class Negatives(NamedTuple):
    """Rows with label 0 in a log that holds a sample of them.

    Attributes:
        kept: those in the log.
        stand_for: those before sampling, each row for 1 / its rate.
    """

    kept: float
    stand_for: float


class TrainingSize(NamedTuple):
    """What a model learns from, as the unit of its priors and losses.

    Attributes:
        num_examples: rows of the training part; those of weight 0 are left out.
        mean_weight: of these rows.
    """

    num_examples: int
    mean_weight: float = 1.0


class Batch(NamedTuple):
    """Examples as a training step takes them.

    Attributes:
        rows: (batch_size, width) int32.
        dense: (batch_size, dense_width) float32.
        labels: (batch_size,) float32.
        weights: (batch_size,) float32.
    """

    rows: np.ndarray
    dense: np.ndarray
    labels: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Examples:
    """Every example of the opened days, in the order of the lake.

    Attributes:
        schema: the fields that the model reads, in order.
        days: the encoded days.
        split: row numbers of train, valid and test.
        row_map: built from the training part alone.
        rows: (num_examples, schema.width) int32 rows of the tables, field after field.
        dense: (num_examples, schema.dense_width) float32, normalised direct numbers and vectors,
            field after field.
        labels: (num_examples,) float32, 0 or 1.
        weights: (num_examples,) float32, or None.
        groups: (num_examples,) int64, or None. A row without a group is one of its own, which no
            other row has.
        sampling_rates: (num_examples,) float32 probability that a negative was kept, or None.
        dropped_fields: label statistics that the window cannot use.
        fingerprint: hex digest of the days' contents.
        scores: (num_examples, members) float32 logits of finished models, which the teacher alone
            reads, or None.
        learned_negatives: see `negatives`, of the rows that the model has learned from scratch;
            None for those of the training part.
    """

    schema: Schema
    days: list[EncodedDay]
    split: Split
    row_map: RowMap
    rows: np.ndarray
    dense: np.ndarray
    labels: np.ndarray
    weights: np.ndarray | None
    groups: np.ndarray | None
    sampling_rates: np.ndarray | None
    dropped_fields: list[str]
    fingerprint: str
    scores: np.ndarray | None = None
    learned_negatives: Negatives | None = None

    @cached_property
    def timestamps(self) -> np.ndarray:
        """(num_examples,) int64 seconds since the epoch."""
        return np.concatenate([day.array("timestamps") for day in self.days])

    @property
    def training_size(self) -> TrainingSize:
        """Of the training part."""
        weights = self.loss_weights(self.split.train)
        if weights is None:
            return TrainingSize(len(self.split.train))
        learned = weights[weights > 0]
        return TrainingSize(len(learned), float(learned.mean()))

    def batch(self, index: np.ndarray) -> Batch:
        """The examples of these row numbers."""
        labels, weights = self.labels[index], self.loss_weights(index)
        return Batch(self.rows[index], self.dense[index], labels,
                     np.ones_like(labels) if weights is None else weights.astype(np.float32))

    def scores_at(self, index: np.ndarray) -> np.ndarray | None:
        """(n, members) float32 of these row numbers, or None."""
        return None if self.scores is None else self.scores[index]

    def public_inputs(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows and floats of these examples as a student is served: without privileged fields."""
        rows, dense = self.rows[index], self.dense[index]
        public = [field for field in self.schema.fields if not field.privileged]
        if len(public) == len(self.schema.fields):
            return rows, dense
        cells = [rows[:, self.schema.cells(field.name)] for field in public]
        floats = [dense[:, self.schema.dense(field.name)] for field in public]
        return np.concatenate(cells, axis=1), np.concatenate(floats, axis=1)

    @cached_property
    def learned_space(self) -> Negatives:
        """The negatives whose mean rate the losses are of, see `negative_rate`."""
        return self.learned_negatives or self.negatives(self.split.train)

    @cached_property
    def negative_rate(self) -> float:
        """The rate of negatives that the losses are of, and that scores are corrected by.

        The mean probability with which a negative of the training from scratch was kept; 1 where
        all were. Over the negatives before sampling, each row standing for 1 / rate of them: that
        is the harmonic mean over those that were kept.
        """
        fixed = self.schema.sampling_rate
        if self.learned_negatives is None and isinstance(fixed, int | float):
            return float(fixed)
        kept, stand_for = self.learned_space
        return kept / stand_for if stand_for else 1.0

    def negatives(self, index: np.ndarray) -> Negatives:
        """How many of these rows are negatives, and how many before sampling they stand for."""
        negative = index[self.labels[index] == 0]
        if self.sampling_rates is None:
            return Negatives(float(len(negative)), float(len(negative)))
        rates = self.sampling_rates[negative].astype(np.float64)
        return Negatives(float(len(rates)), float(np.sum(1.0 / rates)))

    @cached_property
    def _rates_differ(self) -> bool:
        """Was any negative kept at another rate than `negative_rate`?"""
        if self.sampling_rates is None:
            return self.negative_rate != 1.0
        rates = self.sampling_rates[self.labels == 0]
        # They are float32: a rate that is the same everywhere changes nothing.
        return not np.allclose([rates.min(initial=self.negative_rate),
                                rates.max(initial=self.negative_rate)],
                               self.negative_rate, rtol=1e-6, atol=0)

    def loss_weights(self, index: np.ndarray) -> np.ndarray | None:
        """(n,) float64 what these rows weigh in the losses; None for all alike.

        A negative that was kept at another rate than `negative_rate` stands for more of those, or
        fewer: whatever the rates of rows and days, what is learned is one space, and one number
        corrects its scores.
        """
        if not self._rates_differ:
            return None if self.weights is None else self.weights[index].astype(np.float64)
        weights = self.population_weights(index)
        counts = np.where(self.labels[index] == 0, self.negative_rate, 1.0)
        return counts if weights is None else counts * weights

    def population_weights(self, index: np.ndarray) -> np.ndarray | None:
        """(n,) what these rows weigh beside scores that are corrected by `negative_rate`.

        A negative that was kept stands for 1 / its rate of them, and each for its sample weight.
        None for all alike.
        """
        weights = None if self.weights is None else self.weights[index].astype(np.float64)
        stands_for = self.stands_for(index)
        if stands_for is None or weights is None:
            return weights if stands_for is None else stands_for
        return stands_for * weights

    def stands_for(self, index: np.ndarray) -> np.ndarray | None:
        """(n,) rows before sampling that each of these is one of; None where all were kept."""
        if self.sampling_rates is None:
            return None
        return np.where(self.labels[index] == 0,
                        1.0 / self.sampling_rates[index].astype(np.float64), 1.0)

    def columns(self, name: str) -> slice:
        """Where a field's cells stand in `rows`."""
        return self.schema.cells(name)

    def numbers(self, name: str, index: np.ndarray) -> np.ndarray:
        """(n,) float32 raw values of a number field in the rows `index`; NaN is missing."""
        found = np.empty(len(index), np.float32)
        start = 0
        for day in self.days:
            inside = (index >= start) & (index < start + day.rows)
            if inside.any():
                found[inside] = day.numbers(name)[index[inside] - start]
            start += day.rows
        return found

    def is_known(self, name: str, index: np.ndarray) -> np.ndarray:
        """(n,) bool: does the model have a row of its own for this `id` field's value?"""
        position = self.schema.fields.index(self.schema.field(name))
        return self.rows[index, self.columns(name).start] != self.row_map.oov_rows[position]


def allocated(shape: tuple[int, int], dtype: type, state: Path) -> np.ndarray:
    """An array in memory or, where it is large, in a file below `state` that nobody else sees."""
    if 4 * shape[0] * shape[1] <= _IN_MEMORY_BYTES:
        return np.empty(shape, dtype)
    # An unnamed file: it is gone with the process, however the process ends.
    with tempfile.TemporaryFile(dir=state) as file:
        return np.memmap(file, dtype, "w+", shape=shape)


def _groups(days: list[EncodedDay]) -> np.ndarray:
    found = []
    for day in days:
        groups = day.array("groups")
        # By second and number of the row, so that what is opened apart stays apart.
        alone = -(day.array("timestamps").astype(np.int64) << 31) - np.arange(day.rows)
        found.append(np.where(groups == MISSING, alone, groups))
    return np.concatenate(found)


def _sampling_rates(schema: Schema, days: list[EncodedDay], rows: int) -> np.ndarray | None:
    if schema.rate_column:
        return np.concatenate([day.array("rates") for day in days])
    if schema.sampling_rate is None or schema.sampling_rate == 1.0:
        return None
    return np.full(rows, schema.sampling_rate, np.float32)


def _fingerprint(days: list[EncodedDay], row_map: RowMap) -> str:
    digest = hashlib.sha256("".join(day.meta["fingerprint"] for day in days).encode())
    for vectors in row_map.vectors.values():
        digest.update(np.ascontiguousarray(vectors).tobytes())
    return digest.hexdigest()


def open_examples(
    *,
    lake: Lake,
    schema: Schema,
    window: Window,
    state: Path,
    row_map: RowMap | RowMapMaker = build_row_map,
    on_day: Callable[[datetime.date, bool], None] | None = None,
) -> Examples:
    """Encode what is new, split, admit ids and translate every cell to its row.

    Args:
        lake: the log.
        schema: its columns and fields.
        window: chooses days and parts.
        state: `paths.state`, where encoded days are kept.
        row_map: of a trained model, to read the data as it does, and then no row need be there to
            train on; else what makes one from the training part.
        on_day: called after each day with (day, was it already encoded).

    Raises:
        DataError: days are missing or broken, or a part is empty.
    """
    chosen = window.choose_days(lake.days(), lake.newest_complete())
    opened = encode_days(lake, chosen, schema, state, on_day)
    kept = schema.without({f.name for f in schema.fields
                           if f.label_statistic and not window.follows_time})
    dropped = [field.name for field in schema.fields if field not in kept.fields]
    if not kept.fields:
        raise DataError("every field is a label statistic, and this window cannot use those.")

    counts = [day.rows for day in opened]
    starts = np.concatenate([[0], np.cumsum(counts)])
    of_day = np.repeat(np.array([day.day for day in opened], "datetime64[D]"), counts)
    timestamps = np.concatenate([day.array("timestamps") for day in opened])
    given = None
    if isinstance(window, Given):
        given = np.array([v for day in chosen for v in lake.read_column(day, window.column)],
                         object)
    split = window.split(of_day, timestamps, given)
    weights = np.concatenate([day.array("weights") for day in opened]) if schema.weight else None
    if isinstance(row_map, RowMap):
        check_made_for(row_map, kept)
    else:
        # A row of weight 0 is left out: of ids and boundaries as of the losses.
        learned = split.train if weights is None else split.train[weights[split.train] > 0]
        if not len(learned):
            raise DataError(f"the window leaves no row to train on: {starts[-1]} rows in all"
                            + (", those of the training part with weight 0."
                               if len(split.train) else "."))
        parts: list[np.ndarray | None] = []
        for start, stop in itertools.pairwise(starts):
            low, high = np.searchsorted(learned, (start, stop))
            whole = high - low == stop - start
            parts.append(None if whole else learned[low:high] - start)
        row_map = row_map(kept, opened, parts)

    total = int(starts[-1])
    rows = allocated((total, kept.width), np.int32, state)
    dense = allocated((total, kept.dense_width), np.float32, state)
    for day, start, stop in zip(opened, starts[:-1], starts[1:], strict=True):
        translate_day(day, kept, row_map, rows[start:stop], dense[start:stop])

    return Examples(
        schema=kept, days=opened, split=split, row_map=row_map, rows=rows, dense=dense,
        labels=np.concatenate([day.array("labels") for day in opened]).astype(np.float32),
        weights=weights,
        groups=_groups(opened) if schema.group else None,
        sampling_rates=_sampling_rates(schema, opened, total), dropped_fields=dropped,
        fingerprint=_fingerprint(opened, row_map),
    )
