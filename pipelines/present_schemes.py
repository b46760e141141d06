"""What a comparison of schemes prints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dualdnn.evaluation.comparison_page import HOW, rows_in_words
from dualdnn.evaluation.scheme_page import EFFICIENCY
from dualdnn.evaluation.scheme_table import scheme_table


def show_schemes(console: Console, section: Mapping[str, Any]) -> None:
    """The table of all schemes, and how to read it.

    Args:
        console: the terminal, of 110 columns or more.
        section: `scheme_comparison` of the report.
    """
    heading, rows = scheme_table(section["table"], section["baseline"])
    seeds = list(dict.fromkeys(run["seed"] for run in section["runs"]))
    table = Table(title=f"schemes on the test part, {len(seeds)} seeds", title_justify="left",
                  title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for place, name in enumerate(heading):
        # A negative efficiency is one sign too wide.
        table.add_column(name.replace(" (", "\n("), no_wrap=place < len(heading) - 1,
                         justify="left" if place < 2 else "right")
    for row, following in zip(rows, [*rows[1:], [""]], strict=True):
        # A line belongs to the name above it.
        table.add_row(*(Text(cell) for cell in row), style="bold" if row[-1] else None,
                      end_section=bool(following[0]) and not following[0].startswith(" "))
    console.print(rows_in_words(section["comparison"]), highlight=False)
    console.print(table)
    console.print(f"{HOW} {EFFICIENCY}", style="dim", soft_wrap=True)
    for note in section["notes"]:
        console.print(Text(note, style="yellow"), soft_wrap=True)
