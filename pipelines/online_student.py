"""The student that learns from a folder: it scores a file, then learns it, and is published."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dualdnn.data.dropped_files import DroppedFile, as_lake, day_of
from dualdnn.data.examples import Examples, open_examples
from dualdnn.data.lake import Lake
from dualdnn.data.window import ChosenDays
from dualdnn.errors import DataError, LockError
from dualdnn.evaluation.decision import Decision
from dualdnn.evaluation.gate import Candidate, GateSettings, Holdout, decide
from dualdnn.evaluation.metrics import sigmoid, weighted_scores
from dualdnn.evaluation.progressive import ScoredRows, joined
from dualdnn.export.candidate import publish_candidate
from dualdnn.export.champion import champion_of
from dualdnn.export.retention import daily_turn, prune
from dualdnn.export.saved_model import Exported, answer_requests, size_in_bytes
from dualdnn.export.served_student import ServedStudent
from dualdnn.export.student import reference_histograms, summed_histograms
from dualdnn.export.versions import read_manifest
from dualdnn.storage import link_tree, write_json
from dualdnn.training.measure import known_masks
from dualdnn.training.student_learner import StudentLearner
from pipelines.challenge import standing_version, timed, weighted_mean
from pipelines.daily_job import DailyJob
from pipelines.daily_steps import as_learned, space_of
from pipelines.student_alone import export_alone, keep_student, student_learner

# Models by name in the progressive validation.
ONLINE, PUBLISHED, OFFLINE = "online", "published", "offline"
# Seconds by which the clock of whoever writes files may be ahead.
_CLOCKS_APART = 86_400


@dataclass
class _Round:
    """What was learned since the last publication, as it was scored before."""

    scored: list[ScoredRows] = field(default_factory=list)
    masks: list[dict[str, np.ndarray]] = field(default_factory=list)
    histograms: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, list[int]] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    @property
    def rows(self) -> int:
        return sum(map(len, self.scored))

    def slices(self) -> dict[str, np.ndarray]:
        """Masks over all rows, by name."""
        return {name: np.concatenate([masks[name] for masks in self.masks])
                for name in self.masks[0]}


@dataclass(frozen=True, kw_only=True)
class _Newest:
    """The last file: what an export takes its example requests from."""

    lake: Lake
    examples: Examples
    published: Examples


def _followed(gate: GateSettings) -> GateSettings:
    """The gate of a stream: a rise of unseen values is told, and never rejects.

    What is rejected is given up, its new ids with it, so that the share would only rise on.
    """
    if gate.oov.severity != "reject":
        return gate
    return dataclasses.replace(gate, oov=dataclasses.replace(gate.oov, severity="warn"))


class OnlineStudent:
    """The champion's student, gone on with the files of a folder.

    All that it is lies in the champion's training state: a new process goes on from there, and
    learns the files since then once more.

    Attributes:
        version: the champion that it went on from.
        offline_version: the one in which teacher and student were trained together.
        after: rows up to this second are known to the offline model.
    """

    def __init__(self, job: DailyJob) -> None:
        """Go on from the champion.

        Raises:
            DataError: it has other towers than the job, or no training state.
        """
        self._job = job
        self._rejected_file = job.state / "rejected_files.json"
        self._rejected: dict[str, list[int]] = {}
        if self._rejected_file.exists():
            self._rejected = json.loads(self._rejected_file.read_text(encoding="utf-8"))
        self._opened: StudentLearner | None = None
        # Files that are learned each by itself: a step of their rows together was not finite.
        self._suspects: set[str] = set()
        self.begin()

    @property
    def _learner(self) -> StudentLearner:
        assert self._opened is not None
        return self._opened

    def begin(self) -> None:
        """Go on from the champion, whatever it is by now; what was learned since is given up."""
        champion = champion_of(self._job.exported)
        assert champion is not None, "whoever follows files has made sure"
        standing = standing_version(self._job.exported, self._job.state, champion.version)
        if self._opened is None or standing.offline_version != self.offline_version:
            self._opened = student_learner(self._job.plan, standing)
        else:  # what was compiled serves on
            self._opened.base = standing.stored
            self._opened.load(standing.student)
            self._opened.limit_averages(self._job.plan.finetune.batch_size)
        self._standing = standing
        self.version, self.offline_version = champion.version, standing.offline_version
        about: Mapping[str, Any] = (standing.student or standing.stored).about
        self.after = int(about.get("after", about["learned_until"][1]))
        self._until: list[Any] = list(about["learned_until"])
        self._learned: list[float] = list(about.get("learned", (0, 0)))
        self._space = space_of(standing)
        self._files: dict[str, list[int]] = dict(about.get("files", {}))
        self._published = ServedStudent(standing.path)
        self._offline = self._published if self.offline_version == self.version else (
            ServedStudent(self._job.exported / str(self.offline_version)))
        self._round = _Round()
        self._waiting: dict[str, list[int]] = {}
        self._newest: _Newest | None = None
        shutil.rmtree(self._job.run / "incoming", ignore_errors=True)

    def is_new(self, file: DroppedFile) -> bool:
        """Is the file neither learned nor given up?"""
        return file.path.name not in {**self._files, **self._round.files, **self._rejected}

    @property
    def champion_changed(self) -> bool:
        """Was another version published by someone else?"""
        champion = champion_of(self._job.exported)
        return champion is None or champion.version != self.version

    @property
    def changed_rows(self) -> int:
        """Rows that are the student's own by now."""
        return self._learner.changed_rows

    @property
    def rows_to_publish(self) -> int:
        """Rows learned since the last publication."""
        return self._round.rows

    @property
    def minutes_waited(self) -> float:
        """Since the last publication."""
        return (time.monotonic() - self._round.began) / 60

    # --- one file ---

    def take(self, file: DroppedFile) -> ScoredRows | None:
        """Score the rows that are new, then learn them.

        Returns:
            what was said about them; None where the offline model knows all of them.

        Raises:
            DataError: the file is not what the schema promises; nothing was learned.
            NonFiniteError: a loss became NaN; call `give_up_step` with the file.
        """
        newest = file.newest(self._job.plan.towers.schema.timestamp)
        if newest is not None and newest > time.time() + _CLOCKS_APART:
            # Rows of ids would expire by that day, and every later row would count as learned.
            raise DataError(f"{file.path} holds a row of {day_of(newest)}, which is not yet by the "
                            "clock of this machine. Correct the clock of the writer.")
        known = [*file.signature, newest]
        if newest is not None and newest <= self.after:
            self._files[file.path.name] = known
            return None
        alone = file.path.name in self._suspects
        if alone:
            self._learner.learn_pending()
            self._waiting = {}
        day = day_of(newest)
        lake = as_lake(file, day, self._job.run / "incoming" / file.path.name)
        earlier, self._newest = self._newest, None
        try:
            scored, self._newest = self._learned_from(lake, day, more_to_come=not alone)
        except DataError:
            self._newest = earlier
            shutil.rmtree(lake.path)
            raise
        if earlier:
            shutil.rmtree(earlier.lake.path)
        self._round.files[file.path.name] = known
        self._waiting = ({**self._waiting, file.path.name: known}
                         if self._learner.has_pending else {})
        return scored

    def _learned_from(self, lake: Lake, day: datetime.date, *,
                      more_to_come: bool) -> tuple[ScoredRows, _Newest]:
        """Score the rows of a lake of one day, then learn them."""
        plan = self._job.plan
        where: dict[str, Any] = {
            "lake": lake, "schema": plan.towers.schema, "state": lake.path / "state",
            "window": ChosenDays(train=[day])}
        before = as_learned(open_examples(**where, row_map=self._learner.row_map), self._space)
        index = np.flatnonzero(before.timestamps > self.after)
        index = index[np.argsort(before.timestamps[index], kind="stable")]
        # As served, so that versions of other rates can follow in one report.
        served = np.float32(np.log(before.negative_rate))
        published = open_examples(**where, row_map=self._standing.row_map)
        offline = open_examples(**where, row_map=self._standing.stored.row_map)
        scored = ScoredRows(
            seconds=before.timestamps[index], labels=before.labels[index],
            groups=None if before.groups is None else before.groups[index],
            weights=before.population_weights(index),
            logits={ONLINE: self._learner.score(before, index) + served,
                    PUBLISHED: self._published.logits(published, index),
                    OFFLINE: self._offline.logits(offline, index)})
        examples, growth = self._learner.open_newest(**where, admission=plan.admission)
        examples = as_learned(examples, self._space)
        self._learner.grow(growth)
        self._learner.learn(examples, index, plan.finetune.batch_size, more_to_come=more_to_come)
        until = max(int(self._until[1]), int(examples.timestamps.max()))
        self._until = [str(day_of(until)), until]
        rows, positives = self._learned
        # In the share that they have by weight, as of a holdout.
        clicks = len(index) * weighted_mean(scored.labels, before.loss_weights(index))
        self._learned = [rows + len(index), positives + clicks]
        self._round.scored.append(scored)
        self._round.masks.append(known_masks(before, index))
        self._round.histograms.append(reference_histograms(
            before, index, sigmoid(scored.logits[ONLINE])))
        return scored, _Newest(lake=lake, examples=examples, published=published)

    # --- publication ---

    def can_be_judged(self) -> bool:
        """Has the round enough rows of both classes for the gate's holdout?"""
        rule, labels = self._job.plan.gate.holdout, [one.labels for one in self._round.scored]
        positives = sum(int(one.sum()) for one in labels)
        return (self._round.rows >= max(1, rule.min_rows) and positives >= rule.min_positives
                and self._round.rows - positives >= rule.min_negatives)

    def publish(self) -> Decision:
        """Meet the champion before the gate on the rows of this round; publish if accepted.

        Both were scored on every row before it was learned: the challenger by its weights of that
        moment, at most one file older. What is rejected is given up: the student goes on from the
        champion, without the files of this round.

        Raises:
            NonFiniteError: a loss became NaN; call `give_up_step`.
            StaleChampionError: someone else has published; call `begin`.
        """
        assert self._newest is not None, "there is something to publish"
        self._learner.learn_pending()
        job, tuned = self._job_of_today(), self._job.run / "tuned"
        rows, notes = joined(self._round.scored), self._notes()
        keep_student(tuned, self._standing, self._learner, notes)
        metrics = weighted_scores(rows.labels, rows.logits[ONLINE], groups=rows.groups,
                                  weights=rows.weights)
        exported = export_alone(job, self._standing, self._learner, self._learner.best(),
                                self._newest.examples, self._newest.lake,
                                metrics, notes, summed_histograms(self._round.histograms))
        decision = self._judged(exported, rows, metrics)
        if not decision.accepted:
            self._give_up(self._round.files)
            return decision
        champion = publish_candidate(
            candidate=Path(exported.path), folder=job.exported, state=job.state,
            write_state=lambda folder: link_tree(tuned, folder), registry=job.registry,
            reason=f"online until {notes['learned_until'][0]}: {decision.summary}"[:500],
            manifest={"gate": decision.to_dict(), "run_folder": str(job.run.resolve())},
            replaces=self.version)
        if job.plan.retention.versions is not None:
            # A daily job at work prunes at its own end.
            with contextlib.suppress(LockError), daily_turn(job.state, wait=False):
                prune(job.exported, job.state, keep=job.plan.retention.versions,
                      registry=job.registry)
        assert champion.version != self.version
        # From what was saved: exactly where a new process would go on.
        self.begin()
        return decision

    def give_up_step(self, file: DroppedFile | None = None) -> list[str]:
        """Go on from the champion, without the file whose rows made a step not finite.

        A step may hold rows of several files, of those that were waiting for more. Nobody knows
        which is to blame, so that each is learned by itself from now on.

        Args:
            file: that was being taken; None at a publication.

        Returns:
            names of the files that are never learned; none where each will be tried.
        """
        step = {**self._waiting, **({file.path.name: file.signature} if file else {})}
        if len(step) > 1:
            self._suspects |= set(step)
            self.begin()
            return []
        return self._give_up(step or self._round.files)

    def _give_up(self, files: Mapping[str, list[int]]) -> list[str]:
        """Never learn some files; go on from the champion."""
        names = list(files)
        self._rejected |= files
        write_json(self._rejected_file, self._rejected)
        self.begin()
        return names

    def _job_of_today(self) -> DailyJob:
        return dataclasses.replace(self._job,
                                   as_of=datetime.date.fromisoformat(self._until[0]))

    def _judged(self, exported: Exported, rows: ScoredRows,
                metrics: Mapping[str, Any]) -> Decision:
        plan, newest = self._job.plan, self._newest
        assert newest is not None
        if not plan.gate.enabled:
            return Decision(accepted=True, first_version=False, enabled=False)
        every = np.arange(len(newest.examples.labels))
        seconds = timed({"challenger": (exported.path, newest.examples, every),
                         "champion": (self._standing.path, newest.published, every)}, plan.gate)
        learned, positives = self._learned
        # The gate looks at what was learned: at the negatives that were kept.
        rate = newest.examples.negative_rate
        logits = {name: one - np.float32(np.log(rate)) for name, one in rows.logits.items()}
        weights = None if rows.weights is None else (
            rows.weights * np.where(rows.labels == 0, rate, 1.0))
        return decide(
            challenger=Candidate(
                logits={"student": logits[ONLINE]}, metrics={"student": metrics},
                reference=read_manifest(exported.path)["reference"], bytes=exported.bytes,
                latency=seconds["challenger"], parity_max_abs=exported.parity_max_abs,
                golden=answer_requests(exported.path,
                                       {one.name: one.request for one in plan.golden})),
            champion=Candidate(
                logits={"student": logits[PUBLISHED]}, latency=seconds["champion"],
                reference=read_manifest(self._standing.path).get("reference", {}),
                bytes=size_in_bytes(self._standing.path)),
            holdout=Holdout(
                labels=rows.labels, groups=rows.groups, slices=self._round.slices(),
                weights=weights,
                training_rows=int(learned), training_positives=positives, golden=plan.golden),
            settings=_followed(plan.gate), seed=plan.towers.seed)

    # --- what is kept ---

    def _notes(self) -> dict[str, Any]:
        return {"files": {**self._files, **self._round.files}, "after": self.after,
                "learned_until": self._until, "learned": self._learned,
                "negatives": list(self._space)}

    def forget_all_but(self, names: set[str]) -> None:
        """Forget files that are no longer in the folder, of rows that the offline model knows.

        Newer ones may come back, with a folder that was not there for a moment, and would be
        learned a second time.
        """
        def is_kept(name: str, known: list[int]) -> bool:
            # An earlier release kept no newest second.
            return name in names or (len(known) > 2 and (known[2] is None or known[2] > self.after))

        for files in (self._files, self._rejected):
            for name in [name for name, known in files.items() if not is_kept(name, known)]:
                del files[name]

    def close(self) -> None:
        """Clear the run folder of what is of no more use."""
        for part in ("incoming", "candidate", "tuned"):
            shutil.rmtree(self._job.run / part, ignore_errors=True)
