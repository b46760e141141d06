"""The gate: is the new version good enough to replace the published one?"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping

from dualdnn.evaluation import gate_metric_rules, gate_rules
from dualdnn.evaluation.decision import Decision, Reason
from dualdnn.evaluation.gate_case import Candidate, Case, Holdout, is_on
from dualdnn.evaluation.gate_settings import GateSettings
from dualdnn.evaluation.golden import GoldenRequest

__all__ = ["Candidate", "Decision", "GateSettings", "GoldenRequest", "Holdout", "Reason", "decide"]

_RULES: Mapping[str, Callable[[Case], Iterable[Reason]]] = {
    "finite": gate_rules.finite,
    "measured": gate_rules.measured,
    "holdout": gate_rules.holdout,
    "label_rate": gate_rules.label_rate,
    "beats_constant": gate_metric_rules.beats_constant,
    "auc_drop": gate_metric_rules.auc_drop,
    "log_loss_rise": gate_metric_rules.log_loss_rise,
    "slice_auc_drop": gate_metric_rules.slice_auc_drop,
    "slice_log_loss_rise": gate_metric_rules.slice_log_loss_rise,
    "calibration": gate_metric_rules.calibration,
    "ece": gate_metric_rules.calibration_error,
    "oov": gate_rules.oov,
    "score_change": gate_rules.score_change,
    "reference_change": gate_rules.reference_change,
    "latency": gate_rules.latency,
    "size": gate_rules.size,
    "parity": gate_rules.parity,
    "golden": gate_rules.golden,
}


def decide(
    *,
    challenger: Candidate,
    champion: Candidate | None,
    holdout: Holdout,
    settings: GateSettings,
    rival: Candidate | None = None,
    seed: int = 0,
) -> Decision:
    """Look at every rule and say whether the challenger may be published.

    A pure function: the same arguments give the same decision. Without a champion the rules that
    compare are left out, and the decision says so. A rule that is on and could not be measured
    does not hold, except where it is the champion that lacks the number.

    Args:
        challenger: the new version.
        champion: the published version, scored on the same rows; None if there is none yet.
        holdout: rows that neither has learned.
        settings: the rules; `GateSettings.only` for a part of them.
        rival: whose metrics to compare with, where the champion has learned rows of the holdout;
            None for the champion's.
        seed: of the draws behind the intervals.

    Raises:
        DataError: scores, groups or slices of other rows than the labels, or labels other than 0
            and 1.
    """
    if not settings.enabled:
        return Decision(accepted=True, first_version=champion is None, enabled=False)
    case = Case(challenger=challenger, champion=champion, rival=rival or champion,
                holdout=holdout, settings=settings, level=settings.level, seed=seed)
    case.check()
    intervals = max(1, gate_metric_rules.interval_count(settings, case))
    case = dataclasses.replace(case, level=1 - (1 - settings.level) / intervals)
    reasons = [reason for name, rule in settings.rules().items() if is_on(rule)
               for reason in _RULES[name](case)]
    rejected = any(not one.passed and one.severity == "reject" for one in reasons)
    return Decision(accepted=not rejected, first_version=champion is None,
                    reasons=tuple(reasons))
