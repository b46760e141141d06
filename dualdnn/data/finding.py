"""What a check of a window's partitions has to say."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from dualdnn.errors import DataError

SEVERITIES = ("error", "warning", "info")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing about one day, or about the window.

    Attributes:
        kind: stable name of the check.
        severity: `error` (do not train on this), `warning` (look at it) or `info`.
        day: the first day that it is about; None for the whole window.
        message: what was found, with its numbers, and what to do.
    """

    kind: str
    severity: str
    day: datetime.date | None
    message: str

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {"kind": self.kind, "severity": self.severity, "message": self.message,
                "day": None if self.day is None else self.day.isoformat()}


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """The most severe first, then by day; what is about the window stands before its days."""
    return sorted(findings, key=lambda one: (SEVERITIES.index(one.severity),
                                             one.day or datetime.date.min, one.kind, one.message))


def refuse_errors(findings: Sequence[Finding]) -> None:
    """Stop where a finding is an error.

    Raises:
        DataError: with every error's message.
    """
    errors = [one.message for one in in_order(findings) if one.severity == "error"]
    if errors:
        raise DataError(" ".join(errors) if len(errors) == 1 else
                        f"{len(errors)} errors in the window's partitions: "
                        + " ".join(f"({i}) {text}" for i, text in enumerate(errors, start=1)))


def named_days(days: Sequence[datetime.date], most: int = 3) -> str:
    """`2024-01-01, 2024-01-02 and 5 more days`."""
    named = ", ".join(map(str, days[:most]))
    more = len(days) - most
    return named if more <= 0 else f"{named} and {more} more day{'s' if more > 1 else ''}"
