"""The pictures of a comparison: intervals of differences, calibration, curves of training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dualdnn.evaluation.plots import History, Promised, reliability_diagram, training_curves

_PANELS = (("auc", "AUC, right is better"), ("log_loss", "log loss, left is better"))


def interval_plot(rows: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> Figure | None:
    """Differences with their intervals, one line per row, in a panel per metric.

    Those that stay significant after the correction are drawn dark.

    Args:
        rows: of `compared`, with `auc` and `log_loss`.
        labels: of the rows.

    Returns:
        The figure, or None where no difference has an interval.
    """
    panels = [(metric, title) for metric, title in _PANELS
              if any("low" in row.get(metric, {}) for row in rows)]
    if not panels:
        return None
    figure = Figure(figsize=(4.6 * len(panels) + 1, 1.1 + 0.3 * len(rows)), layout="constrained")
    cells = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (metric, title) in zip(cells, panels, strict=True):
        for place, row in enumerate(rows):
            found = row.get(metric, {})
            if "low" not in found:
                continue
            colour = "#0072B2" if found["p_holm"] < 0.05 else "#9aa1ab"
            axes.plot([found["low"], found["high"]], [place, place], color=colour, linewidth=2.2)
            axes.plot([found["value"]], [place], color=colour, marker="o", markersize=5)
        axes.axvline(0, color="#888888", linewidth=0.9)
        axes.set_title(f"difference in {title}", fontsize=10, loc="left")
        axes.grid(True, axis="x", color="#dddddd", linewidth=0.8)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(labelsize=9, length=0)
        axes.locator_params(axis="x", nbins=5)
    cells[0].set_yticks(range(len(rows)), labels)
    cells[0].set_ylim(len(rows) - 0.5, -0.5)
    return figure


def mean_history(histories: Sequence[History], prefix: str,
                 chosen: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The curves of several seeds as one: means at the steps that all of them reached.

    Args:
        histories: of the runs, rows as `plots` describes them.
        prefix: put before the names of the towers; controls are left out.
        chosen: the towers that are drawn; all where there are none.
    """
    values: dict[tuple[str, str, str, int], list[float]] = {}
    for history in histories:
        for row in history:
            if "." not in row["tower"] and (not chosen or row["tower"] in chosen):
                key = row["tower"], row["part"], row["metric"], int(row["step"])
                values.setdefault(key, []).append(float(row["value"]))
    return [{"step": step, "epoch": 0, "tower": f"{prefix}{tower}", "part": part,
             "metric": metric, "value": float(np.mean(found))}
            for (tower, part, metric, step), found in values.items()
            if len(found) == len(histories)]


def calibration_plot(predictions: Mapping[str, Promised]) -> Figure | None:
    """`reliability_diagram` of one seed of each tower."""
    return reliability_diagram(predictions, towers=list(predictions))


def curves_plot(history: History) -> Figure | None:
    """`training_curves` of systems whose names are part of the towers'."""
    return training_curves(history, towers=list(dict.fromkeys(row["tower"] for row in history)))
