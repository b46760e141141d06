"""Which rules the gate has, and how sure it must be."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field, fields
from typing import Any

from dualdnn.evaluation.gate_limits import (
    BeatsConstant,
    Calibration,
    CalibrationError,
    Comparison,
    HoldoutSize,
    LabelRate,
    Latency,
    OutOfVocabulary,
    Parity,
    ReferenceChange,
    ScoreChange,
    Size,
    SliceComparison,
    Switch,
    too_small,
)


@dataclass(frozen=True, kw_only=True)
class GateSettings:
    """All rules of the gate.

    Attributes:
        enabled: false accepts everything unseen.
        level: confidence of all intervals together: of k intervals each has 1 - (1 - level) / k,
            so that a version as good as the champion is rejected by chance on at most
            (1 - level) / 2 of the days, however many slices are looked at.
        resamples: draws behind every interval.
        min_groups: fewer users (or rows, where there is no group) make no interval; only the hard
            limits count.
    """

    enabled: bool = True
    level: float = 0.95
    resamples: int = 1000
    min_groups: int = 20
    finite: Switch = field(default_factory=Switch)
    measured: Switch = field(default_factory=Switch)
    holdout: HoldoutSize = field(default_factory=HoldoutSize)
    label_rate: LabelRate = field(default_factory=LabelRate)
    beats_constant: BeatsConstant = field(default_factory=BeatsConstant)
    auc_drop: Comparison = field(
        default_factory=lambda: Comparison(allowed=0.002, hard=0.03))
    log_loss_rise: Comparison = field(
        default_factory=lambda: Comparison(allowed=0.005, hard=0.1))
    slice_auc_drop: SliceComparison = field(
        default_factory=lambda: SliceComparison(allowed=0.01, hard=0.1, towers=("student",)))
    slice_log_loss_rise: SliceComparison = field(
        default_factory=lambda: SliceComparison(allowed=0.02, hard=0.3, towers=("student",)))
    calibration: Calibration = field(default_factory=Calibration)
    ece: CalibrationError = field(default_factory=CalibrationError)
    oov: OutOfVocabulary = field(default_factory=OutOfVocabulary)
    score_change: ScoreChange = field(default_factory=ScoreChange)
    reference_change: ReferenceChange = field(default_factory=ReferenceChange)
    latency: Latency = field(default_factory=Latency)
    size: Size = field(default_factory=Size)
    parity: Parity = field(default_factory=Parity)
    golden: Switch = field(default_factory=Switch)

    def mistakes(self, where: str = "gate") -> list[str]:
        """What is wrong with the values, one sentence each."""
        found = []
        if not 0.5 <= self.level < 1:
            found.append(f"{where}.level must lie in [0.5, 1), got {self.level:g}.")
        found += too_small(where, 100, resamples=self.resamples)
        found += too_small(where, 2, min_groups=self.min_groups)
        for name, rule in self.rules().items():
            found += rule.mistakes(f"{where}.{name}")
        return found

    def rules(self) -> dict[str, Switch]:
        """Every rule by its name, in the order in which they are looked at."""
        return {one.name: getattr(self, one.name) for one in fields(self)
                if isinstance(getattr(self, one.name), Switch)}

    def only(self, *names: str) -> GateSettings:
        """The same settings with all other rules off.

        Raises:
            KeyError: there is no such rule.
        """
        rules = self.rules()
        if unknown := set(names) - set(rules):
            raise KeyError(f"no rule is named {sorted(unknown)[0]!r}; they are {', '.join(rules)}")
        others: dict[str, Any] = {name: dataclasses.replace(rule, severity="ignore")
                                  for name, rule in rules.items() if name not in names}
        return dataclasses.replace(self, **others)
