"""Is one tower's AUC above another's on the same rows?"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dualdnn.evaluation.metrics import auc


def _ranks(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks from 1; ties share their mean rank."""
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return ((last - counts + 1 + last) / 2)[inverse]


def _placements(labels: NDArray[np.bool_], scores: NDArray[np.float64]) -> tuple[
    NDArray[np.float64], NDArray[np.float64]
]:
    """Share of negatives below each positive, and of positives above each negative."""
    positives, negatives = scores[labels], scores[~labels]
    joint = _ranks(np.concatenate([positives, negatives]))
    of_positives = (joint[: len(positives)] - _ranks(positives)) / len(negatives)
    of_negatives = 1 - (joint[len(positives) :] - _ranks(negatives)) / len(positives)
    return of_positives, of_negatives


def auc_difference(
    labels: ArrayLike, scores: ArrayLike, other: ArrayLike
) -> tuple[float, float] | None:
    """AUC of `scores` minus AUC of `other` on the same rows, and its standard error.

    DeLong et al. 1988, in the fast form of Sun and Xu 2014.

    Args:
        labels: (n,) 0 or 1.
        scores: (n,).
        other: (n,).

    Returns:
        None where a class has fewer than two rows.
    """
    positive = np.asarray(labels) > 0.5
    if min(positive.sum(), (~positive).sum()) < 2:
        return None
    first, second = (np.asarray(s, np.float64) for s in (scores, other))
    difference = (auc(positive, first) or 0.0) - (auc(positive, second) or 0.0)
    variance = 0.0
    for mine, theirs in zip(_placements(positive, first), _placements(positive, second),
                            strict=True):
        variance += float(np.var(mine - theirs, ddof=1)) / len(mine)
    return difference, variance**0.5
