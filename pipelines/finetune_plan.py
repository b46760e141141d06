"""The checked configuration of `finetune`: both towers, or a student alone; days, or a folder."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualdnn.config import parse
from pipelines.daily_plan import DailyPlan, daily_plan_from

SCOPES = ("both", "student")


@dataclass(frozen=True, kw_only=True)
class OnlineSettings:
    """`online.*`: learning from files as they are dropped.

    Attributes:
        publish_rows: publish after so many learned rows; None: not for that reason.
        publish_minutes: publish after so many minutes; None: not for that reason.
        poll_seconds: between two looks at the folder.
        idle_minutes: end after so many without a new file; None: never.
        report_days: the newest so many days are kept by row, for the report.
    """

    publish_rows: int | None
    publish_minutes: float | None
    poll_seconds: float
    idle_minutes: float | None
    report_days: int

    def mistakes(self) -> list[str]:
        """What is wrong with the values, one sentence each."""
        found = []
        if self.publish_rows is None and self.publish_minutes is None:
            found.append("online.publish_rows and online.publish_minutes are both null: nothing "
                         "would ever be published. Give one of them.")
        if self.publish_rows is not None and self.publish_rows < 1:
            found.append(f"online.publish_rows must be >= 1 or null, got {self.publish_rows}.")
        if self.report_days < 1:
            found.append(f"online.report_days must be >= 1, got {self.report_days}.")
        for name in ("publish_minutes", "poll_seconds", "idle_minutes"):
            value = getattr(self, name)
            if value is None or (math.isfinite(value) and value >= 0):
                continue
            found.append(f"online.{name} must be >= 0"
                         f"{'' if name == 'poll_seconds' else ' or null'}, got {value:g}.")
        return found


@dataclass(frozen=True, kw_only=True)
class FinetunePlan:
    """What `finetune` needs, checked.

    Attributes:
        daily: towers, gate and all that the daily jobs have in common.
        scope: `both`, or `student`: it goes on alone.
        source: folder of dropped files; None: the days of the lake.
        online: how files are followed.
    """

    daily: DailyPlan
    scope: str
    source: Path | None
    online: OnlineSettings


def finetune_plan_from(settings: Mapping[str, Any], mistakes: Sequence[str]) -> FinetunePlan:
    """Check the resolved configuration of `finetune` as a whole.

    Args:
        settings: plain values.
        mistakes: found so far, reported together with those found here.

    Raises:
        ConfigError: with every mistake at once.
    """
    found = list(mistakes)
    scope, source = settings["scope"], settings["source"]
    if scope not in SCOPES:
        found.append(f"scope must be {' or '.join(SCOPES)}, got {scope!r}.")
    if source is not None and not isinstance(source, str):
        found.append(f"source must be a folder or null, got {source!r}.")
    elif source is not None and scope == "both":
        found.append("source needs scope=student: the teacher learns from whole days alone.")
    if source is not None and settings["window"].get("as_of") is not None:
        found.append("window.as_of chooses a day of the lake, and source learns from files as "
                     "they come. Leave one of them out.")
    online = parse(OnlineSettings, settings["online"], "online", found)
    found += online.mistakes() if online else []
    daily = daily_plan_from(settings, found)
    assert online  # else daily_plan_from raised
    return FinetunePlan(daily=daily, scope=scope, online=online,
                        source=Path(source) if source else None)
