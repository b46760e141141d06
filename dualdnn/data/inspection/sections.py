"""From facts to the sections of `report.json`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from dualdnn.data.inspection.facts import FieldFacts, LogFacts
from dualdnn.data.inspection.field_rules import field_findings
from dualdnn.data.inspection.finding import in_order
from dualdnn.data.inspection.leakage_rules import leakage_findings
from dualdnn.data.inspection.log_rules import log_findings
from dualdnn.data.inspection.numbers import NumberTally
from dualdnn.data.inspection.settings import InspectionSettings
from dualdnn.schema import Schema

_QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
_HISTOGRAM_BINS = 32


def _without_nones(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _number(tally: NumberTally) -> dict[str, Any] | None:
    """Range, quantiles and shape; None without values."""
    filled = int(tally.presence.table[1].sum())
    if not filled:
        return None
    quantiles = tally.sketch.quantiles(np.array(_QUANTILES))
    # The picture is of the middle: one outlier must not make it a single bar.
    low, high = float(quantiles[0]), float(quantiles[-1])
    edges = np.linspace(low, high if high > low else low + 1, _HISTOGRAM_BINS + 1)
    return {
        "min": tally.least, "max": tally.greatest, "mean": tally.mean,
        "zeros": tally.zeros / filled,
        "quantiles": {str(share): float(one)
                      for share, one in zip(_QUANTILES, quantiles, strict=True)},
        "histogram": {"low": float(edges[0]), "high": float(edges[-1]),
                      "shares": tally.sketch.histogram(edges).round(6).tolist()},
    }


def _top_values(facts: FieldFacts, most: int) -> list[dict[str, Any]] | None:
    if isinstance(facts.tally, NumberTally) or facts.field.pii:
        return None
    totals = facts.tally.totals
    every = max(int(totals.counts.sum()), 1)
    return [
        {"value": text, "count": int(totals.counts[at]),
         "share": float(totals.counts[at] / every),
         "label_rate": float(totals.positives[at] / totals.counts[at])}
        for text, at in zip(facts.texts, totals.top(most), strict=False)
    ]


def _lengths(facts: FieldFacts) -> dict[str, Any] | None:
    if isinstance(facts.tally, NumberTally) or facts.field.width == 1:
        return None
    lengths = facts.tally.lengths
    return {"mean": float(np.average(np.arange(len(lengths)), weights=lengths)),
            "rows": lengths.tolist()}


def _field(facts: FieldFacts, log: LogFacts, settings: InspectionSettings) -> dict[str, Any]:
    tally, field = facts.tally, facts.field
    missing_rate, filled_rate = facts.presence.label_rates()
    oov = facts.oov(log.days, settings.oov_days)
    is_number = isinstance(tally, NumberTally)
    once = None if isinstance(tally, NumberTally) else int((tally.totals.counts == 1).sum())
    return _without_nones({
        "kind": field.kind, "side": field.side, "pii": field.pii,
        "privileged": field.privileged,
        "distinct": facts.distinct, "seen_once": once,
        "missing": facts.presence.missing_share,
        "label_rate_missing": missing_rate, "label_rate_filled": filled_rate,
        "auc": facts.auc, "auc_error": facts.scores.standard_error(),
        "oov": oov[0] if oov else None,
        "oov_has_full_history": oov[1] if oov else None,
        "drift_first_to_last_third": facts.drift_of_thirds,
        "label_told_by_moves": facts.moves[0] if facts.moves else None,
        "label_scatter": facts.scatter[0] if facts.scatter else None,
        "top_values": _top_values(facts, settings.top_values),
        "lengths": _lengths(facts),
        "number": _number(tally) if isinstance(tally, NumberTally) else None,
        "by_day": _without_nones({
            "missing": (np.array(facts.presence.missing) / log.rows).tolist(),
            "oov": None if is_number else facts.oov_by_day, "drift": list(facts.drift),
        }),
    })


def report_sections(
    log: LogFacts, fields: Sequence[FieldFacts], settings: InspectionSettings, schema: Schema
) -> dict[str, Any]:
    """The sections `data`, `days`, `fields` and `findings`, as plain values.

    Args:
        log: by day.
        fields: every field that could be read, in the order of the schema.
        settings: of the inspection.
        schema: of the log.
    """
    findings = in_order([*log_findings(log), *leakage_findings(log, fields),
                         *field_findings(log, fields, settings)])
    known = {facts.field.name for facts in fields}
    return {
        "data": {
            "name": log.name, "rows": int(log.rows.sum()), "days": len(log.days),
            "first_day": str(log.days[0]), "last_day": str(log.days[-1]),
            "missing_days": [[str(first), str(last)] for first, last in log.missing_days],
            "label": log.label, "label_rate": log.rate, "fit_rows": log.fit_rows,
            "fingerprint": log.fingerprint,
            "not_inspected": [one.name for one in schema.fields if one.name not in known],
        },
        "days": {"day": [str(day) for day in log.days], "rows": log.rows.tolist(),
                 "label_rate": (log.positives / log.rows).tolist()},
        "fields": {facts.field.name: _field(facts, log, settings) for facts in fields},
        "findings": [_without_nones(asdict(one)) for one in findings],
    }
