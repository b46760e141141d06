"""What a comparison leaves in its run folder: `report.html`, and CSV files."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from dualdnn.evaluation.comparison import Rows, System
from dualdnn.evaluation.comparison_page import comparison_page
from dualdnn.evaluation.comparison_plots import (
    calibration_plot,
    curves_plot,
    interval_plot,
    mean_history,
)
from dualdnn.evaluation.comparison_tables import difference_label, flat_rows
from dualdnn.evaluation.metrics import sigmoid
from dualdnn.evaluation.plots import figure_png
from dualdnn.storage import atomic_file
from pipelines.comparable import read_history
from pipelines.compared_runs import ComparedRun

_log = logging.getLogger("dualdnn")
# Lines beyond which a picture says nothing.
_MOST_LINES = 12


def pictures_of(comparison: Mapping[str, Any], rows: Rows, scored: Sequence[System],
                systems: Mapping[str, Sequence[ComparedRun]], towers: Sequence[str],
                notes: list[str]) -> dict[str, bytes]:
    """PNG files by name; one that cannot be drawn is logged and left out.

    Args:
        comparison: of the report.
        rows: that were tested.
        scored: the systems with their scores.
        systems: the same, with their runs.
        towers: names of those that are drawn; all where there are none.
        notes: receives what a picture has no room for, in a sentence.
    """
    # Towers of a kind together; without controls, which are there to be compared with.
    promises = [(f"{system.name} {tower}", logits[0]) for system in scored
                for tower, logits in system.logits.items()
                if "." not in tower and (not towers or tower in towers)]
    if without := [name for name, _ in promises[_MOST_LINES:]]:
        notes.append(f"The picture of calibration has room for {_MOST_LINES} towers, and is "
                     f"without {', '.join(without)}. Choose others by comparison.towers.")

    def intervals(key: str) -> Figure | None:
        drawn = [row for row in comparison[key] if not row["identical"]]
        return interval_plot(drawn, [difference_label(row) for row in drawn])

    def calibration() -> Figure | None:
        return calibration_plot({name: (rows.labels, sigmoid(logits), rows.weights)
                                 for name, logits in promises[:_MOST_LINES]})

    def curves() -> Figure | None:
        history = []
        for name, members in systems.items():
            histories = [read_history(run.trained) for run in members]
            if all(histories):
                history += mean_history(histories, f"{name} ", towers)
        return curves_plot(history)

    drawings: dict[str, Callable[[], Figure | None]] = {
        "differences": lambda: intervals("differences"), "inside": lambda: intervals("inside"),
        "calibration": calibration, "curves": curves,
    }
    pictures = {}
    for name, draw in drawings.items():
        try:
            if figure := draw():
                pictures[name] = figure_png(figure)
        except Exception as error:  # whatever breaks in a drawing, the numbers are worth more
            _log.warning("the picture of %s could not be drawn: %s", name, error)
    return pictures


def write_page(run: Path, report: Mapping[str, Any], pictures: Mapping[str, bytes]) -> None:
    """Write `report.html`."""
    with atomic_file(run / "report.html") as temporary:
        temporary.write_text(comparison_page(report, pictures), encoding="utf-8")


def write_tables(run: Path, report: Mapping[str, Any]) -> None:
    """Write `metrics.csv`, `differences.csv`, `slices.csv` and `configuration.csv`, if not empty.

    `differences.csv` holds those to the baseline, then those inside the systems; `table` says
    which, as each table is a family of its own for the correction.
    """
    comparison = report["comparison"]
    differences = [{"table": key, **row} for key in ("differences", "inside")
                   for row in comparison[key]]
    configuration = [{"setting": key, **values} for key, values in report["configuration"].items()]
    for name, rows in (("metrics", comparison["metrics"]), ("differences", differences),
                       ("slices", comparison["slices"]), ("configuration", configuration)):
        if rows:
            with atomic_file(run / f"{name}.csv") as temporary:
                pd.DataFrame(flat_rows(rows)).to_csv(temporary, index=False)
