"""Small pictures as inline SVG: sharp at any size, few bytes, a tooltip on every mark."""

from __future__ import annotations

import datetime
import html
from collections.abc import Sequence

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#8a8f98"
# From nothing to much; the last one also stands for all that is beyond.
_HEAT = ((244, 245, 247), (253, 208, 146), (213, 94, 0), (110, 20, 10))

Tick = tuple[float, str]


def picture(width: float, height: float, marks: Sequence[str], label: str) -> str:
    """An SVG element of the given size, scaled to the width that the page gives it."""
    return (f'<svg viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}" '
            f'role="img" aria-label="{html.escape(label)}">{"".join(marks)}</svg>')


def _title(text: str) -> str:
    return f"<title>{html.escape(text)}</title>" if text else ""


def rectangle(x: float, y: float, width: float, height: float, colour: str,
              title: str = "") -> str:
    """A filled rectangle with a tooltip."""
    return (f'<rect x="{x:.2f}" y="{y:.2f}" width="{max(width, 0):.2f}" '
            f'height="{max(height, 0):.2f}" fill="{colour}">{_title(title)}</rect>')


def text(x: float, y: float, words: str, *, anchor: str = "start") -> str:
    """A line of small grey text, its baseline at y."""
    return (f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="11" '
            f'fill="#6a717c">{html.escape(words)}</text>')


def line(x1: float, y1: float, x2: float, y2: float) -> str:
    """A thin grey rule."""
    return f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" stroke="#c9cdd3" fill="none"/>'


def curve(points: Sequence[tuple[float, float] | None], colour: str) -> str:
    """A line through points; None breaks it, and a lone point is drawn as a dot."""
    parts, dots = [], []
    run: list[tuple[float, float]] = []
    for point in [*points, None]:
        if point is not None:
            run.append(point)
            continue
        if len(run) == 1:
            dots.append(f'<circle cx="{run[0][0]:.1f}" cy="{run[0][1]:.1f}" r="1.4" '
                        f'fill="{colour}"/>')
        elif run:
            parts.append("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in run))
        run = []
    path = f'<path d="{"".join(parts)}" fill="none" stroke="{colour}" stroke-width="1.4"/>'
    return (path if parts else "") + "".join(dots)


def heat(share: float) -> str:
    """The colour of a value between 0 and 1."""
    place = min(max(share, 0.0), 1.0) * (len(_HEAT) - 1)
    low = min(int(place), len(_HEAT) - 2)
    mixed = [round(a + (b - a) * (place - low))
             for a, b in zip(_HEAT[low], _HEAT[low + 1], strict=True)]
    return "#" + "".join(f"{one:02x}" for one in mixed)


def columns(shares: Sequence[float], titles: Sequence[str], *, width: float, height: float,
            label: str, colour: str = BLUE) -> str:
    """A histogram: one column per share, the highest as high as the picture."""
    top, step = max([*shares, 1e-12]), width / max(len(shares), 1)
    marks = [rectangle(i * step, height * (1 - share / top), step - min(1.0, step / 4),
                       height * share / top, colour, title)
             for i, (share, title) in enumerate(zip(shares, titles, strict=True))]
    return picture(width, height, [*marks, line(0, height, width, height)], label)


def date_ticks(first: datetime.date, last: datetime.date, most: int = 8) -> list[Tick]:
    """Dates to write on an axis, as (share of the way from first to last, text)."""
    span = (last - first).days
    if span == 0:
        return [(0.0, str(first))]
    months = (last.year - first.year) * 12 + last.month - first.month
    if months < 2:
        step = -(-span // most)
        days = [first + datetime.timedelta(days=i) for i in range(0, span + 1, step)]
        return [((day - first).days / span, f"{day:%d %b}") for day in days]
    every = next((n for n in (1, 2, 3, 6, 12, 24, 60) if months / n <= most), 120)
    starts = [datetime.date(first.year + month // 12, month % 12 + 1, 1)
              for month in range(first.month, first.month + months)]
    return [((day - first).days / span, f"{day:%b %Y}" if every < 12 else f"{day:%Y}")
            for day in starts if (day.year * 12 + day.month - 1) % every == 0]
