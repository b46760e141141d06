"""Student's t distribution: how unlikely a difference is, and how far an interval reaches."""

from __future__ import annotations

import math
from statistics import NormalDist

# Beyond it the distribution is normal to eight digits.
_MOST_DEGREES = 1e7
_TINY = 1e-300


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """Regularised incomplete beta function for x < (a + 1) / (a + b + 2), by Lentz's method.

    The continued fraction 26.5.8 of Abramowitz and Stegun 1964.
    """
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
                     + a * math.log(x) + b * math.log1p(-x))
    c, d = 1.0, 1 / max(1 - (a + b) * x / (a + 1), _TINY)
    fraction = d
    for m in range(1, 10_000):
        for term in (m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
                     -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))):
            d = 1 / (1 + term * d or _TINY)
            c = 1 + term / c or _TINY
            fraction *= c * d
        if abs(c * d - 1) < 1e-14:
            break
    return front * fraction / a


def two_sided_p(t: float, degrees: float) -> float:
    """Probability that |T| is at least |t|.

    Args:
        t: a value over its standard error.
        degrees: of freedom, > 0; need not be whole.

    Raises:
        ValueError: `degrees` not above 0.
    """
    if not degrees > 0:
        raise ValueError(f"degrees must be > 0, got {degrees}.")
    if t == 0 or math.isinf(t):
        return float(t == 0)
    if degrees > _MOST_DEGREES:
        return 2 * NormalDist().cdf(-abs(t))
    # I_x(degrees / 2, 1 / 2); of the two symmetric forms the one whose fraction converges.
    a, b, square = degrees / 2, 0.5, t * t
    x, rest = degrees / (degrees + square), square / (degrees + square)
    if x < (a + 1) / (a + b + 2):
        return _incomplete_beta(a, b, x)
    return 1 - _incomplete_beta(b, a, rest)


def student_quantile(probability: float, degrees: float) -> float:
    """The t that T stays below with this probability.

    Args:
        probability: in (0, 1).
        degrees: of freedom, > 0; need not be whole.

    Raises:
        ValueError: a value outside its range.
    """
    if not 0 < probability < 1:
        raise ValueError(f"probability must lie between 0 and 1, got {probability}.")
    if probability == 0.5:
        return 0.0
    tail = 2 * min(probability, 1 - probability)
    low, high = 0.0, 1.0
    while two_sided_p(high, degrees) > tail:
        low, high = high, 2 * high
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if two_sided_p(middle, degrees) > tail else (low, middle)
    return math.copysign((low + high) / 2, probability - 0.5)
