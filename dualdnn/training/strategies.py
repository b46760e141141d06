"""Which days are learned before which day is scored: the schedules of a backtest as plain values.

No schedule looks at data: it is a function of dates, so that a test can prove that none leaks.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from dualdnn.data.window import Rolling

REGRESSION = "logistic_regression"
PUBLISHED = "retrain_then_finetune"
# finetune_daily starts anew every so many scored days.
_RETRAIN_EVERY = 7
_DAY = datetime.timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class Training:
    """One training.

    Attributes:
        days: whose rows are learned, in order.
        from_scratch: forget everything first; else go on from what is there.
        held_back: the last share in time of the rows that is not learned.
    """

    days: tuple[datetime.date, ...]
    from_scratch: bool
    held_back: float = 0.0


@dataclass(frozen=True, kw_only=True)
class ScoredDay:
    """A day that is scored, and what happens before.

    Attributes:
        day: scored.
        known: the newest day whose labels are known by then.
        trainings: since the previous scored day, in order.
    """

    day: datetime.date
    known: datetime.date
    trainings: tuple[Training, ...]


def days_between(first: datetime.date, last: datetime.date) -> tuple[datetime.date, ...]:
    """All days from `first` to `last`, inclusive; none where `last` is earlier."""
    return tuple(first + _DAY * i for i in range((last - first).days + 1))


def _scratch(window: Rolling, last: datetime.date) -> Training:
    return Training(days=days_between(last - _DAY * (window.days - 1), last), from_scratch=True)


def _tune(days: Sequence[datetime.date], held_back: float = 0.0) -> tuple[Training, ...]:
    return (Training(days=tuple(days), from_scratch=False, held_back=held_back),) if days else ()


# From the window, the number of the scored day, its last known day and the share held back.
Rule = Callable[[Rolling, int, datetime.date, float], tuple[Training, ...]]


def _retrain_daily(window: Rolling, number: int, last: datetime.date,
                   held_back: float) -> tuple[Training, ...]:
    return (_scratch(window, last),)


def _retrain_then_finetune(window: Rolling, number: int, last: datetime.date,
                           held_back: float) -> tuple[Training, ...]:
    # As pipelines.retrain of as_of=last: gap and holdout are learned after the gate, but for the
    # slice that its last check looks at.
    first, after, _ = window.bounds(last)
    return (Training(days=days_between(first, after - _DAY), from_scratch=True),
            *_tune(days_between(after, last), held_back))


def _finetune_daily(window: Rolling, number: int, last: datetime.date,
                    held_back: float) -> tuple[Training, ...]:
    # Scored days follow each other, so that one day is new.
    return (_scratch(window, last),) if number % _RETRAIN_EVERY == 0 else _tune([last])


def _finetune_only(window: Rolling, number: int, last: datetime.date,
                   held_back: float) -> tuple[Training, ...]:
    return _tune([last]) if number else (_scratch(window, last),)


def _frozen(window: Rolling, number: int, last: datetime.date,
            held_back: float) -> tuple[Training, ...]:
    return () if number else (_scratch(window, last),)


_RULES: Mapping[str, Rule] = {
    PUBLISHED: _retrain_then_finetune,
    "retrain_daily": _retrain_daily,
    "finetune_daily": _finetune_daily,
    "finetune_only": _finetune_only,
    "frozen": _frozen,
    REGRESSION: _retrain_daily,
}
STRATEGIES = tuple(_RULES)


def schedule(strategy: str, start: datetime.date, end: datetime.date, window: Rolling,
             held_back: float) -> list[ScoredDay]:
    """What a strategy does from the first to the last scored day.

    Args:
        strategy: one of `STRATEGIES`.
        start: first scored day.
        end: last scored day, inclusive.
        window: days of training, gap and holdout of a retrain, delay of labels.
        held_back: share of the newest rows that the published cycle keeps for its last check.

    Raises:
        DataError: the window reaches back before the calendar.
    """
    found = []
    for number, day in enumerate(days_between(start, end)):
        known = day - _DAY * (1 + window.label_delay)
        window.bounds(known)  # says so where the calendar ends
        found.append(ScoredDay(day=day, known=known,
                               trainings=_RULES[strategy](window, number, known, held_back)))
    return found


def days_read(scored: Sequence[ScoredDay]) -> set[datetime.date]:
    """Every day that a schedule learns or scores."""
    return {one.day for one in scored} | {
        day for one in scored for training in one.trainings for day in training.days}


def goes_on(scored: Sequence[ScoredDay], number: int) -> bool:
    """Does the scored day after `number` go on from what was learned until then?"""
    return number + 1 < len(scored) and not any(
        training.from_scratch for training in scored[number + 1].trainings[:1])
