"""Any set of finished runs side by side, with differences and how sure they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from dualdnn.config import parse
from dualdnn.errors import ConfigError
from dualdnn.evaluation.comparison import compared
from dualdnn.evaluation.results import plain
from dualdnn.storage import write_json
from pipelines.compare_files import pictures_of, write_page, write_tables
from pipelines.compared_runs import (
    ComparedRun,
    differing_settings,
    grouped_runs,
    name_mistakes,
    open_run,
    scored_systems,
    seed_notes,
)
from pipelines.compose import command_of, plain_values, unknown_mistakes
from pipelines.entry import start
from pipelines.present import make_console
from pipelines.present_comparison import show_comparison
from pipelines.runs import finished_runs, new_run
from pipelines.settings import ComparisonSettings

_KNOWN = ("runs", "baseline", "comparison", "paths", "tracking", "debug")


def main(config: DictConfig) -> None:
    """Find the runs, group them by configuration, compare them into a run folder."""
    mistakes: list[str] = []
    settings = plain_values(config, mistakes)
    if settings["baseline"] is not None:
        settings["baseline"] = str(settings["baseline"])  # a system may be called 2
    systems, asked = _checked(settings, mistakes)
    console = make_console()
    run = new_run(Path(settings["paths"]["outputs"]), "compare", settings)
    about: dict[str, Any] = {"job": "compare", "command": command_of("compare")}
    write_json(run / "report.json", {**about, "status": "running"})
    try:
        notes: list[str] = []
        rows, scored, group = scored_systems(systems, asked.towers, notes)
        with console.status("comparing"):
            comparison = plain(compared(rows, scored, baseline=settings["baseline"],
                                        resamples=asked.resamples, towers=asked.towers))
        pictures = pictures_of(comparison, rows, scored, systems, asked.towers, notes)
        report = plain({**about, **_described(systems, comparison, group, notes)})
        write_page(run, report, pictures)
        write_tables(run, report)
        write_json(run / "report.json", {**report, "status": "done"})
    except BaseException as error:
        write_json(run / "report.json", {**about, "status": "failed",
                                         "error": str(error) or type(error).__name__})
        raise
    show_comparison(console, run, report)


def _checked(settings: Mapping[str, Any], mistakes: list[str]
             ) -> tuple[dict[str, list[ComparedRun]], ComparisonSettings]:
    """The runs by system, or a ConfigError with every mistake at once."""
    mistakes.extend(unknown_mistakes(settings, _KNOWN))
    asked = parse(ComparisonSettings, settings["comparison"], "comparison", mistakes)
    if asked:
        mistakes.extend(asked.mistakes())
    folders = finished_runs(settings, mistakes)
    runs = [run for folder in folders if (run := open_run(folder, mistakes)) is not None]
    systems = grouped_runs(runs, asked.names if asked else None, mistakes)
    if not mistakes:
        mistakes.extend(name_mistakes(systems, settings["baseline"], asked.towers if asked else ()))
    if mistakes or asked is None:
        raise ConfigError(mistakes)
    return systems, asked


def _described(systems: Mapping[str, Sequence[ComparedRun]], comparison: Mapping[str, Any],
               group: str | None, notes: list[str]) -> dict[str, Any]:
    """The report: what was compared, and what came out."""
    runs = [run for members in systems.values() for run in members]
    return {
        "data": runs[0].settings["data.name"],
        "notes": [*notes, *seed_notes(systems, "-m seed=1,2,3,4,5")],
        "group": group,
        "systems": {name: {"seeds": [run.seed for run in members],
                           "runs": [str(run.folder) for run in members]}
                    for name, members in systems.items()},
        "configuration": differing_settings(systems), "comparison": comparison,
    }


if __name__ == "__main__":
    start("compare", main)
