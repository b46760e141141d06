"""What a run leaves about itself while it goes: its status in report.json, and a run in mlflow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualdnn.data.examples import Examples
from dualdnn.errors import DataError
from dualdnn.evaluation.comparison import BASELINE
from dualdnn.storage import remove_leftovers, write_json
from dualdnn.tracking import MlflowRun, default_uri
from pipelines.compose import command_of
from pipelines.exporting import lineage_of
from pipelines.plan import Plan
from pipelines.reporting import data_section
from pipelines.runs import read_report

# Settings that steer the job: a resumed run may have others, and mlflow keeps the first.
_NOT_LOGGED = ("resume", "reuse", "debug", "paths", "tracking")


@dataclass
class RunRecord:
    """The record of one run.

    Attributes:
        run: its folder.
        job: what runs.
        mlflow: its run in mlflow.
        about: values of the report that are known from the start.
    """

    run: Path
    job: str
    mlflow: MlflowRun
    about: dict[str, Any]

    def open(self, plan: Plan, examples: Examples, settings: Mapping[str, Any], *,
             start_over: Callable[[], None] | None = None) -> None:
        """Note what the run learns from.

        Args:
            plan: of the run.
            examples: what it reads.
            settings: to be noted.
            start_over: called where an earlier try of this run read other data.

        Raises:
            DataError: an earlier try read other data, and nobody starts over.
        """
        data = data_section(plan, examples)
        earlier = read_report(self.run).get("data", data)
        if earlier["fingerprint"] != data["fingerprint"] and start_over:
            start_over()
        elif earlier["fingerprint"] != data["fingerprint"]:
            raise DataError(
                f"{plan.lake.path} has changed since {self.run} was started: its days had the "
                f"fingerprint {earlier['fingerprint'][:12]}, now {data['fingerprint'][:12]}. "
                "Restore the days, or start a new run with resume=false."
                + (" Or set the DUALDNN_PII_KEY it was started with." if plan.schema.pii_columns
                   else "")
            )
        self.note(data, lineage_of(examples, self.run), settings)

    def note(self, data: Mapping[str, Any], lineage: Mapping[str, str],
             settings: Mapping[str, Any]) -> None:
        """Note data, where the run comes from, and its settings, in the report and in mlflow."""
        self.about |= {"data": dict(data), "lineage": dict(lineage)}
        self.write("running")
        self.mlflow.log_settings(
            {key: value for key, value in settings.items() if key not in _NOT_LOGGED},
            {f"dualdnn.{key}": value
             for key, value in {"job": self.job, **self.about["lineage"]}.items()},
        )

    def write(self, status: str, **values: Any) -> None:
        """A report that says no more than where the run stands."""
        write_json(self.run / "report.json",
                   {"job": self.job, "status": status, **self.about, **values})

    def close(self, report: Mapping[str, Any], step: int) -> None:
        """Pass the final metrics and the files on to mlflow."""
        teacher = report.get("teacher", {})
        towers = {"teacher": teacher, **report["students"],
                  **{f"teacher.{name}": numbers
                     for name, numbers in teacher.get("towers", {}).items()},
                  **{f"{BASELINE}{name}": numbers
                     for name, numbers in report.get("baselines", {}).items()}}
        for tower, numbers in towers.items():
            for metric, value in numbers.items():
                if isinstance(value, float | int):
                    self.mlflow.add(f"{tower}/test/{metric}", value, step)
        self.end([*self.run.glob("report.*"), *self.run.glob("*.png"), self.run / "config.yaml"])

    def end(self, files: list[Path]) -> None:
        """Pass files on to mlflow, and close its run as finished."""
        self.mlflow.add_artifacts(files)
        self.mlflow.end(succeeded=True)


def last_step(report: Mapping[str, Any]) -> int:
    """The step that the metrics of a report belong to: the latest of its towers' best."""
    return max((tower["best_step"] or 0 for tower in report["progress"].values()), default=0)


def open_record(run: Path, job: str, settings: Mapping[str, Any], data_name: str) -> RunRecord:
    """The record of a run that is new, or that an earlier try has left; nothing is written.

    Args:
        run: its folder; hold its lock where another process could write there.
        job: what runs.
        settings: of the job.
        data_name: names the experiment in mlflow where the settings do not.
    """
    earlier, tracking = read_report(run), settings["tracking"]
    outputs = Path(settings["paths"]["outputs"])
    uri = tracking["uri"] or default_uri(outputs)
    mlflow = MlflowRun(
        uri=uri, outputs=outputs, name=f"{job} {run.name}", run_id=earlier.get("mlflow_run"),
        experiment=tracking["experiment"] or data_name,
    )
    about = {"command": command_of(job), "mlflow_run": mlflow.run_id, "tracking_uri": uri}
    # How the run was started, and what it read, is known from an earlier try.
    about |= {key: earlier[key] for key in ("command", "data", "lineage") if key in earlier}
    return RunRecord(run=run, job=job, mlflow=mlflow, about=about)


@contextmanager
def recorded(run: Path, job: str, settings: Mapping[str, Any],
             data_name: str) -> Iterator[RunRecord]:
    """Record a run; whatever ends it early is left in its report. See `open_record`."""
    remove_leftovers(run)
    record = open_record(run, job, settings, data_name)
    record.write("running")
    try:
        yield record
    except BaseException as error:
        record.write("failed", error=str(error) or type(error).__name__)
        record.mlflow.end(succeeded=False)
        if isinstance(error, KeyboardInterrupt) and job == "train":
            raise KeyboardInterrupt("interrupted; `python -m pipelines.train resume="
                                    f"{run}` goes on with it") from None
        raise
