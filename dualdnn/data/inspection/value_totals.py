"""Running totals by value of one field, as one day after the other is added."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


def _empty() -> np.ndarray:
    return np.zeros(0, np.int64)


@dataclass
class ValueTotals:
    """Everything known about the distinct values so far; memory grows with them, not with rows.

    Attributes:
        signs: (distinct,) int64, sorted.
        counts: (distinct,) int64 times seen.
        positives: (distinct,) int64 times seen in a row with label 1.
        last_day: (distinct,) int64 ordinal of the newest day with the value.
    """

    signs: np.ndarray = field(default_factory=_empty)
    counts: np.ndarray = field(default_factory=_empty)
    positives: np.ndarray = field(default_factory=_empty)
    last_day: np.ndarray = field(default_factory=_empty)

    def positions(self, signs: np.ndarray) -> np.ndarray:
        """(n,) where each sign stands in the totals, -1 where it was never seen."""
        if not len(self.signs):
            return np.full(len(signs), -1)
        at = np.minimum(np.searchsorted(self.signs, signs), len(self.signs) - 1)
        return np.where(self.signs[at] == signs, at, -1)

    def unseen_since(self, signs: np.ndarray, day: int) -> np.ndarray:
        """(n,) bool: not seen on `day` or later."""
        at = self.positions(signs)
        if not len(self.signs):
            return np.ones(len(signs), bool)
        return (at < 0) | (self.last_day[at] < day)

    def add(self, signs: np.ndarray, counts: np.ndarray, positives: np.ndarray, day: int) -> None:
        """Add a day.

        Args:
            signs: (n,) int64, sorted and unique.
            counts: (n,) times each was seen.
            positives: (n,) times each was seen with label 1.
            day: ordinal; days come in order.
        """
        at = self.positions(signs)
        known, new = at >= 0, at < 0
        self.counts[at[known]] += counts[known]
        self.positives[at[known]] += positives[known]
        self.last_day[at[known]] = day
        if new.any():
            place = np.searchsorted(self.signs, signs[new])
            self.signs = np.insert(self.signs, place, signs[new])
            self.counts = np.insert(self.counts, place, counts[new])
            self.positives = np.insert(self.positives, place, positives[new])
            self.last_day = np.insert(self.last_day, place, day)

    def copy(self) -> ValueTotals:
        """The totals as they are now."""
        return ValueTotals(self.signs.copy(), self.counts.copy(), self.positives.copy(),
                           self.last_day.copy())

    def top(self, n: int) -> np.ndarray:
        """Positions of the n most frequent values, the most frequent first; ties by sign."""
        chosen = np.arange(len(self.counts))
        if 0 < n < len(self.counts):
            # All that tie with the n-th are sorted, so that the choice does not depend on chance.
            least = np.partition(self.counts, len(self.counts) - n)[len(self.counts) - n]
            chosen = np.flatnonzero(self.counts >= least)
        return chosen[np.lexsort((self.signs[chosen], -self.counts[chosen]))][:n]
