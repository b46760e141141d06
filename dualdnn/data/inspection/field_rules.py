"""What there is to say about the values of single fields, labels aside."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dualdnn.data.inspection.drift import LEAST_DRAWS, days_that_stand_out, first_and_last_third
from dualdnn.data.inspection.facts import FieldFacts, LogFacts
from dualdnn.data.inspection.finding import Finding, more_days
from dualdnn.data.inspection.numbers import NumberTally
from dualdnn.data.inspection.settings import InspectionSettings

_LARGE_DRIFT = 0.25
_DEVIATIONS = 8.0
_MISSING_JUMP = 0.1
_HIGH_OOV, _VERY_HIGH_OOV = 0.3, 0.6
_ROW_IDS = 0.7
_TRUNCATED = 0.2


def field_findings(log: LogFacts, fields: Sequence[FieldFacts],
                   settings: InspectionSettings) -> list[Finding]:
    """Empty and constant fields, row ids, unseen values, jumps and drift."""
    found: list[Finding | None] = []
    for facts in fields:
        empty = _empty(log, facts)
        if empty:
            found.append(empty)
            continue
        jump = _missing_jump(log, facts)
        found += [jump or _drift(log, facts, settings), _truncated(facts),
                  _row_id(facts) or _unseen(log, facts, settings)]
    return [one for one in found if one]


def _empty(log: LogFacts, facts: FieldFacts) -> Finding | None:
    name, rows = facts.field.name, int(log.rows.sum())
    if facts.presence.missing_share == 1:
        return Finding(
            severity="warning", kind="always_missing", field=name, strength=1.0,
            sentence=f"`{name}` has no value in any of {rows:,} rows.",
            advice="Check the name of the column and the job that writes it, or drop the field.")
    if facts.distinct == 1 and facts.presence.missing_share == 0:
        return Finding(
            severity="warning", kind="constant", field=name, strength=0.5,
            sentence=f"`{name}` has the same value in all {rows:,} rows.",
            advice="It says nothing. Check the job that writes it, or drop the field.")
    return None


def _row_id(facts: FieldFacts) -> Finding | None:
    if isinstance(facts.tally, NumberTally):
        return None
    values = int(facts.tally.totals.counts.sum())
    if values < 1000 or facts.distinct < _ROW_IDS * values:
        return None
    return Finding(
        severity="warning", kind="row_id", field=facts.field.name,
        strength=facts.distinct / values,
        sentence=f"`{facts.field.name}` has {facts.distinct:,} distinct values in {values:,}: "
                 "nearly every row has its own.",
        advice="A model can only learn such a value by heart. Drop the field, or cut it into "
               "parts that come again.")


def _unseen(log: LogFacts, facts: FieldFacts, settings: InspectionSettings) -> Finding | None:
    oov = facts.oov(log.days, settings.oov_days)
    if oov is None or oov[0] < _HIGH_OOV:
        return None
    share, full = oov
    days = f"{settings.oov_days} days before it" if full else "days before it that the log has"
    return Finding(
        severity="warning" if share >= _VERY_HIGH_OOV else "note", kind="unseen_values",
        field=facts.field.name, strength=share,
        sentence=f"{share:.1%} of the values of `{facts.field.name}` on a day do not occur in the "
                 f"{days}.",
        advice="A model trained on those days has no row of its own for them: lean on fields that "
               "describe such ids, lengthen window.days, or retrain more often.")


def _truncated(facts: FieldFacts) -> Finding | None:
    if isinstance(facts.tally, NumberTally) or facts.field.width == 1:
        return None
    full = float(facts.tally.lengths[-1] / facts.tally.lengths.sum())
    if full < _TRUNCATED:
        return None
    return Finding(
        severity="note", kind="full_lists", field=facts.field.name, strength=full,
        sentence=f"{full:.1%} of the lists of `{facts.field.name}` fill max_length="
                 f"{facts.field.width}; what is beyond is not read.",
        advice="Raise max_length if the lists are longer.")


def _missing_jump(log: LogFacts, facts: FieldFacts) -> Finding | None:
    missing = np.array(facts.presence.missing)
    jumps: list[float | None] = []
    before: list[float] = []
    for i, window in enumerate(log.before):
        rows = int(log.rows[window].sum())
        usual = float(missing[window].sum() / rows) if rows else 0.0
        before.append(usual)
        pooled = float((missing[window].sum() + missing[i]) / (rows + log.rows[i]))
        draws = float(log.draws[window].sum()), float(log.draws[i])
        chance = 1 / draws[0] + 1 / draws[1] if rows else 0.0
        error = (pooled * (1 - pooled) * chance) ** 0.5
        change = abs(float(missing[i] / log.rows[i]) - usual)
        sure = change > _DEVIATIONS * error
        jumps.append((change if sure else 0.0) if min(draws) >= LEAST_DRAWS else None)
    odd = days_that_stand_out(jumps, log.before, _MISSING_JUMP)
    if not odd:
        return None
    worst = odd[0]
    return Finding(
        severity="warning", kind="missing_share_jump", field=facts.field.name,
        strength=jumps[worst] or 0.0,
        sentence=f"`{facts.field.name}` is missing in {missing[worst] / log.rows[worst]:.1%} of "
                 f"the rows of {log.days[worst]}, in {before[worst]:.1%} on the days before"
                 + (f"; so on {more_days(len(odd) - 1)}." if len(odd) > 1 else "."),
        advice="Check the job that writes the field on that day; a model trained across the jump "
               "takes missing for a signal.")


def _most_moved(bins: Sequence[str], before: np.ndarray, after: np.ndarray) -> str:
    """The bin whose share changed most, from and to what."""
    p, q = before / max(before.sum(), 1), after / max(after.sum(), 1)
    at = int(np.argmax(np.abs(q - p)))
    return f"{bins[at]} went from {p[at]:.1%} to {q[at]:.1%}"


def _drift(log: LogFacts, facts: FieldFacts, settings: InspectionSettings) -> Finding | None:
    """A day that is unlike the days before it, or a field that moves all along."""
    name = facts.field.name
    sure = [None if value is None else (value if (deviations or 0.0) >= _DEVIATIONS else 0.0)
            for value, deviations in zip(facts.drift, facts.deviations, strict=True)]
    odd = days_that_stand_out(sure, log.before, _LARGE_DRIFT)
    if odd:
        worst = odd[0]
        usual = float(np.median([value for value in facts.drift if value is not None]))
        moved = _most_moved(facts.bins, facts.histograms[log.before[worst]].sum(axis=0),
                            facts.histograms[worst])
        return Finding(
            severity="warning", kind="drift_of_a_day", field=name, strength=sure[worst] or 0.0,
            sentence=f"`{name}` on {log.days[worst]} is unlike the {settings.drift_days} days "
                     f"before: stability index {sure[worst]:.2f}, usually {usual:.2f}; {moved}"
                     + (f". It stands out on {more_days(len(odd) - 1)}." if len(odd) > 1
                        else "."),
            advice="Check what changed on that day, in the product or in the job that writes the "
                   "field.")
    if facts.drift_of_thirds is not None and facts.drift_of_thirds >= _LARGE_DRIFT:
        return _slow_drift(log, facts)
    return None


def _slow_drift(log: LogFacts, facts: FieldFacts) -> Finding:
    thirds = first_and_last_third(log.rows)
    assert thirds
    moved = _most_moved(facts.bins, *(facts.histograms[one].sum(axis=0) for one in thirds))
    return Finding(
        severity="note", kind="slow_drift", field=facts.field.name,
        strength=facts.drift_of_thirds or 0.0,
        sentence=f"`{facts.field.name}` drifts: stability index {facts.drift_of_thirds:.2f} "
                 f"between the first and the last third of the rows; {moved}.",
        advice="Test on the newest days (window=rolling or time_fraction) and retrain often; for "
               "a number that only grows, take its rate or its age instead.")
