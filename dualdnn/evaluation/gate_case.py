"""What lies before the gate: two versions, and the rows that both were scored on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from dualdnn.errors import DataError
from dualdnn.evaluation.bootstrap import Estimate, bootstrap
from dualdnn.evaluation.decision import Reason
from dualdnn.evaluation.gate_limits import Switch
from dualdnn.evaluation.gate_settings import GateSettings
from dualdnn.evaluation.golden import GoldenRequest


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A version, as far as the gate looks at it. What is left out was not measured.

    Attributes:
        logits: (rows,) on the holdout, by tower: `student` (the one to publish) and `teacher`.
        metrics: by tower, as `report.json` has them.
        reference: of the manifest, see `reference_histograms`: `probability` counts, and
            `fields` by name with their share of unseen values `oov`.
        latency: seconds a call of the student by number of rows; of both versions from one
            measurement.
        bytes: of the exported student.
        parity_max_abs: largest difference of a probability between exported graph and memory.
        golden: the student's probability by the name of the golden request.
        name: what sentences call it.
    """

    logits: Mapping[str, np.ndarray]
    metrics: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    reference: Mapping[str, Any] = field(default_factory=dict)
    latency: Mapping[int, float] = field(default_factory=dict)
    bytes: int | None = None
    parity_max_abs: float | None = None
    golden: Mapping[str, float] = field(default_factory=dict)
    name: str = "the champion"

    def finite(self, tower: str) -> bool:
        """Was the tower scored, and is every score a number?"""
        return tower in self.logits and bool(np.isfinite(self.logits[tower]).all())


@dataclass(frozen=True, kw_only=True)
class Holdout:
    """Rows that neither version has learned.

    Attributes:
        labels: (rows,) 0 or 1.
        groups: (rows,) users, what the intervals draw; None draws single rows.
        weights: (rows,) that the losses of training would give them; None for equal ones.
        slices: (rows,) booleans by name of the slice.
        training_rows: rows that the challenger was trained on.
        training_positives: those with label 1, in the share that they have by weight.
        golden: requests with a band for the answer.
    """

    labels: np.ndarray
    groups: np.ndarray | None = None
    weights: np.ndarray | None = None
    slices: Mapping[str, np.ndarray] = field(default_factory=dict)
    training_rows: int | None = None
    training_positives: float | None = None
    golden: Sequence[GoldenRequest] = ()

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.labels)

    @property
    def positives(self) -> int:
        """Rows with label 1."""
        return int(np.count_nonzero(self.labels))

    @property
    def rate(self) -> float:
        """Share of label 1, by weight; 0 without rows or weight."""
        if self.weights is None:
            return self.positives / self.rows if self.rows else 0.0
        total = float(self.weights.sum())
        return float((self.weights * self.labels).sum()) / total if total else 0.0

    @property
    def design_effect(self) -> float:
        """How many times the variance of a mean is that of equal weights (Kish 1965), >= 1."""
        if self.weights is None or not self.weights.any():
            return 1.0
        return float(self.rows * np.square(self.weights).sum() / self.weights.sum() ** 2)


@dataclass(frozen=True, kw_only=True)
class Case:
    """The question before the gate.

    Attributes:
        challenger: the new version.
        champion: the published one, or None.
        rival: whose metrics the challenger's are compared with: the champion or, where that has
            learned rows of the holdout, an older version.
        holdout: the rows.
        settings: of the gate.
        level: confidence of each interval.
        seed: of the draws.
    """

    challenger: Candidate
    champion: Candidate | None
    rival: Candidate | None
    holdout: Holdout
    settings: GateSettings
    level: float
    seed: int = 0

    def check(self) -> None:
        """Do all arrays have the same rows?

        Raises:
            DataError: they do not; the message names the array.
        """
        rows = self.holdout.rows
        named = {f"slice `{name}`": mask for name, mask in self.holdout.slices.items()}
        for name in ("groups", "weights"):
            if (given := getattr(self.holdout, name)) is not None:
                named[name] = given
        for who, version in (("challenger", self.challenger), ("champion", self.champion),
                             ("rival", self.rival)):
            if version is not None:
                named.update({f"{tower} of the {who}": logits
                              for tower, logits in version.logits.items()})
        for name, array in named.items():
            if np.shape(array) != (rows,):
                raise DataError(f"{name} must have shape ({rows},) like the labels of the "
                                f"holdout, got {np.shape(array)}. Score both versions on the "
                                "same rows.")

    def reason(self, rule: str, subject: str, passed: bool, sentence: str, *,
               measured: Mapping[str, float] | None = None,
               limit: Mapping[str, float] | None = None) -> Reason:
        """A reason with the severity of its rule."""
        severity = self.settings.rules()[rule].severity
        # Plain numbers: what comes from numpy is not JSON.
        numbers = [{key: float(value) for key, value in (given or {}).items()}
                   for given in (measured, limit)]
        return Reason(rule=rule, subject=subject, severity=severity, passed=bool(passed),
                      sentence=f"{subject}: {sentence.strip()}", measured=numbers[0],
                      limit=numbers[1])

    def towers(self, asked: Sequence[str]) -> list[str]:
        """Those that the challenger has: a student updated alone comes without its teacher."""
        return [tower for tower in asked if tower in self.challenger.logits]

    def unmeasured(self, rule: str, subject: str, what: str) -> Reason:
        """A rule that was asked for and could not be looked at does not hold."""
        return self.reason(rule, subject, False, f"{what} was not measured. Measure it, or set "
                           f"gate.{rule}.severity=ignore.")

    def estimate(self, tower: str, metric: str, *, mask: np.ndarray | None = None,
                 against: np.ndarray | None = None) -> Estimate | None:
        """A metric of a tower of the challenger, less that of the logits `against`."""
        chosen = slice(None) if mask is None else mask
        groups, weights = self.holdout.groups, self.holdout.weights
        return bootstrap(
            self.holdout.labels[chosen], self.challenger.logits[tower][chosen],
            None if against is None else against[chosen], metric=metric,
            factors=() if groups is None else (groups[chosen],),
            weights=None if weights is None else weights[chosen],
            resamples=self.settings.resamples, seed=self.seed)

    def interval(self, estimate: Estimate) -> tuple[float, float]:
        """At the level of this case; without ends where there are too few groups."""
        if estimate.clusters < self.settings.min_groups:
            return -np.inf, np.inf
        return estimate.interval(self.level)


def chosen_slices(holdout: Holdout, patterns: Sequence[str]) -> list[str]:
    """Names of the holdout's slices that match a pattern, in their order."""
    return [name for name in holdout.slices
            if any(fnmatchcase(name, pattern) for pattern in patterns)]


def is_on(rule: Switch) -> bool:
    """Is the rule looked at?"""
    return rule.severity != "ignore"
