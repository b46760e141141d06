"""Where one field is filled, by label and by day."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


def _table() -> np.ndarray:
    return np.zeros((2, 2), np.int64)


@dataclass
class Presence:
    """Rows by whether a field is filled.

    Attributes:
        table: (2, 2) rows by [filled][label].
        fit_table: the same over the rows that a field's AUC is fitted on.
        missing: rows without a value, by day.
    """

    table: np.ndarray = field(default_factory=_table)
    fit_table: np.ndarray = field(default_factory=_table)
    missing: list[int] = field(default_factory=list)

    def add(self, filled: np.ndarray, labels: np.ndarray, fit_rows: int) -> None:
        """Add a day.

        Args:
            filled: (rows,) bool.
            labels: (rows,) of 0 and 1.
            fit_rows: the first rows of the day, which the AUC is fitted on.
        """
        code = filled * 2 + labels
        self.table += np.bincount(code, minlength=4).reshape(2, 2)
        self.fit_table += np.bincount(code[:fit_rows], minlength=4).reshape(2, 2)
        self.missing.append(int(len(filled) - filled.sum()))

    @property
    def missing_share(self) -> float:
        """Of all rows."""
        return float(self.table[0].sum() / self.table.sum())

    def label_rates(self) -> tuple[float | None, float | None]:
        """Mean label of the rows without a value and with one; None where there is no such row."""
        rates = [float(rows[1] / rows.sum()) if rows.sum() else None for rows in self.table]
        return rates[0], rates[1]
