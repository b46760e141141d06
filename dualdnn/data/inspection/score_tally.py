"""The AUC of a score over any number of rows in constant memory."""

from __future__ import annotations

import numpy as np

_BINS = 4096
# Log-odds beyond this count as equal: one in 8,000.
_LIMIT = 9.0
# Rows of the overall rate that every value is given on top of its own.
_PRIOR_ROWS = 10.0


def smoothed_log_odds(positives: np.ndarray, counts: np.ndarray, rate: float) -> np.ndarray:
    """Log-odds of the mean label, pulled towards `rate` where there are few rows; any shape."""
    p = (positives + _PRIOR_ROWS * rate) / (counts + _PRIOR_ROWS)
    p = np.clip(p, 1e-6, 1 - 1e-6)
    return np.log(p) - np.log1p(-p)


def auc_of_counts(negatives: np.ndarray, positives: np.ndarray) -> float | None:
    """AUC of rows counted by score, (bins,) each from low to high; a bin is a tie.

    Returns:
        The area, or None if one class has no rows.
    """
    pairs = float(positives.sum()) * float(negatives.sum())
    if pairs == 0:
        return None
    below = np.cumsum(negatives) - negatives
    return float((positives * (below + negatives / 2)).sum()) / pairs


class ScoreTally:
    """Counts rows by label and by bins of their score, 0.005 of log-odds wide."""

    def __init__(self) -> None:
        self.counts = np.zeros((2, _BINS), np.int64)

    def add(self, scores: np.ndarray, labels: np.ndarray) -> None:
        """Add rows: log-odds (n,) and labels (n,) of 0 and 1."""
        scaled = (np.clip(scores, -_LIMIT, _LIMIT) + _LIMIT) / (2 * _LIMIT)
        bins = np.minimum((scaled * _BINS).astype(np.int64), _BINS - 1)
        flat = np.bincount(labels.astype(np.int64) * _BINS + bins, minlength=2 * _BINS)
        self.counts += flat.reshape(2, _BINS)

    def auc(self) -> float | None:
        """The area under the ROC curve, or None if one class has no rows."""
        return auc_of_counts(self.counts[0], self.counts[1])

    def standard_error(self) -> float | None:
        """An upper bound of the area's standard error, from the smaller class; None without it."""
        value, few = self.auc(), int(self.counts.sum(axis=1).min())
        return None if value is None else float(np.sqrt(max(value * (1 - value), 1e-4) / few))
