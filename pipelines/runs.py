"""Run folders: `outputs/JOB/TIME[-n]/`."""

from __future__ import annotations

import contextlib
import datetime
import glob
import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from dualdnn.config import parse
from dualdnn.errors import ConfigError
from dualdnn.storage import atomic_file, lock_folder, remove_leftovers
from dualdnn.tracking import default_uri
from pipelines.settings import PathSettings, TrackingSettings

# Settings that steer the job but not what is learned.
_NOT_OF_THE_RUN = ("resume", "reuse", "debug", "tracking", "paths")
_STAMP = re.compile(r"^\d{8}T\d{6}Z(-\d+)?$")


def configuration_hash(config: Mapping[str, Any]) -> str:
    """Hex digest of all that decides what a run learns and exports."""
    kept = {key: value for key, value in config.items() if key not in _NOT_OF_THE_RUN}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def new_run(outputs: Path, job: str, config: Mapping[str, Any]) -> Path:
    """Make a run folder with its `config.yaml`; two jobs in one second get two folders."""
    parent = outputs / job
    parent.mkdir(parents=True, exist_ok=True)
    with lock_folder(parent):
        _remove_stillborn(parent)
        stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
        folder, number = parent / stamp, 1
        while folder.exists():
            number += 1
            folder = parent / f"{stamp}-{number}"
        folder.mkdir()
        with atomic_file(folder / "config.yaml") as temporary:
            temporary.write_text(yaml.safe_dump(dict(config), sort_keys=False), encoding="utf-8")
    return folder


def _remove_stillborn(parent: Path) -> None:
    """Delete run folders of jobs that were killed before their `config.yaml` was there."""
    for folder in parent.iterdir():
        if _STAMP.match(folder.name) and not (folder / "config.yaml").exists():
            remove_leftovers(folder)
            with contextlib.suppress(OSError):  # it holds something, or is no folder
                folder.rmdir()


def _stored_config(run: Path) -> dict[str, Any]:
    """`config.yaml` of a run.

    Raises:
        ConfigError: the folder is not a run.
    """
    try:
        return yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{run} is not a run folder: it has no config.yaml.") from error


def settings_of(run: Path) -> dict[str, Any]:
    """The resolved configuration of a run, with the newest day as it was then.

    Raises:
        ConfigError: the folder is not a run.
    """
    settings = _stored_config(run)
    newest = read_report(run).get("data", {}).get("last_day")
    if newest and settings["window"].get("as_of", newest) is None:
        settings["window"]["as_of"] = newest
    return settings


def read_report(run: Path) -> dict[str, Any]:
    """The report of a run, empty where there is none yet."""
    path = run / "report.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _runs(outputs: Path, job: str) -> list[Path]:
    """Run folders, newest first."""
    folders = [path.parent for path in (outputs / job).glob("*/config.yaml")]

    def age(folder: Path) -> tuple[str, int]:
        stamp, _, number = folder.name.partition("-")
        return stamp, int(number) if number.isdigit() else 1

    return sorted((folder for folder in folders if _STAMP.match(folder.name)), key=age,
                  reverse=True)


def same_run(outputs: Path, job: str, config: Mapping[str, Any], *, finished: bool,
             accepted: Callable[[Path], bool] | None = None) -> Path | None:
    """The newest run of the same configuration that is, or is not, finished.

    Args:
        outputs: `paths.outputs`.
        job: whose runs.
        config: resolved.
        finished: which of the two.
        accepted: whether a folder is taken, asked from the newest on; None takes any.
    """
    wanted = configuration_hash(config)
    wanted_status = ("done",) if finished else ("running", "failed", None)
    for folder in _runs(outputs, job):
        status = read_report(folder).get("status")
        if (status in wanted_status and configuration_hash(_stored_config(folder)) == wanted
                and (accepted is None or accepted(folder))):
            return folder
    return None


def unfinished_days(outputs: Path, job: str, model: str, before: datetime.date) -> list[Path]:
    """Runs of a daily job that never finished a day before that one.

    Args:
        outputs: `paths.outputs`.
        job: whose runs.
        model: `data.name`.
        before: a day.
    """
    found = []
    for folder in _runs(outputs, job):
        config = _stored_config(folder)
        as_of = config["window"].get("as_of")  # a job that follows files has none
        if (config["data"]["name"] == model and as_of and str(as_of) < str(before)
                and read_report(folder).get("status") not in ("done", "rejected")):
            found.append(folder)
    return found


def choose_run(
    job: str, settings: dict[str, Any], overrides: Sequence[str], mistakes: list[str]
) -> tuple[dict[str, Any], Path | None]:
    """The run to show again or to go on with, as `reuse` and `resume` ask for it.

    A finished run is shown before an unfinished one is resumed, so that both together end the
    work once and never repeat it.

    Args:
        job: whose runs.
        settings: resolved.
        overrides: of the command line, as `key=value`.
        mistakes: receives what is wrong, one sentence each.

    Returns:
        the settings to run with, and the folder; None asks for a new run.
    """
    outputs, resume = settings["paths"]["outputs"], settings["resume"]
    if isinstance(resume, str):
        return _resumed(Path(resume), settings, overrides, mistakes)
    run = None
    if settings["reuse"] is True:
        run = same_run(Path(outputs), job, settings, finished=True)
    if run is None and resume is True:
        run = same_run(Path(outputs), job, settings, finished=False)
    if run is not None:
        settings = {**settings, "window": settings_of(run)["window"]}
    return settings, run


def _resumed(
    run: Path, settings: dict[str, Any], overrides: Sequence[str], mistakes: list[str]
) -> tuple[dict[str, Any], Path | None]:
    """A run folder brings its own configuration; only what steers the job may be given anew."""
    try:
        stored = settings_of(run)
    except ConfigError as error:
        mistakes.append(f"resume={run}: {error} Use resume=true for the newest unfinished run of "
                        "the same configuration.")
        return settings, None
    given = [override for override in overrides
             if re.split(r"[.=@]", override)[0] not in _NOT_OF_THE_RUN]
    if given and configuration_hash(_stored_config(run)) != configuration_hash(settings):
        mistakes.append(f"resume={run} goes on with the configuration of that run; remove "
                        f"{' '.join(given)}, or start a new run with it.")
    keys = {override.split("=")[0] for override in overrides}
    for section in ("paths", "tracking"):
        stored[section] |= {key: value for key, value in settings[section].items()
                            if f"{section}.{key}" in keys}
    return {**stored, **{key: settings[key] for key in ("resume", "reuse", "debug")}}, run


def finished_run(settings: Mapping[str, Any], mistakes: Sequence[str]) -> Path:
    """The folder, absolute, of the finished training run that `run` names, or of the newest.

    Args:
        settings: with `run`, a folder, an mlflow run id or None, `paths` and `tracking`.
        mistakes: found so far, reported together with those found here.

    Raises:
        ConfigError: there is no such run, or it is not finished.
    """
    found = list(mistakes)
    run = settings["run"]
    outputs, uri = _outputs_and_store(settings, found)
    if run is not None and not isinstance(run, str):
        found.append(f"run must be a run folder or an mlflow run id, got {run!r}.")
    elif outputs and uri:
        try:
            if run is None:
                return _newest_finished(outputs)
            # What is noted of it is read from other folders too.
            return _named_run(run, uri, ("train",)).absolute()
        except ConfigError as error:
            found.extend(error.mistakes)
    raise ConfigError(found)


def finished_runs(settings: Mapping[str, Any], mistakes: list[str]) -> list[Path]:
    """The folders of the finished training runs, or evaluations of them, that `runs` names.

    Args:
        settings: with `runs`, a list of folders, patterns of folders such as `outputs/train/*`
            and mlflow run ids, `paths` and `tracking`. A pattern takes the finished ones with
            test rows.
        mistakes: receives what is wrong, one sentence each.
    """
    runs, jobs = settings["runs"], ("train", "evaluate")
    _, uri = _outputs_and_store(settings, mistakes)
    if not isinstance(runs, list) or not runs or not all(isinstance(one, str) for one in runs):
        mistakes.append("runs must be a list of run folders or mlflow run ids, as in "
                        f"runs=[outputs/train/A,outputs/train/B], got {runs!r}.")
        return []
    folders: list[Path] = []
    for run in runs if uri else []:
        if any(sign in run for sign in "*?["):
            matching = [Path(one) for one in sorted(glob.glob(run))]
            finished = [one for one in matching if unfinished(one, jobs) is None
                        and has_test_rows(read_report(one))]
            if not finished:
                mistakes.append(f"runs: no finished run with test rows matches {run}.")
            folders += finished
            continue
        try:
            folders.append(_named_run(run, uri, jobs))
        except ConfigError as error:
            mistakes.extend(error.mistakes)
    return list(dict.fromkeys(folder.absolute() for folder in folders))


def _outputs_and_store(settings: Mapping[str, Any],
                       mistakes: list[str]) -> tuple[Path | None, str]:
    """`paths.outputs` and the uri of mlflow; None and empty where the settings are wrong."""
    paths = parse(PathSettings, settings["paths"], "paths", mistakes)
    tracking = parse(TrackingSettings, settings["tracking"], "tracking", mistakes)
    if paths is None or tracking is None:
        return None, ""
    outputs = Path(paths.outputs)
    return outputs, tracking.uri or default_uri(outputs)


def _named_run(run: str, tracking_uri: str, jobs: Sequence[str]) -> Path:
    """A folder, or that of an mlflow run, of a finished run of these jobs."""
    folder = Path(run) if Path(run).is_dir() else _folder_of_mlflow_run(run, tracking_uri)
    if (what := unfinished(folder, jobs)) is not None:
        wanted = "training run" if jobs == ("train",) else f"run of {' or '.join(jobs)}"
        raise ConfigError(f"run={run} must be a finished {wanted}, but {folder} {what}")
    return folder


def unfinished(folder: Path, jobs: Sequence[str]) -> str | None:
    """What a folder is instead of a finished run of these jobs, or None where it is one."""
    report = read_report(folder)
    if not report:
        return "holds no report.json."
    if "scheme_comparison" in report:
        return "is a comparison of schemes; the runs that it is made of stand in its report.md."
    if report.get("job") in jobs and report.get("status") == "done":
        return None
    return f"is a run of {report['job']}, {report['status']}."


def has_test_rows(report: Mapping[str, Any]) -> bool:
    """Has the run of this report rows that it was tested on?"""
    return bool(report.get("data", {}).get("rows_test"))


def _newest_finished(outputs: Path) -> Path:
    for folder in _runs(outputs, "train"):
        if unfinished(folder, ("train",)) is None:
            return folder
    raise ConfigError(f"there is no finished run in {outputs / 'train'}. Train one with "
                      "`python -m pipelines.train`, or name one with run=FOLDER.")


def _folder_of_mlflow_run(run: str, tracking_uri: str) -> Path:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    nowhere = ConfigError(f"run={run} is neither a folder nor a dualdnn run in mlflow at "
                          f"{tracking_uri}.")
    database = tracking_uri.removeprefix("sqlite:///")
    if database != tracking_uri and not Path(database).exists():
        raise nowhere  # asking would make an empty one
    try:
        tags = MlflowClient(tracking_uri=tracking_uri).get_run(run).data.tags
        return Path(tags["dualdnn.run_folder"])
    except (MlflowException, KeyError) as error:
        raise nowhere from error
