"""What a run leaves for people: `report.json`, `report.md` with figures, a table in the console."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from dualdnn.evaluation.page import report_page
from dualdnn.evaluation.pareto_picture import pareto_picture
from dualdnn.evaluation.plots import (
    History,
    Promised,
    distillation_losses,
    importance_bars,
    reliability_diagram,
    save_figure,
    training_curves,
)
from dualdnn.evaluation.results import console_table, plain, result_rows
from dualdnn.storage import atomic_file, write_json

__all__ = ["console_table", "plain", "result_rows", "write_report"]

_log = logging.getLogger(__name__)


def write_report(
    folder: Path,
    report: Mapping[str, Any],
    *,
    history: History = (),
    reliability: Mapping[str, Promised] | None = None,
    config_text: str = "",
    command: str = "",
) -> Path:
    """Write `report.json`, then the figures, then `report.md` into the run's folder.

    The numbers are on disk before anything is drawn, and a figure that cannot be drawn is logged
    and named in `report.md` instead of ending the run. Until all is there, the status in
    `report.json` is `running`: a run that is killed in between is gone on with.

    Args:
        folder: the run folder.
        report: the layout of the contract; numpy values, NaN and None are welcome (see `plain`).
        history: rows for the curves, as `plots` describes them.
        reliability: tower to (labels, probabilities, weights or None) of the test part, shape
            `(rows,)` each.
        config_text: the resolved configuration as YAML.
        command: the command line that repeats the run.

    Returns:
        The path of `report.md`.

    Raises:
        TypeError: a value that JSON does not know; nothing is written.
    """
    values = plain(report)
    write_json(folder / "report.json", {**values, "status": "running"})
    towers = [row["tower"] for row in result_rows(values)]
    drawings: dict[str, tuple[str, Callable[[], Figure | None]]] = {
        "pareto.png": ("AUC against latency",
                       lambda: pareto_picture(values.get("student_search", {}))),
        "training_curves.png": (
            "Training curves", lambda: training_curves(history, towers=towers)),
        "reliability.png": (
            "Reliability", lambda: reliability_diagram(reliability or {}, towers=towers)),
        "distillation_losses.png": (
            "Distillation losses", lambda: distillation_losses(history, towers=towers)),
        "importance.png": ("Importance of fields", lambda: importance_bars(
            values.get("importance", {}), towers=towers)),
    }
    figures: list[str] = []
    for name, (title, draw) in drawings.items():
        try:
            if figure := draw():
                save_figure(figure, folder / name)
                figures += [f"![{title}]({name})", ""]
        except Exception as error:  # whatever breaks in a drawing, the run is worth more
            _log.warning("%s could not be drawn: %s", name, error)
            figures += [f"{title} could not be drawn: {error}", ""]
    path = folder / "report.md"
    text = report_page(folder, values, figures=figures, config_text=config_text, command=command)
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    write_json(folder / "report.json", values)
    return path
