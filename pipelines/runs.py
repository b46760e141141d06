"""Run folders: `outputs/JOB/TIME[-n]/`."""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from dualdnn.errors import ConfigError, DataError
from dualdnn.storage import atomic_file, write_json

# Settings that steer the job but not what is learned.
_NOT_OF_THE_RUN = ("resume", "reuse", "debug", "tracking", "paths")


def configuration_hash(config: Mapping[str, Any]) -> str:
    """Hex digest of all that decides what a run learns and exports."""
    kept = {key: value for key, value in config.items() if key not in _NOT_OF_THE_RUN}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def new_run(outputs: Path, job: str, config: Mapping[str, Any]) -> Path:
    """Make a run folder with its `config.yaml`; two jobs in one second get two folders."""
    parent = outputs / job
    parent.mkdir(parents=True, exist_ok=True)
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    number = 1
    while True:
        folder = parent / (stamp if number == 1 else f"{stamp}-{number}")
        try:
            folder.mkdir()
            break
        except FileExistsError:
            number += 1
    with atomic_file(folder / "config.yaml") as temporary:
        temporary.write_text(yaml.safe_dump(dict(config), sort_keys=False), encoding="utf-8")
    return folder


def read_config(run: Path) -> dict[str, Any]:
    """The resolved configuration of a run.

    Raises:
        DataError: the folder is not a run.
    """
    try:
        return yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{run} is not a run folder: it has no config.yaml.") from error


def read_report(run: Path) -> dict[str, Any]:
    """The report of a run, empty where there is none yet."""
    path = run / "report.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def write_status(run: Path, job: str, status: str, **values: Any) -> None:
    """A report that says no more than where the job stands."""
    write_json(run / "report.json", {"job": job, "status": status, **values})


def _runs(outputs: Path, job: str) -> list[Path]:
    """Run folders, newest first."""
    folders = [path.parent for path in (outputs / job).glob("*/config.yaml")]

    def age(folder: Path) -> tuple[str, int]:
        stamp, _, number = folder.name.partition("-")
        return stamp, int(number or 1)

    return sorted(folders, key=age, reverse=True)


def same_run(outputs: Path, job: str, config: Mapping[str, Any], *, finished: bool) -> Path | None:
    """The newest run of the same configuration that is, or is not, finished."""
    wanted = configuration_hash(config)
    for folder in _runs(outputs, job):
        done = read_report(folder).get("status") == "done"
        if done == finished and configuration_hash(read_config(folder)) == wanted:
            return folder
    return None


def finished_run(outputs: Path, run: str | None, tracking_uri: str) -> Path:
    """The folder of a finished training run.

    Args:
        outputs: `paths.outputs`.
        run: folder or mlflow run id; None for the newest finished run.
        tracking_uri: where mlflow run ids are looked up.

    Raises:
        ConfigError: there is no such run, or it is not finished.
    """
    if run is None:
        for folder in _runs(outputs, "train"):
            if read_report(folder).get("status") == "done":
                return folder
        raise ConfigError(f"there is no finished run in {outputs / 'train'}. Train one with "
                          "`python -m pipelines.train`, or name one with run=FOLDER.")
    folder = Path(run)
    if not folder.is_dir():
        folder = _folder_of_mlflow_run(run, tracking_uri)
    status = read_report(folder).get("status")
    if status != "done":
        raise ConfigError(f"run={run} must be a finished run, but {folder} is "
                          f"{status or 'no run folder with a report.json'}.")
    return folder


def _folder_of_mlflow_run(run: str, tracking_uri: str) -> Path:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        tags = MlflowClient(tracking_uri=tracking_uri).get_run(run).data.tags
        return Path(tags["dualdnn.run_folder"])
    except (MlflowException, KeyError) as error:
        raise ConfigError(f"run={run} is neither a folder nor a dualdnn run in mlflow at "
                          f"{tracking_uri}.") from error
