"""Rules on how good the scores are: each measures with an interval before it judges."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import NormalDist

import numpy as np

from dualdnn.evaluation.decision import Reason
from dualdnn.evaluation.gate_case import Candidate, Case, chosen_slices, is_on
from dualdnn.evaluation.gate_limits import Comparison, SliceComparison
from dualdnn.evaluation.gate_settings import GateSettings
from dualdnn.evaluation.metrics import ReliabilityBin, auc, ece, log_loss, sigmoid

_METRICS = {"auc": auc, "log_loss": log_loss}
_SHOWN = {"auc": "AUC", "log_loss": "log loss"}


def interval_count(settings: GateSettings, case: Case) -> int:
    """Intervals that the gate will look at: what its confidence is shared among."""
    towers = set(case.challenger.logits)
    count = 0
    for rule in (settings.beats_constant, settings.calibration, settings.ece):
        count += len(towers & set(rule.towers)) if is_on(rule) else 0
    if case.rival is None:
        return count
    towers &= set(case.rival.logits)
    for compared in (settings.auc_drop, settings.log_loss_rise, settings.slice_auc_drop,
                     settings.slice_log_loss_rise):
        if is_on(compared):
            count += len(towers & set(compared.towers)) * len(_parts(compared, case))
    return count


def _parts(rule: Comparison, case: Case) -> dict[str, np.ndarray | None]:
    """Name to mask of what a comparison looks at; the whole holdout has neither."""
    if not isinstance(rule, SliceComparison):
        return {"": None}
    return {name: mask for name in chosen_slices(case.holdout, rule.slices)
            if (mask := case.holdout.slices[name]).sum() >= rule.min_rows}


def auc_drop(case: Case) -> Iterator[Reason]:
    """AUC below the champion's."""
    return _compared(case, "auc_drop", case.settings.auc_drop, "auc")


def log_loss_rise(case: Case) -> Iterator[Reason]:
    """Log loss above the champion's, relative."""
    return _compared(case, "log_loss_rise", case.settings.log_loss_rise, "log_loss")


def slice_auc_drop(case: Case) -> Iterator[Reason]:
    """AUC below the champion's in a slice."""
    return _compared(case, "slice_auc_drop", case.settings.slice_auc_drop, "auc")


def slice_log_loss_rise(case: Case) -> Iterator[Reason]:
    """Log loss above the champion's in a slice, relative."""
    return _compared(case, "slice_log_loss_rise", case.settings.slice_log_loss_rise, "log_loss")


def _compared(case: Case, name: str, rule: Comparison, metric: str) -> Iterator[Reason]:
    rival = case.rival
    if rival is None:
        return
    for tower in case.towers(rule.towers):
        if not case.challenger.finite(tower):
            yield _not_finite(case, name, tower)
        elif not rival.finite(tower):
            # A broken or older champion must not keep a sound version from replacing it.
            yield case.reason(name, tower, True, f"{rival.name} has no finite scores to compare "
                              "with.")
        else:
            for part, mask in _parts(rule, case).items():
                yield from _one_comparison(case, rival, name, rule, metric, tower, part, mask)


def _not_finite(case: Case, name: str, tower: str) -> Reason:
    return case.reason(name, tower, False, "its scores are not all finite, so nothing can be "
                       "measured.", measured={"value": float("nan")})


def _one_comparison(case: Case, rival: Candidate, name: str, rule: Comparison, metric: str,
                    tower: str, part: str, mask: np.ndarray | None) -> Iterator[Reason]:
    subject = f"{tower} {part}".strip()
    theirs, weights = rival.logits[tower], case.holdout.weights
    found = case.estimate(tower, metric, mask=mask, against=theirs)
    if found is None:
        # Small slices often hold one class; that the holdout does is for the rule `holdout`.
        yield case.reason(name, subject, True, "one class only, not compared.")
        return
    chosen = slice(None) if mask is None else mask
    before = _METRICS[metric](case.holdout.labels[chosen], theirs[chosen],
                              None if weights is None else weights[chosen]) or 0.0
    after = before + found.value
    low, high = case.interval(found)
    if metric == "auc":
        worse, least, most = -found.value, -high, -low
    else:
        # A log loss of 0 cannot be exceeded in relation to itself.
        scale = max(before, np.finfo(np.float64).tiny)
        worse, least, most = found.value / scale, low / scale, high / scale
    passed = bool(least <= rule.allowed and worse <= rule.hard)
    unit = "drop" if metric == "auc" else "relative rise"
    groups = f"{found.clusters:,} {'rows' if case.holdout.groups is None else 'groups'}"
    shown = f"{case.level:.1%} interval {least:+.4f} to {most:+.4f}, {groups}" \
        if np.isfinite(least) else f"only {groups}, no interval"
    yield case.reason(
        name, subject, passed,
        f"{_SHOWN[metric]} {after:.4f} after {before:.4f}, a {unit} of {worse:+.4f} "
        f"({shown}); allowed {rule.allowed:g}, never above {rule.hard:g}."
        + ("" if rival is case.champion else f" Compared with {rival.name}."),
        measured={"challenger": after, "champion": before, "worse": worse, "low": least,
                  "high": most},
        limit={"allowed": rule.allowed, "hard": rule.hard})


def beats_constant(case: Case) -> Iterator[Reason]:
    """Log loss proven worse than that of one number for all."""
    labels, rate = case.holdout.labels, case.holdout.rate
    for tower in case.towers(case.settings.beats_constant.towers):
        if not case.challenger.finite(tower):
            yield _not_finite(case, "beats_constant", tower)
            continue
        if not 0 < rate < 1:
            yield case.reason("beats_constant", tower, True, "one class only, not compared.")
            continue
        constant = np.full(case.holdout.rows, np.log(rate / (1 - rate)))
        found = case.estimate(tower, "log_loss", against=constant)
        entropy = log_loss(labels, constant, case.holdout.weights)
        if found is None or entropy is None:
            continue
        low, high = case.interval(found)
        value = entropy + found.value
        yield case.reason(
            "beats_constant", tower, bool(low <= 0),
            f"log loss {value:.4f}; always saying the label rate {rate:.4f} gives {entropy:.4f} "
            f"({case.level:.1%} interval of the difference {low:+.4f} to "
            f"{high:+.4f}). The whole interval may not be worse.",
            measured={"log_loss": value, "constant": entropy, "low": low, "high": high})


def calibration(case: Case) -> Iterator[Reason]:
    """Mean predicted over mean observed, in a band."""
    rule = case.settings.calibration
    limit = {"low": rule.low, "high": rule.high, "hard_low": rule.hard_low,
             "hard_high": rule.hard_high}
    for tower in case.towers(rule.towers):
        if not case.challenger.finite(tower):
            yield _not_finite(case, "calibration", tower)
            continue
        found = case.estimate(tower, "calibration")
        if found is None:
            yield case.unmeasured("calibration", tower, "calibration (no positive row)")
            continue
        low, high = case.interval(found)
        outside = high < rule.low or low > rule.high
        passed = not outside and rule.hard_low <= found.value <= rule.hard_high
        yield case.reason(
            "calibration", tower, bool(passed),
            f"calibration {found.value:.3f} ({case.level:.1%} interval {low:.3f} to "
            f"{high:.3f}); the band is {rule.low:g} to {rule.high:g}, never outside "
            f"{rule.hard_low:g} to {rule.hard_high:g}.",
            measured={"value": found.value, "low": low, "high": high}, limit=limit)


def _by_chance(bins: list[ReliabilityBin], level: float) -> float:
    """Upper end of the expected calibration error of a perfectly calibrated model.

    The error is a sum of |x| over the bins, each x normal around 0 with the standard error of the
    bin's rate; |x| has the mean sqrt(2 / pi) and the variance 1 - 2 / pi of x's.
    """
    rows = sum(one.count for one in bins)
    errors = np.array([one.count / rows * (one.predicted * (1 - one.predicted) / one.count) ** 0.5
                       for one in bins])
    mean = (2 / np.pi) ** 0.5 * errors.sum()
    deviation = (1 - 2 / np.pi) ** 0.5 * np.linalg.norm(errors)
    return float(mean + NormalDist().inv_cdf((1 + level) / 2) * deviation)


def calibration_error(case: Case) -> Iterator[Reason]:
    """Expected calibration error beyond chance."""
    rule = case.settings.ece
    for tower in case.towers(rule.towers):
        if not case.challenger.finite(tower):
            yield _not_finite(case, "ece", tower)
            continue
        value, bins = ece(case.holdout.labels, sigmoid(case.challenger.logits[tower]),
                          case.holdout.weights)
        if value is None:
            yield case.unmeasured("ece", tower, "ECE (no rows)")
            continue
        chance = _by_chance(bins, case.level) * case.holdout.design_effect ** 0.5
        yield case.reason(
            "ece", tower, value - chance <= rule.excess,
            f"ECE {value:.4f}, of which up to {chance:.4f} may be chance in "
            f"{case.holdout.rows:,} rows ({case.level:.1%}); allowed beyond it {rule.excess:g}.",
            measured={"value": value, "chance": chance}, limit={"excess": rule.excess})
