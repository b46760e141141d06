"""The end of a daily job: publish what was accepted, report, remember."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from dualdnn.errors import RejectedError
from dualdnn.evaluation.decision import Decision
from dualdnn.evaluation.report import write_report
from dualdnn.export.outcomes import DONE, REJECTED
from pipelines.daily_job import DailyJob, cost_of
from pipelines.daily_steps import export_section, publish
from pipelines.present import show_result
from pipelines.record import RunRecord, last_step
from pipelines.runs import read_report


def conclude(
    job: DailyJob, record: RunRecord, decision: Decision, *, candidate: Path, part: str,
    sections: Mapping[str, Any], trained: Mapping[str, Any], report: Mapping[str, Any],
) -> None:
    """Publish the candidate if it was accepted, write the report, close the day.

    Args:
        job: the job.
        record: of its run.
        decision: of the gate.
        candidate: the exported student.
        part: folder of the run with its training state.
        sections: of `measured_sections`.
        trained: `history`, `progress`, `seconds` and `examples` of the training.
        report: what else there is to say.
    """
    found, version = dict(report), None
    if decision.accepted:
        champion = publish(job, candidate, part, decision)
        version, found["export"] = champion.version, export_section(job, champion)
    record.mlflow.log_settings({}, decision.tags())
    status, cost = DONE if decision.accepted else REJECTED, cost_of(job)
    found |= {
        "job": job.name, "status": status, "as_of": str(job.as_of), "gate": decision.to_dict(),
        **record.about, **sections, "progress": trained["progress"], "cost": cost,
        "seconds": {"train": trained["seconds"], "total": cost["seconds"]},
        "examples_per_second": trained["examples"] / max(trained["seconds"], 1e-9),
    }
    write_report(job.run, found, history=trained["history"],
                 config_text=yaml.safe_dump(dict(job.plan.settings), sort_keys=False),
                 command=record.about["command"])
    closing = read_report(job.run)
    record.close(closing, last_step(closing))
    job.finish(status, version, decision)


def show_end(job: DailyJob) -> None:
    """Print the result of a job and what the gate said.

    Raises:
        RejectedError: the gate has rejected: exit code 3.
    """
    report = read_report(job.run)
    show_result(job.console, job.run, report)
    cost = report["cost"]
    job.console.print(f"cost      {cost['core_seconds']:.0f} core-seconds, "
                      f"{cost['seconds']:.0f} s, peak memory "
                      f"{cost['peak_memory_bytes'] / 1e6:,.0f} MB")
    decision = Decision.from_dict(report["gate"])
    job.console.print(f"gate      {decision.summary}", soft_wrap=True)
    if not decision.accepted:
        raise RejectedError(f"{job.as_of} was {decision.summary} Nothing was published.")
