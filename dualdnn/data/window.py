"""Which rows train, validate and test: time windows as plain values."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from dualdnn.errors import DataError

PARTS = ("train", "valid", "test")


@dataclass(frozen=True, kw_only=True)
class Split:
    """Row numbers of the three parts, over the rows of the opened days in order.

    Attributes:
        train: (rows_train,) int64.
        valid: (rows_valid,) int64; empty where nothing stops early.
        test: (rows_test,) int64; the holdout of a rolling window.
    """

    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray


class Window(Protocol):
    """Chooses days of a lake, then rows of those days."""

    # Fields with label statistics leak where the parts are not ordered in time.
    follows_time: bool

    def mistakes(self) -> list[str]:
        """What is wrong with the values, one sentence each."""

    def choose_days(self, available: Sequence[datetime.date],
                    newest_complete: datetime.date) -> list[datetime.date]:
        """The days to open, in order."""

    def split(self, days: np.ndarray, timestamps: np.ndarray,
              given: np.ndarray | None) -> Split:
        """Assign rows to parts.

        Args:
            days: (rows,) datetime64[D], the partition of each row.
            timestamps: (rows,) int64 seconds since the epoch.
            given: (rows,) values of `column`, for windows that have one.
        """


def _fraction_mistakes(train: float, valid: float, test: float) -> list[str]:
    mistakes = [
        f"window.{name} must lie between 0 and 1, got {value}."
        for name, value in (("train", train), ("valid", valid), ("test", test))
        if not 0 <= value <= 1
    ]
    if not mistakes and abs(train + valid + test - 1) > 1e-9:
        mistakes.append(
            f"window.train + window.valid + window.test must be 1, got {train + valid + test:g}."
        )
    if not mistakes and (train == 0 or test == 0):
        mistakes.append("window.train and window.test must be > 0. Only window.valid may be 0.")
    return mistakes


def _cut(order: np.ndarray, train: float, valid: float) -> Split:
    first, second = (round(len(order) * share) for share in (train, train + valid))
    if first == 0 or second == len(order):
        raise DataError(
            f"the window cuts {len(order)} rows into {first} to train, {second - first} to "
            f"validate and {len(order) - second} to test. Expected rows to train and to test: "
            "use more rows or larger fractions."
        )
    return Split(train=np.sort(order[:first]), valid=np.sort(order[first:second]),
                 test=np.sort(order[second:]))


@dataclass(frozen=True, kw_only=True)
class TimeFraction:
    """The first `train` of all rows in time order, the next `valid`, the last `test`."""

    train: float = 0.8
    valid: float = 0.1
    test: float = 0.1
    follows_time = True

    def mistakes(self) -> list[str]:
        """See `Window.mistakes`."""
        return _fraction_mistakes(self.train, self.valid, self.test)

    def choose_days(self, available: Sequence[datetime.date],
                    newest_complete: datetime.date) -> list[datetime.date]:
        """All days of the lake."""
        return list(available)

    def split(self, days: np.ndarray, timestamps: np.ndarray, given: np.ndarray | None) -> Split:
        """See `Window.split`; rows of one second keep their order in the lake."""
        return _cut(np.argsort(timestamps, kind="stable"), self.train, self.valid)


@dataclass(frozen=True, kw_only=True)
class RandomFraction:
    """A seeded random split. Label statistics are dropped: they would leak."""

    seed: int
    train: float = 0.8
    valid: float = 0.1
    test: float = 0.1
    follows_time = False

    def mistakes(self) -> list[str]:
        """See `Window.mistakes`."""
        found = _fraction_mistakes(self.train, self.valid, self.test)
        if self.seed < 0:
            found.append(f"window.seed must be >= 0, got {self.seed}.")
        return found

    def choose_days(self, available: Sequence[datetime.date],
                    newest_complete: datetime.date) -> list[datetime.date]:
        """All days of the lake."""
        return list(available)

    def split(self, days: np.ndarray, timestamps: np.ndarray, given: np.ndarray | None) -> Split:
        """See `Window.split`."""
        order = np.random.default_rng(self.seed).permutation(len(timestamps))
        return _cut(order, self.train, self.valid)


@dataclass(frozen=True, kw_only=True)
class Given:
    """The column `column` says train, valid or test, as published splits do."""

    column: str
    follows_time = False

    def mistakes(self) -> list[str]:
        """See `Window.mistakes`."""
        if not self.column:
            return ["window.column must name a column of the lake that says train, valid or test."]
        return []

    def choose_days(self, available: Sequence[datetime.date],
                    newest_complete: datetime.date) -> list[datetime.date]:
        """All days of the lake."""
        return list(available)

    def split(self, days: np.ndarray, timestamps: np.ndarray, given: np.ndarray | None) -> Split:
        """See `Window.split`.

        Raises:
            DataError: the column has other values, or train or test has no row.
        """
        if given is None:
            raise ValueError("the window `given` needs the values of its column")
        wrong = ~np.isin(given, PARTS)
        if wrong.any():
            raise DataError(
                f"window.column `{self.column}` must say train, valid or test, got "
                f"{str(given[wrong][0])!r} first, in {int(wrong.sum())} of {len(given)} rows. "
                "Correct the column where the lake is written."
            )
        train, valid, test = (np.flatnonzero(given == part) for part in PARTS)
        for name, rows in (("train", train), ("test", test)):
            if not len(rows):
                raise DataError(
                    f"window.column `{self.column}` marks none of {len(given)} rows as {name}. "
                    "Expected rows to train and to test."
                )
        return Split(train=train, valid=valid, test=test)


def refuse_incomplete(as_of: datetime.date, newest_complete: datetime.date) -> None:
    """A day that is still being written would be learned in part, and never again.

    Raises:
        DataError: `as_of` is after the newest complete day of the lake.
    """
    if as_of > newest_complete:
        raise DataError(
            f"window.as_of={as_of} is not complete: there is no later partition and its "
            f"folder holds no _SUCCESS. The newest complete day is {newest_complete}."
        )


@dataclass(frozen=True, kw_only=True)
class Rolling:
    """`days` days of training, then a gap, then the holdout that ends at `as_of`.

    With the defaults and as_of 2013-08-01, training is 2013-07-02 to 2013-07-31 and the holdout
    2013-08-01.

    Attributes:
        as_of: last day of data used, as YYYY-MM-DD; None for the newest complete day of the lake.
        days: days of training, the last `valid_days` of which are validation.
        holdout_days: days kept out of training for the gate and the report.
        holdout_gap: days left out between training and holdout.
        label_delay: days until labels are known: without `as_of`, the window ends so many days
            before the newest complete one.
        valid_days: 0 for a fixed number of passes without early stopping.
    """

    as_of: str | None = None
    days: int = 30
    holdout_days: int = 1
    holdout_gap: int = 0
    valid_days: int = 0
    label_delay: int = 0
    follows_time = True

    def mistakes(self) -> list[str]:
        """See `Window.mistakes`."""
        found = []
        if self.as_of is not None:
            try:
                # fromisoformat takes other forms as well, such as 20130801 and 2013-W31-4.
                sound = str(datetime.date.fromisoformat(self.as_of)) == self.as_of
            except (TypeError, ValueError):
                sound = False
            if not sound:
                found.append(f"window.as_of must be a day as YYYY-MM-DD, got {self.as_of!r}.")
        if self.days < 1:
            found.append(f"window.days must be >= 1, got {self.days}.")
        for name in ("holdout_days", "holdout_gap", "valid_days", "label_delay"):
            if getattr(self, name) < 0:
                found.append(f"window.{name} must be >= 0 days, got {getattr(self, name)}.")
        if self.valid_days >= self.days >= 1:
            found.append(
                f"window.valid_days must be smaller than window.days ({self.days}), got "
                f"{self.valid_days}: training would have no day left."
            )
        return found

    def end(self, newest_complete: datetime.date) -> datetime.date:
        """The last day of data that is used."""
        if self.as_of:
            return datetime.date.fromisoformat(self.as_of)
        return newest_complete - datetime.timedelta(days=self.label_delay)

    def bounds(self, as_of: datetime.date) -> tuple[datetime.date, datetime.date, datetime.date]:
        """First day of training, first day after training, first day of the holdout.

        Without a holdout there is nothing to leave a gap to: training ends at `as_of`.

        Raises:
            DataError: the window reaches back before the calendar.
        """
        gap = self.holdout_gap if self.holdout_days else 0
        try:
            holdout = as_of - datetime.timedelta(days=self.holdout_days - 1)
            after = holdout - datetime.timedelta(days=gap)
            return after - datetime.timedelta(days=self.days), after, holdout
        except OverflowError:
            raise DataError(
                f"a window of {self.days} days with a holdout of {self.holdout_days} that ends at "
                f"{as_of} would begin before the year 1. Choose fewer days."
            ) from None

    def choose_days(self, available: Sequence[datetime.date],
                    newest_complete: datetime.date) -> list[datetime.date]:
        """The days of training and holdout.

        Raises:
            DataError: a day of the window has no folder, or as_of is not complete.
        """
        as_of = self.end(newest_complete)
        first, after, holdout = self.bounds(as_of)
        one = datetime.timedelta(days=1)
        wanted = [first + one * i for i in range((after - first).days)]
        wanted += [holdout + one * i for i in range((as_of - holdout).days + 1)]
        present = set(available)
        missing = [day for day in wanted if day not in present]
        if missing:
            raise DataError(
                f"the window {first} to {as_of} needs {len(wanted)} days, but "
                f"{', '.join(map(str, missing[:5]))}{' ...' if len(missing) > 5 else ''} "
                f"({len(missing)} days) have no folder in the lake, which holds {available[0]} "
                f"to {available[-1]}. Choose another window.as_of or fewer window.days."
            )
        refuse_incomplete(as_of, newest_complete)
        return wanted

    def split(self, days: np.ndarray, timestamps: np.ndarray, given: np.ndarray | None) -> Split:
        """See `Window.split`, for the days of `choose_days`.

        Rows belong to the day of their partition, whatever their timestamps say.
        """
        as_of = datetime.date.fromisoformat(self.as_of) if self.as_of else days.max().item()
        _, after, holdout = (np.datetime64(day) for day in self.bounds(as_of))
        valid_from = after - np.timedelta64(self.valid_days, "D")
        return Split(
            train=np.flatnonzero(days < valid_from),
            valid=np.flatnonzero((days >= valid_from) & (days < after)),
            test=np.flatnonzero(days >= holdout),
        )


@dataclass(frozen=True, kw_only=True)
class ChosenDays:
    """Days that are known by name: what daily jobs open, once they know which days are fit.

    Attributes:
        train: days of training, in order; may be empty to score alone.
        test: days of the test part, none of them in `train`.
        after: rows of `train` up to this (partition, seconds since the epoch) are left out: a
            version has learned them already.
        test_share: the last share in time of the rows of `train` that go to the test part.
    """

    train: Sequence[datetime.date]
    test: Sequence[datetime.date] = ()
    after: tuple[datetime.date, int] | None = None
    test_share: float = 0.0
    follows_time = True

    def mistakes(self) -> list[str]:
        """See `Window.mistakes`."""
        found = []
        if not 0 <= self.test_share < 1:
            found.append(f"test_share must lie in [0, 1), got {self.test_share:g}.")
        if both := set(self.train) & set(self.test):
            found.append(f"{min(both)} is a day of training and of the test part.")
        return found

    def choose_days(self, available: Sequence[datetime.date],
                    newest_complete: datetime.date) -> list[datetime.date]:
        """The days, in order.

        Raises:
            DataError: one has no folder in the lake.
        """
        wanted = sorted([*self.train, *self.test])
        if missing := [day for day in wanted if day not in set(available)]:
            raise DataError(f"{missing[0]} has no folder in the lake, which holds {available[0]} "
                            f"to {available[-1]}. Restore it, or choose other days.")
        return wanted

    def split(self, days: np.ndarray, timestamps: np.ndarray, given: np.ndarray | None) -> Split:
        """See `Window.split`. Rows of one second stay on one side of `after` and of the cut.

        Else the version that has learned the rows before the cut would never learn those of its
        second behind it. Only a log of a single second is cut inside it.
        """
        in_train = np.isin(days, np.array(self.train, "datetime64[D]"))
        if self.after is not None:
            day, second = np.datetime64(self.after[0]), self.after[1]
            in_train &= (days > day) | ((days == day) & (timestamps > second))
        train = np.flatnonzero(in_train)
        newest = train[np.lexsort((timestamps[train], days[train]))]
        held = newest[self._cut(days[newest], timestamps[newest]):]
        in_test = np.isin(days, np.array(self.test, "datetime64[D]"))
        in_test[held], in_train[held] = True, False
        return Split(train=np.flatnonzero(in_train), valid=np.zeros(0, np.int64),
                     test=np.flatnonzero(in_test))

    def _cut(self, days: np.ndarray, timestamps: np.ndarray) -> int:
        """Where the held back rows begin, among rows in order."""
        wanted = len(days) - round(len(days) * self.test_share)
        if wanted == len(days):
            return wanted
        starts = 1 + np.flatnonzero((days[1:] != days[:-1]) | (timestamps[1:] != timestamps[:-1]))
        if not len(starts):
            return wanted
        return int(starts[min(int(np.searchsorted(starts, wanted)), len(starts) - 1)])
