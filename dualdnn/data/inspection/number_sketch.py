"""Quantiles and distinct values of numbers, in constant memory over any number of rows."""

from __future__ import annotations

import numpy as np

_POINTS_A_DAY = 512
_POINTS = 65_536
_POINTS_COMPACT = 8_192
_DISTINCT = 100_000


def _evenly(values: np.ndarray, weights: np.ndarray, points: int) -> tuple[np.ndarray, np.ndarray]:
    """At most `points` of the sorted values, at evenly spaced ranks, of equal weight."""
    if len(values) <= points:
        return values, weights
    ranks = np.cumsum(weights)
    wanted = (np.arange(points) + 0.5) / points * ranks[-1]
    return values[np.searchsorted(ranks, wanted)], np.full(points, ranks[-1] / points)


class NumberSketch:
    """Quantiles of all values added so far, to about 0.1% of rank (0.01% after a compaction).

    Deterministic: evenly spaced order statistics of every day, merged by weight.
    """

    def __init__(self) -> None:
        self._values = np.zeros(0)
        self._weights = np.zeros(0)

    def add(self, values: np.ndarray, counts: np.ndarray) -> None:
        """Add a day's sorted distinct values (n,) and how often each was seen (n,)."""
        values, weights = _evenly(values.astype(np.float64), counts.astype(np.float64),
                                  _POINTS_A_DAY)
        self._values = np.concatenate([self._values, values])
        self._weights = np.concatenate([self._weights, weights])
        if len(self._values) > _POINTS:
            self._values, self._weights = _evenly(*self._sorted(), _POINTS_COMPACT)

    def _sorted(self) -> tuple[np.ndarray, np.ndarray]:
        order = np.argsort(self._values, kind="stable")
        return self._values[order], self._weights[order]

    def quantiles(self, shares: np.ndarray) -> np.ndarray:
        """The values at these shares of the rows; empty where there are no values."""
        values, weights = self._sorted()
        if not len(values):
            return values
        ranks = np.cumsum(weights)
        at = np.searchsorted(ranks, np.asarray(shares) * ranks[-1])
        return values[np.minimum(at, len(values) - 1)]

    def histogram(self, edges: np.ndarray) -> np.ndarray:
        """(len(edges) - 1,) share of the values between the edges."""
        found = np.histogram(self._values, edges, weights=self._weights)[0]
        return found / max(self._weights.sum(), 1e-12)


class DistinctSample:
    """Counts rows and positives of every distinct value, or of a random part of the values.

    Once there are too many values, half of them are dropped by their hash, as often as needed
    (Gibbons 2001, "Distinct sampling for highly-accurate answers to distinct values queries").

    Attributes:
        values: (kept,) float64.
        counts: (kept,) rows.
        positives: (kept,) rows with label 1.
    """

    def __init__(self) -> None:
        self.values = np.zeros(0)
        self.counts = np.zeros(0, np.int64)
        self.positives = np.zeros(0, np.int64)
        self._level = 0

    def _is_kept(self, values: np.ndarray) -> np.ndarray:
        bits = (values + 0.0).view(np.uint64)
        with np.errstate(over="ignore"):
            mixed = (bits ^ (bits >> np.uint64(29))) * np.uint64(0x9E3779B97F4A7C15)
        return (mixed >> np.uint64(32)) % np.uint64(1 << self._level) == 0

    def add(self, values: np.ndarray, counts: np.ndarray, positives: np.ndarray) -> None:
        """Add a day: its distinct values (n,), rows and positive rows of each (n,)."""
        values = values.astype(np.float64)
        kept = self._is_kept(values)
        merged, at = np.unique(np.concatenate([self.values, values[kept]]), return_inverse=True)
        self.counts = np.bincount(
            at, weights=np.concatenate([self.counts, counts[kept]])).astype(np.int64)
        self.positives = np.bincount(
            at, weights=np.concatenate([self.positives, positives[kept]])).astype(np.int64)
        self.values = merged
        while len(self.values) > _DISTINCT:
            self._level += 1
            kept = self._is_kept(self.values)
            self.values, self.counts = self.values[kept], self.counts[kept]
            self.positives = self.positives[kept]

    @property
    def distinct(self) -> int:
        """How many distinct values there are; an estimate once it is above 100,000."""
        return len(self.values) << self._level
