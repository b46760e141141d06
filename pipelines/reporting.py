"""From best weights to the sections of `report.json`."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from dualdnn.data.examples import Examples
from dualdnn.evaluation.ranking_agreement import ranking_agreement
from dualdnn.evaluation.significance import auc_difference
from dualdnn.export.latency import measure_latency
from dualdnn.export.saved_model import encoded_inputs, size_in_bytes, write_saved_model
from dualdnn.export.student import serving_graph
from dualdnn.models.dual_dnn import TEACHER, DualDNN
from dualdnn.training.best_weights import BestWeights
from dualdnn.training.measure import measure
from pipelines.plan import Plan

_TIMED_ROWS = 500
# Below this many standard errors of teacher - alone, a share of the gap means nothing.
_LEAST_HEADROOM = 3.0


def data_section(plan: Plan, examples: Examples) -> dict[str, Any]:
    """Rows of each part, days, fingerprint and fields that were dropped."""
    split = examples.split
    rows = {f"rows_{part}": len(index) for part, index in
            (("train", split.train), ("valid", split.valid), ("test", split.test))
            if len(index)}
    return {
        "name": plan.schema.name, **rows, "fingerprint": examples.fingerprint,
        "first_day": str(examples.days[0].day), "last_day": str(examples.days[-1].day),
        "dropped_fields": examples.dropped_fields, "feature_lag": plan.feature_lag,
    }


def measured_sections(
    plan: Plan, model: DualDNN, best: BestWeights, examples: Examples
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Measure every tower on the test part.

    Returns:
        `teacher`, `students`, `control` and `towers` of the report, and the logits by tower.
    """
    index = examples.split.test
    measured, logits = measure(model, best, examples, index, slices=plan.slices)
    if len(index) and TEACHER in measured:
        _time(model, best, examples, measured, plan)
    students: dict[str, Any] = {}
    for student in plan.students:
        prefix = f"{student.name}."
        section = dict(measured.get(student.name, {"status": "diverged"}))
        section["scheme"] = student.scheme.name
        section["control"] = {name.removeprefix(prefix): numbers
                              for name, numbers in measured.items() if name.startswith(prefix)}
        alone = logits.get(f"{prefix}alone")
        if alone is not None and student.name in logits and len(index):
            section |= _efficiency(examples.labels[index], logits[TEACHER],
                                   logits[student.name], alone)
        if examples.groups is not None and len(index) and {TEACHER, student.name} <= set(logits):
            section["ranking_agreement"] = ranking_agreement(
                logits[TEACHER], logits[student.name], examples.groups[index])
        students[student.name] = section
    report: dict[str, Any] = {"students": students}
    if TEACHER in measured:  # a student that goes on alone comes without it
        report["teacher"] = measured[TEACHER]
    if students:
        report["control"] = next(iter(students.values()))["control"]
    return {**report, "towers": list(measured)}, logits


def _efficiency(labels: np.ndarray, teacher: np.ndarray, student: np.ndarray,
                alone: np.ndarray) -> dict[str, float]:
    headroom = auc_difference(labels, teacher, alone)
    gain = auc_difference(labels, student, alone)
    if headroom is None or gain is None or headroom[0] <= _LEAST_HEADROOM * headroom[1]:
        return {}
    return {"distillation_efficiency": gain[0] / headroom[0]}


def _time(model: DualDNN, best: BestWeights, examples: Examples,
          measured: dict[str, dict[str, Any]], plan: Plan) -> None:
    """Add latency ratios and sizes; the graphs are written to a temporary folder and deleted."""
    towers = [TEACHER]
    # Students that differ in what they learned from alone are one graph with other numbers in it:
    # timed once, so that no noise tells them apart.
    like: dict[str, str] = {}
    graphs: dict[Any, str] = {}
    for student in plan.students:
        if student.name in measured:
            like[student.name] = graphs.setdefault(student.graph, student.name)
    towers += dict.fromkeys(like.values())
    with tempfile.TemporaryDirectory() as scratch:
        folders, sizes = {}, {}
        for tower in towers:
            best.load_into(model, tower)
            folders[tower] = Path(scratch) / tower
            write_saved_model(serving_graph(model, examples, tower), folders[tower])
            sizes[tower] = size_in_bytes(folders[tower])
        timed = examples.split.test[:_TIMED_ROWS]
        public = encoded_inputs(*examples.public_inputs(timed))
        whole = encoded_inputs(examples.rows[timed], examples.dense[timed])
        seconds = measure_latency(folders, {tower: whole if tower == TEACHER else public
                                            for tower in towers})
    for tower, timed_as in {TEACHER: TEACHER, **like}.items():
        taken = seconds[timed_as]
        measured[tower]["bytes_total"] = sizes[timed_as]
        measured[tower]["latency_ms_at"] = {str(rows): 1000 * one for rows, one in taken.items()}
        if tower != TEACHER:
            ratios = {str(rows): seconds[TEACHER][rows] / taken[rows] for rows in taken}
            measured[tower]["latency_ratio_at"] = ratios
            measured[tower]["latency_ratio"] = ratios["500"]


def git_revision() -> str:
    """The commit of the working copy, `unknown` outside of one."""
    try:
        done = subprocess.run(["git", "describe", "--always", "--dirty", "--abbrev=12"],
                              cwd=Path(__file__).parent, capture_output=True, text=True,
                              check=False)
    except OSError:
        return "unknown"
    return done.stdout.strip() or "unknown"
