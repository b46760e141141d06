"""A finished training run, ready to score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dualdnn.data.examples import Examples
from dualdnn.data.finished_scores import kept_scores
from dualdnn.data.row_map import load_row_map
from dualdnn.errors import DataError
from dualdnn.models.dual_dnn import DualDNN
from dualdnn.training.best_weights import BestWeights, load_best_weights
from pipelines.build import build_model, open_plan_data
from pipelines.gbdt import GbdtBaseline, load_gbdt_baselines
from pipelines.plan import Plan, plan_from
from pipelines.runs import read_report, settings_of

# Of members of the teacher's pool that had learned before the run.
SCORES_FILE = "teacher_scores.parquet"


@dataclass(frozen=True, kw_only=True)
class LoadedRun:
    """The parts of a finished run.

    Attributes:
        settings: its resolved configuration.
        plan: the same, checked.
        examples: its data, read with its own row map.
        model: its towers; `best` puts weights into them.
        best: of every tower.
        on_leaves: baselines that read the leaves of trees; with weights of their own.
    """

    settings: dict[str, Any]
    plan: Plan
    examples: Examples
    model: DualDNN
    best: BestWeights
    on_leaves: list[GbdtBaseline]


def planned_run(
    run: Path, slices: Sequence[str] = (), mistakes: Sequence[str] = (),
    state: Path | None = None,
) -> tuple[dict[str, Any], Plan]:
    """The settings of a finished run and its plan; reads no data.

    Args:
        run: folder of a finished run.
        slices: fields to slice by instead of the run's.
        mistakes: found so far, reported together with those found here.
        state: where its `paths.state` is by now, with a lake that lay below it; None for where it
            was.

    Raises:
        ConfigError: with every mistake at once.
    """
    settings = settings_of(run)
    if slices:
        settings["evaluation"]["slices"] = list(slices)
    if state is not None:
        was, lake = Path(settings["paths"]["state"]), Path(settings["data"]["lake"])
        settings["paths"]["state"] = str(state)
        if lake.is_relative_to(was):
            settings["data"]["lake"] = str(state / lake.relative_to(was))
    # Files that fields name are not asked for: the row map of the run holds their vectors.
    return settings, plan_from(settings, mistakes, stored=True)


def load_run(run: Path, settings: dict[str, Any], plan: Plan) -> LoadedRun:
    """Open the data of a run and restore its towers.

    Args:
        run: folder of a finished run.
        settings: of `planned_run`.
        plan: of `planned_run`.

    Raises:
        DataError: the data is no longer what the run was trained on, or weights are missing.
    """
    report = read_report(run)
    examples = open_plan_data(plan, Path(settings["paths"]["state"]),
                              load_row_map(run / "row_map"))
    if examples.fingerprint != report["data"]["fingerprint"]:
        raise DataError(
            f"{plan.lake.path} has changed since {run}: its days had the fingerprint "
            f"{report['data']['fingerprint'][:12]}, now {examples.fingerprint[:12]}. Restore the "
            "days, or train anew."
            + (" Or set the DUALDNN_PII_KEY it was trained with." if plan.schema.pii_columns
               else "")
        )
    if plan.teacher.finished:
        examples = replace(examples, scores=kept_scores(run / SCORES_FILE, examples,
                                                        list(plan.teacher.finished)))
    model = build_model(plan, examples.schema, examples.row_map)
    best = load_best_weights(run / "model", [name for name in model.towers
                                             if name in report["towers"]])
    on_leaves = load_gbdt_baselines(plan, examples, run, Path(settings["paths"]["state"]),
                                    report["towers"])
    return LoadedRun(settings=settings, plan=plan, examples=examples, model=model, best=best,
                     on_leaves=on_leaves)
