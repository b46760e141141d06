"""The best linear model of a log: an L2 logistic regression on the rows that the towers read."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
from scipy.optimize import minimize
from scipy.sparse import csr_matrix

from dualdnn.data.examples import Examples
from dualdnn.data.row_map import PADDING_ROW
from dualdnn.errors import DataError
from dualdnn.evaluation.metrics import sigmoid

Fit = TypeVar("Fit")
_FIRST_STRENGTH = 8.0
# Of log loss: a step of the search that gains less is the last.
_TOO_LITTLE = 1e-6


def one_hot(examples: Examples, index: np.ndarray) -> csr_matrix:
    """(n, num_rows): the rows that the towers read; multi-valued fields averaged, as they do."""
    rows = examples.rows[index]
    weights = (rows != PADDING_ROW).astype(np.float64)
    for field in examples.schema.fields:
        at = examples.columns(field.name)
        weights[:, at] /= np.maximum(weights[:, at].sum(axis=1, keepdims=True), 1.0)
    starts = np.arange(0, rows.size + 1, rows.shape[1])
    return csr_matrix((weights.ravel(), rows.ravel(), starts),
                      shape=(len(index), examples.row_map.num_rows))


def fitted_weights(features: csr_matrix, labels: np.ndarray, strength: float, start: np.ndarray,
                   counts: np.ndarray | None = None) -> np.ndarray:
    """Minimise the summed log loss + strength / 2 * squared norm; the last weight is the bias.

    L-BFGS on weights scaled by the square root of the curvature's diagonal: without it, frequent
    and rare columns need hundreds of steps.

    Args:
        features: (n, num_columns).
        labels: (n,) float64, 0 and 1.
        strength: of the Gaussian prior, 1 / C of scikit-learn; the bias has none.
        start: (num_columns + 1,) where to begin.
        counts: (n,) sample weights; None for 1.
    """
    counts = np.ones(len(labels)) if counts is None else counts
    rate = np.average(labels, weights=counts)
    curvature = rate * (1 - rate) * np.append(features.power(2).T @ counts, counts.sum())
    penalty = np.append(np.full(features.shape[1], strength), 0.0)
    scale = 1.0 / np.sqrt(curvature + penalty)
    transposed = features.T.tocsr()

    def loss(scaled: np.ndarray) -> tuple[float, np.ndarray]:
        weights = scale * scaled
        logits = features @ weights[:-1] + weights[-1]
        value = counts @ np.logaddexp(0.0, (1.0 - 2.0 * labels) * logits)
        residual = counts * (sigmoid(logits) - labels)
        gradient = np.append(transposed @ residual, residual.sum()) + penalty * weights
        return value + 0.5 * (penalty * weights**2).sum(), scale * gradient

    found = minimize(loss, start / scale, jac=True, method="L-BFGS-B",
                     options={"maxiter": 200, "ftol": 1e-8, "gtol": 1e-2})
    return scale * found.x


def tuned(fit: Callable[[float], tuple[float, Fit]], strength: float, factor: float
          ) -> tuple[float, Fit]:
    """The strength with the lowest loss and its fit: upwards from `strength`, then downwards.

    Where the best is none at all, or without end, the walk stops when it gains no more.
    """
    loss, found = fit(strength)
    for direction in (factor, 1 / factor):
        moved = False
        while True:
            other_loss, other = fit(strength * direction)
            if other_loss > loss - _TOO_LITTLE:
                break
            loss, found, strength, moved = other_loss, other, strength * direction, True
        if moved:
            break
    return strength, found


def linear_logits(examples: Examples) -> tuple[np.ndarray, float]:
    """Test logits (rows_test,) of the linear model that validates best, and its strength.

    Raises:
        DataError: there is no validation part to tune on, or a field is read as numbers that are
            no rows.
    """
    split, labels = examples.split, examples.labels.astype(np.float64)
    if not len(split.valid):
        raise DataError("the linear reference is tuned on the validation part, and this window "
                        "has none. Set window.valid_days, or window.valid.")
    if len(examples.schema.tables()) > 1 or examples.dense.shape[1]:
        raise DataError("the linear reference reads one table of rows; fields with a size of "
                        "their own, vectors and direct numbers have no one-hot form.")
    train, valid = one_hot(examples, split.train), one_hot(examples, split.valid)
    of_train, of_valid = (examples.loss_weights(part) for part in (split.train, split.valid))
    start = np.zeros(train.shape[1] + 1)

    def fit(strength: float) -> tuple[float, np.ndarray]:
        nonlocal start
        start = fitted_weights(train, labels[split.train], strength, start, of_train)
        logits = valid @ start[:-1] + start[-1]
        # Not `log_loss`, which knows None for no rows.
        loss = np.average(np.logaddexp(0.0, (1.0 - 2.0 * labels[split.valid]) * logits),
                          weights=of_valid)
        return float(loss), start

    strength, weights = tuned(fit, _FIRST_STRENGTH, 2.0)
    return one_hot(examples, split.test) @ weights[:-1] + weights[-1], strength
