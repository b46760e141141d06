"""From best weights to the sections of `report.json`."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dualdnn.data.examples import Examples
from dualdnn.evaluation.efficiency import efficiency
from dualdnn.evaluation.metrics import sigmoid
from dualdnn.evaluation.paired import ComparedRows
from dualdnn.evaluation.plots import Promised
from dualdnn.evaluation.ranking_agreement import ranking_agreement
from dualdnn.export.latency import measure_latency
from dualdnn.export.saved_model import encoded_inputs, size_in_bytes, write_saved_model
from dualdnn.export.student import serving_graph
from dualdnn.models.dual_dnn import TEACHER, DualDNN
from dualdnn.training.best_weights import BestWeights
from dualdnn.training.measure import measure, measure_members
from pipelines.gbdt import GbdtBaseline
from pipelines.plan import Plan

_TIMED_ROWS = 500


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
    plan: Plan, model: DualDNN, best: BestWeights, examples: Examples,
    on_leaves: Sequence[GbdtBaseline] = (),
    progress: Mapping[str, Mapping[str, Any]] | None = None,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Measure every tower on the test part.

    Args:
        plan: of the run.
        model: its towers.
        best: their best weights.
        examples: its data.
        on_leaves: baselines that have models and examples of their own.
        progress: how each tower ended, as `Trainer.summary`; None where nobody knows.

    Returns:
        `teacher`, `students`, `control`, `baselines` and `towers` of the report, and the logits by
        tower. One that became NaN has `status: diverged`, beside the numbers of its best weights
        where an evaluation came before.
    """
    index = examples.split.test
    measured, logits = measure(model, best, examples, index, slices=plan.slices)
    for one in on_leaves:
        its_measured, its_logits = measure(one.model, one.best, one.examples, index,
                                           slices=plan.slices)
        logits[one.name] = its_logits[TEACHER]
        measured[one.name] = its_measured[TEACHER] | {"gbdt": one.trees.about}
    for tower, ended in (progress or {}).items():
        if ended["status"] == "diverged" and tower in measured:
            measured[tower]["status"] = "diverged"
    if len(index) and TEACHER in measured:
        _time(model, best, examples, measured, plan, on_leaves)
    served = np.float32(np.log(examples.negative_rate))
    students: dict[str, Any] = {}
    for student in plan.students:
        prefix = f"{student.name}."
        section = dict(measured.get(student.name, {"status": "diverged"}))
        section["scheme"] = student.scheme.name
        section["control"] = {name.removeprefix(prefix): numbers
                              for name, numbers in measured.items() if name.startswith(prefix)}
        alone = logits.get(f"{prefix}alone")
        if alone is not None and student.name in logits and len(index):
            section |= efficiency_section(examples, index, teacher=logits[TEACHER],
                                          student=logits[student.name], alone=alone)
        if examples.groups is not None and len(index) and {TEACHER, student.name} <= set(logits):
            # As served: the teacher's probabilities are the gains.
            section["ranking_agreement"] = ranking_agreement(
                logits[TEACHER] + served, logits[student.name] + served, examples.groups[index])
        students[student.name] = section
    report: dict[str, Any] = {"students": students}
    if plan.baselines:
        report["baselines"] = {one.name: measured.get(one.tower, {"status": "diverged"})
                               for one in plan.baselines}
    if TEACHER in measured:  # a student that goes on alone comes without it
        report["teacher"] = measured[TEACHER]
        if not plan.teacher.is_pool:
            report["teacher"]["interactions"] = [type(layer).__name__
                                                 for layer in plan.teacher.interactions]
        if members := measure_members(model, best, examples, index):
            report["teacher"]["towers"] = members
        if model.scored:
            report["teacher"]["untimed"] = model.scored
    if students:
        report["control"] = next(iter(students.values()))["control"]
    return {**report, "towers": list(measured)}, logits


def promised(examples: Examples, logits: Mapping[str, np.ndarray]) -> dict[str, Promised]:
    """What every tower promises about the test part, for `reliability_diagram`.

    Args:
        examples: the data.
        logits: (rows_test,) by tower, as trained.
    """
    index, served = examples.split.test, np.log(examples.negative_rate)
    return {tower: (examples.labels[index], sigmoid(scores + served),
                    examples.population_weights(index)) for tower, scores in logits.items()}


def efficiency_section(examples: Examples, index: np.ndarray, *, teacher: np.ndarray,
                       student: np.ndarray, alone: np.ndarray) -> dict[str, Any]:
    """Distillation efficiency of the AUC that the report shows.

    Args:
        examples: the data.
        index: (n,) row numbers of the test part.
        teacher: (n,) logits.
        student: (n,) logits.
        alone: (n,) logits.

    Returns:
        `distillation_efficiency` and, where its 95% interval is bounded,
        `distillation_efficiency_interval`, its low and high; nothing where teacher - alone is not
        above three standard errors of the bootstrap over groups, or over rows where there are
        none.
    """
    groups = None if examples.groups is None else examples.groups[index]
    rows = ComparedRows(examples.labels[index], groups, examples.stands_for(index))
    ours, theirs, without = (rows.measured(one, "auc") for one in (student, teacher, alone))
    if ours is None or theirs is None or without is None:
        return {}
    found = efficiency(ours, theirs, without)
    if found is None:
        return {}
    section: dict[str, Any] = {"distillation_efficiency": found["value"]}
    if "low" in found:
        section["distillation_efficiency_interval"] = [found["low"], found["high"]]
    return section


def _time(model: DualDNN, best: BestWeights, examples: Examples,
          measured: dict[str, dict[str, Any]], plan: Plan,
          on_leaves: Sequence[GbdtBaseline]) -> None:
    """Add latency ratios and sizes; the graphs are written to a temporary folder and deleted."""
    timed = examples.split.test[:_TIMED_ROWS]
    public = encoded_inputs(*examples.public_inputs(timed))
    inputs = {TEACHER: encoded_inputs(examples.rows[timed], examples.dense[timed])}
    # Students that differ in what they learned from alone are one graph with other numbers in it:
    # timed once, so that no noise tells them apart.
    timed_as = {TEACHER: TEACHER}
    graphs: dict[Any, str] = {}
    for student in plan.students:
        if student.name in best.dense:
            timed_as[student.name] = graphs.setdefault(student.graph, student.name)
    timed_as |= {one.tower: one.tower for one in plan.baselines if one.tower in best.dense}
    inputs |= {tower: public for tower in timed_as.values() if tower != TEACHER}
    sizes = {}
    with tempfile.TemporaryDirectory() as scratch:
        folders = {tower: Path(scratch) / tower for tower in inputs}
        for tower, folder in folders.items():
            best.load_into(model, tower)
            write_saved_model(serving_graph(model, examples, tower), folder)
            sizes[tower] = size_in_bytes(folder)
        for one in on_leaves:
            one.best.load_into(one.model, TEACHER)
            timed_as[one.name] = one.name
            folders[one.name] = Path(scratch) / one.name
            write_saved_model(serving_graph(one.model, one.examples, TEACHER), folders[one.name])
            sizes[one.name] = sum(map(size_in_bytes, (folders[one.name], one.trees.folder)))
            inputs[one.name] = one.timing_inputs(timed)
        seconds = measure_latency(folders, inputs,
                                  trees={one.name: one.trees.folder for one in on_leaves})
    for tower, graph in timed_as.items():
        taken = seconds[graph]
        measured[tower]["bytes_total"] = sizes[graph]
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
