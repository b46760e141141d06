"""Export one student of a finished run."""

from __future__ import annotations

from omegaconf import DictConfig

from dualdnn.config import parse
from pipelines.compose import given_state, plain_values
from pipelines.entry import start
from pipelines.exporting import export_sections
from pipelines.load import load_run, planned_run
from pipelines.present import make_console, show_export, show_requests
from pipelines.runs import finished_run, read_report
from pipelines.settings import ExportSettings
from pipelines.student_search import asked_export


def main(config: DictConfig) -> None:
    """Load the run and publish the student as the next version."""
    mistakes: list[str] = []
    settings = plain_values(config, mistakes)
    asked = parse(ExportSettings, settings["export"], "export", mistakes)
    run = finished_run(settings, mistakes)
    report = read_report(run)
    # A student that became NaN is in the report, and has no weights to export.
    students = [name for name in report["students"] if name in report["towers"]]
    if not students:
        mistakes.append(f"{run} has no student to export: it trained none, or all became NaN.")
    elif asked:
        mistakes.extend(asked.mistakes(students, report["data"]["name"]))
        asked = asked_export(asked, report.get("student_search"))
        if asked is None:
            mistakes.append(f"{run} has searched students and found none near enough to its teacher"
                            f". Name one of them with export.student: {', '.join(students)}.")
    trained, plan = planned_run(run, mistakes=mistakes, state=given_state(settings))
    assert asked is not None  # else planned_run raised
    console = make_console()
    with console.status("opening the data"):
        loaded = load_run(run, trained, plan)
    with console.status("exporting"):
        made = export_sections(
            run=run, plan=plan, model=loaded.model, best=loaded.best, examples=loaded.examples,
            asked=asked, exported_models=settings["paths"]["exported_models"],
            students=report["students"],
        )
    show_requests(console, made["requests"])
    show_export(console, made["export"])


if __name__ == "__main__":
    start("export", main)
