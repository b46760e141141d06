"""Evaluate every tower of a finished run again."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import yaml
from omegaconf import DictConfig, OmegaConf

from dualdnn.evaluation.metrics import sigmoid
from dualdnn.evaluation.report import write_report
from dualdnn.tracking import default_uri
from pipelines.entry import start
from pipelines.load import load_run
from pipelines.present import make_console, show_data, show_result
from pipelines.reporting import data_section, measured_sections
from pipelines.runs import finished_run, new_run, read_report


def main(config: DictConfig) -> None:
    """Load the run, measure its towers on its test part, write a report of its own."""
    console = make_console()
    settings = OmegaConf.to_container(config, resolve=True)
    outputs = Path(settings["paths"]["outputs"])
    uri = settings["tracking"]["uri"] or default_uri(outputs)
    run = finished_run(outputs, settings["run"], uri)
    loaded = load_run(run, settings["evaluation"]["slices"] or None)
    show_data(console, loaded.plan, loaded.examples)
    sections, logits = measured_sections(loaded.plan, loaded.model, loaded.best, loaded.examples)
    folder = new_run(outputs, "evaluate", settings)
    labels = loaded.examples.labels[loaded.examples.split.test]
    write_report(
        folder,
        {"job": "evaluate", "status": "done", "run": run, "tracking_uri": uri,
         "data": data_section(loaded.plan, loaded.examples), **sections},
        reliability={tower: (labels, sigmoid(scores)) for tower, scores in logits.items()},
        config_text=yaml.safe_dump(loaded.settings, sort_keys=False),
        command=shlex.join(["python", "-m", "pipelines.evaluate", *sys.argv[1:]]),
    )
    console.print(f"run {run}")
    show_result(console, folder, read_report(folder), loaded.settings)


if __name__ == "__main__":
    start("evaluate", main)
