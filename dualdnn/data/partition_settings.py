"""What the checks of a window's partitions let pass."""

from __future__ import annotations

from dataclasses import dataclass

KINDS = (
    "missing_day", "empty_day", "short_window", "unreadable_file", "label_values",
    "missing_column", "new_column", "type_change", "unchecked_types", "changed_day",
    "copied_file", "rows_outside_day", "duplicate_rows", "row_count", "one_class", "label_rate",
    "category_explosion", "category_collapse", "missing_values",
)
POLICIES = ("fail", "continue")


@dataclass(frozen=True, kw_only=True)
class PartitionSettings:
    """Policy and limits. A day is compared with the other days of its window.

    Attributes:
        missing_days: `fail`, or `continue` without days that are missing or empty.
        min_days: with `continue`, the window's days that must be there, the required ones (the
            holdout) not counted; these may never be missing.
        least_days: with fewer other days, no day is compared with them.
        outside_share: rows with a timestamp outside their partition's day: up to this share an
            info, above it a warning,
        outside_share_error: above this one an error.
        duplicate_share: exact copies of other rows of the day, beyond the usual share: a warning,
        duplicate_share_error: above this one an error.
        sample_rows: rows of a day, chosen such that copies are chosen together, that copies are
            looked for in.
        rows_factor: rows of a day over or under the median.
        label_ratio: label rate of a day over or under that of the others,
        label_errors: where the difference is also this many standard errors.
        category_factor: distinct values of a field over (under) the median, allowing for days
            with more (fewer) rows,
        category_values: in fields with at least so many.
        missing_rise: share of a field's usual values that a day lacks.
        errors: kinds that are errors for this log whatever they are by themselves.
        ignored: kinds that are left out.
    """

    missing_days: str = "fail"
    min_days: int = 25
    least_days: int = 4
    outside_share: float = 0.001
    outside_share_error: float = 0.5
    duplicate_share: float = 0.01
    duplicate_share_error: float = 0.3
    sample_rows: int = 10_000
    rows_factor: float = 3.0
    label_ratio: float = 1.5
    label_errors: float = 6.0
    category_factor: float = 3.0
    category_values: int = 20
    missing_rise: float = 0.3
    errors: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()

    def mistakes(self, where: str) -> list[str]:
        """What is wrong with the values, one sentence each."""
        found = []
        if self.missing_days not in POLICIES:
            found.append(f"{where}.missing_days must be one of {', '.join(POLICIES)}, got "
                         f"{self.missing_days!r}.")
        least = {"min_days": 1, "least_days": 2, "sample_rows": 100, "rows_factor": 1,
                 "label_ratio": 1, "label_errors": 0, "category_factor": 1, "category_values": 1}
        found += [f"{where}.{name} must be >= {smallest}, got {getattr(self, name):g}."
                  for name, smallest in least.items() if getattr(self, name) < smallest]
        shares = ("outside_share", "outside_share_error", "duplicate_share",
                  "duplicate_share_error", "missing_rise")
        found += [f"{where}.{name} must lie in [0, 1], got {getattr(self, name):g}."
                  for name in shares if not 0 <= getattr(self, name) <= 1]
        for name in ("errors", "ignored"):
            found += [f"{where}.{name} must hold names of {', '.join(KINDS)}, got {kind!r}."
                      for kind in getattr(self, name) if kind not in KINDS]
        return found
