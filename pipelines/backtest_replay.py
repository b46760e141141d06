"""Replaying days: every strategy learns what it would have known, then scores the next day."""

from __future__ import annotations

import datetime
import functools
import resource
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from dualdnn.data.examples import (
    Examples,
    Negatives,
    RowMapMaker,
    TrainingSize,
    open_examples,
)
from dualdnn.data.row_map import RowMap, build_row_map
from dualdnn.data.window import ChosenDays
from dualdnn.errors import DataError
from dualdnn.evaluation.backtest_regression import STRENGTHS, chosen_strength, logits_by_strength
from dualdnn.evaluation.backtest_results import DayResult, day_path, read_day
from dualdnn.models.dual_dnn import TEACHER
from dualdnn.storage import atomic_folder, remove_leftovers
from dualdnn.training.learner import Learner, open_state
from dualdnn.training.strategies import REGRESSION, ScoredDay, Training, goes_on
from pipelines.backtest_plan import BacktestPlan
from pipelines.build import new_learner


def core_seconds() -> float:
    """Seconds that cores have worked for this process and its children."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


class Replay:
    """Plays strategies day by day; every result is on disk before the next day begins.

    One learner serves all strategies, each of which begins from scratch: nothing is compiled twice.
    """

    def __init__(self, plan: BacktestPlan, run: Path, state: Path, console: Console) -> None:
        """Prepare; nothing is read yet.

        Args:
            plan: of the backtest.
            run: its folder.
            state: `paths.state`, where encoded days are kept.
            console: hears of every day.
        """
        self.plan, self.run, self.state, self.console = plan, run, state, console
        self._learner: Learner | None = None
        # Of what the learner has learned from scratch.
        self._space = Negatives(0.0, 0.0)
        self._admitting = functools.partial(build_row_map, admission=plan.admission)

    def play(self, strategy: str, scored: Sequence[ScoredDay]) -> dict[datetime.date, DayResult]:
        """Results of every day, those of an earlier try included.

        Args:
            strategy: its name.
            scored: its schedule.
        """
        for folder in (self.run / "days" / strategy, self.run / "states"):
            remove_leftovers(folder)
        done: dict[datetime.date, DayResult] = {}
        current = False  # does the learner hold what the day before has left?
        for number, one in enumerate(scored):
            path = day_path(self.run / "days", strategy, one.day)
            if path.exists():
                done[one.day] = self._finished(path)
                current = False
                continue
            began, cores = time.monotonic(), core_seconds()
            if strategy == REGRESSION:
                values = self._regression(one, done)
            else:
                trainings, seconds = one.trainings, 0.0
                if not current:
                    trainings, seconds = self._went_on(strategy, scored[:number + 1])
                values = self._towers(strategy, one, trainings, seconds,
                                      keep=goes_on(scored, number))
                current = True
            done[one.day] = DayResult(**values, wall_seconds=time.monotonic() - began,
                                      core_seconds=core_seconds() - cores)
            done[one.day].save(path)
            self._tell(strategy, one.day, done[one.day])
        shutil.rmtree(self.run / "states" / strategy, ignore_errors=True)
        return done

    def _finished(self, path: Path) -> DayResult:
        """The result of a day that an earlier try has scored.

        Raises:
            DataError: the file is damaged, or of an earlier release: that kept no weights, and
                scores of the negatives that were sampled.
        """
        result, schema = read_day(path), self.plan.towers.schema
        if result.weights is None and (schema.weight or schema.sampling_rate not in (None, 1.0)):
            raise DataError(f"{path} was scored by an earlier release, which weighed all rows "
                            f"alike. Delete {path.parent}, and the same command plays this "
                            "strategy again.")
        return result

    def _tell(self, strategy: str, day: datetime.date, result: DayResult) -> None:
        self.console.print(f"{strategy} {day}: {len(result.labels):,} rows, "
                           f"{result.seconds:.1f} s training, {result.wall_seconds:.1f} s in all",
                           highlight=False)

    def _open(self, window: ChosenDays, row_map: RowMap | RowMapMaker) -> Examples:
        towers = self.plan.towers
        return open_examples(lake=towers.lake, schema=towers.schema, window=window,
                             state=self.state, row_map=row_map)

    def _regression(self, one: ScoredDay,
                    done: dict[datetime.date, DayResult]) -> dict[str, Any]:
        (training,) = one.trainings
        examples = self._open(ChosenDays(train=training.days, test=[one.day]), self._admitting)
        began = time.monotonic()
        candidates = logits_by_strength(examples)
        seconds = time.monotonic() - began
        chosen = chosen_strength([result for day, result in done.items() if day <= one.known])
        candidates += np.log(examples.negative_rate)
        return {**_truth(examples), "student": candidates[chosen], "candidates": candidates,
                "strength": STRENGTHS[chosen], "seconds": seconds}

    def _went_on(self, strategy: str, until: Sequence[ScoredDay]
                 ) -> tuple[tuple[Training, ...], float]:
        """Bring back what an earlier try has left behind.

        Args:
            strategy: its name.
            until: the schedule, up to the day that is scored next.

        Returns:
            the trainings of that day that are still to be done, and the seconds of the others.

        Raises:
            DataError: the state that the day goes on from is not there.
        """
        one, folder = until[-1], self.run / "states" / strategy
        stored = open_state(folder) if folder.is_dir() else None
        # One of an earlier release does not say what its scores are corrected by.
        learned = stored.about["day"] if stored and "negatives" in stored.about else None
        trained = [str(other.day) for other in until[:-1] if other.trainings]
        is_done = learned == str(one.day)  # learned, but not scored
        if not is_done and one.trainings and one.trainings[0].from_scratch:
            return one.trainings, 0.0
        if stored is None or not (is_done or learned in trained[-1:]):
            got = learned or ("one of an earlier release" if stored else "none")
            raise DataError(f"{folder} must hold the training state that {one.day} goes on from, "
                            f"got {got}. Delete {self.run / 'days' / strategy}, and "
                            "the same command plays this strategy again.")
        self._tables_of(stored.row_map, stored.size).load(stored)
        self._space = Negatives(*stored.about["negatives"])
        return ((), stored.about["seconds"]) if is_done else (one.trainings, 0.0)

    def _towers(self, strategy: str, one: ScoredDay, trainings: Sequence[Training],
                seconds: float, *, keep: bool) -> dict[str, Any]:
        """Learn what is still due, keep it if the next day goes on from it, score."""
        seconds += sum(self._learn(training) for training in trainings)
        assert self._learner
        if keep and trainings:
            with atomic_folder(self.run / "states" / strategy) as folder:
                self._learner.save(folder, {
                    "day": str(one.day), "seconds": seconds, "negatives": self._space})
        examples = self._open(ChosenDays(train=(), test=[one.day]), self._learner.row_map)
        logits = self._learner.score(examples, examples.split.test, [TEACHER, self.plan.student])
        learned = replace(examples, learned_negatives=self._space)
        served = np.float32(np.log(learned.negative_rate))
        return {**_truth(examples), "student": logits[self.plan.student] + served,
                "teacher": logits[TEACHER] + served, "seconds": seconds}

    def _tables_of(self, row_map: RowMap, size: TrainingSize) -> Learner:
        """The learner, made if there is none yet; its weights are about to be replaced."""
        if self._learner is None:
            self._learner = new_learner(self.plan.towers, self.plan.towers.schema, row_map, size)
        return self._learner

    def _learn(self, training: Training) -> float:
        """One training.

        Returns:
            seconds of its steps.
        """
        towers, scratch = self.plan.towers, self.run / "scratch"
        shutil.rmtree(scratch, ignore_errors=True)
        window = ChosenDays(train=training.days, test_share=training.held_back)
        if training.from_scratch:
            examples = self._open(window, self._admitting)
            learner = self._tables_of(examples.row_map, examples.training_size)
            learner.restart(examples)
            self._space = examples.learned_space
            trainer = learner.train(examples, towers.training, seed=towers.seed, folder=scratch)
        else:
            assert self._learner, "a fine-tune goes on from a training"
            examples, growth = self._learner.open_newest(
                lake=towers.lake, schema=towers.schema, window=window, state=self.state,
                admission=self.plan.admission)
            examples = replace(examples, learned_negatives=self._space)
            trainer = self._learner.fine_tune(
                examples, growth, self.plan.finetune.training(towers.training), seed=towers.seed,
                folder=scratch)
        shutil.rmtree(scratch, ignore_errors=True)
        for tower, progress in trainer.progress.items():
            if progress.status == "diverged":
                self.console.print(f"warning: {tower} diverged on {training.days[0]} to "
                                   f"{training.days[-1]} and kept its last finite weights")
        return trainer.timed_seconds


def _truth(examples: Examples) -> dict[str, np.ndarray | None]:
    index = examples.split.test
    return {"labels": examples.labels[index],
            "groups": None if examples.groups is None else examples.groups[index],
            "weights": examples.population_weights(index)}
