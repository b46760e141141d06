"""What an inspection prints."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dualdnn.evaluation.inspection_page import by_auc

_STYLES = {"error": "bold red", "warning": "yellow", "note": "dim"}


def _table(report: Mapping[str, Any]) -> Table:
    """One row per field, the one that tells most about the label first."""
    table = Table(title="fields, by what each alone tells about the label", title_justify="left",
                  title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("field", overflow="fold", min_width=12)
    table.add_column("kind")
    for heading in ("distinct", "missing", "AUC\nalone", "unseen\non a day", "drift,\nends"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("most frequent", overflow="ellipsis", no_wrap=True, max_width=34)
    for name, field in by_auc(report["fields"]):
        number, share = field.get("number"), field.get("oov")
        drift, auc = field.get("drift_first_to_last_third"), field.get("auc")
        values = ", ".join(f"{one['value']} {one['share']:.0%}"
                           for one in field.get("top_values", [])[:3])
        if number:
            values = f"{number['min']:.4g} … {number['quantiles']['0.5']:.4g} … {number['max']:.4g}"
        table.add_row(
            Text(name), field["kind"], f"{field['distinct']:,}", f"{field['missing']:.1%}",
            "-" if auc is None else f"{auc:.3f}", "-" if share is None else f"{share:.1%}",
            "-" if drift is None else f"{drift:.2f}", Text("pii" if field["pii"] else values))
    return table


def show_inspection(console: Console, run: Path, report: Mapping[str, Any]) -> None:
    """The log in a line, its fields in a table, the findings, and where the report lies."""
    data = report["data"]
    console.print(f"{data['name']}: {data['rows']:,} rows on {data['days']:,} days from "
                  f"{data['first_day']} to {data['last_day']}, label rate {data['label_rate']:.4f}",
                  highlight=False)
    console.print(_table(report))
    if not report["findings"]:
        console.print("nothing to worry about was found")
    for one in report["findings"]:
        console.print(Text.assemble((f"{one['severity']:<8}", _STYLES[one["severity"]]),
                                    one["sentence"]))
        if one["severity"] != "note":
            console.print(Text(f"        {one['advice']}", style="dim"))
    console.print(f"report    {run / 'report.html'}")
