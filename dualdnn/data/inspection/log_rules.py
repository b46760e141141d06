"""What there is to say about the days of a log and their labels."""

from __future__ import annotations

import datetime

import numpy as np

from dualdnn.data.inspection.drift import LEAST_DRAWS, days_that_stand_out
from dualdnn.data.inspection.facts import LogFacts
from dualdnn.data.inspection.finding import Finding, listed

# A day's rows, over or under the median of the days before, from here on.
_ROWS_FACTOR = 3.0
# A day's label rate, relative to that of the days before, and in standard errors.
_RATE_CHANGE = 0.2
_RATE_ERRORS = 5.0


def log_findings(log: LogFacts) -> list[Finding]:
    """Labels of one class, missing days, days of unusual size or label rate."""
    found = [_labels(log), _missing_days(log), _rows(log), _label_rate(log)]
    return [one for one in found if one]


def _labels(log: LogFacts) -> Finding | None:
    positives, rows = int(log.positives.sum()), int(log.rows.sum())
    if positives in (0, rows):
        return Finding(
            severity="error", kind="one_class",
            sentence=f"`{log.label}` is {int(positives > 0)} in all {rows:,} rows.",
            advice="There is nothing to learn. Check the join that writes the label.")
    # Of days that should have both: less than one in a million by chance.
    rare = min(log.rate, 1 - log.rate)
    lone = ((log.positives == 0) | (log.positives == log.rows)) & ((1 - rare) ** log.rows < 1e-6)
    if not lone.any():
        return None
    days = [f"{log.days[int(i)]} ({int(log.positives[i] > 0)} in {log.rows[i]:,} rows)"
            for i in np.flatnonzero(lone)]
    return Finding(
        severity="warning", kind="days_of_one_class",
        sentence=f"on {len(days)} of {len(log.days)} days all labels are the same: "
                 f"{listed(days)}; over all days the label rate is {log.rate:.4f}.",
        advice="Look for a join that failed or labels that have not arrived; leave such days out.",
        strength=len(days) / len(log.days))


def _missing_days(log: LogFacts) -> Finding | None:
    runs = log.missing_days
    if not runs:
        return None
    count = sum((last - first).days + 1 for first, last in runs)
    span = (log.days[-1] - log.days[0]).days + 1
    named = [str(first) if first == last else f"{first} to {last}" for first, last in runs]
    return Finding(
        severity="warning", kind="missing_days",
        sentence=f"{count:,} of the {span:,} calendar days from {log.days[0]} to {log.days[-1]} "
                 f"have no folder: {listed(named)}.",
        advice="Write the days again if rows were lost. Rolling windows count calendar days, so "
               "they train on fewer rows there; the other windows do not mind.",
        strength=count / span)


def _rows(log: LogFacts) -> Finding | None:
    """Days with far more or fewer rows than the days before them, beyond what is usual."""
    logs = np.log(log.rows.astype(np.float64))
    moved = [abs(float(logs[i] - np.median(logs[window]))) if window.stop > window.start else None
             for i, window in enumerate(log.before)]
    odd = days_that_stand_out(moved, log.before, float(np.log(_ROWS_FACTOR)))
    if not odd:
        return None
    days = [f"{log.days[i]} ({log.rows[i]:,} rows, usual {np.median(log.rows[log.before[i]]):,.0f})"
            for i in odd]
    return Finding(
        severity="warning", kind="rows_of_a_day",
        sentence=f"on {len(days)} of {len(log.days)} days there are over {_ROWS_FACTOR:.0f} times "
                 f"more or fewer rows than on the days before: {listed(days)}.",
        advice="Check for rows written twice, a half-written day or a lost source.",
        strength=moved[odd[0]] or 0.0)


def _label_rate(log: LogFacts) -> Finding | None:
    errors: list[float | None] = []
    before: list[float] = []
    for i, window in enumerate(log.before):
        rows, positives = int(log.rows[window].sum()), int(log.positives[window].sum())
        rate = positives / rows if rows else 0.0
        before.append(rate)
        draws = float(log.draws[window].sum())
        variance = rate * (1 - rate) * (1 / log.draws[i] + 1 / draws) if rows else 0.0
        change = float(log.positives[i] / log.rows[i]) - rate
        far = variance > 0 and abs(change) >= _RATE_CHANGE * min(rate, 1 - rate)
        enough = min(draws, float(log.draws[i])) >= LEAST_DRAWS
        errors.append((abs(change) / variance**0.5 if far else 0.0) if enough else None)
    odd = days_that_stand_out(errors, log.before, _RATE_ERRORS)
    if not odd:
        return None

    def told(i: int) -> str:
        day: datetime.date = log.days[i]
        return (f"{day} ({log.positives[i] / log.rows[i]:.3g} after {before[i]:.3g}, "
                f"{errors[i]:.0f} standard errors)")

    return Finding(
        severity="warning", kind="label_rate_shift",
        sentence=f"on {len(odd)} of {len(log.days)} days the label rate is far from that of the "
                 f"days before: {listed([told(i) for i in odd])}.",
        advice="Look for late labels, changed sampling or a changed product; calibration suffers "
               "on such days.",
        strength=errors[odd[0]] or 0.0)
