"""What a comparison prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dualdnn.evaluation.comparison_page import HOW, rows_in_words
from dualdnn.evaluation.comparison_tables import (
    Table as TextTable,
)
from dualdnn.evaluation.comparison_tables import (
    configuration_table,
    difference_table,
    metric_table,
    slice_table,
)

# More settings than these, or slices, are for the page.
_MOST_ROWS = 24


def _seeds(seeds: list[int]) -> str:
    whole = len(seeds) > 2 and seeds == list(range(seeds[0], seeds[-1] + 1))
    return f"{seeds[0]} to {seeds[-1]}" if whole else ", ".join(map(str, seeds))


def _print(console: Console, title: str, table: TextTable, words: Sequence[int] = (0,)) -> None:
    """A table; the columns `words` are text and may be folded, the others numbers."""
    heading, rows = table
    if not rows:
        return
    drawn = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD,
                  pad_edge=False, collapse_padding=True)
    for place, name in enumerate(heading):
        drawn.add_column(Text(name if place in words else "\n".join(name.rsplit(" ", 1))),
                         justify="left" if place in words else "right",
                         overflow="fold", no_wrap=place not in words)
    for row in rows[:_MOST_ROWS]:
        drawn.add_row(*(Text(cell) for cell in row))
    console.print(drawn)
    if len(rows) > _MOST_ROWS:
        console.print(f"  and {len(rows) - _MOST_ROWS} more rows in the report")


def show_comparison(console: Console, run: Path, report: Mapping[str, Any]) -> None:
    """The systems, the tables, and where the report lies."""
    comparison, systems = report["comparison"], report["systems"]
    console.print(f"{report['data']}: {rows_in_words(comparison)}"
                  + (f" ({report['group']})" if report.get("group") else ""),
                  highlight=False)
    for name, one in systems.items():
        runs = one["runs"][0] if len(one["runs"]) == 1 else \
            f"{len(one['runs'])} runs, the first {one['runs'][0]}"
        console.print(f"{name}: seed {_seeds(one['seeds'])}; {runs}", highlight=False,
                      soft_wrap=True)
    _print(console, "where the configurations differ",
           configuration_table(report["configuration"], list(systems)),
           words=range(1 + len(systems)))
    _print(console, "metrics of the test part, mean ± standard deviation over seeds",
           metric_table(comparison, narrow=True))
    _print(console, "differences to the baseline", difference_table(comparison["differences"]))
    _print(console, "students against their teacher and controls",
           difference_table(comparison["inside"]))
    _print(console, "slices; * below 0.05 after Holm over all of them",
           slice_table(comparison, narrow=True), words=(0, 2))
    console.print(HOW, style="dim", soft_wrap=True)
    for note in report["notes"]:
        console.print(Text(note, style="yellow"), soft_wrap=True)
    console.print(f"report    {run / 'report.html'}")
    tables = [path.name for path in sorted(run.glob("*.csv"))]
    console.print(f"tables    {', '.join(tables)} beside it")
