"""Export one student of a finished run."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from dualdnn.errors import ConfigError
from dualdnn.tracking import default_uri
from pipelines.entry import start
from pipelines.exporting import export_student
from pipelines.load import load_run
from pipelines.present import make_console, show_requests
from pipelines.reporting import git_revision
from pipelines.runs import finished_run, read_report


def main(config: DictConfig) -> None:
    """Load the run and publish the student as the next version."""
    console = make_console()
    settings = OmegaConf.to_container(config, resolve=True)
    outputs = Path(settings["paths"]["outputs"])
    run = finished_run(outputs, settings["run"],
                       settings["tracking"]["uri"] or default_uri(outputs))
    report = read_report(run)
    students = list(report["students"])
    if not students:
        raise ConfigError(f"{run} trained no student (students=[]): there is nothing to export.")
    student = settings["export"]["student"] or students[0]
    if student not in students:
        raise ConfigError(f"export.student `{student}` is not among the students of {run}: "
                          f"{', '.join(students)}.")
    loaded = load_run(run)
    section, answers = export_student(
        plan=loaded.plan, model=loaded.model, best=loaded.best, examples=loaded.examples,
        student=student,
        folder=Path(settings["paths"]["exported_models"])
        / (settings["export"]["name"] or f"{loaded.plan.schema.name}_dev"),
        lineage={"run_folder": str(run.resolve()), "git_revision": git_revision(),
                 "data_fingerprint": loaded.examples.fingerprint,
                 "schema_hash": loaded.examples.schema.hash(),
                 "metrics": report["students"][student]},
    )
    show_requests(console, answers)
    console.print(f"exported  {section['path']}  (student {student}, version "
                  f"{section['version']}, parity {section['parity_max_abs']:.1e})")


if __name__ == "__main__":
    start("export", main)
