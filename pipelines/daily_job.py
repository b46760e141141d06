"""What the daily jobs have in common: whose turn it is, the days, the end."""

from __future__ import annotations

import datetime
import functools
import resource
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from dualdnn.data.encoding import encoded_folder
from dualdnn.data.finding import Finding, in_order, refuse_errors
from dualdnn.data.partition_checks import check_lake, usable_days
from dualdnn.data.partition_settings import PartitionSettings
from dualdnn.data.window import refuse_incomplete
from dualdnn.errors import RejectedError
from dualdnn.evaluation.decision import Decision
from dualdnn.export.outcomes import DONE, Outcome, outcome_of, record_outcome, remove_outcomes
from dualdnn.export.retention import daily_turn, prune
from dualdnn.storage import lock
from dualdnn.tracking import MlflowRegistry, default_uri
from pipelines.daily_plan import DailyPlan
from pipelines.record import last_step, open_record
from pipelines.runs import (
    configuration_hash,
    new_run,
    read_report,
    same_run,
    unfinished_days,
)

_NOT_OF_THE_DAY = ("force",)
# A prune of somebody else holds the turn for moments.
_TURN_SECONDS = 2.0
# Files of a run folder that only its next try needs.
_PROGRESS = ("checkpoints", "finetune_checkpoints", "trained", "tuned", "challenger", "candidate",
             "trained.json", "measured.json")


@dataclass(frozen=True, kw_only=True)
class DailyJob:
    """One job of one day of one model.

    Attributes:
        name: `retrain` or `finetune`.
        plan: its configuration.
        as_of: the last day of data used.
        run: its run folder.
        console: where it tells what it does.
        started: seconds of a monotonic clock.
    """

    name: str
    plan: DailyPlan
    as_of: datetime.date
    run: Path
    console: Console
    started: float

    @property
    def model(self) -> str:
        """The name that versions are published under."""
        return self.plan.towers.schema.name

    @property
    def exported(self) -> Path:
        """`exported_models/NAME`."""
        return Path(self.plan.settings["paths"]["exported_models"]) / self.model

    @property
    def all_state(self) -> Path:
        """`paths.state`."""
        return Path(self.plan.settings["paths"]["state"])

    @property
    def state(self) -> Path:
        """`paths.state/NAME`: the training states of the versions."""
        return self.all_state / self.model

    @property
    def registry(self) -> MlflowRegistry:
        """Follows the champion."""
        outputs = Path(self.plan.settings["paths"]["outputs"])
        return MlflowRegistry(uri=self.plan.settings["tracking"]["uri"] or default_uri(outputs),
                              outputs=outputs)

    def finish(self, status: str, version: int | None, decision: Decision) -> None:
        """Remember that the day is done or rejected, and let old things go."""
        record_outcome(self.state, self.name, str(self.as_of), Outcome(
            status=status, configuration=day_configuration(self.plan.settings),
            run=str(self.run), version=version, decision=decision.to_dict()))
        self.start_over()
        self._retain()

    def start_over(self) -> None:
        """Clear the run folder of what its next try would go on from."""
        _clear(self.run)

    def _retain(self) -> None:
        kept = self.plan.retention
        outputs = Path(self.plan.settings["paths"]["outputs"])
        for run in unfinished_days(outputs, self.name, self.model, self.as_of):
            _clear(run)  # nobody goes on with a day that is over
        if kept.versions is not None:
            prune(self.exported, self.state, keep=kept.versions, registry=self.registry)
        if kept.encoded_days is None:
            return
        oldest = self.as_of - datetime.timedelta(days=kept.encoded_days)
        remove_outcomes(self.state, oldest)
        encoded = encoded_folder(self.all_state, self.plan.towers.lake, self.plan.towers.schema)
        with lock(encoded / ".lock", wait=True):
            for path in encoded.glob("dt=*"):
                if path.name < f"dt={oldest}":
                    shutil.rmtree(path)


def _clear(run: Path) -> None:
    for part in _PROGRESS:
        path = run / part
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def day_configuration(settings: Mapping[str, Any]) -> str:
    """Digest of what decides how a day ends, whichever day it is."""
    kept = {key: value for key, value in settings.items() if key not in _NOT_OF_THE_DAY}
    return configuration_hash({**kept, "window": {**kept["window"], "as_of": None}})


@contextmanager
def daily_job(name: str, plan: DailyPlan, console: Console) -> Iterator[DailyJob | None]:
    """Take the model's turn for a day; None where the day is done already.

    Args:
        name: of the job.
        plan: its configuration.
        console: where to tell.

    Raises:
        LockError: another daily job of the same model is at work.
        RejectedError: the gate has rejected this day with the same configuration.
        DataError: the lake cannot be built or has no complete day, or the day is not complete.
    """
    started = time.monotonic()
    towers, paths = plan.towers, plan.settings["paths"]
    state = Path(paths["state"]) / towers.schema.name
    with daily_turn(state, wait=_TURN_SECONDS):
        if towers.source:
            towers.source.prepare(towers.lake.path)
        newest_complete = towers.lake.newest_complete()
        as_of = plan.window.end(newest_complete)
        refuse_incomplete(as_of, newest_complete)
        earlier = outcome_of(state, name, str(as_of))
        same = earlier is not None and earlier.configuration == day_configuration(plan.settings)
        if earlier and not plan.force and earlier.status == DONE:
            console.print(f"{name} of {as_of} is done: version {earlier.version}, {earlier.run}"
                          + ("" if same else "; with another configuration")
                          + ". force=true does it again.", soft_wrap=True)
            yield None
            return
        if earlier and same and not plan.force:
            raise RejectedError(f"{as_of} was {Decision.from_dict(earlier.decision).summary} "
                                "force=true tries it again.")
        settings = {**plan.settings, "window": {**plan.settings["window"], "as_of": str(as_of)}}
        outputs = Path(paths["outputs"])
        job = functools.partial(DailyJob, name=name, plan=plan, as_of=as_of, console=console,
                                started=started)
        ended = None if plan.force else same_run(outputs, name, settings, finished=True)
        if ended and not earlier:  # killed between its report and its outcome
            report = read_report(ended)
            record = open_record(ended, name, plan.settings, towers.schema.name)
            record.close(report, last_step(report))
            job(run=ended).finish(DONE, report["export"]["version"],
                                  Decision.from_dict(report["gate"]))
            console.print(f"{name} of {as_of} was done already: {ended}")
            yield None
            return
        run = same_run(outputs, name, settings, finished=False) or new_run(outputs, name, settings)
        yield job(run=run)


def fit_days(job: DailyJob, wanted: list[datetime.date], required: list[datetime.date],
             partitions: PartitionSettings) -> tuple[list[datetime.date], list[Finding]]:
    """The days of `wanted` that can be read, and what there is to say about all of them.

    Raises:
        DataError: a finding is an error, or a required day is missing.
    """
    plan = job.plan
    findings = check_lake(plan.towers.lake, wanted, plan.towers.schema, partitions,
                          required=required)
    refuse_errors(findings)
    return usable_days(wanted, findings), findings


def show_findings(console: Console, findings: list[Finding]) -> list[dict[str, Any]]:
    """Print what is more than an info; all of it for the report."""
    for one in in_order(findings):
        if one.severity != "info":
            console.print(f"{one.severity}: {one.message}", soft_wrap=True)
    return [one.to_dict() for one in in_order(findings)]


def cost_of(job: DailyJob) -> dict[str, float]:
    """Core-seconds and peak memory of the job and its children so far, and bytes published."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return {
        "seconds": time.monotonic() - job.started,
        "core_seconds": sum(one.ru_utime + one.ru_stime for one in used),
        # Linux counts in KiB.
        "peak_memory_bytes": 1024 * max(one.ru_maxrss for one in used),
    }
