"""What the gate says, for the report, for tags, and for the next run that asks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


def _numbers(values: Mapping[str, float]) -> dict[str, float | None]:
    return {key: value if math.isfinite(value) else None for key, value in values.items()}


@dataclass(frozen=True, kw_only=True)
class Reason:
    """One rule applied to one thing.

    Attributes:
        rule: its name in the settings.
        subject: what it was applied to: `student`, `teacher new_item`, `field user_id`.
        severity: `reject` or `warn`.
        passed: whether it holds.
        sentence: what was measured and what the limit is, for people.
        measured: numbers by name; empty where nothing could be measured.
        limit: numbers by their name in the settings.
    """

    rule: str
    subject: str
    severity: str
    passed: bool
    sentence: str
    measured: Mapping[str, float]
    limit: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """As JSON; what is not finite is null."""
        return {"rule": self.rule, "subject": self.subject, "severity": self.severity,
                "passed": self.passed, "sentence": self.sentence,
                "measured": _numbers(self.measured), "limit": _numbers(self.limit)}


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Whether a version may be published, and why.

    Attributes:
        accepted: no rule that rejects has failed.
        first_version: there was no champion to compare with: only absolute rules were looked at.
        enabled: false where the gate is off.
        reasons: every rule that was looked at, passed or not.
    """

    accepted: bool
    first_version: bool
    enabled: bool = True
    reasons: tuple[Reason, ...] = ()

    @property
    def failed(self) -> tuple[Reason, ...]:
        """What rejects."""
        return tuple(one for one in self.reasons if not one.passed and one.severity == "reject")

    @property
    def warnings(self) -> tuple[Reason, ...]:
        """What did not hold but only warns."""
        return tuple(one for one in self.reasons if not one.passed and one.severity == "warn")

    @property
    def summary(self) -> str:
        """One line for the console and the last line of the log."""
        if not self.enabled:
            return "accepted unseen: the gate is off."
        held = sum(one.passed for one in self.reasons)
        if not self.accepted:
            return (f"rejected by {len(self.failed)} of {len(self.reasons)} checks: "
                    + " ".join(one.sentence for one in self.failed))
        first = " There is no champion yet, so only absolute rules were looked at." \
            if self.first_version else ""
        warned = "".join(f" Warning: {one.sentence}" for one in self.warnings)
        return f"accepted: {held} of {len(self.reasons)} checks hold.{first}{warned}"

    def tags(self) -> dict[str, str]:
        """For the tracking of runs."""
        if not self.enabled:
            return {"gate": "off"}
        found = {"gate": "accepted" if self.accepted else "rejected",
                 "gate.first_version": str(self.first_version).lower()}
        for name, reasons in (("failed", self.failed), ("warnings", self.warnings)):
            if reasons:
                found[f"gate.{name}"] = ", ".join(f"{one.rule} ({one.subject})" for one in reasons)
        return found

    def to_dict(self) -> dict[str, Any]:
        """As JSON, for the report and the stored decision of a day."""
        return {"accepted": self.accepted, "first_version": self.first_version,
                "enabled": self.enabled, "summary": self.summary,
                "reasons": [one.to_dict() for one in self.reasons]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Decision:
        """What `to_dict` made, read again; null becomes NaN."""
        reasons = []
        for one in values["reasons"]:
            numbers = {part: {key: math.nan if value is None else value
                              for key, value in one[part].items()}
                       for part in ("measured", "limit")}
            reasons.append(Reason(**{**one, **numbers}))
        return cls(accepted=values["accepted"], first_version=values["first_version"],
                   enabled=values["enabled"], reasons=tuple(reasons))
