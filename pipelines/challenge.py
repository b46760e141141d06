"""What lies before the gate: a challenger, the champion, and rows that neither has learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dualdnn.data.examples import Examples, open_examples
from dualdnn.data.window import ChosenDays
from dualdnn.errors import DataError
from dualdnn.evaluation.gate import Candidate, Holdout
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
from pipelines.build import new_learner
from pipelines.daily_plan import DailyPlan, daily_plan_from

_TIMED_ROWS = 500


@dataclass(frozen=True, kw_only=True)
class Standing:
    """The published version and what it can be asked.

    Attributes:
        version: its number.
        path: its folder.
        plan: its own configuration.
        stored: its training state.
    """

    version: int
    path: Path
    plan: DailyPlan
    stored: StoredState


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
    if not (state / str(version)).is_dir():
        raise DataError(
            f"version {version} of {folder} has no training state at {state / str(version)}. "
            "Restore it, or roll back to a version that has one."
        )
    stored = open_state(state / str(version))
    return Standing(version=version, path=folder / str(version), stored=stored,
                    plan=daily_plan_from(stored.about["settings"]))


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
        slices=slices, training_rows=len(training), golden=golden,
        training_positives=int(np.count_nonzero(labels[training])),
    )


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
        row_map=standing.stored.row_map, state=Path(plan.settings["paths"]["state"]))
    their_starts = np.cumsum([0, *(day.rows for day in theirs.days)])
    return theirs, their_starts[place] + index - starts[number]


def champion_candidate(standing: Standing, theirs: Examples, index: np.ndarray,
                       latency: Mapping[int, float]) -> Candidate:
    """The champion, scored on rows of `as_champion_reads`."""
    learner = new_learner(standing.plan.towers, theirs.schema, standing.stored.row_map,
                          standing.stored.about["num_examples"])
    learner.load(standing.stored)
    logits = learner.score(theirs, index)
    return Candidate(
        logits={"student": logits[standing.plan.student], "teacher": logits[TEACHER]},
        reference=read_manifest(standing.path).get("reference", {}),
        bytes=size_in_bytes(standing.path), latency=latency,
    )


def timed(folders: Mapping[str, tuple[Path, Examples, np.ndarray]]
          ) -> dict[str, dict[int, float]]:
    """Seconds a call of exported students, from one alternating measurement.

    Args:
        folders: by name the SavedModel, the examples as it reads them and their row numbers.

    Returns:
        by name and number of rows.
    """
    inputs = {name: encoded_inputs(*examples.public_inputs(index[:_TIMED_ROWS]))
              for name, (_, examples, index) in folders.items()}
    return measure_latency({name: path for name, (path, _, _) in folders.items()}, inputs)
