"""Signs that a field knows the label it is to predict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from dualdnn.data.inspection.facts import FieldFacts, LogFacts
from dualdnn.data.inspection.finding import Finding
from dualdnn.data.inspection.numbers import NumberTally

_COPY_AUC = 0.97
_SUSPICIOUS_AUC = 0.9
# A number below that, if it is this far above every other field.
_NUMBER_AUC, _NUMBER_GAP = 0.7, 0.1
_MOVES = 0.8
_SCATTER = 0.5
# A class whose rows hardly have the field, where this many would have it by chance.
_NEVER, _EXPECTED = 0.01, 20
_UNEVEN_AUC, _UNEVEN_ERRORS = 0.1, 8.0
_DROP = ("Drop the field, unless you are sure that its value is known, and the same, at the moment "
         "of the request.")


def leakage_findings(log: LogFacts, fields: Sequence[FieldFacts]) -> list[Finding]:
    """Copies of the label, statistics of the row's own label, fields that follow the label."""
    found = []
    for facts in fields:
        # What is said once need not be said again in other words.
        first = (_presence(log, facts) or _copy(log, facts) or _own_label(facts)
                 or _far_above(log, facts, fields) or _uneven_presence(log, facts))
        if first:
            found.append(_privileged(first) if facts.field.privileged else first)
    return found


def _privileged(finding: Finding) -> Finding:
    """Only the teacher reads the field: it may be from after the request, but not the answer."""
    severity = {"error": "warning", "warning": "note"}.get(finding.severity, finding.severity)
    return replace(finding, severity=severity, advice=(
        "The field is privileged, so students are served without it. But a teacher that reads the "
        "answer has no more to teach than the label: make sure it tells more than that."))


def _scored(log: LogFacts) -> str:
    return f"learnt from the oldest {log.fit_rows:,} rows, scored on the rest"


def _copy(log: LogFacts, facts: FieldFacts) -> Finding | None:
    if facts.auc is None or facts.auc < _COPY_AUC or _few(facts):
        return None
    return Finding(
        severity="error", kind="label_copy", field=facts.field.name, strength=facts.auc,
        sentence=f"`{facts.field.name}` alone ranks the labels with an AUC of {facts.auc:.4f} "
                 f"({_scored(log)}): it is `{log.label}` under another name, or made from it.",
        advice=f"{_DROP} A model trained on it learns nothing else.")


def _few(facts: FieldFacts) -> bool:
    """Too few rows of a class for the AUC to mean much."""
    return int(facts.scores.counts.sum(axis=1).min()) < 20


def _presence(log: LogFacts, facts: FieldFacts) -> Finding | None:
    """Filled, or missing, in the rows of one class only."""
    table = facts.presence.table.astype(np.float64)
    share = table / np.maximum(table.sum(axis=0), 1)
    overall = table.sum(axis=1) / table.sum()
    for state, name in ((1, "filled"), (0, "empty")):
        for label in (0, 1):
            other = 1 - label
            expected = overall[state] * table[:, other].sum()
            if expected < _EXPECTED or share[state, other] > _NEVER * share[state, label]:
                continue
            return Finding(
                severity="error", kind="presence_is_label", field=facts.field.name, strength=2.0,
                sentence=f"`{facts.field.name}` is {name} in {int(table[state, label]):,} rows "
                         f"({share[state, label]:.1%}) with `{log.label}` = {label}, and in "
                         f"{int(table[state, other]):,} of the {int(table[:, other].sum()):,} rows "
                         f"with `{log.label}` = {other}.",
                advice="It is written after the event that the label records. Drop the field, or "
                       "read it from before the request.")
    return None


def _own_label(facts: FieldFacts) -> Finding | None:
    name = facts.field.name
    if facts.moves and facts.moves[0] >= _MOVES:
        strength, along = facts.moves
        return Finding(
            severity="error", kind="knows_its_own_label", field=name, strength=strength,
            sentence=f"`{name}` moves with the label of the row itself: from one row of a "
                     f"`{along}` to its next, rise or fall tells the label with an AUC of "
                     f"{strength:.3f}; a statistic of the past cannot know it.",
            advice="Build the statistic from what was known at the end of the day before, without "
                   "the row itself (feature_lag 1d).")
    if facts.scatter and facts.auc is not None and facts.auc >= 0.6:
        ratio, error = facts.scatter
        if ratio < _SCATTER and ratio < 1 - 4 * error:
            return Finding(
                severity="error", kind="knows_its_own_label", field=name, strength=1 - ratio,
                sentence=f"`{name}` was made from the labels of these very rows: the mean label of "
                         f"rows with the same value follows it with {ratio:.2f} of the variance "
                         f"that coin flips have around their probability; its AUC is "
                         f"{facts.auc:.3f}.",
                advice="It looks like a mean label over the whole log, the future included. Build "
                       "it from what was known at the end of the day before (feature_lag 1d).")
    return None


def _far_above(log: LogFacts, facts: FieldFacts, fields: Sequence[FieldFacts]) -> Finding | None:
    """A single field far above the rest, where the rest is not itself suspicious."""
    if facts.auc is None or _few(facts):
        return None
    rest = [(one.auc, one.field.name) for one in fields
            if one is not facts and one.auc is not None and one.auc < _SUSPICIOUS_AUC]
    best = max(rest, default=(0.5, ""))
    is_number = isinstance(facts.tally, NumberTally)
    gap = facts.auc - best[0] - 2 * (facts.scores.standard_error() or 0.0)
    stands_out = is_number and facts.auc >= _NUMBER_AUC and gap >= _NUMBER_GAP
    if facts.auc < _SUSPICIOUS_AUC and not stands_out:
        return None
    beside = f"the next best, `{best[1]}`, has {best[0]:.3f}" if best[1] else "no other has one"
    return Finding(
        severity="warning", kind="far_above_the_rest", field=facts.field.name, strength=facts.auc,
        sentence=f"`{facts.field.name}` alone has an AUC of {facts.auc:.3f} ({_scored(log)}); "
                 f"{beside}.",
        advice="Check when it is written: a value from after the request leaks the label. "
               f"{_DROP}")


def _uneven_presence(log: LogFacts, facts: FieldFacts) -> Finding | None:
    table = facts.presence.table.astype(np.float64)
    missing, filled = table[0], table[1]
    if not (missing.sum() and filled.sum() and table.sum(axis=0).all()):
        return None
    rates = missing[1] / missing.sum(), filled[1] / filled.sum()
    rate = table[:, 1].sum() / table.sum()
    error = (rate * (1 - rate) * (1 / missing.sum() + 1 / filled.sum())) ** 0.5
    alike = float(log.rows.sum() / log.draws.sum())
    far = abs(rates[0] - rates[1]) / (error * alike**0.5)
    area = abs(filled[1] / table[:, 1].sum() - filled[0] / table[:, 0].sum()) / 2
    ratio = max(rates) / max(min(rates), 1e-9)
    if far < _UNEVEN_ERRORS or (area < _UNEVEN_AUC and ratio < 1.5):
        return None
    return Finding(
        severity="warning" if area >= _UNEVEN_AUC else "note", kind="presence_follows_label",
        field=facts.field.name, strength=float(area),
        sentence=f"`{facts.field.name}` is missing in {facts.presence.missing_share:.1%} of the "
                 f"rows, whose label rate is {rates[0]:.4f}; where it is filled the rate is "
                 f"{rates[1]:.4f} ({far:.0f} standard errors apart).",
        advice="Find out why it is missing. If it is filled in after the request it leaks the "
               "label; if users differ, all is well: missing has a row of its own.")
