"""What a simulated feed is a function of."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from dualdnn.data.simulator.formula import REGIMES, VERSION

# Rows of one request: what a user is shown at once, at positions 1 to 8.
SLOTS = 8
# Rows drawn at once: what is random is a function of (seed, day, block), and memory is bounded by
# a block however many rows a feed has.
BLOCK_ROWS = 6_250 * SLOTS
_MOST_USERS_OR_ITEMS = 10**8


@dataclass(frozen=True, kw_only=True)
class FeedSettings:
    """The size, regime and seed of a simulated feed; the same settings give the same bytes.

    The defaults are those of version 1: chosen so that tastes and qualities can be estimated from
    2 million rows, and never changed under that number.

    Attributes:
        version: of the formula and of all numbers in it; this code knows one.
        regime: additive, pairwise, third_order or drifting.
        rows: impressions, before negatives are left out; spread evenly over the days.
        days: days of the log.
        first_day: the first of them, as YYYY-MM-DD.
        users: users, their activity follows a Zipf law.
        new_items_a_day: items born every day, as many as die in the long run; about 46 times as
            many are shown in 31 days.
        seed: of everything drawn.
        kept_negatives: probability that an impression without click is kept in the log.
        longest_click_delay: seconds after which every click has been reported. The label is what
            is known then.
        rows_per_file: most impressions behind one part file, in whole blocks of 50,000.
    """

    version: int = VERSION
    regime: str = "pairwise"
    rows: int = 2_000_000
    days: int = 31
    first_day: str = "2024-01-01"
    users: int = 20_000
    new_items_a_day: int = 500
    seed: int = 1
    kept_negatives: float = 1.0
    longest_click_delay: int = 86_400
    rows_per_file: int = 500_000

    def start(self) -> datetime.date:
        """The first day."""
        return datetime.date.fromisoformat(self.first_day)

    def rows_of_day(self, day: int) -> int:
        """Impressions of a day, counted from 0; the first days take what does not divide."""
        return self.rows // self.days + (day < self.rows % self.days)

    def value_mistakes(self) -> list[str]:
        """What is wrong with the values, one sentence each."""
        found = []
        if self.version != VERSION:
            found.append(f"version must be {VERSION}, the only one this code knows, got "
                         f"{self.version!r}.")
        if self.regime not in REGIMES:
            found.append(f"regime must be one of {', '.join(REGIMES)}, got {self.regime!r}.")
        for name, least, most in (
            ("days", 1, 3_000), ("users", 2, _MOST_USERS_OR_ITEMS),
            ("new_items_a_day", 1, _MOST_USERS_OR_ITEMS), ("seed", 0, 2**63 - 1),
            ("longest_click_delay", 1, 86_400 * 365), ("rows_per_file", BLOCK_ROWS, 4_000_000),
        ):
            value = getattr(self, name)
            if not _whole(value) or not least <= value <= most:
                found.append(f"{name} must be a whole number from {least} to {most}, got "
                             f"{value!r}.")
        if not _whole(self.rows) or (
                _whole(self.days) and self.rows < max(self.days, 1) * SLOTS):
            found.append(f"rows must be a whole number of at least {SLOTS} a day, got "
                         f"{self.rows!r} for {self.days!r} days.")
        try:
            sound = str(self.start()) == self.first_day and 1970 < self.start().year < 2100
        except (TypeError, ValueError):
            sound = False
        if not sound:
            found.append("first_day must be a day as YYYY-MM-DD between 1971 and 2099, got "
                         f"{self.first_day!r}.")
        if not isinstance(self.kept_negatives, int | float) or not 0 < self.kept_negatives <= 1:
            found.append("kept_negatives must be above 0 and at most 1, got "
                         f"{self.kept_negatives!r}. Use 1 to keep every row.")
        return found


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
