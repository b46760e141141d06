"""Members of a teacher's pool that have learned before: they score every row once, at the start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from dualdnn.data.examples import Examples, open_examples
from dualdnn.data.finished_scores import (
    FinishedScores,
    keep_scores,
    kept_scores,
    read_scores,
    row_keys,
)
from dualdnn.errors import DataError
from dualdnn.models.dual_dnn import TEACHER
from dualdnn.training.scoring import Scorer
from pipelines.load import SCORES_FILE, load_run, planned_run
from pipelines.plan import Plan
from pipelines.teachers import FinishedPlan


def with_finished_members(plan: Plan, examples: Examples, run: Path, state: Path) -> Examples:
    """The examples with the logits of the plan's finished members, which are kept in the run.

    Args:
        plan: of the run.
        examples: its data.
        run: its folder; what an earlier try has left there is taken.
        state: `paths.state`.

    Raises:
        DataError: rows do not match, or a member has learned what it is to be tested on.
    """
    members = plan.teacher.finished
    if not members:
        return examples
    if not (run / SCORES_FILE).exists():
        logits = {}
        for name, member in members.items():
            what = f"teacher.towers.{name}"
            scores = (read_scores(Path(member.scores), examples, what) if member.scores
                      else _scores_of_run(member, plan, examples, state, what))
            scores.check(examples, what)
            logits[name] = scores.logits
        keep_scores(run / SCORES_FILE, examples, logits)
    return replace(examples, scores=kept_scores(run / SCORES_FILE, examples, list(members)))


def _scores_of_run(member: FinishedPlan, plan: Plan, examples: Examples, state: Path,
                   what: str) -> FinishedScores:
    """What a tower of a finished run says about our rows, read with the run's own row map."""
    folder = Path(str(member.run))
    settings, earlier = planned_run(folder)
    if earlier.lake.path != plan.lake.path:
        raise DataError(f"{what}: {folder} has learned {earlier.lake.path}, this run reads "
                        f"{plan.lake.path}: which of these rows it knows cannot be told. Give a "
                        "run of the same lake, or a file of scores.")
    loaded = load_run(folder, settings, earlier)
    if loaded.model.scored and member.tower == TEACHER:
        raise DataError(f"{what}: the teacher of {folder} has finished members itself "
                        f"({', '.join(loaded.model.scored)}). Give those, or a student of it.")
    theirs = open_examples(lake=plan.lake, schema=loaded.examples.schema, window=plan.window,
                           state=state, row_map=loaded.examples.row_map)
    if not np.array_equal(theirs.labels, examples.labels):
        raise DataError(f"{what}: {folder} was taught other labels than those of this run.")
    loaded.best.load_into(loaded.model, member.tower)
    logits = Scorer(loaded.model)(theirs.rows, [member.tower], theirs.dense)[member.tower]
    logits = logits + np.float32(
        np.log(loaded.examples.negative_rate / examples.negative_rate))
    wanted = row_keys(examples, np.arange(len(examples.labels)))

    def among(index: Sequence[int]) -> np.ndarray:
        return np.isin(wanted, row_keys(loaded.examples, np.asarray(index)))

    return FinishedScores(logits=logits, trained=among(loaded.examples.split.train),
                          chosen=among(loaded.examples.split.valid))
