"""Two passes over the days for a number field: first its values, then its buckets."""

from __future__ import annotations

import numpy as np

from dualdnn.data.inspection.number_sketch import DistinctSample, NumberSketch
from dualdnn.data.inspection.presence import Presence
from dualdnn.data.inspection.score_tally import ScoreTally, smoothed_log_odds
from dualdnn.schema import Field

_AUC_BUCKETS = 64
_DRIFT_BUCKETS = 10


class NumberTally:
    """What is known of a number field after the days so far.

    Attributes:
        presence: rows with and without a value.
        sketch: quantiles.
        distinct: distinct values with their labels.
        least, greatest, total: over all values.
        zeros: values that are 0.
        scores: AUC of the mean label of 64 quantile buckets, learnt from the older rows.
        histograms: (buckets + 1,) values of each day in ten quantile buckets, then the missing.
    """

    def __init__(self, field: Field) -> None:
        self.field = field
        self.presence = Presence()
        self.sketch = NumberSketch()
        self.distinct = DistinctSample()
        self.least, self.greatest, self.total = np.inf, -np.inf, 0.0
        self.zeros = 0
        self.scores = ScoreTally()
        self.histograms: list[np.ndarray] = []
        self._fit = np.zeros((2, 0), np.int64)
        self._edges: dict[int, np.ndarray] = {}

    def add_values(self, numbers: np.ndarray, labels: np.ndarray, fit_rows: int) -> None:
        """First pass: a day's numbers (rows,) with NaN where missing, and labels (rows,)."""
        filled = np.isfinite(numbers)
        self.presence.add(filled, labels, fit_rows)
        values, at, counts = np.unique(numbers[filled], return_inverse=True, return_counts=True)
        if not len(values):
            return
        positives = np.bincount(at[labels[filled] == 1], minlength=len(values))
        self.sketch.add(values, counts)
        self.distinct.add(values, counts, positives)
        self.least = min(self.least, float(values[0]))
        self.greatest = max(self.greatest, float(values[-1]))
        self.total += float((values.astype(np.float64) * counts).sum())
        self.zeros += int(counts[values == 0].sum())

    @property
    def drift_edges(self) -> np.ndarray:
        """Upper edges of the buckets of `histograms`; the last bucket has none."""
        return self._edges_of(_DRIFT_BUCKETS)

    @property
    def mean(self) -> float:
        """Of the values."""
        return self.total / max(int(self.presence.table[1].sum()), 1)

    def _edges_of(self, buckets: int) -> np.ndarray:
        """Upper edges of quantile buckets, each once; the last bucket has none."""
        if buckets not in self._edges:
            quantiles = self.sketch.quantiles(np.arange(1, buckets) / buckets)
            self._edges[buckets] = np.unique(quantiles)
        return self._edges[buckets]

    def add_buckets(self, numbers: np.ndarray, labels: np.ndarray, fit_rows: int) -> None:
        """Second pass, once `add_values` has seen every day."""
        filled = np.isfinite(numbers)

        def bucketed(buckets: int) -> tuple[np.ndarray, int]:
            edges = self._edges_of(buckets)
            at = np.searchsorted(edges, numbers, side="left")
            return np.where(filled, at, len(edges) + 1), len(edges) + 2

        at, size = bucketed(_DRIFT_BUCKETS)
        self.histograms.append(np.bincount(at, minlength=size))
        at, size = bucketed(_AUC_BUCKETS)
        if not self._fit.size:
            self._fit = np.zeros((2, size), np.int64)
        self._fit += np.bincount(labels[:fit_rows] * size + at[:fit_rows],
                                 minlength=2 * size).reshape(2, size)
        if fit_rows < len(labels):
            rate = float(self._fit[1].sum() / max(self._fit.sum(), 1))
            log_odds = smoothed_log_odds(self._fit[1], self._fit.sum(axis=0), rate)
            self.scores.add(log_odds[at[fit_rows:]], labels[fit_rows:])
