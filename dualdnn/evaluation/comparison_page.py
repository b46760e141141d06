"""`report.html` of a comparison: one file without scripts, to read, keep and send around."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from dualdnn.evaluation.comparison_tables import (
    configuration_table,
    difference_table,
    metric_table,
    slice_table,
)
from dualdnn.evaluation.html_page import document, embedded_png, html_table

HOW = ("Differences are paired on the same test rows; intervals of 95% and p-values are from a "
       "bootstrap over groups of rows crossed with the seeds, p-values corrected by Holm over the "
       "table, metric by metric.")


def rows_in_words(comparison: Mapping[str, Any]) -> str:
    """How many rows in how many groups, drawn how often."""
    by = f"{comparison['groups']:,} groups" if comparison.get("groups") else "single rows"
    weighed = ", each with its weight" if comparison.get("weighted") else ""
    return (f"{comparison['rows']:,} test rows{weighed}, {comparison['resamples']:,} draws of {by}")


def _systems(report: Mapping[str, Any]) -> str:
    rows = [[name, ", ".join(map(str, one["seeds"])), "\n".join(one["runs"])]
            for name, one in report["systems"].items()]
    return html_table(["system", "seeds", "runs"], rows)


def comparison_page(report: Mapping[str, Any], pictures: Mapping[str, bytes],
                    lead: Sequence[str] = ()) -> str:
    """The page as HTML, complete in itself.

    Args:
        report: of the job: `data`, `systems`, `comparison`, `configuration`, `notes`, `command`.
        pictures: PNG files by name: `differences`, `inside`, `calibration`, `curves`; what is
            missing is left out.
        lead: parts of HTML that come before everything else.
    """
    comparison, systems = report["comparison"], report["systems"]
    title = f"{report['data']}: {', '.join(systems)} side by side"

    def picture(name: str, words: str) -> list[str]:
        return [embedded_png(pictures[name], words)] if name in pictures else []

    body = [f"<h1>{html.escape(title)}</h1>",
            f"<p class='quiet'>{html.escape(rows_in_words(comparison))}. {HOW}</p>",
            *(f"<p>{html.escape(note)}</p>" for note in report["notes"]),
            *lead, "<h2>Systems</h2>", _systems(report)]
    if report["configuration"]:
        body += ["<h2>Where the configurations differ</h2>",
                 html_table(*configuration_table(report["configuration"], list(systems)))]
    body += ["<h2>Metrics of the test part</h2>",
             "<p class='quiet'>Mean over seeds ± their standard deviation. Overlap and NDCG are "
             "against the teacher of the same run.</p>", html_table(*metric_table(comparison))]
    for key, heading in (("differences", "Differences to the baseline"),
                         ("inside", "Students against their teacher and controls")):
        if comparison[key]:
            body += [f"<h2>{heading}</h2>", *picture(key, heading),
                     "<p class='quiet'>Blue: below 0.05 after the correction.</p>",
                     html_table(*difference_table(comparison[key]))]
    if comparison["slices"]:
        body += ["<h2>Slices</h2>", "<p class='quiet'>p-values are corrected over all slices "
                 "together.</p>", html_table(*slice_table(comparison))]
    for key, heading in (("calibration", "Calibration, first seed of each"),
                         ("curves", "Training, mean over the steps that all seeds reached")):
        if key in pictures:
            body += [f"<h2>{heading}</h2>", *picture(key, heading)]
    body += ["<h2>How to repeat it</h2>", f"<pre>{html.escape(report['command'])}</pre>"]
    return document(title, body)
