"""How sure is a metric, or a difference of two, where the rows of one user or day belong together?

Groups are drawn with replacement, all rows of a drawn group with it (Field and Welsh 2007,
"Bootstrapping clustered data"). Nothing is scored again per draw: with c the times that each group
was drawn, log loss and calibration are ratios of sums over groups, and the AUC is c' M c over
(c' positives)(c' negatives), where M[a, b] counts the pairs of a positive of group a above a
negative of group b. So 1,000 draws are one product of matrices, for 500 rows as for 10^7.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dualdnn.errors import DataError
from dualdnn.evaluation.metrics import auc, calibration, log_loss, sigmoid
from dualdnn.evaluation.student_t import student_quantile, two_sided_p

METRICS = ("auc", "log_loss", "calibration")
# More groups than this are put together at random. As a standard error from g groups is itself
# uncertain by 1 / sqrt(2 g), this costs 2%, as much as drawing 1,000 times does.
_MOST_CLUSTERS = 1024
# Levels of scores that the spread of the AUC is computed from; its value is always exact.
_MOST_LEVELS = 2048
# Draws that may hold one class only before a standard error says nothing.
_MOST_UNDEFINED = 0.1

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A metric, or a difference of two, and how sure it is.

    Attributes:
        value: on the rows as they are.
        error: standard error; None where there are too few groups, or rows of a class.
        degrees: of freedom behind `error`: groups - 1, or fewer where seeds count as well.
        clusters: groups of the smallest factor.
    """

    value: float
    error: float | None
    degrees: float
    clusters: int

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Two-sided interval of Student's t; without `error` the whole line.

        From the standard error rather than from quantiles of the draws: a gate that looks at 20
        numbers needs a level of 99.75%, of which 1,000 draws know next to nothing.

        Raises:
            ValueError: `level` outside (0, 1).
        """
        if not 0 < level < 1:
            raise ValueError(f"level must lie between 0 and 1, got {level}.")
        if self.error is None:
            return -np.inf, np.inf
        reach = student_quantile((1 + level) / 2, self.degrees) * self.error
        return self.value - reach, self.value + reach

    def p_value(self) -> float | None:
        """Probability of a value at least as far from 0 if the truth were 0, by Student's t.

        Below 1 - level exactly where `interval(level)` leaves 0 out. None without `error`; an
        error of 0 knows: 1 for a value of 0, else 0.
        """
        if self.error is None:
            return None
        if self.error == 0:
            return float(self.value == 0)
        return two_sided_p(self.value / self.error, self.degrees)


def bootstrap(
    labels: ArrayLike,
    logits: ArrayLike,
    other: ArrayLike | None = None,
    *,
    metric: str,
    factors: Sequence[ArrayLike] = (),
    weights: ArrayLike | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Estimate | None:
    """A metric of `logits`, less that of `other` on the same rows, and its standard error.

    With two factors, such as days and users, the variance is that over days plus that over users
    less that over (day, user) (Cameron, Gelbach and Miller 2011, "Robust inference with multiway
    clustering"), and never below that of one factor alone. With several seeds the value is their
    mean, and the variance between seeds over their number is added.

    Args:
        labels: (n,) 0 or 1.
        logits: (n,), or (seeds, n) from repeated trainings.
        other: None, or of the same shape, row s having the seed of row s of `logits`.
        metric: `auc`, `log_loss` or `calibration` (mean predicted / mean observed).
        factors: each (n,), what is drawn: users, days; without any, single rows. All rows of a
            value belong together; give those without a user different values.
        weights: (n,) >= 0 of the rows; None for equal ones.
        resamples: draws.
        seed: of the draws.

    Returns:
        None where the metric is not defined: no rows, one class only.

    Raises:
        DataError: labels other than 0 and 1, logits not finite, different shapes.
        ValueError: an unknown metric, fewer than 2 resamples.
    """
    if metric not in METRICS or resamples < 2:
        raise ValueError(f"metric must be one of {', '.join(METRICS)} and resamples >= 2, got "
                         f"{metric!r} and {resamples}.")
    first = np.atleast_2d(np.asarray(logits, np.float64))
    second = None if other is None else np.atleast_2d(np.asarray(other, np.float64))
    if second is not None and first.shape != second.shape:
        raise DataError(f"both models must be scored on the same rows, got scores of shape "
                        f"{first.shape} and {second.shape}. Score the holdout with both.")
    y = np.asarray(labels, np.float64)
    w = np.ones_like(y) if weights is None else np.asarray(weights, np.float64)
    values = _values(y, first, second, metric, w)
    if values is None:
        return None
    given = [np.asarray(factor) for factor in factors] or [np.arange(y.size)]
    if wrong := [factor.shape for factor in given if factor.shape != y.shape]:
        raise DataError(f"a factor must have shape {y.shape} like the labels, got {wrong[0]}. "
                        "Pass one value per row.")
    coded = [np.unique(factor, return_inverse=True)[1] for factor in given]
    clusters = min(int(code.max()) + 1 for code in coded)
    spread = _spread_over(coded, _statistic(y, w, first, second, metric), resamples, seed)
    between = float(values.var(ddof=1)) / len(values) if len(values) > 1 else 0.0
    if spread is None:
        return Estimate(value=float(values.mean()), error=None, degrees=0, clusters=clusters)
    total = spread + between
    # Welch and Satterthwaite: which of the two parts limits how well the sum is known.
    parts = [(spread, clusters - 1), (between, len(values) - 1)]
    doubt = sum(part**2 / degrees for part, degrees in parts if part)
    return Estimate(value=float(values.mean()), error=total**0.5, clusters=clusters,
                    degrees=total**2 / doubt if doubt else clusters - 1)


def _values(labels: Floats, first: Floats, second: Floats | None, metric: str,
            weights: Floats) -> Floats | None:
    """(seeds,) exact values, or differences."""

    def of(logits: Floats) -> float | None:
        if metric == "calibration":
            # An infinite logit is a sound probability, but not a sound score.
            log_loss(labels, logits)
            return calibration(labels, sigmoid(logits), weights)
        return (auc if metric == "auc" else log_loss)(labels, logits, weights)

    scores = [first] if second is None else [first, second]
    found = [[of(logits) for logits in by_seed] for by_seed in scores]
    if any(value is None for by_seed in found for value in by_seed):
        return None
    exact = np.array(found, np.float64)
    return exact[0] if second is None else exact[0] - exact[1]


Statistic = Callable[[NDArray[np.int64], int, Floats], Floats]


def _statistic(y: Floats, w: Floats, first: Floats, second: Floats | None,
               metric: str) -> Statistic:
    """From (n,) clusters, their number and (resamples, clusters) draws to (resamples,) values."""
    signed = [(1.0, first)] if second is None else [(1.0, first), (-1.0, second)]
    if metric == "auc":
        return lambda cluster, size, draws: _auc_draws(y, w, signed, cluster, size, draws)
    if metric == "log_loss":
        rows = sum(sign * w * np.logaddexp(0.0, (1 - 2 * y) * z).mean(axis=0)
                   for sign, z in signed)
        over = w
    else:
        rows, over = sum(sign * w * sigmoid(z).mean(axis=0) for sign, z in signed), w * y

    def ratio(cluster: NDArray[np.int64], size: int, draws: Floats) -> Floats:
        above = draws @ np.bincount(cluster, rows, size)
        below = draws @ np.bincount(cluster, over, size)
        return np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)

    return ratio


def _auc_draws(y: Floats, w: Floats, signed: Sequence[tuple[float, Floats]],
               cluster: NDArray[np.int64], size: int, draws: Floats) -> Floats:
    pairs = np.zeros((size, size))
    for sign, by_seed in signed:
        for logits in by_seed:
            pairs += sign / len(by_seed) * pair_counts(y, logits, cluster, size, w)
    positives, negatives = (np.bincount(cluster, w * one, size) for one in (y, 1 - y))
    below = (draws @ positives) * (draws @ negatives)
    above = ((draws @ pairs) * draws).sum(axis=1)
    return np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)


def pair_counts(y: Floats, logits: Floats, cluster: NDArray[np.int64], size: int,
                weights: Floats | None = None) -> Floats:
    """M[a, b]: pairs of a positive of cluster a above a negative of cluster b, ties one half.

    Args:
        y: (n,) 0 or 1.
        logits: (n,); more than 2,048 levels of them are put together.
        cluster: (n,) 0 to size - 1.
        size: clusters.
        weights: (n,) of the rows: a pair counts the product of both; None for equal ones.

    Returns:
        (size, size).
    """
    unique, level, rows = np.unique(logits, return_inverse=True, return_counts=True)
    levels = len(unique)
    if levels > _MOST_LEVELS:
        # Equal numbers of rows each; a tie stays in one level.
        middle = np.cumsum(rows) - (rows + 1) // 2
        level, levels = (middle * _MOST_LEVELS // len(y))[level], _MOST_LEVELS
    place = cluster * levels + level
    w = np.ones_like(y) if weights is None else weights
    positive, negative = (np.bincount(place, w * one, size * levels).reshape(size, levels)
                          for one in (y, 1 - y))
    return positive @ (np.cumsum(negative, axis=1) - negative / 2).T


def _spread_over(coded: Sequence[NDArray[np.int64]], statistic: Statistic, resamples: int,
                 seed: int) -> float | None:
    """Variance of the statistic over draws of all factors, by inclusion and exclusion."""
    variances: dict[tuple[int, ...], float] = {}
    for count in range(1, len(coded) + 1):
        for chosen in itertools.combinations(range(len(coded)), count):
            codes = coded[chosen[0]]
            for position in chosen[1:]:
                codes = np.unique(codes * (int(coded[position].max()) + 1) + coded[position],
                                  return_inverse=True)[1]
            variance = _variance(codes, statistic, resamples, seed)
            if variance is None:
                return None
            variances[chosen] = variance
    total = sum((-1) ** (len(chosen) + 1) * one for chosen, one in variances.items())
    return max(total, *(one for chosen, one in variances.items() if len(chosen) == 1), 0.0)


def draw_clusters(codes: NDArray[np.int64], resamples: int,
                  seed: int) -> tuple[NDArray[np.int64], Floats]:
    """How often each cluster comes up in draws with replacement of as many as there are.

    Args:
        codes: (n,) the group of each row, 0, 1, ...; more than 1,024 groups are put together at
            random.
        resamples: draws.
        seed: of the draws.

    Returns:
        (n,) the cluster of each row, and (resamples, clusters) the draws.
    """
    rng = np.random.default_rng(seed)
    size = int(codes.max()) + 1
    if size > _MOST_CLUSTERS:
        codes, size = (rng.permutation(size) % _MOST_CLUSTERS)[codes], _MOST_CLUSTERS
    drawn = rng.integers(size, size=(resamples, size)) + size * np.arange(resamples)[:, np.newaxis]
    draws = np.bincount(drawn.ravel(), minlength=resamples * size).reshape(resamples, size)
    return codes, draws.astype(np.float64)


def enough_defined(draws: Floats) -> NDArray[np.bool_] | None:
    """(resamples,) the draws that hold both classes; None where too few of them do."""
    defined = np.isfinite(draws)
    few = defined.sum() < max(2, (1 - _MOST_UNDEFINED) * len(draws))
    return None if few else defined


def _variance(codes: NDArray[np.int64], statistic: Statistic, resamples: int,
              seed: int) -> float | None:
    if int(codes.max()) < 1:
        return None
    cluster, draws = draw_clusters(codes, resamples, seed)
    size = draws.shape[1]
    values = statistic(cluster, size, draws)
    defined = enough_defined(values)
    if defined is None:
        return None
    # The draws spread by (size - 1) / size of what new groups would.
    return float(values[defined].var(ddof=1)) * size / (size - 1)
