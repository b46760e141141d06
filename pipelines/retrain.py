"""Retrain on the sliding window, pass the gate, fine-tune on the newest samples, publish."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from dualdnn.data.examples import Examples
from dualdnn.evaluation.decision import Decision
from dualdnn.storage import write_json
from dualdnn.tracking import TensorBoardWriter
from dualdnn.training.learner import Learner, open_state
from pipelines.challenge import Standing, standing_champion
from pipelines.compose import resolved
from pipelines.daily_days import window_days
from pipelines.daily_end import conclude, show_end
from pipelines.daily_job import DailyJob, daily_job
from pipelines.daily_plan import daily_plan_from
from pipelines.daily_steps import (
    export_challenger,
    finetune_newest,
    judge,
    open_window,
    train_window,
)
from pipelines.entry import start
from pipelines.listen import TrainingListener
from pipelines.present import make_console, show_data
from pipelines.record import RunRecord, recorded
from pipelines.reporting import measured_sections


def main(config: DictConfig) -> None:
    """Check the configuration, take the model's turn, run the day's cycle."""
    mistakes: list[str] = []
    plan = daily_plan_from(resolved(config, mistakes), mistakes)
    with daily_job("retrain", plan, make_console()) as job:
        if job is None:
            return
        with recorded(job.run, job.name, plan.settings, job.model) as record:
            _cycle(job, record)
        show_end(job)


def _cycle(job: DailyJob, record: RunRecord) -> None:
    """The steps of the day; a killed one goes on after the last that is done."""
    plan, run = job.plan, job.run
    days = window_days(job)
    examples = open_window(job, days.train, days.holdout)
    standing = standing_champion(job.exported, job.state, job.run)
    findings = days.findings_with(examples, standing)
    record.open(plan.towers, examples, plan.settings, start_over=job.start_over)
    show_data(job.console, plan.towers, examples)
    with TrainingListener(job.console, TensorBoardWriter(run / "tensorboard"),
                          record.mlflow) as listener:
        learner = train_window(job, examples, listener)
        sections, decision = _passed_gate(job, standing, learner, examples)
        report: dict[str, Any] = {"findings": findings}
        path, part = Path(sections.pop("path")), "trained"
        if decision.accepted and plan.finetune_newest and days.newest:
            learner.load(open_state(run / "trained"))
            report["finetune"], last = finetune_newest(job, learner, days.newest, listener)
            path, part = Path(report["finetune"]["path"]), "tuned"
            decision = decision if last.accepted else last
    conclude(job, record, decision, candidate=path, part=part, sections=sections, report=report,
             trained=json.loads((run / "trained.json").read_text()))


def _passed_gate(job: DailyJob, standing: Standing | None, learner: Learner,
                 examples: Examples) -> tuple[dict[str, Any], Decision]:
    """Measure on the holdout and ask the gate; or what an earlier try of this run was told."""
    known = job.run / "measured.json"
    if not known.exists():
        notes = open_state(job.run / "trained").about
        best = learner.best()
        sections, logits = measured_sections(job.plan.towers, learner.model, best, examples)
        towers = {"teacher": sections["teacher"], **sections["students"]}
        exported = export_challenger(job, learner, best, examples, "challenger",
                                     towers[job.plan.student], notes)
        decision = judge(job, standing, examples, exported, logits, towers,
                         ids_admitted=False)
        write_json(known, {**sections, "path": str(exported.path), "gate": decision.to_dict()})
    sections = json.loads(known.read_text())
    return sections, Decision.from_dict(sections.pop("gate"))


if __name__ == "__main__":
    start("retrain", main)
