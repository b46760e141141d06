"""A student that goes on alone from the champion: opened, kept, exported."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dualdnn.data.examples import Examples
from dualdnn.data.lake import Lake
from dualdnn.errors import DataError
from dualdnn.export.saved_model import Exported
from dualdnn.export.student import export_student
from dualdnn.storage import atomic_folder, link_tree
from dualdnn.training.best_weights import BestWeights
from dualdnn.training.student_learner import StudentLearner
from pipelines.build import new_student_learner
from pipelines.challenge import STUDENT_PART, Standing, judged_reference
from pipelines.daily_job import DailyJob
from pipelines.daily_plan import DailyPlan
from pipelines.exporting import lineage_of

# What a student that goes on must find as it was, beside students and fields; its optimizer and the
# gate may differ.
_OF_THE_TOWERS = ("teacher", "embedding")


def student_learner(plan: DailyPlan, standing: Standing) -> StudentLearner:
    """The champion's student, as its offline model or it itself alone has left it.

    Args:
        plan: of the job.
        standing: the champion.

    Raises:
        DataError: the champion has other fields or towers than the job, or is of a release that did
            not note the mean of the sample weights.
    """
    theirs = standing.plan
    different = [key for key in _OF_THE_TOWERS if theirs.settings[key] != plan.settings[key]]
    # As they are read: a key that a student may have since says nothing of what it was.
    if _networks(theirs) != _networks(plan):
        different.append("student_configs")
    if theirs.towers.schema != plan.towers.schema:
        different.insert(0, "data")
    if different:
        raise DataError(
            f"version {standing.version} was trained with other values of "
            f"{', '.join(different)}, and a student alone goes on with what it has. Use the "
            "configuration of that version, or run pipelines.retrain with the new one.")
    if plan.towers.schema.weight and "mean_weight" not in standing.stored.about:
        raise DataError(
            f"version {standing.offline_version} is of release 0.3, which did not note the mean of "
            f"its `{plan.towers.schema.weight}`, so that the weights of new rows have no unit. Run "
            "pipelines.retrain, or pipelines.finetune of both towers, first.")
    learner = new_student_learner(plan.towers, plan.student, standing.stored)
    learner.load(standing.student)
    learner.limit_averages(plan.finetune.batch_size)
    return learner


def _networks(plan: DailyPlan) -> dict[str, tuple[object, ...]]:
    """What the students of a plan are made of, by name."""
    return {one.name: one.graph for one in plan.towers.students}


def keep_student(folder: Path, standing: Standing, learner: StudentLearner,
                 notes: Mapping[str, Any]) -> None:
    """Write a training state: the offline model's files under second names, and the overlay.

    Args:
        folder: replaced as a whole.
        standing: the champion that the student went on from.
        learner: of the student.
        notes: kept with the overlay.
    """
    with atomic_folder(folder) as temporary:
        for part in sorted(standing.stored.folder.iterdir()):
            if part.name != STUDENT_PART:
                (temporary / part.name).mkdir()
                link_tree(part, temporary / part.name)
        (temporary / STUDENT_PART).mkdir()
        learner.save(temporary / STUDENT_PART,
                     {**notes, "offline_version": standing.offline_version})


def export_alone(job: DailyJob, standing: Standing, learner: StudentLearner, best: BestWeights,
                 examples: Examples, lake: Lake, metrics: Mapping[str, Any],
                 notes: Mapping[str, Any],
                 reference: Mapping[str, Any] | None = None) -> Exported:
    """Write the student below the run folder; the learner ends with served weights in its model.

    Args:
        job: the job.
        standing: the champion that the student went on from.
        learner: of the student.
        best: of the learner, before anything else was put into its model.
        examples: opened with its row map.
        lake: where they come from.
        metrics: on rows that it had not learned.
        notes: of the training state.
        reference: histograms for the manifest; None for those of `examples`.
    """
    folder = job.run / "candidate"
    shutil.rmtree(folder, ignore_errors=True)
    exported, _ = export_student(
        model=learner.model, best=best, examples=examples, lake=lake,
        student=learner.student, folder=folder, reference=reference,
        manifest={**lineage_of(examples, job.run), "metrics": dict(metrics), "job": job.name,
                  "scope": "student", "offline_version": standing.offline_version,
                  "changed_rows": learner.changed_rows, "as_of": str(job.as_of),
                  "judged": dict(judged_reference(standing.path)),
                  "learned_until": notes["learned_until"]})
    return exported
