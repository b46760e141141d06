"""The numbers of a run as rows and as one table in the console.

The layout of a report is a contract: `teacher`, `students.NAME`, `control` and
`students.NAME.control.{alone,shared_label_only}`; stable keys, absent means not measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.table import Table
from rich.text import Text

from dualdnn.evaluation.comparison_tables import share_text

# The interaction layer of an xDeepFM.
_CIN = "CompressedInteractionNetwork"


def _count(value: float) -> str:
    return f"{value:,.0f}" if value < 1e6 else f"{value / 1e6:,.2f}M"


def _times(value: float) -> str:
    return f"{value:.1f}x"


def four(value: float) -> str:
    """A metric with four decimals."""
    return f"{value:.4f}"


# Key of the report, heading (in the console one line per word), how to print it.
COLUMNS: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("auc", "AUC", four),
    ("grouped_auc", "grouped AUC", four),
    ("log_loss", "log loss", four),
    ("normalized_entropy", "norm. entropy", four),
    ("calibration", "calib- ration", four),
    ("ece", "ECE", four),
    ("params_dense", "dense params", _count),
    ("params_embedding", "embed. params", _count),
    ("latency_ratio", "latency ratio", _times),
)


def plain(value: Any, where: str = "report") -> Any:
    """The same value as JSON knows it.

    Numpy scalars and arrays become numbers and lists, paths and other keys become text. A key
    whose value is None, NaN or infinite is left out, since absent means not measured; in a list,
    where places count, it becomes None.

    Raises:
        TypeError: a value that is none of these; the message names its place.
    """
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, Mapping):
        made = {str(key): plain(one, f"{where}.{key}") for key, one in value.items()}
        return {key: one for key, one in made.items() if one is not None}
    if isinstance(value, list | tuple):
        return [plain(one, f"{where}[{i}]") for i, one in enumerate(value)]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{where} must be a number, text, list or mapping, got "
                    f"{type(value).__name__}. Convert it before reporting.")


def result_rows(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One flat row per tower: the teacher and its pool, students with controls, and others.

    Returns:
        Rows of `tower` (unique: `teacher`, `teacher.MEMBER`, `NAME`, `NAME.CONTROL`,
        `baseline.NAME`), `role` (teacher, member, student, control, baseline, reference), `name`
        (the last part of `tower`) and those of the table's numbers that were measured. The
        top-level `control` repeats the first
        student's and is read only where no student has one.
    """
    given = plain(report)
    rows: list[dict[str, Any]] = []

    def add(tower: str, role: str, name: str, measured: Mapping[str, Any]) -> None:
        numbers = {key: measured[key] for key, _, _ in COLUMNS if key in measured}
        rows.append({"tower": tower, "role": role, "name": name, **numbers})

    if "teacher" in given:
        add("teacher", "teacher", "teacher", given["teacher"])
        for member, numbers in given["teacher"].get("towers", {}).items():
            add(f"teacher.{member}", "member", member, numbers)
    students = given.get("students", {})
    for student, measured in students.items():
        add(student, "student", student, measured)
        for control, numbers in measured.get("control", {}).items():
            add(f"{student}.{control}", "control", control, numbers)
    if not any(measured.get("control") for measured in students.values()):
        for control, numbers in given.get("control", {}).items():
            add(f"control.{control}", "control", control, numbers)
    for baseline, numbers in given.get("baselines", {}).items():
        add(f"baseline.{baseline}", "baseline", baseline, numbers)
    for reference, numbers in given.get("references", {}).items():
        add(reference, "reference", reference, numbers)
    return rows


def divergences(report: Mapping[str, Any]) -> list[str]:
    """One sentence for every student, control and baseline that became NaN or infinite."""
    students = report.get("students", {})
    towers = {f"student {name}": one for name, one in students.items()}
    towers |= {f"control {control} of {name}": one for name, student in students.items()
               for control, one in student.get("control", {}).items()}
    towers |= {f"baseline {name}": one for name, one in report.get("baselines", {}).items()}
    return [f"{tower} became NaN or infinite and dropped out"
            + ("; its numbers are of its best weights before that" if "weights_sha256" in one
               else "")
            for tower, one in towers.items() if one.get("status") == "diverged"]


def efficiency_text(student: Mapping[str, Any]) -> str:
    """Distillation efficiency with its 95% interval; empty where it was not measured."""
    if "distillation_efficiency" not in student:
        return ""
    limits = student.get("distillation_efficiency_interval", ())
    return share_text({"value": student["distillation_efficiency"],
                       **dict(zip(("low", "high"), limits, strict=False))})


def published_rows(report: Mapping[str, Any]) -> list[tuple[str, str, dict[str, str]]]:
    """What students save over the teacher, and the baseline on leaves, beside figures of others.

    Returns:
        (what is measured, the published figure, ours by student or baseline) for every figure in
        `published` that this run can stand beside; `-` for that of an xDeepFM beside another
        teacher.
    """
    teacher, students = report.get("teacher", {}), report.get("students", {})
    rows = []
    published = report.get("published", {})
    if students and (figure := published.get("latency_ratio")) is not None:
        ours = {name: _times(student["latency_ratio"]) if "latency_ratio" in student else "-"
                for name, student in students.items()}
        rows.append(("teacher latency / student latency, 500 rows", f"about {figure:g}x", ours))
    if students and (figure := published.get("size_ratio")) is not None:
        ours = {name: _times(teacher["params_dense"] / student["params_dense"])
                if "params_dense" in student else "-" for name, student in students.items()}
        rows.append(("teacher size / student size, dense parameters", f"over {figure:g}x", ours))
    on_leaves = {name: baseline for name, baseline in report.get("baselines", {}).items()
                 if "gbdt" in baseline}
    if on_leaves and (range_ := published.get("baseline_latency_ratio")) is not None:
        ours = {name: _times(baseline["latency_ratio"]) if "latency_ratio" in baseline else "-"
                for name, baseline in on_leaves.items()}
        # The figure is of an xDeepFM, and nothing beside another teacher.
        if _CIN in teacher.get("interactions", []):
            what, figure = "xDeepFM", f"{range_[0]:g}x to {range_[1]:g}x"
        else:
            what, figure = "teacher", "-"
        rows.append((f"{what} latency / GBDT+FM+DNN latency, 500 rows", figure, ours))
    return rows


def published_table(report: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """`published_rows` as a heading and lines of one length, one column a tower."""
    rows = published_rows(report)
    towers = list(dict.fromkeys(name for _, _, ours in rows for name in ours))
    return ["", "published", *towers], [
        [what, figure, *(ours.get(name, "") for name in towers)] for what, figure, ours in rows]


def importance_rows(importance: Mapping[str, Mapping[str, Mapping[str, float]]]
                    ) -> list[tuple[str, dict[str, str]]]:
    """Fields with what each tower loses in AUC without them, and twice its standard error.

    Args:
        importance: tower to field to `auc_loss` and `error`, as `field_importance` gives it.

    Returns:
        (field, text by tower), in the order of the first tower. A tower without an entry does not
        read the field.
    """
    fields = dict.fromkeys(field for losses in importance.values() for field in losses)
    return [(field, {tower: f"{losses[field]['auc_loss']:+.4f} ± {2 * losses[field]['error']:.4f}"
                     for tower, losses in importance.items() if field in losses})
            for field in fields]


def importance_table(importance: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Table:
    """`importance_rows` for the console."""
    table = Table(title="loss of AUC when all values of a field are unknown, ± 2 standard errors",
                  title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("field", overflow="fold")
    for tower in importance:
        table.add_column(Text(tower), justify="right", no_wrap=True)
    for field, cells in importance_rows(importance):
        table.add_row(Text(field), *(cells.get(tower, "not read") for tower in importance))
    return table


def console_table(report: Mapping[str, Any]) -> Table:
    """The result of a run as a table that fits a terminal of 110 columns.

    One row per tower; a number that was not measured shows as a dash.
    """
    job, data = report.get("job", ""), report.get("data", {}).get("name", "")
    title = " · ".join(str(part) for part in (job, data, "metrics of the test part") if part)
    table = Table(title=Text(title), title_justify="left", title_style="bold",
                  box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("tower", overflow="fold", min_width=10)
    for _, heading, _ in COLUMNS:
        table.add_column(heading.replace(" ", "\n"), justify="right", no_wrap=True)
    styles = {"teacher": "bold", "member": "", "student": "bold cyan", "control": "dim",
              "baseline": "green", "reference": "dim italic"}
    for row in result_rows(report):
        label = {"member": f"  tower {row['name']}", "control": f"  control {row['name']}",
                 "baseline": f"baseline {row['name']}",
                 "reference": f"reference {row['name']}"}.get(row["role"], row["name"])
        cells = [show(row[key]) if key in row else "-" for key, _, show in COLUMNS]
        table.add_row(Text(label), *cells, style=styles[row["role"]])
    return table
