"""Rules on what surrounds the scores: the holdout, the inputs, the exported graph."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from scipy.special import ndtr

from dualdnn.data.inspection.drift import population_stability_index
from dualdnn.evaluation.decision import Reason
from dualdnn.evaluation.gate_case import Case
from dualdnn.evaluation.metrics import sigmoid

_STUDENT = "student"
_NEEDED = ("auc", "log_loss", "calibration")
_PARTS = 10


def finite(case: Case) -> Iterator[Reason]:
    """Every score of every tower is a number, and the student has some."""
    logits = case.challenger.logits
    if _STUDENT not in logits:
        yield case.reason("finite", _STUDENT, False, "it has no scores on the holdout; a student "
                          "that became NaN in training has none.")
    for tower, values in logits.items():
        broken = int(np.count_nonzero(~np.isfinite(values)))
        yield case.reason("finite", tower, broken == 0,
                          f"{broken:,} of {len(values):,} scores are NaN or infinite.",
                          measured={"broken": broken}, limit={"broken": 0})


def _broken(values: Mapping[str, Any], where: str = "") -> Iterator[str]:
    """Names of the numbers that are NaN or infinite, also inside slices."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _broken(value, f"{where}{key}.")
        elif isinstance(value, float | np.floating) and not math.isfinite(value):
            yield f"{where}{key}"


def measured(case: Case) -> Iterator[Reason]:
    """The student's metrics are there, and none of any tower is NaN."""
    metrics = case.challenger.metrics
    ours = metrics.get(_STUDENT, {})
    if absent := [key for key in _NEEDED if ours.get(key) is None]:
        yield case.unmeasured("measured", _STUDENT, " and ".join(absent))
    for tower, values in metrics.items():
        broken = list(_broken(values))
        named = ", ".join(broken[:5]) if broken else "none"
        yield case.reason("measured", tower, not broken,
                          f"{len(broken)} metrics are NaN or infinite: {named}.",
                          measured={"broken": len(broken)}, limit={"broken": 0})


def holdout(case: Case) -> Iterator[Reason]:
    """Enough rows of both classes."""
    rule, rows, positives = case.settings.holdout, case.holdout.rows, case.holdout.positives
    negatives = rows - positives
    passed = (rows >= rule.min_rows and positives >= rule.min_positives
              and negatives >= rule.min_negatives)
    yield case.reason(
        "holdout", "holdout", passed,
        f"{rows:,} rows, {positives:,} positive and {negatives:,} negative; needed are "
        f"{rule.min_rows:,}, {rule.min_positives:,} and {rule.min_negatives:,}. "
        + ("" if passed else "Give the holdout more days, or lower gate.holdout."),
        measured={"rows": rows, "positives": positives, "negatives": negatives},
        limit={"min_rows": rule.min_rows, "min_positives": rule.min_positives,
               "min_negatives": rule.min_negatives})


def _errors_apart(one: float, rows: float, other: float, other_rows: float) -> float:
    """Standard errors between the shares of two parts, were both drawn at one rate."""
    # Half a count keeps a rate of 0 from having no error at all.
    joint = (one * rows + other * other_rows + 0.5) / (rows + other_rows + 1)
    return abs(one - other) / (joint * (1 - joint) * (1 / rows + 1 / other_rows)) ** 0.5


def label_rate(case: Case) -> Iterator[Reason]:
    """Label rate of the holdout in a band around that of training."""
    rule, given = case.settings.label_rate, case.holdout
    if not given.training_rows or given.training_positives is None:
        yield case.unmeasured("label_rate", "holdout", "the label rate of training")
        return
    if not given.rows:
        yield case.unmeasured("label_rate", "holdout", "the label rate of a holdout without rows")
        return
    before, rate = given.training_positives / given.training_rows, given.rate
    # Weights make rows count for fewer.
    errors = _errors_apart(rate, given.rows, before, given.training_rows) \
        / given.design_effect ** 0.5
    outside = rate > rule.ratio * before or rate * rule.ratio < before
    yield case.reason(
        "label_rate", "holdout", not (outside and errors > rule.errors),
        f"label rate {rate:.4f} after {before:.4f} in training, {errors:.1f} standard errors "
        f"apart; allowed is a factor of {rule.ratio:g} or {rule.errors:g} standard errors.",
        measured={"rate": rate, "training": before, "errors": errors},
        limit={"ratio": rule.ratio, "errors": rule.errors})


def oov(case: Case) -> Iterator[Reason]:
    """Share of unseen values, field by field; one reason where all is well."""
    rule = case.settings.oov
    limit = {"rise": rule.rise, "errors": rule.errors}
    if rule.maximum is not None:
        limit["maximum"] = rule.maximum
    ours = _shares(case.challenger.reference)
    theirs = _shares(case.champion.reference) if case.champion else {}
    if not ours:
        yield case.unmeasured("oov", "fields", "the share of unseen values")
        return
    rises = {name: share - theirs[name] for name, share in ours.items() if name in theirs}
    rows = [_draws(version.reference) for version in (case.challenger, case.champion) if version]
    failed = False
    for name, share in ours.items():
        too_much = math.isnan(share) or (rule.maximum is not None and share > rule.maximum)
        rose = name in rises and not rises[name] <= rule.rise
        if rose and not too_much and all(one.get(name) for one in rows):
            rose = _errors_apart(share, rows[0][name], theirs[name], rows[1][name]) > rule.errors
        if too_much or rose:
            failed = True
            before = f" after {theirs[name]:.3f}" if name in theirs else ""
            most = "" if rule.maximum is None else f", never above {rule.maximum:g}"
            yield case.reason(
                "oov", f"field {name}", False,
                f"{share:.3f} of its values are missing or unseen{before}; allowed is a rise of "
                f"{rule.rise:g} or {rule.errors:g} standard errors{most}.",
                measured={"share": share, "champion": theirs.get(name, math.nan)}, limit=limit)
    if not failed:
        largest = max(ours, key=lambda name: ours[name])
        rise = max(rises.values(), default=0.0)
        yield case.reason("oov", "fields", True,
                          f"at most {ours[largest]:.3f} of the values are missing or unseen "
                          f"({largest}), the largest rise is {rise:.3f}.",
                          measured={"share": ours[largest], "rise": rise}, limit=limit)


def _shares(reference: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(one["oov"]) for name, one in reference.get("fields", {}).items()
            if one.get("oov") is not None}


def _draws(reference: Mapping[str, Any]) -> dict[str, float]:
    """By field how many rows its share is worth; versions before 0.4 count every row."""
    return {name: float(one.get("draws", reference.get("rows") or 0))
            for name, one in reference.get("fields", {}).items()}


def _rows_by_part(scores: np.ndarray, cuts: np.ndarray, width: float) -> np.ndarray:
    """Rows between neighbouring cuts, each row a normal distribution of this width.

    Many rows may have one score (new users before one item) and lie on a cut: counted as points,
    a tenth of the log would change its part when that score moves by nothing.
    """
    below = [ndtr((cut - scores) / width).sum() for cut in cuts]
    return np.diff([0.0, *below, float(len(scores))])


def score_change(case: Case) -> Iterator[Reason]:
    """The student's scores against the champion's on the same rows."""
    rule = case.settings.score_change
    if case.champion is None or _STUDENT not in case.challenger.logits or not case.holdout.rows:
        return
    if not case.challenger.finite(_STUDENT):
        yield case.reason("score_change", _STUDENT, False, "its scores are not all finite.",
                          measured={"psi": math.nan, "mean_abs_logit": math.nan})
        return
    if not case.champion.finite(_STUDENT):
        yield case.reason("score_change", _STUDENT, True,
                          "the champion has no finite scores to compare with.")
        return
    ours, theirs = (np.asarray(version.logits[_STUDENT], np.float64)
                    for version in (case.challenger, case.champion))
    cuts = np.unique(np.quantile(theirs, np.arange(1, _PARTS) / _PARTS))
    # A champion that says one number has no width of its own.
    width = max(float(theirs.std()) / 4, 1e-3)
    counts = [_rows_by_part(values, cuts, width) for values in (theirs, ours)]
    psi, _ = population_stability_index(counts[0], counts[1])
    moved = float(np.abs(ours - theirs).mean())
    yield case.reason(
        "score_change", _STUDENT, psi <= rule.psi and moved <= rule.mean_abs_logit,
        f"mean score {sigmoid(ours).mean():.4f} after {sigmoid(theirs).mean():.4f} on the same "
        f"rows, population stability index {psi:.3f} (allowed {rule.psi:g}), mean |change of "
        f"logit| {moved:.3f} (allowed {rule.mean_abs_logit:g}).",
        measured={"psi": psi, "mean_abs_logit": moved},
        limit={"psi": rule.psi, "mean_abs_logit": rule.mean_abs_logit})


def reference_change(case: Case) -> Iterator[Reason]:
    """Today's scores against those that the champion was published with."""
    if case.champion is None:
        return
    ours, theirs = (version.reference.get("probability")
                    for version in (case.challenger, case.champion))
    if not ours or not theirs or len(ours) != len(theirs):
        yield case.reason("reference_change", _STUDENT, True,
                          "one version has no histogram of scores to compare.")
        return
    psi, _ = population_stability_index(np.asarray(theirs), np.asarray(ours))
    limit = case.settings.reference_change.psi
    yield case.reason(
        "reference_change", _STUDENT, psi <= limit,
        f"the histogram of scores moved by {psi:.3f} (population stability index) since the "
        f"champion was published; allowed {limit:g}.", measured={"psi": psi},
        limit={"psi": limit})


def latency(case: Case) -> Iterator[Reason]:
    """Seconds a call over the champion's."""
    rule = case.settings.latency
    if case.champion is None:
        return
    ours, theirs = (version.latency.get(rule.rows) for version in (case.challenger, case.champion))
    if ours is None:
        yield case.unmeasured("latency", _STUDENT, f"the time of a call with {rule.rows} rows")
    elif not theirs:
        yield case.reason("latency", _STUDENT, True, "the champion was not timed.")
    else:
        yield case.reason(
            "latency", _STUDENT, ours / theirs <= rule.ratio,
            f"{1e3 * ours:.3f} ms a call of {rule.rows} rows after {1e3 * theirs:.3f} ms, "
            f"{ours / theirs:.2f} times; allowed {rule.ratio:g} times.",
            measured={"seconds": ours, "champion": theirs, "ratio": ours / theirs},
            limit={"ratio": rule.ratio})


def size(case: Case) -> Iterator[Reason]:
    """Bytes of the exported student."""
    rule, ours = case.settings.size, case.challenger.bytes
    theirs = case.champion.bytes if case.champion else None
    if ours is None:
        yield case.unmeasured("size", _STUDENT, "the size of the exported graph")
        return
    found: dict[str, float] = {"bytes": ours}
    limit: dict[str, float] = {"ratio": rule.ratio}
    told = f"{ours:,} bytes"
    passed = True
    if theirs:
        found |= {"champion": theirs, "ratio": ours / theirs}
        passed = ours / theirs <= rule.ratio
        told += f" after {theirs:,}, {ours / theirs:.2f} times; allowed {rule.ratio:g} times"
    if rule.maximum is not None:
        limit["maximum"] = rule.maximum
        passed = passed and ours <= rule.maximum
        told += f"; never above {rule.maximum:,} bytes"
    yield case.reason("size", _STUDENT, passed, f"{told}.", measured=found, limit=limit)


def parity(case: Case) -> Iterator[Reason]:
    """The exported graph answers as the model in memory."""
    value, most = case.challenger.parity_max_abs, case.settings.parity.maximum
    if value is None:
        yield case.unmeasured("parity", _STUDENT, "the parity of the exported graph")
        return
    yield case.reason("parity", _STUDENT, value <= most,
                      f"the exported graph is off by {value:.2e} at most; allowed {most:g}.",
                      measured={"max_abs": value}, limit={"maximum": most})


def golden(case: Case) -> Iterator[Reason]:
    """Stored requests get an answer in their band."""
    for request in case.holdout.golden:
        answer = case.challenger.golden.get(request.name)
        subject = f"golden request {request.name}"
        if answer is None:
            yield case.unmeasured("golden", subject, "the answer")
            continue
        yield case.reason(
            "golden", subject, request.low <= answer <= request.high,
            f"answered {answer:.4f}; the band is {request.low:g} to {request.high:g}.",
            measured={"answer": answer}, limit={"low": request.low, "high": request.high})
