"""One training run in its folder: all towers in one pass, measured, exported, reported."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from dualdnn.evaluation.report import write_report
from dualdnn.storage import atomic_folder, lock
from dualdnn.tracking import TensorBoardWriter
from pipelines.build import build_model, build_trainer, open_plan_data
from pipelines.comparable import keep_comparable
from pipelines.exporting import export_sections, exported_student
from pipelines.finished_members import with_finished_members
from pipelines.gbdt import train_gbdt_baselines
from pipelines.listen import TrainingListener
from pipelines.plan import Plan
from pipelines.present import show_data, show_passes
from pipelines.record import RunRecord, recorded
from pipelines.references import reference_section
from pipelines.reporting import measured_sections, promised
from pipelines.runs import read_report
from pipelines.student_search import asked_export, check_parts, searched_section


def train_in(run: Path, settings: dict[str, Any], plan: Plan, console: Console, *,
             export: bool = True) -> None:
    """Train in a run folder, or go on with what an earlier try has left there.

    Args:
        run: its folder.
        settings: resolved.
        plan: the same, checked.
        console: where progress is shown.
        export: whether to publish a student.

    Raises:
        LockError: another process trains there.
        DataError: the data is not what the schema says, or changed since the run was started.
    """
    with (lock(run / ".lock", wait=False),
          recorded(run, "train", settings, plan.schema.name) as record):
        _train(record, settings, plan, console, export)


def _train(record: RunRecord, settings: dict[str, Any], plan: Plan, console: Console,
           export: bool) -> None:
    """Open the data, train all towers in one pass, measure, export, report."""
    started = time.monotonic()
    run = record.run
    with console.status("opening the data"):
        examples = open_plan_data(plan, Path(settings["paths"]["state"]))
    if plan.search:
        check_parts(examples)
    record.open(plan, examples, settings)
    show_data(console, plan, examples)
    show_passes(console, plan.training, examples)

    with console.status("scoring with finished models"):
        examples = with_finished_members(plan, examples, run, Path(settings["paths"]["state"]))
    model = build_model(plan, examples.schema, examples.row_map)
    with TrainingListener(console, TensorBoardWriter(run / "tensorboard"),
                          record.mlflow) as listener:
        trainer = build_trainer(plan, model, examples, run / "checkpoints", listener)
        if trainer.resume():
            console.print(f"resumed at step {trainer.step} of {run}")
        trainer.run()
    on_leaves = train_gbdt_baselines(plan, examples, run, Path(settings["paths"]["state"]),
                                     console, record.mlflow)
    trainer.best.save(run / "model")
    with atomic_folder(run / "row_map") as folder:
        examples.row_map.save(folder)

    progress = trainer.summary() | on_leaves.progress
    with console.status("measuring"):
        sections, logits = measured_sections(plan, model, trainer.best, examples,
                                             on_leaves.baselines, progress)
    history = [*trainer.history, *on_leaves.history]
    keep_comparable(run, plan, examples, logits, history)
    report = {"job": "train", "status": "done", **record.about, **sections,
              "published": settings["published"],
              "progress": progress}
    if plan.search:
        with console.status("choosing a student"):
            report["student_search"] = searched_section(plan.search, model, trainer.best, examples,
                                                        sections, logits)
    with console.status("fitting the references"):
        report |= reference_section(plan, examples, logits, Path(settings["paths"]["state"]))
    asked = asked_export(plan.export, report.get("student_search")) if export else None
    if asked and exported_student(asked, sections["students"], trainer.best):
        with console.status("exporting"):
            report |= export_sections(
                run=run, plan=plan, model=model, best=trainer.best, examples=examples,
                asked=asked, exported_models=settings["paths"]["exported_models"],
                students=sections["students"],
            )
    report["seconds"] = {"train": trainer.timed_seconds, "total": time.monotonic() - started}
    report["examples_per_second"] = trainer.timed_examples / max(trainer.timed_seconds, 1e-9)
    write_report(
        run, report, history=history,
        reliability=promised(examples, logits),
        config_text=yaml.safe_dump(settings, sort_keys=False),
        command=record.about["command"],
    )
    record.close(read_report(run), trainer.step)
