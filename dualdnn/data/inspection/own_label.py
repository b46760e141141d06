"""Does a number know the label of its own row? Two tests that a strong feature passes.

A statistic of the past knows a user's earlier labels; one that includes the row itself knows the
answer. The second need not stand out by its AUC, but it gives itself away:

- it *moves with the label*: from a user's previous row to this one, a running mean or count that
  includes this row rises exactly where this label is 1;
- it *knows the noise*: labels are coin flips around their probability, so the mean label of the
  rows that share a value scatters around any curve through these means. If it scatters much less
  than coin flips do, the value was made from these very labels.
"""

from __future__ import annotations

import numpy as np

from dualdnn.data.inspection.number_sketch import DistinctSample
from dualdnn.data.inspection.score_tally import auc_of_counts

_ENTITIES = 50_000
_LEAST_OF_A_CLASS = 100
_SEGMENTS = 20


class OwnLabelMoves:
    """Counts, over the rows of one id field's values, how numbers move beside the row's label.

    A random part of the values is followed once there are more than 50,000.

    Args:
        numbers: number fields.

    Attributes:
        table: (numbers, 2, 3, 2) rows by number, by move since the value's previous row and since
            its last row of an earlier day, by fall, stay or rise, and by label.
    """

    def __init__(self, numbers: int) -> None:
        self.table = np.zeros((numbers, 2, 3, 2), np.int64)
        self._entities = np.zeros(0, np.int64)
        self._last = np.zeros((0, numbers))
        self._level = 0

    def _is_followed(self, entities: np.ndarray) -> np.ndarray:
        return (entities.view(np.uint64) >> np.uint64(20)) % np.uint64(1 << self._level) == 0

    def add(self, entities: np.ndarray, numbers: np.ndarray, labels: np.ndarray,
            timestamps: np.ndarray) -> None:
        """Add a day; days come in order.

        Args:
            entities: (rows,) int64 signs, 0 where missing.
            numbers: (rows, numbers), NaN where missing.
            labels: (rows,) int64 of 0 and 1.
            timestamps: (rows,) seconds.
        """
        chosen = np.flatnonzero((entities != 0) & self._is_followed(entities))
        if not len(chosen):
            return
        chosen = chosen[np.lexsort((timestamps[chosen], entities[chosen]))]
        entities, numbers, labels = entities[chosen], numbers[chosen], labels[chosen]
        unique, start = np.unique(entities, return_index=True)
        earlier = self._known(unique)
        of_unique = np.repeat(np.arange(len(unique)), np.diff(np.r_[start, len(entities)]))
        before_today = earlier[of_unique]
        previous = np.concatenate([before_today[:1], numbers[:-1]])
        previous[start] = earlier
        for kind, reference in enumerate((previous, before_today)):
            self._count(kind, numbers - reference, labels)
        self._remember(unique, numbers[np.r_[start[1:], len(entities)] - 1])

    def _count(self, kind: int, moved: np.ndarray, labels: np.ndarray) -> None:
        for number in range(moved.shape[1]):
            known = np.isfinite(moved[:, number])
            code = (np.sign(moved[known, number]).astype(np.int64) + 1) * 2 + labels[known]
            self.table[number, kind] += np.bincount(code, minlength=6).reshape(3, 2)

    def _known(self, entities: np.ndarray) -> np.ndarray:
        """(n, numbers) the last numbers of earlier days, NaN where there are none."""
        found = np.full((len(entities), self._last.shape[1]), np.nan)
        if len(self._entities):
            at = np.minimum(np.searchsorted(self._entities, entities), len(self._entities) - 1)
            known = self._entities[at] == entities
            found[known] = self._last[at[known]]
        return found

    def _remember(self, entities: np.ndarray, last: np.ndarray) -> None:
        kept = ~np.isin(self._entities, entities, assume_unique=True)
        merged = np.concatenate([self._entities[kept], entities])
        order = np.argsort(merged)
        self._entities = merged[order]
        self._last = np.concatenate([self._last[kept], last])[order]
        while len(self._entities) > _ENTITIES:
            self._level += 1
            followed = self._is_followed(self._entities)
            self._entities, self._last = self._entities[followed], self._last[followed]

    def strength(self, number: int) -> float:
        """How well the move of a number tells the label: 0.5 not at all, 1 always.

        The AUC of fall, stay and rise; or that of fall and rise alone, in either direction.
        """
        found = 0.5
        for table in self.table[number]:
            for moves in (table, table[[0, 2]]):
                if moves.sum(axis=0).min() < _LEAST_OF_A_CLASS:
                    continue
                area = auc_of_counts(moves[:, 0], moves[:, 1])
                found = max(found, area or 0.5, 1 - (area or 0.5))
        return found


def scatter_over_coin_flips(sample: DistinctSample) -> tuple[float, float] | None:
    """Scatter of the mean labels of equal values, over that of coin flips; 1 where sound.

    The curve is a straight line in each of up to 20 ranges of the distinct values.

    Returns:
        The ratio of the two variances and its standard error were the labels coin flips, or None
        where there are too few distinct values to tell.
    """
    pieces = min(_SEGMENTS, max(1, len(sample.values) // 10))
    segments = np.array_split(np.arange(len(sample.values)), pieces)
    scatter, freedom = 0.0, 0
    for segment in segments:
        if len(segment) < 4:
            continue
        n = sample.counts[segment].astype(np.float64)
        x, y = sample.values[segment], sample.positives[segment] / n
        x = (x - np.average(x, weights=n)) / max(float(np.ptp(x)), 1e-300)
        mean, spread = np.average(y, weights=n), float((n * x * x).sum())
        slope = float((n * x * (y - mean)).sum()) / spread if spread > 0 else 0.0
        fitted = np.clip(mean + slope * x, 0.0, 1.0)
        variance = fitted * (1 - fitted)
        told = variance > 0.01  # near 0 and 1 the line says more than a coin could
        scatter += float((n * (y - fitted) ** 2 / np.maximum(variance, 0.01))[told].sum())
        freedom += int(told.sum()) - 2 if told.sum() > 2 else 0
    if freedom < 20:
        return None
    return scatter / freedom, float(np.sqrt(2 / freedom))
