"""Look at a log before training on it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.console import Console

from dualdnn.config import parse
from dualdnn.data.encoding import encode_days
from dualdnn.data.inspection.inspect_days import inspect_days
from dualdnn.data.inspection.settings import InspectionSettings
from dualdnn.data.lake import Lake
from dualdnn.data.pseudonyms import key_from_environment
from dualdnn.errors import ConfigError
from dualdnn.evaluation.inspection_page import inspection_page
from dualdnn.schema import Schema
from dualdnn.storage import atomic_file, write_json
from pipelines.compose import command_of, plain_values, unknown_mistakes
from pipelines.entry import start
from pipelines.plan import Source, data_from
from pipelines.present import make_console
from pipelines.present_inspection import show_inspection
from pipelines.runs import new_run
from pipelines.settings import PathSettings, TrackingSettings

_KNOWN = ("data", "inspection", "paths", "tracking", "debug")


def _checked(settings: Mapping[str, Any], mistakes: list[str]
             ) -> tuple[Schema, Source | None, InspectionSettings]:
    """What the configuration asks for, or a ConfigError with every mistake at once."""
    mistakes.extend(unknown_mistakes(settings, _KNOWN))
    schema, source = data_from(settings["data"], mistakes)
    asked = parse(InspectionSettings, settings["inspection"], "inspection", mistakes)
    if asked:
        mistakes.extend(asked.mistakes("inspection"))
    if schema and any(field.pii for field in schema.fields):
        try:
            key_from_environment()
        except ConfigError as error:
            mistakes.extend(error.mistakes)
    parse(PathSettings, settings["paths"], "paths", mistakes)
    parse(TrackingSettings, settings["tracking"], "tracking", mistakes)
    if mistakes or schema is None or asked is None:
        raise ConfigError(mistakes)
    return schema, source, asked


def _inspect(settings: Mapping[str, Any], schema: Schema, source: Source | None,
             asked: InspectionSettings, console: Console) -> dict[str, Any]:
    """Encode the days where that is not done yet, and inspect them."""
    lake = Lake(Path(settings["data"]["lake"]))
    with console.status("opening the data") as status:
        if source:
            source.prepare(lake.path)
        days = lake.days()[-asked.days if asked.days else 0:]
        encoded = encode_days(lake, days, schema, Path(settings["paths"]["state"]),
                              lambda day, _: status.update(f"encoding, at {day}"))
        report = inspect_days(encoded, schema, asked, lambda done: status.update(
            f"inspecting, {done} of {len(days)} days"))
    report["data"]["newest_day_complete"] = lake.is_complete(days[-1])
    return report


def main(config: DictConfig) -> None:
    """Check the configuration, then inspect into a run folder."""
    started = time.monotonic()
    mistakes: list[str] = []
    settings = plain_values(config, mistakes)
    schema, source, asked = _checked(settings, mistakes)
    console = make_console()
    run = new_run(Path(settings["paths"]["outputs"]), "inspect", settings)
    about = {"job": "inspect", "command": command_of("inspect"), "inspection": asdict(asked)}
    write_json(run / "report.json", {**about, "status": "running"})
    try:
        report = {**about, **_inspect(settings, schema, source, asked, console)}
        with atomic_file(run / "report.html") as temporary:
            temporary.write_text(inspection_page(report), encoding="utf-8")
        seconds = {"total": time.monotonic() - started}
        write_json(run / "report.json", {**report, "status": "done", "seconds": seconds})
    except BaseException as error:
        write_json(run / "report.json", {**about, "status": "failed",
                                         "error": str(error) or type(error).__name__})
        raise
    show_inspection(console, run, report)


if __name__ == "__main__":
    start("inspect", main)
