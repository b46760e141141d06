"""What lies before the gate: a challenger, the champion, and rows that neither has learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dualdnn.data.examples import Examples, open_examples
from dualdnn.data.row_map import RowMap
from dualdnn.data.window import ChosenDays
from dualdnn.errors import ConfigError, DataError
from dualdnn.evaluation.gate import Candidate, GateSettings, Holdout
from dualdnn.evaluation.golden import GoldenRequest
from dualdnn.export.champion import champion_of
from dualdnn.export.latency import measure_latency
from dualdnn.export.saved_model import (
    Exported,
    answer_requests,
    encoded_inputs,
    size_in_bytes,
)
from dualdnn.export.versions import read_manifest, version_numbers
from dualdnn.models.dual_dnn import TEACHER
from dualdnn.training.learner import StoredState, open_state
from dualdnn.training.student_learner import StoredStudent, open_student
from pipelines.build import new_learner, new_student_learner
from pipelines.daily_plan import DailyPlan, daily_plan_from

# Below a training state: what the student has learned alone.
STUDENT_PART = "student"
_TIMED_ROWS = 500
_MEASUREMENTS = 3


@dataclass(frozen=True, kw_only=True)
class Standing:
    """The published version and what it can be asked.

    Attributes:
        version: its number.
        path: its folder.
        plan: its own configuration.
        stored: the training state of its offline model: teacher and students.
        student: what its student has learned alone since then, or None.
    """

    version: int
    path: Path
    plan: DailyPlan
    stored: StoredState
    student: StoredStudent | None

    @property
    def row_map(self) -> RowMap:
        """That the published student reads with."""
        return (self.student or self.stored).row_map

    @property
    def offline_version(self) -> int:
        """The version in which teacher and student were trained together."""
        return self.student.about["offline_version"] if self.student else self.version


def published_by(folder: Path, run: Path) -> int | None:
    """The version below `exported_models/NAME` that a run has published; None where none is."""
    for version in reversed(version_numbers(folder)):
        try:
            if read_manifest(folder / str(version)).get("run_folder") == str(run.resolve()):
                return version
        except DataError:  # a broken version is nobody's
            continue
    return None


def standing_champion(folder: Path, state: Path, run: Path) -> Standing | None:
    """The champion that a run meets, with its training state; None where none is.

    A run that was killed after it had published meets the champion from before that.

    Args:
        folder: `exported_models/NAME`.
        state: `paths.state/NAME`.
        run: folder of the challenger's run.

    Raises:
        DataError: it has no training state, so that it cannot be scored.
    """
    champion = champion_of(folder)
    version = champion.version if champion else None
    if version is not None and version == published_by(folder, run):
        version = read_manifest(folder / str(version))["parent_version"]
    if version is None:
        return None
    return standing_version(folder, state, version)


def standing_version(folder: Path, state: Path, version: int) -> Standing:
    """A published version with its training state.

    Args:
        folder: `exported_models/NAME`.
        state: `paths.state/NAME`.
        version: its number.

    Raises:
        DataError: the training state is missing or unreadable.
    """
    where = state / str(version)
    if not where.is_dir():
        raise DataError(
            f"version {version} of {folder} has no training state at {where}. "
            "Restore it, or roll back to a version that has one."
        )
    stored = open_state(where)
    return Standing(version=version, path=folder / str(version), stored=stored,
                    student=open_student(where / STUDENT_PART),
                    plan=daily_plan_from(stored.about["settings"], stored=True))


def judged_reference(path: Path) -> Mapping[str, Any]:
    """What scores and fields looked like on the holdout of the retrain behind a version.

    Fine-tuning admits the ids of the newest days, and the reference of its export is of rows that
    come after: of another share of unseen values than a day that nobody has learned.
    """
    manifest = read_manifest(path)
    return manifest.get("judged", manifest.get("reference", {}))


def holdout_of(examples: Examples, index: np.ndarray, golden: Sequence[GoldenRequest],
               slices: Mapping[str, np.ndarray]) -> Holdout:
    """Rows for the gate.

    Args:
        examples: the data.
        index: (n,) row numbers of the holdout.
        golden: stored requests.
        slices: (n,) masks by name.
    """
    labels, training = examples.labels, examples.split.train
    return Holdout(
        labels=labels[index], groups=None if examples.groups is None else examples.groups[index],
        weights=examples.loss_weights(index), slices=slices, golden=golden,
        training_rows=len(training),
        training_positives=len(training) * weighted_mean(
            labels[training], examples.loss_weights(training)),
    )


def weighted_mean(values: np.ndarray, weights: np.ndarray | None) -> float:
    """Mean of (rows,) values under (rows,) weights, None for equal ones; 0 without any."""
    weights = np.ones(len(values)) if weights is None else weights
    return float(np.average(values, weights=weights)) if weights.any() else 0.0


def candidate_from(logits: Mapping[str, np.ndarray], student: str, *, exported: Exported,
                   metrics: Mapping[str, Any], golden: Sequence[GoldenRequest],
                   latency: Mapping[int, float]) -> Candidate:
    """The challenger as the gate looks at it; `logits` and `metrics` by tower."""
    named = {"student": student, "teacher": TEACHER}
    return Candidate(
        logits={role: logits[tower] for role, tower in named.items() if tower in logits},
        metrics={role: metrics[tower] for role, tower in named.items() if tower in metrics},
        reference=read_manifest(exported.path)["reference"], latency=latency,
        bytes=exported.bytes, parity_max_abs=exported.parity_max_abs,
        golden=answer_requests(exported.path, {one.name: one.request for one in golden}),
    )


def as_champion_reads(standing: Standing, plan: DailyPlan, examples: Examples,
                      index: np.ndarray) -> tuple[Examples, np.ndarray]:
    """The days that hold some rows, read with the champion's own schema and row map.

    Args:
        standing: the champion.
        plan: of the challenger: its lake.
        examples: of the challenger.
        index: (n,) row numbers in `examples`.

    Returns:
        the champion's examples, and (n,) the numbers of the same rows there.
    """
    starts = np.cumsum([0, *(day.rows for day in examples.days)])
    number = np.searchsorted(starts, index, side="right") - 1
    used, place = np.unique(number, return_inverse=True)
    theirs = open_examples(
        lake=plan.towers.lake, schema=standing.plan.towers.schema,
        window=ChosenDays(train=(), test=[examples.days[i].day for i in used]),
        row_map=standing.row_map, state=Path(plan.settings["paths"]["state"]))
    their_starts = np.cumsum([0, *(day.rows for day in theirs.days)])
    return theirs, their_starts[place] + index - starts[number]


def untaught(standing: Standing, exported: Path, state: Path, examples: Examples,
             index: np.ndarray) -> Standing | None:
    """The newest version up to the champion that has learned none of some rows.

    Scores of learned rows are too good to be compared with. A student that goes on alone learns
    the day that the next retrain is judged on, and so does a retrain that is run again.

    Args:
        standing: the champion.
        exported: `exported_models/NAME`.
        state: `paths.state/NAME`.
        examples: of the challenger.
        index: (n,) row numbers in `examples`.

    Returns:
        the champion itself, its offline model without what its student has learned alone, or an
        earlier version; None where all that still have a training state have learned some of them.
    """
    starts = np.cumsum([0, *(day.rows for day in examples.days)])
    number = np.searchsorted(starts, index, side="right") - 1
    oldest = int(number.min())
    first = (str(examples.days[oldest].day),
             int(examples.timestamps[index[number == oldest]].min()))
    middle = float(np.median(examples.timestamps[index]))

    def before_them(part: StoredState | StoredStudent) -> bool:
        day, second = part.about["learned_until"]
        # Partitions may be days of another time zone than those of dropped files.
        return (day, int(second)) < first and int(second) < middle

    while not before_them(standing.student or standing.stored):
        version = standing.offline_version
        if standing.student and before_them(standing.stored):
            return replace(standing, version=version, path=exported / str(version), student=None)
        try:
            earlier = read_manifest(exported / str(version)).get("parent_version")
            if earlier is None:
                return None
            standing = standing_version(exported, state, earlier)
        except (ConfigError, DataError):  # removed by retention, or of other settings
            return None
    return standing


def champion_candidate(standing: Standing, theirs: Examples, index: np.ndarray,
                       latency: Mapping[int, float], learned_rate: float,
                       name: str = Candidate.name) -> Candidate:
    """A published version, scored on rows of `as_champion_reads`.

    Where its student went on alone, its teacher is of another time and row map, and is left out.

    Args:
        standing: the version.
        theirs: the rows as it reads them.
        index: (n,) their numbers.
        latency: seconds a call by number of rows.
        learned_rate: `Examples.negative_rate` of the challenger. Logits are brought to it: they
            are trained on the negatives that were kept.
        name: what sentences call it.
    """
    plan, student = standing.plan.towers, standing.plan.student
    manifest = read_manifest(standing.path)
    if standing.student:
        alone = new_student_learner(plan, student, standing.stored)
        alone.load(standing.student)
        logits = {"student": alone.score(theirs, index)}
    else:
        learner = new_learner(plan, theirs.schema, standing.stored.row_map,
                              standing.stored.size)
        learner.load(standing.stored)
        found = learner.score(theirs, index, [TEACHER, student])
        logits = {"student": found[student], "teacher": found[TEACHER]}
    shift = np.float32(np.log(manifest.get("sampling_rate", 1.0) / learned_rate))
    return Candidate(
        logits={role: values + shift for role, values in logits.items()},
        reference=manifest.get("reference", {}), bytes=size_in_bytes(standing.path),
        latency=latency, name=name,
    )


def timed(folders: Mapping[str, tuple[Path, Examples, np.ndarray]], gate: GateSettings
          ) -> dict[str, dict[int, float]]:
    """Seconds a call of exported students, from one alternating measurement.

    A rise that the gate would reject is measured again: a busy machine may have made it.

    Args:
        folders: `challenger` and, where there is one, `champion`, each with its SavedModel, the
            examples as it reads them and their row numbers.
        gate: whose rule `latency` will look at it.

    Returns:
        by name and number of rows.
    """
    inputs = {name: encoded_inputs(*examples.public_inputs(index[:_TIMED_ROWS]))
              for name, (_, examples, index) in folders.items()}
    rule = gate.latency
    for _ in range(_MEASUREMENTS):
        seconds = measure_latency({name: path for name, (path, _, _) in folders.items()}, inputs)
        ours, theirs = seconds["challenger"], seconds.get("champion", {})
        if rule.rows not in theirs or ours[rule.rows] <= rule.ratio * theirs[rule.rows]:
            break
    return seconds
