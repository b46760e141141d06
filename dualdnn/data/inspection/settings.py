"""How a log is inspected."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class InspectionSettings:
    """Settings of an inspection.

    Attributes:
        days: the newest days to read; None reads all of them.
        top_values: values listed per field.
        oov_days: calendar days before a day in which a value counts as known on that day.
        drift_days: calendar days before a day that the day is compared with.
        drift_values: most frequent values that keep a bin of their own in that comparison.
        fit_share: share of the rows, the oldest, that the AUC of a single field is fitted on; it
            is scored on the rest.
    """

    days: int | None = None
    top_values: int = 10
    oov_days: int = 30
    drift_days: int = 30
    drift_values: int = 20
    fit_share: float = 0.7

    def mistakes(self, where: str) -> list[str]:
        """What is wrong with the values, one sentence each."""
        found = [
            f"{where}.{name} must be >= {least}, got {value}."
            for name, least, value in (
                ("days", 1, self.days), ("top_values", 0, self.top_values),
                ("oov_days", 1, self.oov_days), ("drift_days", 1, self.drift_days),
                ("drift_values", 2, self.drift_values))
            if value is not None and value < least
        ]
        if not 0 < self.fit_share < 1:
            found.append(f"{where}.fit_share must lie between 0 and 1, got {self.fit_share}. Use "
                         "0.7 to score single fields on the newest 30% of the rows.")
        return found
