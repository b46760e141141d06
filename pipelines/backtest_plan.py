"""The checked configuration of a backtest."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dualdnn.config import parse
from dualdnn.data.admission import Admission
from dualdnn.data.window import Rolling
from dualdnn.evaluation.backtest_regression import regression_mistakes
from dualdnn.training.strategies import REGRESSION, STRATEGIES, ScoredDay, schedule
from pipelines.daily_plan import (
    FinetuneSettings,
    daily_scheme_mistakes,
    daily_teacher_mistakes,
    split_daily,
)
from pipelines.plan import Plan, data_from, plan_from

_VALUES = ("start", "end", "strategies")
_ROLLING = f"{Rolling.__module__}.{Rolling.__qualname__}"


@dataclass(frozen=True, kw_only=True)
class BacktestPlan:
    """What a backtest needs, checked.

    Attributes:
        towers: data, window, towers and their training.
        settings: all of it as plain values.
        start: first scored day.
        end: last scored day.
        strategies: names, in the order of the report.
        finetune: on the newest samples.
        admission: expiry and capacity of rows.
    """

    towers: Plan
    settings: Mapping[str, Any]
    start: datetime.date
    end: datetime.date
    strategies: Sequence[str]
    finetune: FinetuneSettings
    admission: Admission

    @property
    def student(self) -> str:
        """The student that is reported."""
        return self.towers.students[0].name

    def schedules(self) -> dict[str, list[ScoredDay]]:
        """What every strategy does, by its name."""
        assert isinstance(self.towers.window, Rolling)
        return {name: schedule(name, self.start, self.end, self.towers.window,
                               self.finetune.held_back) for name in self.strategies}


def _day(value: Any, name: str, mistakes: list[str]) -> datetime.date | None:
    try:
        # fromisoformat takes other forms as well, such as 20130801 and 2013-W31-4.
        day = datetime.date.fromisoformat(value)
        if str(day) == value:
            return day
    except (TypeError, ValueError):
        pass
    mistakes.append(f"{name} must be a day as YYYY-MM-DD, got {value!r}.")
    return None


def _strategies(value: Any, settings: Mapping[str, Any], mistakes: list[str]) -> None:
    names = ", ".join(STRATEGIES)
    if not isinstance(value, list) or not value or any(one not in STRATEGIES for one in value):
        mistakes.append(f"strategies must be a list out of {names}, got {value!r}.")
        return
    if len(set(value)) < len(value):
        mistakes.append(f"strategies lists a name twice: {', '.join(value)}.")
    if REGRESSION in value:
        schema, _ = data_from(settings.get("data"), [])
        mistakes.extend(regression_mistakes(schema) if schema else [])
    if value != [REGRESSION] and settings.get("students") == []:
        mistakes.append("a backtest measures the first student, got students=[]. Name one.")


def _window(window: Any, mistakes: list[str]) -> None:
    window = window if isinstance(window, Mapping) else {}
    if window.get("_target_") != _ROLLING:
        mistakes.append(f"a backtest needs window=rolling, got {window.get('_target_')!r}.")
        return
    if window.get("valid_days"):
        mistakes.append(f"window.valid_days must be 0 in a backtest, got {window['valid_days']}: "
                        "daily jobs take a fixed number of passes and stop no tower early.")
    if window.get("as_of") is not None:
        mistakes.append(f"window.as_of must be null in a backtest, got {window['as_of']!r}: start "
                        "and end say which days are scored.")


def backtest_plan_from(settings: Mapping[str, Any], mistakes: Sequence[str] = ()) -> BacktestPlan:
    """Check the resolved configuration of a backtest as a whole.

    Args:
        settings: plain values.
        mistakes: found so far, reported together with those found here.

    Raises:
        ConfigError: with every mistake at once.
    """
    found = list(mistakes)
    shared, own = split_daily({k: v for k, v in settings.items() if k not in _VALUES})
    start, end = (_day(settings[name], name, found) for name in ("start", "end"))
    if start and end and start > end:
        found.append(f"start must not lie after end, got start={start} and end={end}. Both are "
                     "scored.")
    _strategies(settings["strategies"], shared, found)
    _window(shared.get("window"), found)
    finetune = parse(FinetuneSettings, own["finetune"], "finetune", found)
    admission = parse(Admission, own["admission"], "admission", found)
    found += finetune.mistakes() if finetune else []
    found += admission.mistakes("admission") if admission else []
    found += daily_scheme_mistakes(shared)
    found += daily_teacher_mistakes(shared)
    towers = plan_from(shared, found)
    # Else plan_from raised.
    assert start
    assert end
    assert finetune
    assert admission
    return BacktestPlan(towers=towers, settings=dict(settings), start=start, end=end,
                        strategies=settings["strategies"], finetune=finetune, admission=admission)
