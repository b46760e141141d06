"""How far the values of a day are from those of the days before."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

import numpy as np

# Days before a day that a judgement on it needs, in logs that are long enough.
_PAST_DAYS = 7
# Independent rows that a day must be worth to be compared; a handful of users is no sample.
LEAST_DRAWS = 20
# Standard deviations up to which an index is taken for chance.
_CHANCE = 3.0


def population_stability_index(
    reference: np.ndarray, sample: np.ndarray, draws: tuple[float, float] | None = None
) -> tuple[float, float]:
    """Population stability index of two histograms, less what chance alone would give.

    The sum over bins of (p - q) log(p / q), every bin filled up by half a count. Where both
    histograms are drawn from one distribution, it is about chi-squared with (bins - 1) degrees of
    freedom times (1/n + 1/m) (Yurdakul 2018, "Statistical properties of population stability
    index"); that mean is taken off, so that small days do not look as if they drifted.

    Args:
        reference: (bins,) counts.
        sample: (bins,) counts.
        draws: how many independent draws each is worth: the rows of one user are no more than
            one where the user decides. None takes every count for one.

    Returns:
        The index, >= 0: by custom 0.1 is a change to look at and 0.25 a large one. And how many
        standard deviations of chance it is away from nothing.
    """
    used = (reference + sample) > 0
    n, m, bins = float(reference.sum()), float(sample.sum()), int(used.sum())
    if n == 0 or m == 0 or bins < 2:
        return 0.0, 0.0
    p = (reference[used] + 0.5) / (n + 0.5 * bins)
    q = (sample[used] + 0.5) / (m + 0.5 * bins)
    chance = 1 / n + 1 / m if draws is None else 1 / min(n, draws[0]) + 1 / min(m, draws[1])
    excess = float(((p - q) * np.log(p / q)).sum()) - (bins - 1) * chance
    return max(excess, 0.0), excess / (float(np.sqrt(2 * (bins - 1))) * chance)


def days_before(days: Sequence[datetime.date], length: int) -> list[slice]:
    """Per day, where the days of the `length` calendar days before it stand."""
    ordinals = np.array([day.toordinal() for day in days])
    first = np.searchsorted(ordinals, ordinals - length)
    return [slice(int(start), number) for number, start in enumerate(first)]


def drift_by_day(
    histograms: np.ndarray, before: Sequence[slice], draws: np.ndarray
) -> tuple[list[float | None], list[float | None]]:
    """The index of every day against the days before it, and its standard deviations.

    Args:
        histograms: (days, bins) counts.
        before: of `days_before`.
        draws: (days,) independent draws of each day.

    Returns:
        Two lists over days; None where no day is before, or where there are too few draws. An
        index that chance explains is 0.
    """
    total = np.concatenate([np.zeros((1, histograms.shape[1]), np.int64),
                            np.cumsum(histograms, axis=0)])
    found: list[float | None] = []
    sureness: list[float | None] = []
    for number, window in enumerate(before):
        worth = float(draws[window].sum()), float(draws[number])
        if min(worth) < LEAST_DRAWS:
            found.append(None)
            sureness.append(None)
            continue
        index, deviations = population_stability_index(
            total[window.stop] - total[window.start], histograms[number], worth)
        found.append(index if deviations >= _CHANCE else 0.0)
        sureness.append(deviations)
    return found, sureness


def tells_the_day(histograms: np.ndarray) -> bool:
    """Is a field the same all day and another on other days, as the day of the week?"""
    shares = histograms.max(axis=1) / np.maximum(histograms.sum(axis=1), 1)
    overall = histograms.sum(axis=0)
    return bool(np.median(shares) > 0.95 and overall.max() < 0.8 * overall.sum())


def first_and_last_third(rows: np.ndarray) -> tuple[slice, slice] | None:
    """The days that hold the first and the last third of the rows; None for fewer than 3 days."""
    if len(rows) < 3:
        return None
    share = np.cumsum(rows) / rows.sum()
    first = max(1, int(np.searchsorted(share, 1 / 3)))
    last = min(len(rows) - 1, int(np.searchsorted(share, 2 / 3)) + 1)
    return slice(0, first), slice(max(last, first), len(rows))


def days_that_stand_out(
    values: Sequence[float | None], before: Sequence[slice], least: float
) -> list[int]:
    """The days whose value is above `least` and far above the usual one, the furthest first.

    Far is three times the median and six times the spread (median absolute deviation) above it.
    Days with hardly a past of their own are left out: statistics only begin to fill there.

    Args:
        values: per day how far it is from the days before it, None where there are none.
        before: of `days_before`.
        least: a value below this never stands out.
    """
    past = min(_PAST_DAYS, len(before) // 2)
    judged = [number for number, window in enumerate(before)
              if window.stop - window.start >= past and values[number] is not None]
    if not judged:
        return []
    known = np.array([values[number] for number in judged], np.float64)
    usual = float(np.median(known))
    spread = 1.4826 * float(np.median(np.abs(known - usual)))
    limit = max(least, usual + 6 * spread, 3 * usual)
    return [judged[i] for i in np.argsort(-known, kind="stable") if known[i] >= limit]
