"""`report.html` of an inspection: one file without scripts, to read, keep and send around."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from typing import Any

from dualdnn.evaluation import svg
from dualdnn.evaluation.html_page import document
from dualdnn.evaluation.inspection_pictures import (
    days_picture,
    drift_map,
    lengths_picture,
    number_picture,
    share_map,
    sparkline,
)


def _words(sentence: str) -> str:
    """Escaped text; what stands between backticks as code."""
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", html.escape(sentence, quote=False))


def _share(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.1%}" if value >= 0.001 or value == 0 else "&lt;0.1%"


def _tiles(report: Mapping[str, Any]) -> str:
    data = report["data"]
    counts = [sum(one["severity"] == severity for one in report["findings"])
              for severity in ("error", "warning", "note")]
    tiles = [
        (f"{data['rows']:,}", "rows"), (f"{data['days']:,}", "days"),
        (f"{data['label_rate']:.4f}", f"mean of {data['label']}"),
        (f"{len(report['fields'])}", "fields"),
        (" · ".join(map(str, counts)), "errors · warnings · notes"),
    ]
    return '<div class="tiles">' + "".join(
        f'<div class="tile"><b>{html.escape(big)}</b><span>{html.escape(small)}</span></div>'
        for big, small in tiles) + "</div>"


def _findings(findings: Sequence[Mapping[str, Any]]) -> str:
    if not findings:
        return "<p>Nothing to worry about was found.</p>"
    return "".join(
        f'<div class="finding {one["severity"]}"><p><b>{one["severity"]}</b> '
        f'{_words(one["sentence"])}</p><p class="quiet">{_words(one["advice"])}</p></div>'
        for one in findings)


def by_auc(fields: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """The fields of a report, the one that tells most about the label first."""
    return sorted(fields.items(), key=lambda pair: -pair[1].get("auc", 0.0))


def _chips(field: Mapping[str, Any]) -> str:
    chips = [field["kind"], field["side"],
             *(key for key in ("pii", "privileged") if field.get(key))]
    return "".join(f'<span class="chip">{chip}</span>' for chip in chips)


def _table(report: Mapping[str, Any]) -> str:
    """One row per field."""
    suspects = {one["field"] for one in report["findings"]
                if "field" in one and one["severity"] == "error"}
    head = ("field", "distinct", "missing", "AUC alone", "", "unseen on a day",
            "drift, first to<br>last third", "drift by day")
    rows = []
    for name, field in by_auc(report["fields"]):
        auc, hot = field.get("auc"), ' class="hot"' if name in suspects else ""
        bar = f'<span class="bar" style="width:{max(0, (auc - 0.5) * 120):.0f}px"></span>' \
            if auc is not None else ""
        drift, by_day = field.get("drift_first_to_last_third"), field["by_day"]["drift"]
        cells = [
            f"<code>{html.escape(name)}</code>{_chips(field)}", f"{field['distinct']:,}",
            _share(field["missing"]), f"<span{hot}>{auc:.3f}</span>" if auc is not None else "",
            bar, _share(field.get("oov")), f"{drift:.2f}" if drift is not None else "",
            sparkline(by_day, 0.25) if any(one is not None for one in by_day) else "",
        ]
        align = ["", "", "", "", ' style="text-align:left;padding-left:0"', "", "", ""]
        rows.append("<tr>" + "".join(f"<td{a}>{cell}</td>"
                                     for a, cell in zip(align, cells, strict=True)) + "</tr>")
    heading = "".join(f"<th>{one}</th>" for one in head)
    return f"<table><tr>{heading}</tr>{''.join(rows)}</table>"


def _top_values(values: Sequence[Mapping[str, Any]]) -> str:
    if not values:
        return ""
    most = values[0]["share"]
    rows = "".join(
        f'<tr><td title="{html.escape(one["value"])}">{html.escape(one["value"][:60])}</td>'
        f'<td style="text-align:left"><span class="bar" style="width:'
        f'{max(1, 60 * one["share"] / most):.0f}px"></span></td><td>{_share(one["share"])}</td>'
        f'<td>{one["label_rate"]:.3f}</td></tr>' for one in values)
    return ("<table><tr><th>value</th><th></th><th>share</th><th>label rate</th></tr>"
            f"{rows}</table>")


def _number(number: Mapping[str, Any]) -> str:
    quantiles = number["quantiles"]
    shown = [("min", number["min"]), ("1%", quantiles["0.01"]), ("25%", quantiles["0.25"]),
             ("50%", quantiles["0.5"]), ("75%", quantiles["0.75"]), ("99%", quantiles["0.99"]),
             ("max", number["max"])]
    heads = "".join(f"<th>{name}</th>" for name, _ in shown)
    cells = "".join(f'<td style="text-align:right">{value:.4g}</td>' for _, value in shown)
    return (f"{number_picture(number)}<table><tr>{heads}</tr><tr>{cells}</tr></table>"
            f'<p class="quiet">mean {number["mean"]:.4g}, zero in {_share(number["zeros"])}</p>')


def _card(name: str, field: Mapping[str, Any]) -> str:
    parts = [f"<h3><code>{html.escape(name)}</code>{_chips(field)}</h3>"]
    facts = [f"{field['distinct']:,} distinct"]
    if field.get("seen_once"):
        facts.append(f"{field['seen_once']:,} of them seen once")
    if 0 < field["missing"] < 1:
        facts.append(f"missing {_share(field['missing'])} (label rate "
                     f"{field['label_rate_missing']:.3f}, else {field['label_rate_filled']:.3f})")
    parts.append(f'<p class="quiet">{", ".join(facts)}</p>')
    if "number" in field:
        parts.append(_number(field["number"]))
    if "lengths" in field:
        lengths = field["lengths"]
        parts.append(f'{lengths_picture(lengths["rows"])}<p class="quiet">values in a list, 0 to '
                     f'{len(lengths["rows"]) - 1}; {lengths["mean"]:.2f} on average</p>')
    if field["pii"]:
        parts.append('<p class="quiet">personal: values are not shown</p>')
    parts.append(_top_values(field.get("top_values", [])))
    return f'<div class="card">{"".join(parts)}</div>'


def _scale(words: str) -> str:
    steps = [svg.rectangle(i * 10, 0, 10, 9, svg.heat(i / 11)) for i in range(12)]
    return (f'<p class="quiet" style="display:flex;gap:8px;align-items:center">'
            f"{svg.picture(120, 9, steps, 'scale')}<span>{words}</span></p>")


def _over_time(report: Mapping[str, Any]) -> list[str]:
    settings = report["inspection"]
    if report["data"]["days"] < 2:
        return []
    parts = []
    if drift := drift_map(report):
        parts += ["<h2>Drift by field and day</h2>",
                  f"<p class='quiet'>Population stability index of a day against the "
                  f"{settings['drift_days']} days before it, less what chance gives; days of too "
                  "few users are left out. By custom 0.1 is worth a look and 0.25 is large.</p>",
                  drift, _scale("0 to 1 and beyond")]
    if unseen := share_map(report, "oov", "unseen share"):
        parts += ["<h2>Values that the days before do not have</h2>",
                  f"<p class='quiet'>Share of a day's values that no row of the "
                  f"{settings['oov_days']} days before it has: a model trained on those days has "
                  "no row of its own for them.</p>", unseen, _scale("0 to 100%")]
    if missing := share_map(report, "missing", "missing share"):
        parts += ["<h2>Missing values by day</h2>", missing, _scale("0 to 100%")]
    return parts


def inspection_page(report: Mapping[str, Any]) -> str:
    """The page as HTML, complete in itself.

    Args:
        report: the sections of `inspect_days`, with `inspection` (its settings) and `command`.
    """
    data = report["data"]
    title = f"{data['name']}: a look before training"
    newest = "" if data.get("newest_day_complete", True) else \
        "; more rows of the newest day may come, it has no _SUCCESS file yet"
    body = [
        f"<h1>{html.escape(title)}</h1>",
        f"<p class='quiet'>{data['first_day']} to {data['last_day']}{newest}</p>",
        _tiles(report), "<h2>Findings</h2>", _findings(report["findings"]),
        "<h2>Rows and labels by day</h2>", days_picture(report["days"], data["label_rate"]),
        "<h2>Fields</h2>",
        f"<p class='quiet'>AUC alone: mean label by value (numbers: by 64 buckets), learnt from "
        f"the oldest {data['fit_rows']:,} rows and scored on the rest.</p>", _table(report),
        *_over_time(report),
        "<h2>Values</h2>", '<div class="cards">',
        *(_card(name, field) for name, field in report["fields"].items()), "</div>",
    ]
    if report.get("command"):
        body += ["<h2>How to repeat it</h2>", f"<pre>{html.escape(report['command'])}</pre>"]
    return document(title, body)
