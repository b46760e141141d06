"""Go on from the champion with the newest samples, pass the gate, publish."""

from __future__ import annotations

import datetime
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from dualdnn.data.window import ChosenDays
from dualdnn.errors import DataError
from dualdnn.tracking import TensorBoardWriter
from pipelines.challenge import Standing, judged_reference, standing_champion
from pipelines.compose import resolved
from pipelines.daily_days import newest_days
from pipelines.daily_end import conclude, show_end
from pipelines.daily_job import DailyJob, daily_job
from pipelines.daily_steps import (
    as_learned,
    export_challenger,
    going_on,
    judge,
    keep,
    learned_notes,
    space_of,
)
from pipelines.entry import start
from pipelines.finetune_plan import finetune_plan_from
from pipelines.finetune_student import finetune_student
from pipelines.follow_files import follow_files
from pipelines.listen import TrainingListener
from pipelines.present import make_console, show_data
from pipelines.record import RunRecord, recorded
from pipelines.reporting import measured_sections


def main(config: DictConfig) -> None:
    """Check the configuration, take the model's turn, fine-tune."""
    mistakes: list[str] = []
    plan = finetune_plan_from(resolved(config, mistakes), mistakes)
    console = make_console()
    if plan.source:
        follow_files(plan, plan.source, console)
        return
    with daily_job("finetune", plan.daily, console) as job:
        if job is None:
            return
        standing = standing_champion(job.exported, job.state, job.run)
        if standing is None:
            shutil.rmtree(job.run)
            raise DataError(f"{job.exported} has no champion to go on from. Run "
                            f"python -m pipelines.retrain data={job.model} first.")
        alone = plan.scope == "student"
        # What a student learned alone is not known to the teacher, nor to the student beside it.
        state = standing.student if alone and standing.student else standing.stored
        day, second = state.about["learned_until"]
        after = datetime.date.fromisoformat(day), int(second)
        days, findings = newest_days(job, after[0])
        if not days:
            shutil.rmtree(job.run)
            job.console.print(f"nothing is newer than {day}, up to which version "
                              f"{standing.version} has learned")
            return
        with recorded(job.run, job.name, plan.daily.settings, job.model) as record:
            steps = finetune_student if alone else _finetune
            steps(job, record, standing, after, days, findings)
        show_end(job)


def _finetune(job: DailyJob, record: RunRecord, standing: Standing,
              after: tuple[datetime.date, int], days: Sequence[datetime.date],
              findings: list[dict[str, Any]]) -> None:
    """Learn the new samples but the newest of them, meet the champion on these."""
    plan, run = job.plan, job.run
    window = ChosenDays(train=days, after=after, test_share=plan.finetune.held_back)
    learner, taken = going_on(job, standing, window)
    examples, growth = learner.open_newest(
        lake=plan.towers.lake, schema=plan.towers.schema, window=window, state=job.all_state,
        admission=plan.admission)
    examples = as_learned(examples, space_of(standing))
    record.open(plan.towers, examples, plan.settings, start_over=job.start_over)
    show_data(job.console, plan.towers, examples)
    with TrainingListener(job.console, TensorBoardWriter(run / "tensorboard"),
                          record.mlflow) as listener:
        trainer = learner.fine_tune(
            examples, growth, plan.finetune.training(plan.towers.training),
            seed=plan.towers.seed, folder=run / "checkpoints", listener=listener)
    notes = learned_notes(examples, examples.split.train, plan.settings, standing.stored.about)
    keep(job, "tuned", learner, notes)
    best = learner.best()
    sections, logits = measured_sections(plan.towers, learner.model, best, examples)
    towers = {"teacher": sections["teacher"], **sections["students"]}
    exported = export_challenger(job, learner, best, examples, "candidate",
                                 towers[plan.student], notes,
                                 judged=judged_reference(standing.path))
    decision = judge(job, standing, examples, exported, logits, towers, ids_admitted=True)
    report: dict[str, Any] = {
        "findings": findings, "warm_start": {
            "version": standing.version, "variables": [one.to_dict() for one in taken]},
        "finetune": {"days": [str(day) for day in days], "rows": len(examples.split.train),
                     "rows_held_back": len(examples.split.test), "admitted": growth.admitted,
                     "expired": growth.expired, "refused": growth.refused}}
    conclude(job, record, decision, candidate=Path(exported.path), part="tuned",
             sections=sections, report=report, trained={
                 "history": trainer.history, "progress": trainer.summary(),
                 "seconds": trainer.timed_seconds, "examples": trainer.timed_examples})


if __name__ == "__main__":
    start("finetune", main)
