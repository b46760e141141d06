"""The days of one retrain: which are fit, and what there is to say about them."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from dualdnn.data.examples import Examples
from dualdnn.data.finding import Finding, refuse_errors
from dualdnn.data.partition_checks import RecordedDay, check_encoded
from pipelines.challenge import Standing
from pipelines.daily_job import DailyJob, fit_days, show_findings

_DAY = datetime.timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class WindowDays:
    """The days of a sliding window that can be read.

    Attributes:
        job: the job.
        train: of training.
        newest: those that training left out: gap and holdout.
        holdout: the last of them, for the gate.
        findings: of folders and footers.
    """

    job: DailyJob
    train: Sequence[datetime.date]
    newest: Sequence[datetime.date]
    holdout: Sequence[datetime.date]
    findings: Sequence[Finding]

    def findings_with(self, examples: Examples, standing: Standing | None
                      ) -> list[dict[str, Any]]:
        """All findings, those of the encoded rows included; the warnings are printed.

        Raises:
            DataError: one is an error.
        """
        recorded = {} if standing is None else {
            datetime.date.fromisoformat(day): RecordedDay.from_dict(values)
            for day, values in standing.stored.about["recorded"].items()}
        found = [*self.findings, *check_encoded(examples.days, self.job.plan.towers.schema,
                                                self.job.plan.partitions, recorded=recorded)]
        refuse_errors(found)
        return show_findings(self.job.console, found)


def window_days(job: DailyJob) -> WindowDays:
    """Check the folders of the window that ends at the job's day.

    Raises:
        DataError: a day is missing that the policy does not let be missing, or cannot be read.
    """
    window = job.plan.window
    first, after, holdout = window.bounds(job.as_of)
    train = [first + _DAY * i for i in range((after - first).days)]
    newest = [after + _DAY * i for i in range((job.as_of - after).days + 1)]
    held = [day for day in newest if day >= holdout]
    fit, findings = fit_days(job, [*train, *newest], held, job.plan.partitions)
    return WindowDays(
        job=job, findings=findings, train=[day for day in train if day in fit],
        newest=[day for day in newest if day in fit], holdout=[day for day in held if day in fit])


def newest_days(job: DailyJob, since: datetime.date
                ) -> tuple[list[datetime.date], list[dict[str, Any]]]:
    """The days from `since`, which may be learned in part, to the job's; empty for none.

    Returns:
        the days that can be read, and the findings for the report.

    Raises:
        DataError: as `window_days`.
    """
    wanted = [since + _DAY * i for i in range((job.as_of - since).days + 1)]
    if not wanted:
        return [], []
    # `min_days` is of a window; here there may be no more than a day.
    fit, findings = fit_days(job, wanted, [job.as_of], replace(job.plan.partitions, min_days=0))
    return fit, show_findings(job.console, findings)
