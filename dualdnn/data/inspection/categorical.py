"""One pass over the days for a field of ids, be it one or a list of them per row."""

from __future__ import annotations

import numpy as np

from dualdnn.data.encoded_day import EncodedDay
from dualdnn.data.inspection.presence import Presence
from dualdnn.data.inspection.score_tally import ScoreTally, smoothed_log_odds
from dualdnn.data.inspection.value_totals import ValueTotals
from dualdnn.schema import Field


class CategoricalTally:
    """What is known of a categorical field after the days so far.

    Args:
        field: of the schema.
        oov_days: days before a day in which a value counts as known on it.

    Attributes:
        totals: of every distinct value.
        presence: rows with and without a value.
        scores: AUC of the mean label of the values, learnt from the older rows.
        lengths: (width + 1,) rows by number of values.
        values_by_day: values of each day, a list giving several.
        unseen_by_day: how many of those no day of the `oov_days` before has; None where none of
            these days is in the log.
    """

    def __init__(self, field: Field, oov_days: int) -> None:
        self.field = field
        self.totals = ValueTotals()
        self.presence = Presence()
        self.scores = ScoreTally()
        self.lengths = np.zeros(field.width + 1, np.int64)
        self.values_by_day: list[int] = []
        self.unseen_by_day: list[int | None] = []
        self._oov_days = oov_days
        self._fitted: ValueTotals | None = None
        self._newest = -1

    def add(self, day: EncodedDay, signs: np.ndarray, counts: np.ndarray, labels: np.ndarray,
            fit_rows: int) -> None:
        """Add a day; days come in order.

        Args:
            day: encoded.
            signs: (unique signs of the day,) of all fields.
            counts: of these.
            labels: (rows,) int64 of 0 and 1.
            fit_rows: the first rows of the day that are learnt from; the others are scored.
        """
        section, ordinal = day.section(self.field.name), day.day.toordinal()
        signs, counts = signs[section], counts[section]
        cells = np.asarray(day.local_cells(self.field.name))
        present = (cells >= 0) & (cells < len(signs))
        length = present.sum(axis=1)
        row, local = np.repeat(np.arange(len(labels)), length), cells[present]
        self.presence.add(length > 0, labels, fit_rows)
        self.lengths += np.bincount(length, minlength=len(self.lengths))
        self._count_unseen(signs, counts, ordinal)
        if fit_rows < len(labels):
            fitted = self._fit(signs, local[row < fit_rows], labels[row[row < fit_rows]], ordinal)
            self._score(fitted, signs, row, local, length, labels, fit_rows)
        positives = np.bincount(local[labels[row] == 1], minlength=len(signs))
        self.totals.add(signs, counts, positives, ordinal)
        self._newest = ordinal

    def _count_unseen(self, signs: np.ndarray, counts: np.ndarray, ordinal: int) -> None:
        oldest = ordinal - self._oov_days
        self.values_by_day.append(int(counts.sum()))
        unseen = int(counts[self.totals.unseen_since(signs, oldest)].sum())
        self.unseen_by_day.append(unseen if self._newest >= oldest else None)

    def _fit(self, signs: np.ndarray, local: np.ndarray, labels: np.ndarray,
             ordinal: int) -> ValueTotals:
        """The totals of the rows that are learnt from: all before today, and some of today's."""
        if self._fitted is None:
            self._fitted = self.totals.copy()
            counts = np.bincount(local, minlength=len(signs))
            positives = np.bincount(local[labels == 1], minlength=len(signs))
            self._fitted.add(signs, counts, positives, ordinal)
        return self._fitted

    def _score(self, fitted: ValueTotals, signs: np.ndarray, row: np.ndarray, local: np.ndarray,
               length: np.ndarray, labels: np.ndarray, fit_rows: int) -> None:
        table = self.presence.fit_table
        rate = float(table[:, 1].sum() / max(table.sum(), 1))
        at = fitted.positions(signs)
        known = at >= 0
        log_odds = smoothed_log_odds(np.where(known, fitted.positives[at], 0),
                                     np.where(known, fitted.counts[at], 0), rate)
        total = np.bincount(row, weights=log_odds[local], minlength=len(labels))
        missing = float(smoothed_log_odds(table[0, 1], table[0].sum(), rate))
        score = np.where(length > 0, total / np.maximum(length, 1), missing)
        self.scores.add(score[fit_rows:], labels[fit_rows:])

    def histograms(self, days: list[EncodedDay], n: int) -> np.ndarray:
        """(days, n + 2) values of each day: the n most frequent, the others, rows without any."""
        top = np.sort(self.totals.signs[self.totals.top(n)])
        order = np.argsort(self.totals.signs[self.totals.top(n)])
        found = np.zeros((len(days), n + 2), np.int64)
        for number, day in enumerate(days):
            section = day.section(self.field.name)
            signs, counts = day.array("signs")[section], day.array("counts")[section]
            if len(signs) and len(top):
                at = np.minimum(np.searchsorted(signs, top), len(signs) - 1)
                found[number, order] = np.where(signs[at] == top, counts[at], 0)
            found[number, n] = counts.sum() - found[number, :n].sum()
            found[number, n + 1] = self.presence.missing[number]
        return found
