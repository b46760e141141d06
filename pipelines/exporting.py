"""The export of a run: the student that was asked for, and where it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dualdnn.data.examples import Examples
from dualdnn.errors import DataError
from dualdnn.export.student import export_student
from dualdnn.models.dual_dnn import DualDNN
from dualdnn.training.best_weights import BestWeights
from pipelines.plan import Plan
from pipelines.reporting import git_revision
from pipelines.settings import ExportSettings


def lineage_of(examples: Examples, run: Path) -> dict[str, str]:
    """Where a model comes from: code, data, schema, run."""
    return {"git_revision": git_revision(), "schema_hash": examples.schema.hash(),
            "data_fingerprint": examples.fingerprint, "run_folder": str(run.resolve())}


def exported_student(asked: ExportSettings, students: Mapping[str, Mapping[str, Any]],
                     best: BestWeights) -> str | None:
    """The student to export: the one that is asked for, else the first that stayed finite.

    One that became NaN is exported with its best weights where it is asked for by name.

    Args:
        asked: `export` of the configuration.
        students: the section `students` of the run's report.
        best: weights of its towers.

    Returns:
        None where there is no such student, or it has no weights.
    """
    finite = (name for name, one in students.items() if one.get("status") != "diverged")
    student = asked.student or next(finite, None)
    return student if student in best.dense else None


def export_sections(
    *,
    run: Path,
    plan: Plan,
    model: DualDNN,
    best: BestWeights,
    examples: Examples,
    asked: ExportSettings,
    exported_models: str,
    students: dict[str, dict[str, Any]],
) -> dict[str, Any]:
    """Publish one student of a run.

    Args:
        run: its folder.
        plan: its plan.
        model: its towers.
        best: their best weights.
        examples: its data.
        asked: which student, under which name.
        exported_models: `paths.exported_models`.
        students: the section `students` of the run's report.

    Returns:
        `export` and `requests` of the report; the export of a student that became NaN has
        `status: diverged`.

    Raises:
        DataError: there is no student to export, or the SavedModel answers differently from the
            model in memory.
    """
    student = exported_student(asked, students, best)
    if student is None:
        raise DataError(f"every student of {run} became NaN or infinite. Train anew with a lower "
                        "optimizer.student.learning_rate, or name one with export.student=NAME to "
                        "export its best weights all the same.")
    exported, answers = export_student(
        model=model, best=best, examples=examples, lake=plan.lake, student=student,
        folder=Path(exported_models) / asked.folder_name(plan.schema.name),
        manifest={**lineage_of(examples, run), "metrics": students[student]},
    )
    section = {"name": exported.path.parent.name, "student": student, "path": str(exported.path),
               "version": exported.version, "parity_max_abs": exported.parity_max_abs,
               "bytes": exported.bytes}
    if "status" in students[student]:
        section["status"] = students[student]["status"]
    return {"export": section, "requests": answers}
