"""`finetune scope=student`: the student alone learns the newest days of the lake."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dualdnn.data.window import ChosenDays
from pipelines.build import alone
from pipelines.challenge import Standing
from pipelines.daily_end import conclude
from pipelines.daily_job import DailyJob
from pipelines.daily_steps import as_learned, judge, learned_notes, space_of
from pipelines.present import show_data
from pipelines.record import RunRecord
from pipelines.reporting import measured_sections
from pipelines.student_alone import export_alone, keep_student, student_learner


def finetune_student(job: DailyJob, record: RunRecord, standing: Standing,
                     after: tuple[datetime.date, int], days: Sequence[datetime.date],
                     findings: list[dict[str, Any]]) -> None:
    """Learn the new samples but the newest of them, meet the champion on these."""
    plan, lake = job.plan, job.plan.towers.lake
    learner = student_learner(plan, standing)
    window = ChosenDays(train=days, after=after, test_share=plan.finetune.held_back)
    examples, growth = learner.open_newest(
        lake=lake, schema=plan.towers.schema, window=window, state=job.all_state,
        admission=plan.admission)
    earlier = standing.student or standing.stored
    examples = as_learned(examples, space_of(standing))
    record.open(plan.towers, examples, plan.settings, start_over=job.start_over)
    show_data(job.console, plan.towers, examples)
    learner.grow(growth)
    first_step = learner.steps
    learned = learner.learn(examples, examples.split.train, plan.finetune.batch_size)
    notes = learned_notes(examples, examples.split.train, plan.settings, earlier.about)
    keep_student(job.run / "tuned", standing, learner, notes)
    steps, best = learner.steps - first_step, learner.best()
    sections, logits = measured_sections(alone(plan.towers, plan.student), learner.model, best,
                                         examples)
    exported = export_alone(job, standing, learner, best, examples, lake,
                            sections["students"][plan.student], notes)
    decision = judge(job, standing, examples, exported, logits, sections["students"],
                     ids_admitted=True)
    conclude(job, record, decision, candidate=Path(exported.path), part="tuned",
             sections=sections, report={
                 "findings": findings,
                 "finetune": {
                     "scope": "student", "offline_version": standing.offline_version,
                     "days": [str(day) for day in days], "rows": learned.rows,
                     "rows_held_back": len(examples.split.test),
                     "changed_rows": learner.changed_rows,
                     "admitted": growth.admitted, "expired": growth.expired,
                     "refused": growth.refused}},
             trained={
                 "history": [{"step": steps, "epoch": 1.0, "tower": plan.student,
                              "part": "train", "metric": "label_loss", "value": learned.loss}],
                 "progress": {plan.student: {"status": "training", "best_step": steps,
                                             "ended_step": None}},
                 "seconds": learned.seconds, "examples": learned.timed_rows})
