"""Train the dual DNN, evaluate it, export the student."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig
from rich.console import Console

from dualdnn.errors import ConfigError
from dualdnn.evaluation.metrics import sigmoid
from dualdnn.evaluation.report import write_report
from dualdnn.storage import atomic_folder, lock, remove_leftovers
from dualdnn.tracking import MlflowRun, TensorBoardWriter, default_uri
from pipelines.build import build_model, build_trainer, open_plan_data
from pipelines.compose import resolved
from pipelines.entry import start
from pipelines.exporting import export_student
from pipelines.listen import TrainingListener
from pipelines.plan import Plan, plan_from
from pipelines.present import make_console, show_data, show_result
from pipelines.reporting import data_section, git_revision, measured_sections
from pipelines.runs import new_run, read_config, read_report, same_run, write_status


def main(config: DictConfig) -> None:
    """Choose the run folder, then train in it."""
    console = make_console()
    settings = resolved(config)
    outputs, resume = Path(settings["paths"]["outputs"]), settings["resume"]
    if not isinstance(resume, str | bool):
        raise ConfigError(f"resume must be true, false or a run folder, got {resume!r}.")
    run = Path(resume) if isinstance(resume, str) else None
    if run:
        settings = {**read_config(run), "resume": resume}
    plan = plan_from(settings)
    if resume is True:
        run = same_run(outputs, "train", settings, finished=False)
    if run is None and settings["reuse"]:
        run = same_run(outputs, "train", settings, finished=True)
    if run and read_report(run).get("status") == "done":
        console.print(f"{run} is done already; it is shown again, not trained again")
        show_result(console, run, read_report(run), settings)
        return
    run = run or new_run(outputs, "train", settings)
    with lock(run / ".lock", wait=False):
        remove_leftovers(run)
        _train_in(run, settings, plan, console)


def _train_in(run: Path, settings: dict[str, Any], plan: Plan, console: Console) -> None:
    """Train in a run folder; whatever ends it early is left in its report."""
    outputs, tracking = Path(settings["paths"]["outputs"]), settings["tracking"]
    uri = tracking["uri"] or default_uri(outputs)
    mlflow = MlflowRun(
        uri=uri, outputs=outputs, name=run.name, run_id=read_report(run).get("mlflow_run"),
        experiment=tracking["experiment"] or plan.schema.name,
    )
    about = {"mlflow_run": mlflow.run_id, "tracking_uri": uri}
    write_status(run, "train", "running", **about)
    try:
        report = _train(run, settings, plan, console, mlflow, about)
    except BaseException as error:
        write_status(run, "train", "failed", error=str(error), **about)
        mlflow.end(succeeded=False)
        raise
    mlflow.add_artifacts([*run.glob("report.*"), *run.glob("*.png"), run / "config.yaml"])
    mlflow.end(succeeded=True)
    show_result(console, run, report, settings)


def _train(run: Path, settings: dict[str, Any], plan: Plan, console: Console, mlflow: MlflowRun,
           about: dict[str, Any]) -> dict[str, Any]:
    started = time.monotonic()
    with console.status("opening the data"):
        examples = open_plan_data(plan, Path(settings["paths"]["state"]))
    show_data(console, plan, examples)
    lineage = {"data_fingerprint": examples.fingerprint, "schema_hash": examples.schema.hash(),
               "git_revision": git_revision(), "run_folder": str(run.resolve())}
    mlflow.log_settings(settings, {f"dualdnn.{key}": value for key, value in lineage.items()})

    model = build_model(plan, examples)
    writer = TensorBoardWriter(run / "tensorboard")
    with TrainingListener(console, writer, mlflow) as listener:
        trainer = build_trainer(plan, model, examples, run / "checkpoints", listener)
        if trainer.resume():
            console.print(f"resumed at step {trainer.step}")
        trainer.run()
    trainer.best.save(run / "model")
    with atomic_folder(run / "row_map") as folder:
        examples.row_map.save(folder)

    sections, logits = measured_sections(plan, model, trainer.best, examples)
    report = {
        "job": "train", "status": "running", **about, "data": data_section(plan, examples),
        **sections, "progress": trainer.summary(),
    }
    if plan.students:
        student = settings["export"]["student"] or plan.students[0].name
        name = settings["export"]["name"] or f"{plan.schema.name}_dev"
        report["export"], report["requests"] = export_student(
            plan=plan, model=model, best=trainer.best, examples=examples, student=student,
            folder=Path(settings["paths"]["exported_models"]) / name,
            lineage={**lineage, "metrics": sections["students"][student]},
        )
    report["seconds"] = {"train": trainer.timed_seconds, "total": time.monotonic() - started}
    report["examples_per_second"] = trainer.timed_examples / max(trainer.timed_seconds, 1e-9)
    report["status"] = "done"
    labels = examples.labels[examples.split.test]
    write_report(
        run, report, history=trainer.history,
        reliability={tower: (labels, sigmoid(scores)) for tower, scores in logits.items()},
        config_text=yaml.safe_dump(settings, sort_keys=False),
        command=shlex.join(["python", "-m", "pipelines.train", *sys.argv[1:]]),
    )
    for tower, numbers in [("teacher", sections["teacher"]), *sections["students"].items()]:
        for metric, value in numbers.items():
            if isinstance(value, float | int):
                mlflow.add(f"{tower}/test/{metric}", value, trainer.step)
    return read_report(run)


if __name__ == "__main__":
    start("train", main)
