"""The picture of a backtest: how strategies fare over the days, as one SVG."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from dualdnn.evaluation import svg

# Okabe and Ito's palette and black, distinct to colour-blind eyes too.
_COLOURS = ("#1f1f1f", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_WIDTH, _PANEL, _LEFT, _RIGHT, _GAP = 900.0, 150.0, 66.0, 12.0, 44.0
_DAYS = 7

Values = Mapping[str, Sequence[float | None]]


def trailing_mean(values: Sequence[float | None], days: int = _DAYS) -> list[float | None]:
    """Mean of the last `days` values that are there, at every place; fewer at the beginning."""
    found: list[float | None] = []
    for end in range(1, len(values) + 1):
        there = [one for one in values[max(0, end - days):end] if one is not None]
        found.append(float(np.mean(there)) if there else None)
    return found


def _by_strategy(rows: Sequence[Mapping[str, Any]], metric: str) -> Values:
    found: dict[str, list[float | None]] = {}
    for row in rows:
        found.setdefault(row["strategy"], []).append(row[metric])
    return found


def _less(values: Values, reference: str | None) -> Values:
    """Differences to a strategy, which itself has none."""
    if reference is None:
        return values
    return {name: [None if a is None or b is None else a - b
                   for a, b in zip(mine, values[reference], strict=True)]
            for name, mine in values.items() if name != reference}


def backtest_picture(rows: Sequence[Mapping[str, Any]], reference: str | None) -> str:
    """Panels over days: AUC, log loss and calibration as 7-day means, seconds summed.

    Args:
        rows: of `day_rows`, all strategies having the same days in order.
        reference: the strategy that AUC and log loss are differences to, or None.
    """
    names = list(dict.fromkeys(row["strategy"] for row in rows))
    days = [row["day"] for row in rows if row["strategy"] == names[0]]
    looks = dict(zip(names, (_COLOURS * (1 + len(names) // len(_COLOURS))), strict=False))
    reference = reference if len(names) > 1 else None
    less = f" less that of {reference}" if reference else ""
    panels: list[tuple[str, Values, float | None]] = [
        (f"AUC{less}, mean of 7 days", _smooth(_less(_by_strategy(rows, "auc"), reference)),
         0.0 if reference else None),
        (f"log loss{less}, mean of 7 days",
         _smooth(_less(_by_strategy(rows, "log_loss"), reference)), 0.0 if reference else None),
        ("calibration (predicted / observed), mean of 7 days",
         _smooth(_by_strategy(rows, "calibration")), 1.0),
        ("seconds of training, summed",
         {name: list(np.cumsum([one or 0.0 for one in mine]))
          for name, mine in _by_strategy(rows, "seconds").items()}, 0.0),
    ]
    marks = [svg.rectangle(0, 0, _WIDTH, _height(len(panels)), "#ffffff")]
    for number, name in enumerate(names):
        x, y = _LEFT + number % 3 * 250.0, 16.0 + number // 3 * 18.0
        marks += [svg.rectangle(x, y - 8, 16, 4, looks[name]), svg.text(x + 22, y, name)]
    for number, (title, values, level) in enumerate(panels):
        top = 66.0 + number * (_PANEL + _GAP)
        marks += _panel(title, values, level, days, looks, top)
    drawn = svg.picture(_WIDTH, _height(len(panels)), marks, "backtest by day and strategy")
    return drawn.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" '
                         'font-family="sans-serif" ', 1)


def _height(panels: int) -> float:
    return 66.0 + panels * (_PANEL + _GAP)


def _smooth(values: Values) -> Values:
    return {name: trailing_mean(mine) for name, mine in values.items()}


def _panel(title: str, values: Values, level: float | None, days: Sequence[datetime.date],
           looks: Mapping[str, str], top: float) -> list[str]:
    there = [one for mine in values.values() for one in mine if one is not None]
    shown = there + ([] if level is None else [level])
    low, high = (min(shown), max(shown)) if shown else (0.0, 1.0)
    margin = 0.06 * (high - low) or 0.5
    low, high = low - margin, high + margin
    width = _WIDTH - _LEFT - _RIGHT

    def y_of(value: float) -> float:
        return top + _PANEL * (high - value) / (high - low)

    marks = [svg.text(_LEFT, top - 8, title)]
    for share in (0.1, 0.5, 0.9):
        value = low + share * (high - low)
        marks += [svg.line(_LEFT, y_of(value), _LEFT + width, y_of(value)),
                  svg.text(_LEFT - 6, y_of(value) + 4, f"{value:.3g}", anchor="end")]
    marks += [svg.text(_LEFT + share * width, top + _PANEL + 15, words, anchor="middle")
              for share, words in svg.date_ticks(days[0], days[-1]) if share < 0.97]
    if level is not None:
        marks.append(svg.rectangle(_LEFT, y_of(level) - 0.5, width, 1.0, svg.GREY))
    x_of = _places(len(days), width)
    for name, mine in values.items():
        points = [None if one is None else (x_of(i), y_of(one)) for i, one in enumerate(mine)]
        marks.append(svg.curve(points, looks[name]))
    return marks


def _places(days: int, width: float) -> Callable[[int], float]:
    return lambda number: _LEFT + width * number / max(1, days - 1)
