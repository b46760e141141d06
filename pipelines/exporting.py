"""The export of a run: the student that was asked for, and where it comes from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dualdnn.data.examples import Examples
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
        students: the section `students` of the run's report; one that became NaN has no weights.

    Returns:
        `export` and `requests` of the report; empty where there is no student to export.

    Raises:
        DataError: the SavedModel answers differently from the model in memory.
    """
    sound = [name for name in students if name in best.dense]
    student = asked.student or next(iter(sound), None)
    if student not in sound:
        return {}
    exported, answers = export_student(
        model=model, best=best, examples=examples, lake=plan.lake, student=student,
        folder=Path(exported_models) / asked.folder_name(plan.schema.name),
        manifest={**lineage_of(examples, run), "metrics": students[student]},
    )
    section = {"name": exported.path.parent.name, "student": student, "path": str(exported.path),
               "version": exported.version, "parity_max_abs": exported.parity_max_abs,
               "bytes": exported.bytes}
    return {"export": section, "requests": answers}
