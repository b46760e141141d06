"""Metrics of a binary ranking model, exact and in float64.

Every function takes one row per example, arrays of shape `(rows,)`, and returns None where the
quantity is not defined (no rows, one class only): an absent number, never NaN and never a guess.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dualdnn.errors import DataError

Floats = NDArray[np.float64]


def _finite(name: str, values: ArrayLike, rows: int) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.shape != (rows,):
        raise DataError(f"{name} must have shape ({rows},) like the labels, got {array.shape}. "
                        "Pass one value per row.")
    if broken := array.size - int(np.isfinite(array).sum()):
        raise DataError(f"{name} must be finite, got {broken} NaN or infinite of {rows} rows. "
                        "Look for a diverged tower or an overflowing input.")
    return array


def _binary(labels: ArrayLike) -> Floats:
    array = np.asarray(labels, dtype=np.float64)
    if array.ndim != 1:
        raise DataError(f"labels must have one dimension, got shape {array.shape}. Flatten them.")
    if wrong := int(((array != 0) & (array != 1)).sum()):
        raise DataError(f"labels must be 0 or 1, got {wrong} other values of {array.size} rows. "
                        "Threshold the label column.")
    return array


def _weights(weights: ArrayLike | None, rows: int) -> Floats:
    if weights is None:
        return np.ones(rows)
    array = _finite("weights", weights, rows)
    if negative := int((array < 0).sum()):
        raise DataError(f"weights must be >= 0, got {negative} negative of {rows} rows. "
                        "Use 0 to leave a row out.")
    return array


def _probabilities(probabilities: ArrayLike, rows: int) -> Floats:
    array = _finite("probabilities", probabilities, rows)
    if outside := int(((array < 0) | (array > 1)).sum()):
        raise DataError(f"probabilities must lie in [0, 1], got {outside} outside of {rows} rows. "
                        "Pass probabilities, not logits.")
    return array


def sigmoid(logits: ArrayLike) -> Floats:
    """Probabilities of logits of any size, without overflow."""
    return np.exp(-np.logaddexp(0.0, -np.asarray(logits, dtype=np.float64)))


def auc(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float | None:
    """Exact area under the ROC curve; tied scores take their average rank.

    The probability that a positive outranks a negative, ties counting one half. Without weights
    all sums are of whole and half numbers, hence exact up to about 10^8 rows.

    Returns:
        The area, or None if one class has no rows (or no weight).

    Raises:
        DataError: labels other than 0 and 1, scores not finite, negative weights, other shapes.
    """
    y = _binary(labels)
    z = _finite("scores", scores, y.size)
    w = _weights(weights, y.size)
    order = np.argsort(z)
    z, positive = z[order], (w * y)[order]
    negative = (w * (1.0 - y))[order]
    pairs = float(positive.sum()) * float(negative.sum())
    if pairs == 0.0:
        return None
    ties = np.flatnonzero(np.r_[True, z[1:] != z[:-1]])
    positive, negative = np.add.reduceat(positive, ties), np.add.reduceat(negative, ties)
    below = np.cumsum(negative) - negative
    return float((positive * (below + negative / 2)).sum()) / pairs


def grouped_auc(
    labels: ArrayLike, scores: ArrayLike, groups: ArrayLike
) -> tuple[float | None, float | None]:
    """AUC inside each group (a user, a request), averaged with the group's rows as weight.

    Groups of one class have no order to get right and are left out. Zhu et al. 2017, "Optimized
    Cost per Click in Taobao Display Advertising", section 4.

    Args:
        labels: 0 or 1, shape `(rows,)`.
        scores: logits or probabilities, shape `(rows,)`.
        groups: one sortable value per row, shape `(rows,)`; integers are fastest. A NaN belongs
            to no group.

    Returns:
        The average, None if no group has both classes; and the share of all rows that lie in
        groups with both classes, None if there are no rows.

    Raises:
        DataError: labels other than 0 and 1, scores not finite, other shapes.
    """
    y = _binary(labels)
    z = _finite("scores", scores, y.size)
    g = np.asarray(groups)
    if g.shape != y.shape:
        raise DataError(f"groups must have shape {y.shape} like the labels, got {g.shape}. "
                        "Pass one value per row.")
    if y.size == 0:
        return None, None
    if g.dtype.kind not in "biuf":
        g = np.unique(g, return_inverse=True)[1]
    order = np.lexsort((z, g))
    y, z, g = y[order], z[order], g[order]
    new_group = np.r_[True, g[1:] != g[:-1]]
    ties = np.flatnonzero(new_group | np.r_[True, z[1:] != z[:-1]])
    positive = np.add.reduceat(y, ties)
    negative = np.diff(np.r_[ties, y.size]) - positive
    # Counted over all groups, then what lies before the group's own first row is taken off:
    # whole numbers, so nothing is lost, and no loop over groups.
    below = np.cumsum(negative) - negative
    first = np.flatnonzero(new_group[ties])
    below -= np.repeat(below[first], np.diff(np.r_[first, ties.size]))
    area = np.add.reduceat(positive * (below + negative / 2), first)
    positives, negatives = np.add.reduceat(positive, first), np.add.reduceat(negative, first)
    both = (positives > 0) & (negatives > 0)
    rows = (positives + negatives)[both]
    if rows.size == 0:
        return None, 0.0
    inside = area[both] / (positives[both] * negatives[both])
    return float((rows * inside).sum() / rows.sum()), float(rows.sum() / y.size)


def log_loss(
    labels: ArrayLike, logits: ArrayLike, weights: ArrayLike | None = None
) -> float | None:
    """Mean of log(1 + exp(-z)) for label 1 and log(1 + exp(z)) for label 0, in nats.

    From logits, so that a confident mistake costs what it should instead of a clipped value.

    Returns:
        The mean, or None without rows (or weight).

    Raises:
        DataError: labels other than 0 and 1, logits not finite, negative weights, other shapes.
    """
    y = _binary(labels)
    z = _finite("logits", logits, y.size)
    w = _weights(weights, y.size)
    total = float(w.sum())
    if total == 0.0:
        return None
    return float((w * np.logaddexp(0.0, (1.0 - 2.0 * y) * z)).sum()) / total


def normalized_entropy(
    labels: ArrayLike, logits: ArrayLike, weights: ArrayLike | None = None
) -> float | None:
    """Log loss over the entropy of the base rate: 1 is what always predicting the mean scores.

    He et al. 2014, "Practical Lessons from Predicting Clicks on Ads at Facebook", section 3.

    Returns:
        The ratio, or None if one class has no rows (or no weight).

    Raises:
        DataError: as `log_loss`.
    """
    loss = log_loss(labels, logits, weights)
    if loss is None:
        return None
    y = _binary(labels)
    rate = float(np.average(y, weights=_weights(weights, y.size)))
    if not 0.0 < rate < 1.0:
        return None
    return loss / -float(rate * np.log(rate) + (1.0 - rate) * np.log1p(-rate))


def calibration(
    labels: ArrayLike, probabilities: ArrayLike, weights: ArrayLike | None = None
) -> float | None:
    """Mean predicted over mean observed: above 1 the model promises too much.

    Returns:
        The ratio, or None if there is no positive row (or no weight on one).

    Raises:
        DataError: labels other than 0 and 1, probabilities outside [0, 1], negative weights,
            other shapes.
    """
    y = _binary(labels)
    p = _probabilities(probabilities, y.size)
    w = _weights(weights, y.size)
    observed = float((w * y).sum())
    return float((w * p).sum()) / observed if observed > 0.0 else None


def equal_mass_bins(probabilities: ArrayLike, bins: int) -> NDArray[np.int64]:
    """The bin of every row, 0 for the lowest predictions; bins hold (nearly) equal numbers.

    Equal predictions share a bin, so that ties may leave one empty and the order of rows does not
    matter.

    Raises:
        DataError: bins < 1.
    """
    if bins < 1:
        raise DataError(f"bins must be >= 1, got {bins}. Use 20 unless there are few rows.")
    p = np.asarray(probabilities, np.float64)
    order = np.argsort(p)
    ordered = p[order]
    ties = np.flatnonzero(np.r_[p.size > 0, ordered[1:] != ordered[:-1]])
    size = np.diff(np.r_[ties, p.size])
    found = np.empty(p.size, np.int64)
    # The bin of a tie is the bin of its middle row.
    found[order] = np.repeat((2 * ties + size) * bins // (2 * max(p.size, 1)), size)
    return found


@dataclass(frozen=True, kw_only=True)
class ReliabilityBin:
    """Rows of similar prediction: what was promised and what came.

    Attributes:
        predicted: mean probability of the bin's rows.
        observed: mean label of the bin's rows.
        count: rows.
    """

    predicted: float
    observed: float
    count: int


def ece(
    labels: ArrayLike, probabilities: ArrayLike, weights: ArrayLike | None = None, *,
    bins: int = 20
) -> tuple[float | None, list[ReliabilityBin]]:
    """Expected calibration error over bins of (nearly) equal numbers of rows.

    The mean of |mean predicted - mean observed| over bins, weighted by rows. Equal mass, because
    click probabilities crowd near zero, where bins of equal width would all but coincide. Rows of
    equal prediction share a bin, so the value does not depend on the order of the rows; a bin
    that ties leave empty is absent. Nguyen and O'Connor 2015, "Posterior calibration and
    exploratory analysis for natural language processing models". With weights, both means and the
    share of a bin are weighted; rows of weight 0 are left out.

    Returns:
        The error, None without rows (or weight); and the bins from the lowest prediction to the
        highest.

    Raises:
        DataError: labels other than 0 and 1, probabilities outside [0, 1], negative weights, other
            shapes, bins < 1.
    """
    y = _binary(labels)
    p = _probabilities(probabilities, y.size)
    w = _weights(weights, y.size)
    counted = w > 0
    y, p, w = y[counted], p[counted], w[counted]
    number = equal_mass_bins(p, bins)
    if y.size == 0:
        return None, []
    count = np.bincount(number)
    filled = count > 0
    mass = np.bincount(number, w)[filled]
    predicted, observed = (np.bincount(number, w * of)[filled] / mass for of in (p, y))
    table = [
        ReliabilityBin(predicted=float(a), observed=float(b), count=int(n))
        for a, b, n in zip(predicted, observed, count[filled], strict=True)
    ]
    return float((mass * np.abs(predicted - observed)).sum() / w.sum()), table


def evaluate_scores(
    labels: ArrayLike,
    logits: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    weights: ArrayLike | None = None,
) -> dict[str, Any]:
    """All metrics of one tower under the keys of `report.json`; what is not defined is absent.

    Args:
        labels: 0 or 1, shape `(rows,)`.
        logits: shape `(rows,)`.
        groups: one value per row for grouped AUC, or None.
        weights: sample weights >= 0. The metrics stay unweighted; the weighted `auc`, `log_loss`,
            `normalized_entropy`, `calibration` and `ece` stand under `weighted`.

    Returns:
        `auc`, `log_loss`, `grouped_auc`, `grouped_rows`, `normalized_entropy`, `calibration`,
        `ece` and, with weights, `weighted`.

    Raises:
        DataError: labels other than 0 and 1, logits not finite (says how many), negative weights,
            other shapes.
    """
    y = _binary(labels)
    z = _finite("logits", logits, y.size)
    p = sigmoid(z)
    value, share = grouped_auc(y, z, groups) if groups is not None else (None, None)
    found: dict[str, Any] = {
        "auc": auc(y, z),
        "log_loss": log_loss(y, z),
        "grouped_auc": value,
        "grouped_rows": share,
        "normalized_entropy": normalized_entropy(y, z),
        "calibration": calibration(y, p),
        "ece": ece(y, p)[0],
    }
    if weights is not None:
        weighted = {
            "auc": auc(y, z, weights),
            "log_loss": log_loss(y, z, weights),
            "normalized_entropy": normalized_entropy(y, z, weights),
            "calibration": calibration(y, p, weights),
            "ece": ece(y, p, weights)[0],
        }
        found["weighted"] = {k: v for k, v in weighted.items() if v is not None} or None
    return {key: value for key, value in found.items() if value is not None}


def weighted_scores(
    labels: ArrayLike,
    logits: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    weights: ArrayLike | None = None,
) -> dict[str, Any]:
    """`evaluate_scores` where the weighted metrics, if there are weights, stand for the others.

    Grouped AUC counts rows. The arguments and errors are those of `evaluate_scores`.
    """
    found = evaluate_scores(labels, logits, groups=groups, weights=weights)
    if weights is None:
        return found
    of_rows = {key: found[key] for key in ("grouped_auc", "grouped_rows") if key in found}
    return {**found.get("weighted", {}), **of_rows}
