"""Evaluate every tower of a finished run again."""

from __future__ import annotations

from pathlib import Path

import yaml
from omegaconf import DictConfig

from dualdnn.config import parse
from dualdnn.evaluation.report import write_report
from dualdnn.models.dual_dnn import TEACHER
from dualdnn.training.field_importance import field_importance
from pipelines.comparable import keep_comparable
from pipelines.compose import given_state, plain_values, unknown_mistakes
from pipelines.entry import start
from pipelines.load import load_run, planned_run
from pipelines.present import make_console, show_data, show_result
from pipelines.record import recorded
from pipelines.reporting import measured_sections, promised
from pipelines.runs import finished_run, new_run, read_report
from pipelines.settings import EvaluationSettings

_KNOWN = ("run", "evaluation", "importance", "paths", "tracking", "debug")


def main(config: DictConfig) -> None:
    """Load the run, measure its towers on its test part, write a report of its own."""
    mistakes: list[str] = []
    settings = plain_values(config, mistakes)
    mistakes.extend(unknown_mistakes(settings, _KNOWN))
    asked = parse(EvaluationSettings, settings["evaluation"], "evaluation", mistakes)
    if not isinstance(settings["importance"], bool):
        mistakes.append(f"importance must be true or false, got {settings['importance']!r}.")
    run = finished_run(settings, mistakes)
    trained, plan = planned_run(run, asked.slices if asked else (), mistakes,
                                state=given_state(settings))
    console, progress = make_console(), read_report(run)["progress"]
    folder = new_run(Path(settings["paths"]["outputs"]), "evaluate", {**settings, "run": str(run)})
    with recorded(folder, "evaluate", settings, plan.schema.name) as record:
        with console.status("opening the data"):
            loaded = load_run(run, trained, plan)
        record.open(plan, loaded.examples, {"run": str(run), "evaluation": settings["evaluation"]})
        show_data(console, plan, loaded.examples)
        with console.status("measuring"):
            sections, logits = measured_sections(plan, loaded.model, loaded.best,
                                                 loaded.examples, loaded.on_leaves, progress)
        keep_comparable(folder, plan, loaded.examples, logits)
        if settings["importance"]:
            with console.status("scoring without each field"):
                sections["importance"] = field_importance(
                    loaded.model, loaded.best, loaded.examples, loaded.examples.split.test,
                    [TEACHER, *sections["students"]])
        write_report(
            folder,
            {"job": "evaluate", "status": "done", "run": run, **record.about, **sections,
             "published": trained["published"]},
            reliability=promised(loaded.examples, logits),
            config_text=yaml.safe_dump(trained, sort_keys=False),
            command=record.about["command"],
        )
        record.close(read_report(folder), step=progress["teacher"]["best_step"])
    console.print(f"evaluated {run}")
    show_result(console, folder, read_report(folder))


if __name__ == "__main__":
    start("evaluate", main)
