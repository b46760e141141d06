"""What a comparison of schemes leaves in its folder: `report.html`, `report.md`, CSV files."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from dualdnn.evaluation.comparison_page import comparison_page
from dualdnn.evaluation.comparison_plots import interval_plot
from dualdnn.evaluation.comparison_tables import difference_label
from dualdnn.evaluation.plots import figure_png
from dualdnn.evaluation.scheme_page import scheme_lead, scheme_markdown
from dualdnn.evaluation.scheme_table import flat_scheme_rows
from dualdnn.storage import atomic_file
from pipelines.compare_files import write_tables

_log = logging.getLogger("dualdnn")


def write_scheme_files(run: Path, report: Mapping[str, Any]) -> None:
    """Write `schemes.csv`, the tables of a comparison, `report.html` and `report.md`.

    Args:
        run: folder of the comparison.
        report: of the job, with `scheme_comparison`.
    """
    section = report["scheme_comparison"]
    comparison = section["comparison"]
    page = {"data": report["data"]["name"], "command": report["command"], "notes": section["notes"],
            "systems": _systems(section), "configuration": {}, "comparison": comparison}
    pictures = {}
    for key in ("differences", "inside"):
        drawn = [row for row in comparison[key] if not row["identical"]]
        try:
            if figure := interval_plot(drawn, [difference_label(row) for row in drawn]):
                pictures[key] = figure_png(figure)
        except Exception as error:  # whatever breaks in a drawing, the numbers are worth more
            _log.warning("the picture of %s could not be drawn: %s", key, error)
    if "differences" in pictures:
        with atomic_file(run / "differences.png") as temporary:
            temporary.write_bytes(pictures["differences"])
    for name, text in (
            ("report.html", comparison_page(page, pictures, lead=scheme_lead(section))),
            ("report.md", scheme_markdown(report, picture="differences" in pictures))):
        with atomic_file(run / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    with atomic_file(run / "schemes.csv") as temporary:
        pd.DataFrame(flat_scheme_rows(section["table"])).to_csv(temporary, index=False)
    write_tables(run, page)


def _systems(section: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """By scheme its seeds and the folders of its runs."""
    found: dict[str, dict[str, Any]] = {}
    for run in section["runs"]:
        for scheme in run["schemes"]:
            one = found.setdefault(scheme, {"seeds": [], "runs": []})
            one["seeds"].append(run["seed"])
            one["runs"].append(run["folder"])
    return found
