"""Tables as Markdown."""

from __future__ import annotations

from collections.abc import Sequence


def markdown_table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table of plain texts; the first column is left-aligned, the others right."""
    def line(cells: Sequence[str]) -> str:
        safe = [" ".join(cell.replace("|", "\\|").split()) for cell in cells]
        return "| " + " | ".join(safe) + " |"

    rule = "|" + "|".join([" --- "] + [" ---: "] * (len(heading) - 1)) + "|"
    return [line(heading), rule, *(line(row) for row in rows), ""]
