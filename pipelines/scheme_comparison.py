"""`scheme_comparison`: train a student under every scheme, seed by seed, into one table."""

from __future__ import annotations

import gc
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tf_keras as keras
from rich.console import Console

from dualdnn.errors import DataError
from dualdnn.evaluation.comparison import TEACHER
from dualdnn.evaluation.results import plain
from dualdnn.evaluation.scheme_table import compared_schemes, scheme_rows
from dualdnn.storage import lock, write_json
from pipelines.build import open_plan_data
from pipelines.compared_runs import ComparedRun, open_run, scored_systems, seed_notes
from pipelines.plan import Plan, plan_from
from pipelines.record import RunRecord, recorded
from pipelines.runs import has_test_rows, new_run, read_report, same_run, settings_of
from pipelines.scheme_files import write_scheme_files
from pipelines.scheme_runs import SchemeComparisonSettings, SchemeRun
from pipelines.train_run import train_in


def compare_schemes(run: Path, settings: dict[str, Any], asked: SchemeComparisonSettings,
                    runs: Sequence[SchemeRun], plan: Plan, console: Console) -> None:
    """Train what is not trained yet, and compare.

    Args:
        run: folder of the comparison.
        settings: of the comparison, resolved.
        asked: its section.
        runs: that it is made of.
        plan: of the first of them.
        console: where progress is shown.

    Raises:
        LockError: another process compares in this folder, or trains one of the runs.
        DataError: the days were changed while the runs were trained.
    """
    started = time.monotonic()
    with (lock(run / ".lock", wait=False),
          recorded(run, "train", settings, plan.schema.name) as record):
        folders = trained_runs(asked, runs, console)
        with console.status("comparing"):
            section = _section(asked, runs, folders)
        first = read_report(folders[0])
        record.note(first["data"], {**first["lineage"], "run_folder": str(run.resolve())},
                    settings)
        report = plain({"job": "train", "status": "done", **record.about,
                        "scheme_comparison": section,
                        "seconds": {"train": sum(read_report(folder)["seconds"]["train"]
                                                 for folder in folders),
                                    "total": time.monotonic() - started}})
        write_scheme_files(run, report)
        write_json(run / "report.json", report)
        _close(record, report["scheme_comparison"])


def trained_runs(asked: SchemeComparisonSettings, runs: Sequence[SchemeRun],
                 console: Console) -> list[Path]:
    """The folder of every run, in their order: finished before, gone on with, or trained now.

    A run whose days were changed since is trained anew, so that all have learned from the same.

    Raises:
        DataError: a run has nothing to compare, or the days were changed while the runs were
            trained, which is said before the next one is trained.
    """
    folders: list[Path] = []
    for number, one in enumerate(runs, start=1):
        settings = dict(one.settings)
        if folders:
            # The newest day of the lake as the first run has found it.
            settings["window"] = settings_of(folders[0])["window"]
        outputs = Path(settings["paths"]["outputs"])
        current = partial(_is_current, settings, folders[0] if folders else None, console)
        folder = same_run(outputs, "train", settings, finished=True, accepted=current)
        what = f"run {number} of {len(runs)}, seed {one.seed}: {', '.join(one.schemes)}"
        if folder:
            console.print(f"{what}: trained already, {folder}", soft_wrap=True, highlight=False)
        else:
            folder = same_run(outputs, "train", settings, finished=False, accepted=current)
            if folder:
                # The newest day of the lake as that run has found it.
                settings["window"] = settings_of(folder)["window"]
            else:
                folder = new_run(outputs, "train", settings)
            console.print(f"{what}: {folder}", soft_wrap=True, highlight=False)
            train_in(folder, settings, plan_from(settings), console, export=False)
            # One run after the other, none beside another.
            keras.backend.clear_session()
            gc.collect()
        _check_run(asked, one, folder)
        folders.append(folder)
        if _data_of(folder) != _data_of(folders[0]):
            raise DataError(
                f"{folder} learned from other days than {folders[0]}: the lake was changed while "
                "the runs were trained. Give the same command again: it trains anew what is not "
                "of the days as they are now.")
    return folders


def _data_of(run: Path) -> str | None:
    """Fingerprint of the days that a run learned from; None where it has opened none."""
    return read_report(run).get("data", {}).get("fingerprint")


def _is_current(settings: Mapping[str, Any], first: Path | None, console: Console,
                run: Path) -> bool:
    """Has a run learned from the days as the lake holds them now, or from none yet?

    Args:
        settings: of the run.
        first: the first run of the comparison, which was asked before; None where this is it.
        console: where a run that has not is named.
        run: its folder.
    """
    if "data" not in read_report(run):
        return True
    if first:
        now = _data_of(first)
    else:
        # Up to its own newest day: days that came since change nothing of it.
        plan = plan_from({**settings, "window": settings_of(run)["window"]})
        with console.status("opening the data"):
            now = open_plan_data(plan, Path(settings["paths"]["state"])).fingerprint
    if _data_of(run) == now:
        return True
    console.print(f"{run} is left alone: its days were changed since it was started",
                  soft_wrap=True, highlight=False)
    return False


def _check_run(asked: SchemeComparisonSettings, run: SchemeRun, folder: Path) -> None:
    """Refuse a run without test rows, or without what the table is measured by.

    Raises:
        DataError: with what to do.
    """
    report = read_report(folder)
    if not has_test_rows(report):
        raise DataError(f"{folder} has no test rows to compare on. Choose a window that has some.")
    needed = [TEACHER, asked.baseline] if asked.baseline in run.schemes else []
    if lost := [tower for tower in needed if tower not in report["towers"]]:
        raise DataError(
            f"{' and '.join(lost)} became NaN or infinite with seed {run.seed} ({folder}), and all "
            "others are compared with it. Lower its learning rate (optimizer.teacher.learning_rate,"
            f" scheme_comparison.overrides.{asked.baseline}.optimizer.learning_rate).")


def _section(asked: SchemeComparisonSettings, runs: Sequence[SchemeRun],
             folders: Sequence[Path]) -> dict[str, Any]:
    """`scheme_comparison` of the report, from the scores that the runs have kept."""
    mistakes: list[str] = []
    by_group: dict[str, list[ComparedRun]] = {}
    for one, folder in zip(runs, folders, strict=True):
        opened = open_run(folder, mistakes)
        if opened is None:
            raise DataError(" ".join(mistakes))
        by_group.setdefault(",".join(one.schemes), []).append(opened)
    notes: list[str] = []
    rows, systems, group = scored_systems(by_group, (), notes)
    teacher = systems[0].logits[TEACHER]
    students: dict[str, np.ndarray] = {}
    own_teachers: dict[str, np.ndarray] = {}
    for system in systems:
        for name, logits in system.logits.items():
            if name != TEACHER:
                students[name] = logits
                # Without one where it diverged with some seed, which a note says.
                if system is not systems[0] and TEACHER in system.logits:
                    own_teachers[name] = system.logits[TEACHER]
    students = {name: students[name] for name in asked.schemes if name in students}
    comparison = compared_schemes(rows, asked.seeds, students, teacher, own_teachers,
                                  baseline=asked.baseline, resamples=asked.resamples)
    revisions = sorted({one.settings["git revision"] for of in by_group.values() for one in of})
    if len(revisions) > 1:
        notes.append(f"The runs were made by different revisions of the code: "
                     f"{', '.join(revisions)}.")
    return {
        "baseline": asked.baseline, "table": scheme_rows(comparison, asked.baseline),
        "notes": [*notes, *seed_notes(by_group, "scheme_comparison.seeds=[1,2,3,4,5]")],
        "group": group,
        "runs": [{"seed": one.seed, "schemes": list(one.schemes), "folder": str(folder)}
                 for one, folder in zip(runs, folders, strict=True)],
        "comparison": comparison,
    }


def _close(record: RunRecord, section: Mapping[str, Any]) -> None:
    """Pass the table and the files on to mlflow."""
    for row in section["table"]:
        name = row["name"].replace(" ", "_")
        for metric, one in row["metrics"].items():
            for key, value in one.items():
                record.mlflow.add(f"{name}/test/{metric}" + ("_spread" if key == "spread" else ""),
                                  value, 0)
        for metric, one in row.get("difference", {}).items():
            for key, value in one.items():
                record.mlflow.add(f"{name}/less_{row['less']}/{metric}_{key}", value, 0)
        for key, value in row.get("efficiency", {}).items():
            record.mlflow.add(f"{name}/efficiency_{key}", value, 0)
    record.end([*record.run.glob("report.*"), *record.run.glob("*.csv"),
                record.run / "config.yaml"])
