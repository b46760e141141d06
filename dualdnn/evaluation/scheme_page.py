"""A comparison of schemes to be read: the lead of its page, and `report.md`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dualdnn.evaluation.comparison_page import HOW, rows_in_words
from dualdnn.evaluation.html_page import html_table
from dualdnn.evaluation.markdown import markdown_table
from dualdnn.evaluation.scheme_table import scheme_table

EFFICIENCY = ("Efficiency: (student − none) / (teacher − none) on AUC, a ratio of means over seeds"
              ", left out where the teacher is not ahead of none by three standard errors. The "
              "p-value of the teacher is corrected over all students against their teachers.")


def scheme_lead(section: Mapping[str, Any]) -> list[str]:
    """HTML of the table of all schemes."""
    table = scheme_table(section["table"], section["baseline"])
    return ["<h2>Schemes</h2>", f"<p class='quiet'>{EFFICIENCY}</p>", html_table(*table)]


def scheme_markdown(report: Mapping[str, Any], *, picture: bool) -> str:
    """The page as Markdown.

    Args:
        report: of the job, with `scheme_comparison`.
        picture: whether `differences.png` lies beside it.
    """
    section = report["scheme_comparison"]
    lines = [f"# schemes: {report['data']['name']}", "",
             f"{rows_in_words(section['comparison'])}. {HOW} {EFFICIENCY}", ""]
    lines += markdown_table(*scheme_table(section["table"], section["baseline"]))
    lines += [line for note in section["notes"] for line in (note, "")]
    if picture:
        lines += ["![differences](differences.png)", ""]
    lines += ["## Runs", "", *markdown_table(
        ["seed", "students", "folder"],
        [[str(run["seed"]), ", ".join(run["schemes"]) or "none", f"`{run['folder']}`"]
         for run in section["runs"]])]
    lines += ["## Where things lie", "", "- [`report.html`](report.html): with slices and pictures",
              "- [`schemes.csv`](schemes.csv): the table", "- [`report.json`](report.json): all",
              "",
              "## How to reproduce", "", "```", report["command"].strip(), "```", ""]
    return "\n".join(lines)
