"""The figures of a report: learning curves, reliability diagram, distillation losses.

Figures are plain objects without pyplot's global state, so that drawing works in any process and
thread, with or without a display. A history is a list of rows
`{"step", "epoch", "tower", "part", "metric", "value"}` with part `train` or `valid`.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import ArrayLike, NDArray

from dualdnn.evaluation.metrics import ece
from dualdnn.storage import atomic_file

History = Sequence[Mapping[str, Any]]
Series = tuple[NDArray[np.float64], NDArray[np.float64]]
Look = tuple[str, Literal["-", "--", ":", "-."]]

TEACHER = "teacher"
# Okabe and Ito's palette, distinct to colour-blind eyes too; the teacher's colour comes first.
_TEACHER_COLOUR = "#1f1f1f"
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_STYLES: tuple[Literal["-", "--", ":", "-."], ...] = ("-", "--", ":", "-.")
_TRAIN_METRICS = (("label_loss", "label loss"), ("loss", "loss"))
_VALID_PANELS = (("log_loss", "log loss"), ("auc", "AUC"))
_DISTILLATION_PANELS = (
    ("label_loss", "label loss"),
    ("soft_label_loss", "soft-label loss"),
    ("logit_loss", "logit loss"),
    ("hint_loss", "hint loss"),
)
_SMOOTH_ABOVE = 60


def tower_looks(towers: Iterable[str]) -> dict[str, Look]:
    """A colour and a line style per tower, the same in every figure given the same towers.

    Args:
        towers: names in the order of the report; repeated names count once.

    Returns:
        Tower to (colour, line style). The teacher is always black; beyond six further towers the
        colours come again with another line style.
    """
    named = list(dict.fromkeys(towers))
    looks: dict[str, Look] = {TEACHER: (_TEACHER_COLOUR, "-")} if TEACHER in named else {}
    for i, tower in enumerate(t for t in named if t != TEACHER):
        style = _STYLES[i // len(_COLOURS) % len(_STYLES)]
        looks[tower] = (_COLOURS[i % len(_COLOURS)], style)
    return looks


def figure_png(figure: Figure) -> bytes:
    """The figure as the bytes of a PNG file."""
    figure.set_dpi(120)
    buffer = io.BytesIO()
    # Figure.savefig draws twice: once to find the layout, which drawing finds by itself.
    FigureCanvasAgg(figure).print_png(buffer)  # type: ignore[no-untyped-call]
    return buffer.getvalue()


def save_figure(figure: Figure, path: Path) -> None:
    """Write the figure as a PNG by one rename."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(figure_png(figure))


def _series(history: History, part: str, metric: str) -> dict[str, Series]:
    """Tower to its finite values of one metric over steps, in step order."""
    found: dict[str, list[tuple[float, float]]] = {}
    for row in history:
        value = row["value"]
        if row["part"] == part and row["metric"] == metric and value is not None:
            found.setdefault(row["tower"], []).append((float(row["step"]), float(value)))
    series = {}
    for tower, points in found.items():
        array = np.array(sorted(points))
        array = array[np.isfinite(array[:, 1])]
        if len(array):
            series[tower] = (array[:, 0], array[:, 1])
    return series


def _smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Running mean over about a fortieth of the points; at the ends over those there are."""
    half = max(1, len(values) // 80)
    total = np.concatenate([[0.0], np.cumsum(values)])
    at = np.arange(len(values))
    low, high = np.maximum(at - half, 0), np.minimum(at + half + 1, len(values))
    return (total[high] - total[low]) / (high - low)


def _decorate(axes: Axes, title: str, *, x: str | None, y: str | None = None) -> None:
    axes.set_title(title, fontsize=11, loc="left")
    axes.grid(True, color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9, color="#888888")
    if x is not None:
        axes.set_xlabel(x, fontsize=10)
    if y is not None:
        axes.set_ylabel(y, fontsize=10)


def _draw_series(
    axes: Axes, series: Mapping[str, Series], looks: Mapping[str, Look], title: str
) -> None:
    """Lines over steps: a mark per point where there are few, a running mean where many."""
    shown = []
    for tower in (t for t in looks if t in series):
        (steps, values), (colour, style) = series[tower], looks[tower]
        if len(values) > _SMOOTH_ABOVE:
            axes.plot(steps, values, color=colour, linewidth=0.8, alpha=0.15)
            values = _smooth(values)
        shown.append(values)
        marker = "o" if len(values) <= 30 else None
        axes.plot(steps, values, color=colour, linestyle=style, linewidth=1.8, marker=marker,
                  markersize=4)
    _decorate(axes, title, x="step")
    # What the running means span decides, not the spikes behind them, nor the very first steps.
    tail = np.concatenate([v[len(v) // 50:] for v in shown])
    low, high = float(tail.min()), float(tail.max())
    margin = 0.08 * (high - low) or 0.05 * abs(high) or 0.05
    axes.set_ylim(low - margin, high + margin)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True, min_n_ticks=1))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))


def _legend(figure: Figure, looks: Mapping[str, Look], shown: set[str]) -> None:
    lines = [
        Line2D([], [], color=colour, linestyle=style, linewidth=2.2, label=tower)
        for tower, (colour, style) in looks.items() if tower in shown
    ]
    columns = len(lines) if len(lines) <= 4 else 3
    figure.legend(handles=lines, loc="outside lower center", ncols=columns, fontsize=10,
                  frameon=False)


def training_curves(history: History, *, towers: Sequence[str] = ()) -> Figure | None:
    """Training loss, validation log loss and validation AUC of every tower over steps.

    The training panel shows `label_loss` where the history has it, since towers compare only by
    that, else `loss`.

    Args:
        history: rows as the module describes them; metrics `label_loss` or `loss` of part
            `train`, `log_loss` and `auc` of part `valid`. What is missing has no panel.
        towers: the order, which fixes the colours; towers found beside it follow.

    Returns:
        The figure, or None if there is nothing to draw.
    """
    panels: list[tuple[str, dict[str, Series]]] = []
    for metric, title in _TRAIN_METRICS:
        if series := _series(history, "train", metric):
            panels.append((f"training: {title}", series))
            break
    trained = len(panels)
    for metric, title in _VALID_PANELS:
        if series := _series(history, "valid", metric):
            panels.append((f"validation: {title}", series))
    if not panels:
        return None
    looks = tower_looks([*towers, *(str(row["tower"]) for row in history)])
    figure = Figure(figsize=(9, 5), layout="constrained")
    if trained and len(panels) == 3:
        mosaic = figure.subplot_mosaic([["a", "b"], ["a", "c"]], width_ratios=[1.2, 1])
        cells = [mosaic[name] for name in "abc"]
    else:
        cells = list(figure.subplots(1, len(panels), squeeze=False)[0])
    for axes, (title, series) in zip(cells, panels, strict=True):
        _draw_series(axes, series, looks, title)
    _legend(figure, looks, {tower for _, series in panels for tower in series})
    return figure


# Labels, probabilities, and weights of the rows or None.
Promised = tuple[ArrayLike, ArrayLike, ArrayLike | None]


def reliability_diagram(
    predictions: Mapping[str, Promised],
    *,
    towers: Sequence[str] = (),
    bins: int = 20,
) -> Figure | None:
    """What each tower promised against what came, above a histogram of its predictions.

    Each point is a bin of equally many rows, the bins that ECE is made of; its bar is two
    standard errors of the observed mean, so that a small test part does not look miscalibrated.

    Args:
        predictions: tower to (labels, probabilities, weights or None), each of shape `(rows,)`.
        towers: the order, which fixes the colours; towers found beside it follow.
        bins: bins per tower.

    Returns:
        The figure, or None if no tower has rows.

    Raises:
        DataError: as `ece`.
    """
    measured = {tower: ece(*of_rows, bins=bins) for tower, of_rows in predictions.items()}
    looks = tower_looks([*towers, *predictions])
    drawn = [tower for tower in looks if tower in measured and measured[tower][1]]
    if not drawn:
        return None
    figure = Figure(figsize=(8, 6), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    limit = 1.05 * max(max(one.predicted, one.observed)
                       for tower in drawn for one in measured[tower][1])
    limit = min(1.0, limit) or 1.0
    top.plot([0, limit], [0, limit], color="#999999", linestyle=(0, (4, 3)), linewidth=1.2,
             label="perfect calibration")
    edges = np.linspace(0.0, limit, 51)
    for tower in drawn:
        colour, style = looks[tower]
        value, table = measured[tower]
        x = np.array([one.predicted for one in table])
        y = np.array([one.observed for one in table])
        count = np.array([one.count for one in table])
        top.errorbar(x, y, yerr=2 * np.sqrt(y * (1 - y) / count), color=colour, linestyle=style,
                     linewidth=1.6, marker="o", markersize=4, elinewidth=0.8, ecolor=(colour, 0.4),
                     label=f"{tower}  (ECE {value:.4f})")
        # The last bin takes all that lies above, so that every row is somewhere.
        clipped = np.minimum(np.asarray(predictions[tower][1], dtype=np.float64), limit)
        weights = predictions[tower][2]
        mass = np.histogram(clipped, bins=edges, weights=weights)[0]
        share = mass / (clipped.size if weights is None else np.sum(weights))
        bottom.stairs(share, edges, color=colour, linestyle=style, linewidth=1.4)
        bottom.stairs(share, edges, color=colour, alpha=0.06, fill=True)
    top.set_xlim(0, limit)
    top.set_ylim(0, limit)
    top.legend(loc="upper left", fontsize=9.5, frameon=False)
    _decorate(top, "reliability: bins of equally many rows, bars of two standard errors",
              x=None, y="observed mean label")
    _decorate(bottom, "histogram of predictions (last bar: all that lies above)",
              x="predicted probability", y="share of rows")
    bottom.set_ylim(bottom=0)
    return figure


def distillation_losses(history: History, *, towers: Sequence[str] = ()) -> Figure | None:
    """Label, soft-label, logit and hint loss of every distilled student over training steps.

    Args:
        history: rows as the module describes them; metrics `label_loss`, `soft_label_loss`,
            `logit_loss`, `hint_loss` of part `train`. A loss that no student has gets no panel;
            a tower without any of the last three is not distilled and left out.
        towers: the order, which fixes the colours; towers found beside it follow.

    Returns:
        The figure, or None if no tower was distilled.
    """
    found = {metric: _series(history, "train", metric) for metric, _ in _DISTILLATION_PANELS}
    distilled = {tower for metric, series in found.items() if metric != "label_loss"
                 for tower in series}
    panels = []
    for metric, title in _DISTILLATION_PANELS:
        series = {tower: one for tower, one in found[metric].items() if tower in distilled}
        if series:
            panels.append((title, series))
    if not distilled:
        return None
    looks = tower_looks([*towers, *(str(row["tower"]) for row in history)])
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(9, 3 + 2 * rows), layout="constrained")
    cells = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (title, series) in zip(cells, panels, strict=False):
        _draw_series(axes, series, looks, title)
    for axes in cells[len(panels):]:
        axes.remove()
    _legend(figure, looks, distilled)
    return figure


def importance_bars(
    importance: Mapping[str, Mapping[str, Mapping[str, float]]], *, towers: Sequence[str] = ()
) -> Figure | None:
    """What every tower loses in AUC without each field, with bars of two standard errors.

    Args:
        importance: tower to field to `auc_loss` and `error`; fields in the order of the first.
        towers: the order, which fixes the colours.

    Returns:
        The figure, or None if nothing was measured.
    """
    fields = list(dict.fromkeys(field for losses in importance.values() for field in losses))
    if not fields:
        return None
    looks = tower_looks([*towers, *importance])
    figure = Figure(figsize=(8, 1.2 + 0.18 * len(fields) * (1 + len(importance))),
                    layout="constrained")
    axes = figure.subplots()
    height = 0.8 / len(importance)
    for number, (tower, losses) in enumerate(importance.items()):
        places = [i + number * height for i, field in enumerate(fields) if field in losses]
        found = [losses[field] for field in fields if field in losses]
        axes.barh(places, [one["auc_loss"] for one in found], height=0.9 * height,
                  xerr=[2 * one["error"] for one in found], color=looks[tower][0],
                  ecolor="#888888", label=tower)
    axes.axvline(0, color="#888888", linewidth=0.8)
    axes.set_yticks(np.arange(len(fields)) + 0.4 - height / 2, fields)
    axes.invert_yaxis()
    axes.legend(loc="lower right", fontsize=9.5, frameon=False)
    _decorate(axes, "loss of AUC without the field, bars of two standard errors", x="AUC")
    return figure
