"""The steps of the daily jobs; each leaves its result in the run folder, whole or not at all."""

from __future__ import annotations

import datetime
import functools
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from dualdnn.data.encoded_day import EncodedDay
from dualdnn.data.examples import Examples, Negatives, open_examples
from dualdnn.data.partition_checks import RecordedDay
from dualdnn.data.row_map import RowMap, build_row_map
from dualdnn.data.row_match import adapted
from dualdnn.data.window import ChosenDays
from dualdnn.evaluation.decision import Decision
from dualdnn.evaluation.gate import Candidate, Holdout, decide
from dualdnn.export.candidate import publish_candidate
from dualdnn.export.champion import Champion
from dualdnn.export.promotion import promote
from dualdnn.export.saved_model import Exported, size_in_bytes
from dualdnn.export.student import export_student
from dualdnn.export.versions import read_manifest
from dualdnn.schema import Schema
from dualdnn.storage import atomic_folder, link_tree, write_json
from dualdnn.training.best_weights import BestWeights
from dualdnn.training.learner import Learner, open_state
from dualdnn.training.measure import known_masks
from dualdnn.training.trainer import Listener
from dualdnn.training.warm_start import Taken, warm_start
from pipelines.build import new_learner
from pipelines.challenge import (
    Standing,
    as_champion_reads,
    candidate_from,
    champion_candidate,
    holdout_of,
    judged_reference,
    published_by,
    timed,
    untaught,
)
from pipelines.daily_job import DailyJob
from pipelines.exporting import lineage_of

# What the last check looks at: the fine-tuned model has learned the holdout of the other rules.
_LAST_RULES = ("finite", "parity", "calibration", "score_change", "golden")


def open_window(job: DailyJob, train: Sequence[datetime.date],
                test: Sequence[datetime.date]) -> Examples:
    """The days of training and holdout, with a new row map; only new days are encoded."""
    plan = job.plan
    reused: list[bool] = []
    began = time.monotonic()
    examples = open_examples(
        lake=plan.towers.lake, schema=plan.towers.schema, state=job.all_state,
        window=ChosenDays(train=train, test=test),
        row_map=functools.partial(build_row_map, admission=plan.admission),
        on_day=lambda day, was_there: reused.append(was_there))
    job.console.print(f"opened {len(reused)} days in {time.monotonic() - began:.1f} s, "
                      f"{reused.count(False)} of them encoded now")
    return examples


def learned_notes(examples: Examples, index: np.ndarray, settings: Mapping[str, Any],
                  earlier: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What a training state says of the rows behind it.

    Args:
        examples: the data.
        index: (n,) row numbers that were learned.
        settings: of the job.
        earlier: the notes of the state that this one went on from.
    """
    starts = np.cumsum([0, *(day.rows for day in examples.days)])
    number = np.searchsorted(starts, index, side="right") - 1
    newest = int(number.max())
    seconds = examples.timestamps[index[number == newest]]
    recorded = {str(examples.days[i].day): RecordedDay.of(examples.days[i]).to_dict()
                for i in np.unique(number)}
    before = earlier or {}
    return {
        "settings": dict(settings), "recorded": {**before.get("recorded", {}), **recorded},
        "learned_until": [str(examples.days[newest].day), int(seconds.max())],
        "negatives": list(examples.learned_space),
    }


def space_of(standing: Standing) -> Negatives:
    """The negatives whose rate the losses of a version are of, see `Examples.learned_space`."""
    found = (standing.student or standing.stored).about.get("negatives", (0.0, 0.0))
    if found[1]:
        return Negatives(*found)
    # States of 0.3 have not noted them, but what their scores are corrected by.
    return Negatives(read_manifest(standing.path).get("sampling_rate", 1.0), 1.0)


def as_learned(examples: Examples, space: Negatives) -> Examples:
    """Examples for a model that has learned other rows from scratch."""
    return replace(examples, learned_negatives=space)


def restored(job: DailyJob, part: str, examples: Examples) -> Learner | None:
    """The learner that an earlier try of this run has left; None where there is none."""
    folder = job.run / part
    if not folder.is_dir():
        return None
    stored = open_state(folder)
    learner = new_learner(job.plan.towers, examples.schema, stored.row_map, stored.size)
    learner.load(stored)
    return learner


def going_on(job: DailyJob, standing: Standing, window: ChosenDays
             ) -> tuple[Learner, list[Taken]]:
    """The champion's towers as they were left; where schema or towers changed, what fits of them.

    Args:
        job: the job.
        standing: the champion.
        window: the newest days; new fields take their ids and boundaries from its training part.

    Returns:
        the learner, and what became of every variable; none of them where all is as it was.

    Raises:
        DataError: what was learned cannot mean the same any more, see `warm_start`.
    """
    plan, stored = job.plan.towers, standing.stored
    theirs = standing.plan.towers

    def adapt(schema: Schema, days: Sequence[EncodedDay],
              parts: Sequence[np.ndarray | None]) -> RowMap:
        return adapted(stored.row_map, theirs.schema, schema, days, parts, job.plan.admission)

    examples = open_examples(lake=plan.lake, schema=plan.schema, window=window,
                             state=job.all_state, row_map=adapt)
    row_map, size = examples.row_map, stored.size
    if "mean_weight" not in stored.about or theirs.schema.weight != plan.schema.weight:
        # Of other weights than those that are learned now, or of 0.3, which had no use for it.
        here = as_learned(examples, space_of(standing)).training_size
        size = size._replace(mean_weight=here.mean_weight)
    learner = new_learner(plan, plan.schema, row_map, size)
    arrays, live = stored.arrays(), learner.train_step.named_variables()
    # Of the plan, since states of earlier releases have not noted them.
    members = theirs.teacher.members
    shapes = {name: tuple(tf.shape(variable).numpy().tolist()) for name, variable in live.items()}
    if (row_map is stored.row_map and members == learner.model.members
            and {name: value.shape for name, value in arrays.items()} == shapes):
        learner.load(stored)
        learner.train_step.size = size
        return learner, []
    return learner, warm_start(learner.train_step, arrays, old_schema=theirs.schema,
                               old_row_map=stored.row_map, new_row_map=row_map,
                               old_members=members)


def keep(job: DailyJob, part: str, learner: Learner, notes: Mapping[str, Any]) -> None:
    """Leave a learner in the run folder, in place of an earlier one."""
    with atomic_folder(job.run / part) as folder:
        learner.save(folder, notes)


def train_window(job: DailyJob, examples: Examples, listener: Listener) -> Learner:
    """Teacher and students from scratch on the window; or as an earlier try has left them."""
    learner = restored(job, "trained", examples)
    if learner is None:
        plan = job.plan.towers
        learner = new_learner(plan, examples.schema, examples.row_map, examples.training_size)
        trainer = learner.train(examples, plan.training, seed=plan.seed, listener=listener,
                                folder=job.run / "checkpoints")
        write_json(job.run / "trained.json", {
            "history": trainer.history, "progress": trainer.summary(),
            "seconds": trainer.timed_seconds, "examples": trainer.timed_examples})
        keep(job, "trained", learner,
             learned_notes(examples, examples.split.train, job.plan.settings))
    return learner


def export_challenger(job: DailyJob, learner: Learner, best: BestWeights, examples: Examples,
                      part: str, metrics: Mapping[str, Any], notes: Mapping[str, Any],
                      judged: Mapping[str, Any] | None = None) -> Exported:
    """Write the student below the run folder; the learner ends with served weights in its model.

    Args:
        job: the job.
        learner: whose student to export.
        best: its weights as they are served.
        examples: opened with its row map.
        part: folder of the run.
        metrics: of the student on rows that it has not learned.
        notes: of `learned_notes`.
        judged: see `judged_reference`; None where the export's own reference is that.
    """
    shutil.rmtree(job.run / part, ignore_errors=True)
    days = sorted(notes["recorded"])
    exported, _ = export_student(
        model=learner.model, best=best, examples=examples, lake=job.plan.towers.lake,
        student=job.plan.student, folder=job.run / part,
        manifest={**lineage_of(examples, job.run), "metrics": dict(metrics), "job": job.name,
                  "days": [days[0], days[-1]], "as_of": str(job.as_of),
                  "learned_until": notes["learned_until"],
                  **({} if judged is None else {"judged": dict(judged)}),
                  "fingerprints": {day: one["fingerprint"]
                                   for day, one in notes["recorded"].items()}})
    return exported


def judge(job: DailyJob, standing: Standing | None, examples: Examples, exported: Exported,
          logits: Mapping[str, np.ndarray], metrics: Mapping[str, Any], *,
          ids_admitted: bool) -> Decision:
    """Put the challenger before the gate, beside the champion on the same rows.

    Args:
        job: the job.
        standing: the champion, or None.
        examples: whose test part is the holdout.
        exported: the challenger.
        logits: (rows_test,) by tower.
        metrics: of the towers on the test part, by tower.
        ids_admitted: has the challenger admitted ids of the days of the holdout, as fine-tuning
            does? Its unseen values are compared with what the champion had at the same stage.
    """
    plan, index = job.plan, examples.split.test
    if not plan.gate.enabled:
        return Decision(accepted=True, first_version=standing is None, enabled=False)
    folders = {"challenger": (exported.path, examples, index)}
    if standing:
        theirs, mapped = as_champion_reads(standing, plan, examples, index)
        folders["champion"] = (standing.path, theirs, mapped)
    seconds = timed(folders, plan.gate)
    champion = rival = None
    if standing:
        rate = examples.negative_rate
        champion = champion_candidate(standing, theirs, mapped, seconds["champion"], rate)
        if not ids_admitted:
            champion = replace(champion, reference=judged_reference(standing.path))
        rival = _rival(job, standing, examples, rate)
    return decide(
        challenger=candidate_from(logits, plan.student, exported=exported, metrics=metrics,
                                  golden=plan.golden, latency=seconds["challenger"]),
        champion=champion, rival=rival, settings=plan.gate, seed=plan.towers.seed,
        holdout=holdout_of(examples, index, plan.golden, known_masks(examples, index)),
    )


def _rival(job: DailyJob, standing: Standing, examples: Examples,
           learned_rate: float) -> Candidate | None:
    """Whom to compare metrics with instead of a champion that has learned rows of the holdout.

    None where that is the champion itself: it has learned none, or there is nobody else.
    """
    index = examples.split.test
    found = untaught(standing, job.exported, job.state, examples, index)
    if found is None or found is standing:
        return None
    theirs, mapped = as_champion_reads(found, job.plan, examples, index)
    return champion_candidate(
        found, theirs, mapped, {}, learned_rate,
        name=f"version {found.version}, the newest that has learned none of these rows")


def finetune_newest(job: DailyJob, learner: Learner, days: Sequence[datetime.date],
                    listener: Listener) -> tuple[dict[str, Any], Decision]:
    """Go on with the samples that training has left out, and check on the last slice of them.

    Args:
        job: the job.
        learner: as trained on the window; the fine-tuned student ends in the run folder.
        days: gap and holdout.
        listener: hears of steps.

    Returns:
        what there is to report, and the decision of the last check.
    """
    plan = job.plan
    window = ChosenDays(train=days, test_share=plan.finetune.held_back)
    where = {"lake": plan.towers.lake, "schema": plan.towers.schema, "state": job.all_state}
    before = open_examples(**where, window=window, row_map=learner.row_map)
    held = before.split.test
    trained = open_state(job.run / "trained").about
    old = learner.score(before, held)
    examples, growth = learner.open_newest(**where, window=window, admission=plan.admission)
    examples = as_learned(examples, Negatives(*trained["negatives"]))
    trainer = learner.fine_tune(examples, growth, plan.finetune.training(plan.towers.training),
                                seed=plan.towers.seed, folder=job.run / "finetune_checkpoints",
                                listener=listener)
    new = learner.score(examples, held)
    notes = learned_notes(examples, examples.split.train, plan.settings, trained)
    keep(job, "tuned", learner, notes)
    report = json.loads((job.run / "measured.json").read_text())
    exported = export_challenger(job, learner, learner.best(), examples, "candidate",
                                 report["students"][plan.student], notes,
                                 judged=judged_reference(Path(report["path"])))
    student = {"student": new[plan.student]}
    decision = decide(
        challenger=candidate_from({plan.student: student["student"]}, plan.student,
                                  exported=exported, metrics={}, golden=plan.golden, latency={}),
        champion=Candidate(logits={"student": old[plan.student]}),
        holdout=Holdout(labels=examples.labels[held], golden=plan.golden,
                        weights=examples.loss_weights(held),
                        groups=None if examples.groups is None else examples.groups[held]),
        settings=plan.gate.only(*_LAST_RULES), seed=plan.towers.seed)
    return {
        "days": [str(day) for day in days], "rows": len(examples.split.train),
        "rows_held_back": len(held), "admitted": growth.admitted, "expired": growth.expired,
        "refused": growth.refused, "seconds": trainer.timed_seconds, "path": str(exported.path),
        "decision": decision.to_dict(),
    }, decision


def publish(job: DailyJob, candidate: Path, part: str, decision: Decision) -> Champion:
    """Publish what was accepted; what an earlier try has published is not published again.

    Args:
        job: the job.
        candidate: the exported student.
        part: folder of the run with its training state.
        decision: of the gate.
    """
    reason = f"{job.name} of {job.as_of}: {decision.summary}"[:500]
    where: dict[str, Any] = {"state": job.state, "registry": job.registry}
    if (version := published_by(job.exported, job.run)) is not None:
        return promote(job.exported, version, reason, **where)

    def write_state(folder: Path) -> None:
        link_tree(job.run / part, folder)

    return publish_candidate(
        candidate=candidate, write_state=write_state, folder=job.exported, reason=reason, **where,
        manifest={"gate": decision.to_dict(), "run_folder": str(job.run.resolve())})


def export_section(job: DailyJob, champion: Champion) -> dict[str, Any]:
    """`export` of the report."""
    path = job.exported / str(champion.version)
    return {"name": job.model, "student": job.plan.student, "path": str(path),
            "version": champion.version, "bytes": size_in_bytes(path),
            "parity_max_abs": read_manifest(path)["parity_max_abs"]}
