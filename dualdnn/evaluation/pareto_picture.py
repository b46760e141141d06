"""The picture of a student search: AUC against latency, the teacher as a line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

_TEACHER, _FRONTIER, _OTHER, _CHOSEN = "#1f1f1f", "#0072B2", "#9aa1ab", "#D55E00"
_PARTS = (("valid", "validation part: what is chosen on"), ("test", "test part: what came of it"))
# More names than these would cover each other; the table has all.
_MOST_NAMES = 12


def pareto_picture(search: Mapping[str, Any]) -> Figure | None:
    """A panel for each part: AUC of every student over its latency, log scale.

    Whiskers are the 95% interval of the paired difference to the teacher, so that one that
    reaches the teacher's line says that the rows cannot tell the two apart.

    Args:
        search: of `search_section`; empty where nothing was searched.

    Returns:
        The figure, or None.
    """
    if not search:
        return None
    figure = Figure(figsize=(11, 5.2), layout="constrained")
    for axes, (part, title) in zip(figure.subplots(1, 2), _PARTS, strict=True):
        _draw(axes, search, part)
        axes.set_title(title, fontsize=11, loc="left")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=9.5,
                  frameon=False)
    return figure


def _draw(axes: Axes, search: Mapping[str, Any], part: str) -> None:
    students, teacher = search["students"], search["teacher"][part]["auc"]
    axes.axhline(teacher, color=_TEACHER, linewidth=1.4,
                 label=f"teacher, {search['teacher']['latency_ms']:.3g} ms")
    if part == "valid":
        axes.axhline(search["least_auc"], color=_TEACHER, linewidth=1, linestyle=(0, (4, 3)),
                     label=f"{search['distance']:g} below it")
    for kind, colour, label in (("other", _OTHER, "student"),
                                ("frontier", _FRONTIER, "on the frontier of the validation part"),
                                ("chosen", _CHOSEN, "chosen")):
        shown = {name: one for name, one in students.items() if _kind(name, one, search) == kind}
        if not shown:
            continue
        found = [one[part] for one in shown.values()]
        reach = [[max(one["difference"] - one.get("low", one["difference"]), 0) for one in found],
                 [max(one.get("high", one["difference"]) - one["difference"], 0) for one in found]]
        axes.errorbar([one["latency_ms"] for one in shown.values()], [one["auc"] for one in found],
                      yerr=reach, color=colour, ecolor=(colour, 0.45), linestyle="none",
                      marker="*" if kind == "chosen" else "o", elinewidth=1.1, zorder=3,
                      markersize=13 if kind == "chosen" else 5.5, label=label)
    path = [one for one in students.values() if one["frontier"]]
    axes.plot([one["latency_ms"] for one in path], [one[part]["auc"] for one in path],
              color=_FRONTIER, linewidth=1.2, alpha=0.7)
    named = [name for name, one in students.items()
             if _kind(name, one, search) in (("chosen", "frontier") if part == "valid"
                                             else ("chosen",))]
    for place, name in enumerate(named[:_MOST_NAMES]):
        axes.annotate(name, (students[name]["latency_ms"], students[name][part]["auc"]),
                      xytext=(5, 7 if place % 2 else -12), textcoords="offset points", fontsize=8,
                      zorder=5)
    _decorate(axes)


def _kind(name: str, one: Mapping[str, Any], search: Mapping[str, Any]) -> str:
    if name == search.get("chosen"):
        return "chosen"
    return "frontier" if one["frontier"] else "other"


def _decorate(axes: Axes) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.12)
    axes.grid(True, color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9, color="#888888")
    axes.set_xlabel("ms for 500 rows, one thread", fontsize=10)
    axes.set_ylabel("AUC, whiskers: 95% of the difference to the teacher", fontsize=9.5)
