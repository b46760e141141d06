"""Numbers on a common scale: bucket boundaries and the normalisation of direct numbers."""

from __future__ import annotations

import numpy as np

# Direct numbers end up within this many standard deviations of the mean.
CLIP = 10.0


def without_subnormals(values: np.ndarray) -> np.ndarray:
    """float32 values of which those nearer to zero than float32 holds in full are zero.

    TensorFlow counts them as zero, numpy does not: a boundary between them would put one value
    into two buckets.
    """
    values = values.astype(np.float32)
    return np.where(np.abs(values) < np.finfo(np.float32).tiny, np.float32(0), values)


def symmetric_log(values: np.ndarray) -> np.ndarray:
    """sign(x) log(1 + |x|) in float64: log-like on both sides of zero, and defined there."""
    values = np.asarray(values, np.float64)
    return np.sign(values) * np.log1p(np.abs(values))


def quantile_boundaries(values: np.ndarray, buckets: int) -> np.ndarray:
    """At most `buckets - 1` distinct float32 values that occur, ascending; NaN is left out."""
    values = values[~np.isnan(values)]
    if not len(values):
        return np.zeros(0, np.float32)
    shares = np.linspace(0, 1, buckets + 1)[1:-1]
    found = np.unique(np.quantile(values, shares, method="inverted_cdf").astype(np.float32))
    # The smallest value as a boundary would leave the first bucket empty.
    return found[found > values.min()]


def log_boundaries(values: np.ndarray, buckets: int) -> np.ndarray:
    """`buckets - 1` float32 boundaries, evenly spaced in `symmetric_log`; NaN is left out.

    Where float32 cannot tell neighbours apart there are fewer. They are values of x, not of its
    logarithm, so that bucketing is a comparison, the same to the bit wherever it is done.
    """
    values = values[~np.isnan(values)]
    if not len(values) or values.min() == values.max():
        return np.zeros(0, np.float32)
    low, high = symmetric_log(np.array([values.min(), values.max()]))
    even = np.linspace(low, high, buckets + 1)[1:-1]
    found = np.unique(without_subnormals(np.sign(even) * np.expm1(np.abs(even))))
    return found[(found > values.min()) & (found <= values.max())]


def normalisation(values: np.ndarray, scale: str) -> tuple[float, float]:
    """Mean and one over the standard deviation of the values that are given.

    Args:
        values: float32; NaN is left out.
        scale: `log` takes `symmetric_log` first.
    """
    given = np.asarray(values[~np.isnan(values)], np.float64)
    if scale == "log":
        given = symmetric_log(given)
    if not len(given):
        return 0.0, 1.0
    deviation = float(given.std())
    return float(given.mean()), 1.0 / deviation if deviation > 0 else 1.0


def normalised(values: np.ndarray, scale: str, shift: float, factor: float,
               missing: float) -> np.ndarray:
    """(value - shift) * factor within ±CLIP, as float32; `missing` where the value is NaN.

    In float64 up to the end: the exported graph does the same, and rounding to float32 hides the
    last digit in which two libraries may differ.
    """
    found = symmetric_log(values) if scale == "log" else np.asarray(values, np.float64)
    found = np.clip((found - shift) * factor, -CLIP, CLIP)
    return without_subnormals(np.where(np.isnan(found), missing, found))
