"""Trains every tower in one pass: order, early stopping, best weights, checkpoints, resume."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from dualdnn.data.examples import Examples
from dualdnn.errors import DataError, NonFiniteError
from dualdnn.evaluation.metrics import auc, log_loss
from dualdnn.models.dual_dnn import TEACHER
from dualdnn.training.best_weights import BestWeights, best_weights_from
from dualdnn.training.checkpoint import CheckpointFolder, restore
from dualdnn.training.phases import TOGETHER, Phase, after_teacher, together
from dualdnn.training.progress import Progress
from dualdnn.training.row_order import RowOrder
from dualdnn.training.run_identity import run_identity
from dualdnn.training.scoring import Scorer
from dualdnn.training.settings import TrainingSettings
from dualdnn.training.table_optimizer import TableOptimizer
from dualdnn.training.train_step import TrainStep


class Listener(Protocol):
    """Hears how training goes."""

    def on_step(self, step: int, steps: int) -> None:
        """`step` of at most `steps` is done."""

    def on_record(self, record: Mapping[str, Any]) -> None:
        """One value: step, epoch, tower, part, metric, value."""


class Trainer:
    """Runs `TrainStep` over the training part of a window.

    First the teacher learns, and the students that start with it. When all of these are done, it
    rests with its embedding at its best weights; students that wait for that start now, others
    consolidate, see `phases`.

    A resumed run ends with bit-identical weights: the order of rows is a function of (seed,
    epoch), dropout of (seed, step), and everything else is in the checkpoint.
    """

    def __init__(
        self,
        *,
        train_step: TrainStep,
        examples: Examples,
        settings: TrainingSettings,
        seed: int,
        folder: Path,
        listener: Listener | None = None,
        towers: Sequence[str] | None = None,
        goes_on: bool = False,
    ) -> None:
        """Prepare; nothing is read or written yet.

        Args:
            train_step: the towers and their optimizers, as they are now.
            examples: with the parts train and, for early stopping, valid.
            settings: passes, batch size, patience.
            seed: of the order of rows.
            folder: where checkpoints go.
            listener: hears of steps and evaluations.
            towers: those that learn; None for all of them.
            goes_on: this is not the first training of the towers: schedules are at their end.
        """
        self.train_step = train_step
        self.model = model = train_step.model
        self.examples = examples
        self.settings = settings
        self.seed = seed
        self.folder = folder
        self._checkpoints = CheckpointFolder(folder)
        self.listener = listener
        self.step = 0
        self.progress = {tower: Progress() for tower in model.towers
                         if towers is None or tower in towers}
        self.history: list[dict[str, Any]] = []
        self.timed_seconds = 0.0
        self.timed_examples = 0
        self.best = BestWeights()
        self._teacher_rests = False
        # Sum and number of steps of each loss since the last evaluation.
        self._running: dict[tuple[str, str], tuple[float, int]] = {}
        self._order = RowOrder(examples, settings, seed)
        self._goes_on = goes_on
        self.phase = together(model, self.progress, settings, self.steps_per_epoch)
        self._scorer = Scorer(model)

    # --- the plan ---

    @property
    def steps_per_epoch(self) -> int:
        """Steps of one pass."""
        return self._order.steps_per_epoch

    @property
    def total_steps(self) -> int:
        """Steps if no tower stops early from now on."""
        end = self.phase.start + self.phase.steps
        return end + self._later(end).steps if self.phase.name == TOGETHER else end

    def _later(self, start: int) -> Phase:
        """The phase after the teacher's, as far as it is known; without towers there is none."""
        sound = [tower for tower, p in self.progress.items() if p.status != "diverged"]
        return after_teacher(self.model, sound, self.settings, self.steps_per_epoch, start)

    @property
    def training_towers(self) -> list[str]:
        """Towers that take the next step, the teacher first."""
        return self._learning_at(self.step)

    def _learning_at(self, step: int) -> list[str]:
        """Towers that have not stopped and whose passes last beyond a step."""
        return [tower for tower, p in self.progress.items() if p.status == "training"
                and step - self.phase.start < self.phase.limits.get(tower, 0)]

    def _batch(self) -> np.ndarray:
        return self._order.rows(self.step - self.phase.start)

    # --- training ---

    def run(self) -> None:
        """Train until every tower has stopped or all passes are done.

        Raises:
            NonFiniteError: the teacher's loss, gradient or weights are NaN or infinite; the
                message names the step and the last good checkpoint.
        """
        self._run_phase()
        if self.phase.name != TOGETHER:
            return
        # Whether or not a student listens to it from now on, so that a fine-tune starts from the
        # same teacher. A fine-tune leaves it and its averages as they are: these go on.
        if TEACHER in self.progress and not (self._teacher_rests or self._goes_on):
            self._rest_on_best_teacher()
        if (later := self._later(self.step)).limits:
            self._begin(later)
            self._run_phase()

    def _run_phase(self) -> None:
        while self.training_towers:
            self._one_step()
            is_evaluation = self._order.ends_part(self.step - self.phase.start)
            if is_evaluation or self.step % self.settings.checkpoint_every_steps == 0:
                self._check_weights()
                if is_evaluation:
                    self._evaluate()
                self.save()
        self._finish()

    def _begin(self, phase: Phase) -> None:
        """The teacher has finished: students start, or go on from their best weights."""
        self.phase = phase
        for tower in phase.consolidating:
            self.best.load_owned(self.model, tower)
            self._settle(tower)
            # Its best value was measured with weights that it still has, so it stays to be beaten.
            state = self.progress[tower]
            state.status, state.waited, state.ended_step = "training", 0, None

    def _one_step(self) -> None:
        training = self.training_towers
        index = self._batch()
        batch = self.examples.batch(index)
        consolidating = self.phase.consolidating
        compiled = self.train_step.is_compiled(training, consolidating)
        started = time.perf_counter()
        losses, finite = self.train_step.run(training, batch, self.step, progress=self._shares(),
                                             consolidating=consolidating,
                                             scores=self.examples.scores_at(index))
        is_finite = finite.numpy()
        if compiled:
            self.timed_seconds += time.perf_counter() - started
            self.timed_examples += len(batch.labels)
        self.step += 1
        broken = [tower for tower, fine in zip(training, is_finite, strict=True) if not fine]
        lost = [tower for tower in broken if tower != TEACHER]
        for tower in lost:
            self._drop(tower, "loss or gradient")
        # A student that moves the teacher takes one step of the teacher's with it, no more.
        if TEACHER in broken and not any(self.model.students[tower].moves(self.model.embedding)
                                         for tower in lost):
            self._drop(TEACHER, "loss or gradient")
        for tower in training:
            if tower not in broken:
                for name, value in losses[tower].items():
                    total, steps = self._running.get((tower, name), (0.0, 0))
                    self._running[tower, name] = (total + float(value), steps + 1)
        if self.listener:
            self.listener.on_step(self.step, self.total_steps)

    def _shares(self) -> dict[str, float]:
        """By tower the share of its steps that are done, for its schedules."""
        done = self.phase.progress(self.step)
        return dict.fromkeys(done, 1.0) if self._goes_on else done

    def _check_weights(self) -> None:
        """Compiled ReLU layers turn NaN into 0, so broken weights need not show in a loss."""
        for tower in self._learning_at(self.step - 1):
            dense = [*self.model.dense_variables(tower),
                     *self.train_step.dense_optimizers[tower].variables]
            if not (all(np.isfinite(value.numpy()).all() for value in dense)
                    and all(table.is_finite() for table in self._owned_tables(tower))):
                self._drop(tower, "state (weights and optimizer)")

    def _owned_tables(self, tower: str) -> list[TableOptimizer]:
        """The optimizers of the tables that learn from a tower."""
        return [self.train_step.table_optimizers[table.name]
                for embedding in self.model.owned_embeddings(tower)
                for table in embedding.trained_tables]

    def _drop(self, tower: str, what: str) -> None:
        """Something of a tower is not finite: a student drops out, a teacher ends the run."""
        if tower == TEACHER:
            newest = self.checkpoints()
            kept = f"The last good checkpoint is {newest[-1]}." if newest else (
                "No checkpoint was written before it.")
            raise NonFiniteError(
                f"the teacher's {what} is not finite at step {self.step}. {kept} "
                "Lower the learning rate or set a clip_norm, and look for extreme weights."
            )
        state = self.progress[tower]
        state.status, state.ended_step = "diverged", self.step

    def _record(self, tower: str, part: str, metric: str, value: float) -> None:
        record = {"step": self.step, "epoch": self.step / self.steps_per_epoch, "tower": tower,
                  "part": part, "metric": metric, "value": float(value)}
        self.history.append(record)
        if self.listener:
            self.listener.on_record(record)

    def _record_losses(self) -> None:
        for (tower, name), (total, steps) in self._running.items():
            self._record(tower, "train", name, total / steps)
        self._running = {}

    def _evaluate(self) -> None:
        self._record_losses()
        valid, training = self.examples.split.valid, self._learning_at(self.step - 1)
        if not len(valid) or not training:
            return
        with self.train_step.averaged():
            self._judge_all(self._scorer(self.examples.rows[valid], training,
                                         self.examples.dense[valid],
                                         self.examples.scores_at(valid)))
        # Only now: the students were scored with the table as it was.
        teacher = self.progress.get(TEACHER)
        if teacher and teacher.status == "stopped" and not self._teacher_rests:
            self._rest_on_best_teacher()

    def _judge_all(self, scores: Mapping[str, np.ndarray]) -> None:
        valid = self.examples.split.valid
        labels = self.examples.labels[valid]
        # What is learned is the weighted loss: odds that weights have moved, such as those of
        # clicks weighted by watch time, would count as getting worse without them.
        weights = self.examples.loss_weights(valid)
        for tower, logits in scores.items():
            if not np.isfinite(logits).all():
                self._drop(tower, "score of a validation row")
                continue
            values = {"log_loss": log_loss(labels, logits, weights),
                      "auc": auc(labels, logits, weights)}
            for metric, value in values.items():
                if value is not None:
                    self._record(tower, "valid", metric, value)
            monitored = values[self.settings.monitor]
            if monitored is None:
                raise DataError("the validation part holds one class only, or no sample weight, so "
                                f"training.monitor={self.settings.monitor} cannot be measured on "
                                "it. Give it more days or rows.")
            self._judge(tower, -monitored if self.settings.monitor == "auc" else monitored)

    def _judge(self, tower: str, value: float) -> None:
        if self.progress[tower].judge(value, self.step, self.settings.patience):
            self.best.keep(self.model, tower, self.step, self._rested())

    def _rested(self) -> dict[str, int]:
        """By embedding that rests with the teacher, the step that its values belong to."""
        if not self._teacher_rests:
            return {}
        return {embedding.name: self.progress[TEACHER].best_step
                for embedding in self.model.owned_embeddings(TEACHER)}

    def _rest_on_best_teacher(self) -> None:
        """The teacher has finished: it and the embedding keep their best weights.

        The students that still learn go on from there, and get their patience anew.
        """
        self._teacher_rests = True
        self.best.load_into(self.model, TEACHER)
        self._settle(TEACHER)
        for tower, state in self.progress.items():
            if state.status == "training" and self.model.reads_shared(tower):
                state.waited = 0

    def _settle(self, tower: str) -> None:
        """Averages of what was just loaded begin there."""
        self.train_step.dense_averages[tower].settle()
        for table in self._owned_tables(tower):
            table.settle()

    def _finish(self) -> None:
        """Close the last pass of a phase; without validation, the last weights are the best."""
        self.train_step.catch_up()
        if self._running:
            self._record_losses()
        if not len(self.examples.split.valid):
            with self.train_step.averaged():
                for tower, limit in self.phase.limits.items():
                    if self.progress[tower].status == "training":
                        last = min(self.step, self.phase.start + limit)
                        self.progress[tower].best_step = last
                        self.best.keep(self.model, tower, last, self._rested())

    def summary(self) -> dict[str, dict[str, Any]]:
        """How each tower ended: status, best step, the step at which it stopped."""
        return {tower: {key: value for key, value in asdict(state).items() if key != "waited"}
                for tower, state in self.progress.items()}

    # --- checkpoints ---

    def _identity(self) -> dict[str, Any]:
        return run_identity(self.train_step, self.examples, self.settings, self.seed)

    def checkpoints(self) -> list[Path]:
        """Finished checkpoints, oldest first."""
        return self._checkpoints.finished()

    def save(self) -> None:
        """Write a checkpoint of the whole state and prune older ones."""
        self.train_step.catch_up()
        best, best_state = self.best.to_arrays()
        self._checkpoints.write(self.step, {**self.train_step.named_variables(), **best}, {
            "step": self.step, "history": self.history, "timed_seconds": self.timed_seconds,
            "timed_examples": self.timed_examples, "teacher_rests": self._teacher_rests,
            "progress": {tower: asdict(p) for tower, p in self.progress.items()},
            "running": [[*key, *value] for key, value in self._running.items()],
            "phase": asdict(self.phase), "best": best_state, "configuration": self._identity(),
        })

    def resume(self) -> bool:
        """Continue from the newest checkpoint; false where there is none.

        Raises:
            DataError: the checkpoint belongs to another configuration.
        """
        newest = self._checkpoints.newest(self._identity())
        if newest is None:
            return False
        folder, state, arrays = newest
        restore(self.train_step.named_variables(), arrays, folder)
        self.step = state["step"]
        self.history = state["history"]
        self.timed_seconds = state["timed_seconds"]
        self.timed_examples = state["timed_examples"]
        self.progress = {tower: Progress(**p) for tower, p in state["progress"].items()}
        self._running = {(tower, name): (total, steps)
                         for tower, name, total, steps in state["running"]}
        self._teacher_rests = state["teacher_rests"]
        self.phase = Phase(**state["phase"])
        self.best = best_weights_from(arrays, state["best"])
        return True
