"""What an inspection has to say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SEVERITIES = ("error", "warning", "note")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that a person should know before training.

    Attributes:
        severity: `error` (a model trained on this is worthless or will not train), `warning`
            (look at it first) or `note` (good to know).
        kind: stable name of the check.
        sentence: what was found, with its numbers.
        advice: what to do about it.
        field: the field, None where it is about the log.
        strength: orders the findings of one severity, larger first.
    """

    severity: str
    kind: str
    sentence: str
    advice: str
    field: str | None = None
    strength: float = 0.0


def in_order(findings: Sequence[Finding]) -> list[Finding]:
    """The most severe first, then the strongest."""
    return sorted(findings, key=lambda one: (SEVERITIES.index(one.severity), -one.strength,
                                             one.field or "", one.kind))


def listed(items: Sequence[str], most: int = 4) -> str:
    """`a, b and 3 more`."""
    if len(items) <= most:
        return ", ".join(items)
    return f"{', '.join(items[:most])} and {len(items) - most:,} more"


def more_days(count: int) -> str:
    """`1 more day`, `2 more days`."""
    return f"{count:,} more day{'s' if count != 1 else ''}"
