"""The pictures of an inspection: the log by day, heat maps of fields by day, single fields."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dualdnn.evaluation import svg

_WIDTH, _LEFT = 1080.0, 150.0
_MOST_COLUMNS = 230
# A stability index from here on has the strongest colour.
_DRIFT_CAP = 1.0


@dataclass(frozen=True)
class Calendar:
    """The days of a log as columns of equal length in calendar days.

    Attributes:
        first: the first day.
        last: the last day.
        length: calendar days of a column.
        columns: per column, the numbers of its days that the log has.
    """

    first: datetime.date
    last: datetime.date
    length: int
    columns: Sequence[Sequence[int]]

    def span(self, column: int) -> str:
        """`2024-01-01` or `2024-01-01 to 2024-01-04`."""
        start = self.first + datetime.timedelta(days=column * self.length)
        end = min(start + datetime.timedelta(days=self.length - 1), self.last)
        return str(start) if start == end else f"{start} to {end}"

    def ticks(self, left: float, width: float) -> list[svg.Tick]:
        """Where dates are written, in the units of a picture."""
        days = len(self.columns) * self.length
        span = (self.last - self.first).days
        return [(left + width * (share * span + 0.5) / days, words)
                for share, words in svg.date_ticks(self.first, self.last)]


def calendar_of(days: Sequence[str]) -> Calendar:
    """The days of a report in at most 230 columns."""
    dates = [datetime.date.fromisoformat(day) for day in days]
    span = (dates[-1] - dates[0]).days + 1
    length = -(-span // _MOST_COLUMNS)
    columns: list[list[int]] = [[] for _ in range(-(-span // length))]
    for number, day in enumerate(dates):
        columns[(day - dates[0]).days // length].append(number)
    return Calendar(dates[0], dates[-1], length, columns)


def _axis(calendar: Calendar, left: float, width: float, y: float) -> list[str]:
    return [svg.text(x, y, words, anchor="middle" if x > left + 20 else "start")
            for x, words in calendar.ticks(left, width) if x < left + width - 12]


def days_picture(days: Mapping[str, Any], overall: float) -> str:
    """Rows and label rate over time; days that are missing are shaded.

    Args:
        days: the section `days` of the report.
        overall: label rate of all rows.
    """
    calendar = calendar_of(days["day"])
    left, top, rows_height, rate_height, gap = 64.0, 12.0, 96.0, 76.0, 26.0
    width = _WIDTH - left - 8
    step = width / len(calendar.columns)
    rows, rates = [], []
    for chosen in calendar.columns:
        total = sum(days["rows"][i] for i in chosen)
        rows.append(total / len(chosen) if chosen else 0.0)
        positives = sum(days["rows"][i] * days["label_rate"][i] for i in chosen)
        rates.append(positives / total if chosen else None)
    most = max(rows)
    limit = min(1.0, 1.1 * max(rate for rate in rates if rate is not None)) or 1.0
    floor, base = top + rows_height, top + rows_height + gap + rate_height
    marks: list[str] = []
    points: list[tuple[float, float] | None] = []
    for i, (count, rate) in enumerate(zip(rows, rates, strict=True)):
        x, words = left + i * step, calendar.span(i)
        if rate is None:
            marks.append(svg.rectangle(x, top, step, base - top, "#f3d3cf", f"{words}: no folder"))
            points.append(None)
            continue
        per_day = " a day" if calendar.length > 1 else ""
        tooltip = f"{words}: {count:,.0f} rows{per_day}, label rate {rate:.4f}"
        height = rows_height * count / most
        marks.append(svg.rectangle(x, floor - height, step - min(1, step / 4), height, svg.BLUE,
                                   tooltip))
        points.append((x + step / 2, base - rate_height * rate / limit))
        marks.append(svg.rectangle(x, floor + gap, step, rate_height, "transparent", tooltip))
    level = base - rate_height * overall / limit
    marks += [
        svg.line(left, floor, left + width, floor), svg.line(left, base, left + width, base),
        svg.line(left, level, left + width, level), svg.curve(points, svg.ORANGE),
        svg.text(left - 6, top + 9, f"{most:,.0f}", anchor="end"),
        svg.text(left - 6, floor, "0 rows", anchor="end"),
        svg.text(left - 6, base - rate_height + 4, f"{limit:.3g}", anchor="end"),
        svg.text(left - 6, base, "label 0", anchor="end"),
        svg.text(left - 6, level + 4, f"{overall:.3g}", anchor="end")
        if rate_height * overall / limit > 14 and level > base - rate_height + 14 else "",
        *_axis(calendar, left, width, base + 15),
    ]
    return svg.picture(_WIDTH, base + 20, marks, "rows and label rate by day")


def heat_map(days: Sequence[str], fields: Mapping[str, Sequence[float | None]], *,
             cap: float, what: str) -> str:
    """Fields by days; a column of several days shows the largest of them.

    Args:
        days: of the report.
        fields: name to a value per day, None where there is none.
        cap: the value from which on the colour is the strongest.
        what: names the value in tooltips.
    """
    calendar = calendar_of(days)
    width, cell, gap = _WIDTH - _LEFT - 8, 15.0, 3.0
    step = width / len(calendar.columns)
    marks = []
    for number, (name, values) in enumerate(fields.items()):
        y = number * (cell + gap)
        shown = name if len(name) <= 22 else f"{name[:21]}…"
        marks.append(svg.text(_LEFT - 8, y + 11.5, shown, anchor="end"))
        for i, chosen in enumerate(calendar.columns):
            known = [value for day in chosen if (value := values[day]) is not None]
            if known:
                # By its root, so that small ones can be told from nothing.
                colour = svg.heat(math.sqrt(min(max(known) / cap, 1.0)))
                marks.append(svg.rectangle(
                    _LEFT + i * step, y, step - min(0.6, step / 5), cell, colour,
                    f"{name}, {calendar.span(i)}: {what} {max(known):.3g}"))
    height = len(fields) * (cell + gap)
    marks += _axis(calendar, _LEFT, width, height + 12)
    return svg.picture(_WIDTH, height + 17, marks, f"{what} by field and day")


def drift_map(report: Mapping[str, Any]) -> str:
    """Stability index of the fields and days that have one; empty without any."""
    found = {name: field["by_day"]["drift"] for name, field in report["fields"].items()
             if any(value is not None for value in field["by_day"]["drift"])}
    if not found:
        return ""
    return heat_map(report["days"]["day"], found, cap=_DRIFT_CAP, what="stability index")


def share_map(report: Mapping[str, Any], key: str, what: str) -> str:
    """A share by field and day, of the fields where it is ever above zero; empty without any."""
    found = {name: values for name, field in report["fields"].items()
             if any(values := field["by_day"].get(key, []))}
    return heat_map(report["days"]["day"], found, cap=1.0, what=what) if found else ""


def number_picture(number: Mapping[str, Any]) -> str:
    """Histogram of the middle 98% of a number's values."""
    found = number["histogram"]
    step = (found["high"] - found["low"]) / len(found["shares"])
    titles = [f"{found['low'] + i * step:.4g} to {found['low'] + (i + 1) * step:.4g}: {share:.2%}"
              for i, share in enumerate(found["shares"])]
    return svg.columns(found["shares"], titles, width=320, height=70, label="histogram of values")


def lengths_picture(rows: Sequence[int]) -> str:
    """Histogram of list lengths."""
    total = max(sum(rows), 1)
    titles = [f"{length} values: {count:,} rows, {count / total:.1%}"
              for length, count in enumerate(rows)]
    return svg.columns([count / total for count in rows], titles, width=320, height=36,
                       label="histogram of list lengths", colour=svg.GREY)


def sparkline(values: Sequence[float | None], cap: float) -> str:
    """A small line over days, from 0 to `cap` or the largest value, whichever is more."""
    top = max([cap, *(value for value in values if value is not None)])
    step = 96 / max(len(values) - 1, 1)
    points = [None if value is None else (1 + i * step, 17 - 15 * value / top)
              for i, value in enumerate(values)]
    return svg.picture(98, 19, [svg.line(0, 18, 98, 18), svg.curve(points, svg.BLUE)], "over days")
