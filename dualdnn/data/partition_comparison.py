"""Checks of a day against the other days of its window."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from dualdnn.data.encoded_day import EncodedDay
from dualdnn.data.finding import Finding
from dualdnn.data.partition_rows import copies, filled_share
from dualdnn.data.partition_settings import PartitionSettings
from dualdnn.schema import Schema

# Standard deviations of a count from which a difference in rows is none of chance.
_CHANCE = 5.0
# Copies in a sample that are more than an accident.
_LEAST_COPIES = 5
# Labels of the rarer class that a usual day must have for its rate to be a number of its own: two
# rows can only say 0, 1/2 or 1.
_LEAST_LABELS = 10
# Probability under which a day of one class is no accident.
_ACCIDENT = 1e-6


def comparison_findings(
    encoded: Sequence[EncodedDay], schema: Schema, settings: PartitionSettings
) -> list[Finding]:
    """Days with too many copies, too few rows, odd labels, odd values."""
    days = [day for day in encoded if day.rows]
    rows = np.array([day.rows for day in days], np.float64)
    positives = np.array([np.count_nonzero(day.array("labels")) for day in days], np.float64)
    found = [*_duplicates(days, schema, settings)]
    if len(days) <= settings.least_days:
        return found
    found += _row_counts(days, rows, settings)
    found += _label_rates(days, rows, positives, settings)
    for field in schema.fields:
        if field.is_categorical and not field.cross:
            unique = np.array([section.stop - section.start
                               for section in (day.section(field.name) for day in days)])
            found += _categories(days, rows, unique, field.name, settings)
        if not field.cross:
            filled = np.array([filled_share(day, field) for day in days])
            found += _missing_values(days, rows, filled, field.name, settings)
    return found


def _median_of_others(values: np.ndarray) -> np.ndarray:
    """(days,) medians, each over all days but that one."""
    return np.array([np.median(np.delete(values, i)) for i in range(len(values))])


def _duplicates(days: Sequence[EncodedDay], schema: Schema,
                settings: PartitionSettings) -> Iterator[Finding]:
    counted = [copies(day, schema, settings.sample_rows) for day in days]
    shares = np.array([same / max(rows, 1) for same, rows in counted])
    usual = (_median_of_others(shares) if len(days) > settings.least_days
             else np.zeros(len(days)))
    for day, (same, rows), share, before in zip(days, counted, shares, usual, strict=True):
        if same < _LEAST_COPIES or share - before <= settings.duplicate_share:
            continue
        seen = "" if rows == day.rows else f" (of {rows:,} rows looked at)"
        severity = "error" if share - before > settings.duplicate_share_error else "warning"
        yield Finding(
            kind="duplicate_rows", severity=severity, day=day.day,
            message=f"{share:.1%} of the rows of dt={day.day}{seen} are exact copies of others, "
                    f"usual are {before:.1%}. Look for a batch that was written twice.")
    if len(days) > settings.least_days and np.median(shares) > settings.duplicate_share:
        yield Finding(
            kind="duplicate_rows", severity="info", day=None,
            message=f"on the median day {np.median(shares):.1%} of the rows are exact copies of "
                    "others. If these are not real events, write each row once.")


def _row_counts(days: Sequence[EncodedDay], rows: np.ndarray,
                settings: PartitionSettings) -> Iterator[Finding]:
    for day, count, usual in zip(days, rows, _median_of_others(rows), strict=True):
        factor = max(count / usual, usual / count)
        if factor > settings.rows_factor and abs(count - usual) > _CHANCE * usual**0.5:
            advice = ("Look for rows written twice or a changed sampling." if count > usual else
                      "Look for a half-written day or a lost source.")
            yield Finding(
                kind="row_count", severity="warning", day=day.day,
                message=f"dt={day.day} has {count:,.0f} rows, {factor:.1f} times "
                        f"{'more' if count > usual else 'fewer'} than the median "
                        f"{usual:,.0f} of the other days. {advice}")


def _usual_rate(rates: np.ndarray, weights: np.ndarray) -> float:
    """Weighted median, which a few broken days do not move; of tiny days the weighted mean."""
    mean = float(np.average(rates, weights=weights))
    if min(mean, 1 - mean) * np.median(weights) < _LEAST_LABELS:
        return mean
    order = np.argsort(rates, kind="stable")
    reached = np.cumsum(weights[order])
    return float(rates[order][np.searchsorted(reached, reached[-1] / 2)])


def _label_rates(days: Sequence[EncodedDay], rows: np.ndarray, positives: np.ndarray,
                 settings: PartitionSettings) -> Iterator[Finding]:
    rates = positives / rows
    # No day weighs more than two usual ones, or a single large broken day would be the norm.
    weights = np.minimum(rows, 2 * np.median(rows))
    for i, day in enumerate(days):
        usual = _usual_rate(np.delete(rates, i), np.delete(weights, i))
        rare = min(usual, 1 - usual)
        if rates[i] in (0.0, 1.0) and rare > 0 and (1 - rare) ** rows[i] < _ACCIDENT:
            yield Finding(
                kind="one_class", severity="error", day=day.day,
                message=f"all {rows[i]:,.0f} labels of dt={day.day} are {rates[i]:.0f}; on the "
                        f"other days {usual:.4f} of them are 1. Look for a join that failed or "
                        "labels that have not arrived.")
            continue
        # Half a count keeps a rate of 0 from having no error at all.
        joint = (usual * rows.sum() + 0.5) / (rows.sum() + 1)
        error = (joint * (1 - joint) * (1 / rows[i] + 1 / (rows.sum() - rows[i]))) ** 0.5
        errors = abs(rates[i] - usual) / error
        outside = (rates[i] > settings.label_ratio * usual
                   or rates[i] * settings.label_ratio < usual)
        if outside and errors > settings.label_errors:
            yield Finding(
                kind="label_rate", severity="warning", day=day.day,
                message=f"{rates[i]:.4f} of the labels of dt={day.day} are 1, on the other days "
                        f"{usual:.4f} ({errors:.0f} standard errors). Look for late labels or a "
                        "changed sampling; calibration suffers.")


def _categories(days: Sequence[EncodedDay], rows: np.ndarray, unique: np.ndarray, field: str,
                settings: PartitionSettings) -> Iterator[Finding]:
    """Distinct values grow at most as the rows do, and not at all where all are known."""
    usual, usual_rows = _median_of_others(unique), _median_of_others(rows)
    for i, day in enumerate(days):
        relative = rows[i] / usual_rows[i]
        most = settings.category_factor * usual[i] * max(1.0, relative)
        least = usual[i] * min(1.0, relative) / settings.category_factor
        told = (f"`{field}` has {unique[i]:,} distinct values in {rows[i]:,.0f} rows of "
                f"dt={day.day}, the median of the other days is {usual[i]:,.0f} in "
                f"{usual_rows[i]:,.0f} rows.")
        if unique[i] > most and unique[i] >= settings.category_values:
            yield Finding(
                kind="category_explosion", severity="warning", day=day.day,
                message=f"{told} Look for ids in a new format: every one would get a row of its "
                        "own.")
        elif unique[i] < least and usual[i] >= settings.category_values:
            yield Finding(
                kind="category_collapse", severity="warning", day=day.day,
                message=f"{told} Look for a default value or a lost source.")


def _missing_values(days: Sequence[EncodedDay], rows: np.ndarray, filled: np.ndarray, field: str,
                    settings: PartitionSettings) -> Iterator[Finding]:
    for day, count, share, usual in zip(days, rows, filled, _median_of_others(filled),
                                        strict=True):
        lost = usual - share
        if lost > settings.missing_rise * usual and lost * count > _CHANCE * (usual * count)**0.5:
            yield Finding(
                kind="missing_values", severity="warning", day=day.day,
                message=f"`{field}` has {share:.2f} values a row on dt={day.day}, {usual:.2f} on "
                        "the median of the other days. Look for a join that failed.")
