"""A student that goes on alone from a version: it learns its own copy of the rows that it changes.

On disk that copy is an overlay beside the version's training state: numbers, values, slots and
averages of the changed rows, and a row map that has grown. The state itself, whose table belongs to
the teacher, is never written to; a new offline model has no overlay, and with it what the student
learned alone is gone.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from dualdnn.data.admission import NO_LIMITS, Admission, Occurrences
from dualdnn.data.examples import Batch, Examples
from dualdnn.data.lake import Lake
from dualdnn.data.row_map import RowMap, load_row_map
from dualdnn.data.row_map_growth import Growth
from dualdnn.data.window import Window
from dualdnn.errors import DataError, NonFiniteError
from dualdnn.layers.embedding import append_rows
from dualdnn.models.dual_dnn import TEACHER, DualDNN
from dualdnn.schema import Schema
from dualdnn.training.best_weights import BestWeights
from dualdnn.training.checkpoint import read_arrays, read_state, restore, save_checkpoint
from dualdnn.training.learner import StoredState, open_growing
from dualdnn.training.train_step import TrainStep

_ROW_MAP, _OVERLAY = "row_map", "overlay"
_SCORED_ROWS = 8192


@dataclass(frozen=True, kw_only=True)
class StoredStudent:
    """What a student alone has changed, on disk: what `StudentLearner.save` wrote.

    Attributes:
        folder: where it is.
        row_map: the version's, grown.
        about: what was noted with it.
    """

    folder: Path
    row_map: RowMap
    about: Mapping[str, Any]

    def arrays(self) -> dict[str, np.ndarray]:
        """Dense variables whole; of tables the changed rows, whose numbers are in `rows/TABLE`."""
        return read_arrays(self.folder / _OVERLAY)


def open_student(folder: Path) -> StoredStudent | None:
    """Open an overlay; None where there is none.

    Raises:
        DataError: it is unreadable.
    """
    if not folder.is_dir():
        return None
    about = read_state(folder / _OVERLAY)
    try:
        row_map = load_row_map(folder / _ROW_MAP)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{folder} is not a readable overlay: {error}. Restore it, or start from "
                        "another version.") from error
    return StoredStudent(folder=folder, row_map=row_map, about=about)


@dataclass(frozen=True, kw_only=True)
class Learned:
    """What one call of `StudentLearner.learn` took.

    Attributes:
        rows: learned.
        loss: mean label loss before each step; None without rows.
        seconds: in steps, the first one, which compiles, left out.
        timed_rows: rows in these seconds.
    """

    rows: int
    loss: float | None
    seconds: float
    timed_rows: int


class StudentLearner:
    """The owner of a dual DNN, learning from labels; the teacher is neither asked nor changed.

    Everything that a row needs moves with it from the offline model: values, slots and averages.
    Rows that were never touched are served as the offline model serves them.

    Attributes:
        train_step: of a model that the student owns, see `DualDNN.owner`.
        row_map: which row every sign owns in the table as it is.
        base: the training state that the student went on from.
    """

    def __init__(self, train_step: TrainStep, base: StoredState) -> None:
        """Start where an offline model has ended.

        Args:
            train_step: its tables fit the row map of `base`.
            base: of a version, teacher and students.

        Raises:
            DataError: it lacks a variable, or has one of another shape.
        """
        self.train_step = train_step
        self.base = base
        self._start()

    @property
    def model(self) -> DualDNN:
        """The towers."""
        return self.train_step.model

    @property
    def student(self) -> str:
        """Name of the student."""
        return self.model.owner

    def _start(self) -> None:
        """Become the student of `base`, as it was when it was left there."""
        self.row_map = self.base.row_map
        self._waiting: Occurrences | None = None
        self._pending: Batch | None = None
        self.train_step.reset(self.base.row_map, self.base.size)
        arrays, mine = self.base.arrays(), self._variables()
        # The matrices of the embedding learned with the teacher, and are the owner's now.
        prefix, theirs = f"tower/{self.student}/", f"tower/{TEACHER}/"
        for name in mine:
            if name not in arrays and name.startswith(prefix):
                inherited = name.replace(prefix, theirs, 1)
                if inherited in arrays:
                    arrays[name] = arrays[inherited]
        restore(mine, arrays, self.base.folder)
        tables = self.train_step.table_optimizers
        self._since = {name: int(optimizer.steps) for name, optimizer in tables.items()}
        self._touched = {name: np.zeros(optimizer.table.num_rows, bool)
                         for name, optimizer in tables.items()}

    def _variables(self) -> dict[str, tf.Variable]:
        """All that the student alone changes."""
        return {name: variable for name, variable in self.train_step.named_variables().items()
                if name.startswith(("table/", f"tower/{self.student}/"))}

    def limit_averages(self, batch_size: int) -> None:
        """Let averages reach back a tenth of the offline model's steps of one pass."""
        self.train_step.limit_averages(-(-self.train_step.size.num_examples // batch_size))

    # --- learning ---

    def open_newest(
        self, *, lake: Lake, schema: Schema, window: Window, state: Path,
        admission: Admission = NO_LIMITS,
    ) -> tuple[Examples, Growth]:
        """See `Learner.open_newest`; ids are counted from one call to the next."""
        return open_growing(self.row_map, lake=lake, schema=schema, window=window, state=state,
                            admission=admission, waiting=self._waiting)

    def grow(self, growth: Growth) -> None:
        """Give rows and slots to the ids that were admitted."""
        # Its steps differ from one growth to the next, so that no two ids start as the same row.
        self.train_step.grow(growth, draw=1 + self.steps)
        self.row_map, self._waiting = growth.row_map, growth.waiting
        for name, table in self.model.embedding.tables.items():
            if table.trainable:
                touched = np.zeros(table.num_rows, bool)
                touched[: len(self._touched[table.name])] = self._touched[table.name]
                touched[growth.fresh_rows[name]] = True
                self._touched[table.name] = touched

    @property
    def steps(self) -> int:
        """Steps that the student has taken in its life."""
        return int(self.train_step.dense_optimizers[self.student].iterations)

    @property
    def changed_rows(self) -> int:
        """Rows of the overlay, over all tables."""
        return sum(int(touched.sum()) for touched in self._touched.values())

    def learn(self, examples: Examples, index: np.ndarray, batch_size: int, *,
              more_to_come: bool = False) -> Learned:
        """Learn rows once, in the order of time, in steps of about equal size.

        A step of a few rows moves as far as one of many, and mostly by their noise.

        Args:
            examples: opened with this learner's row map.
            index: (n,) row numbers.
            batch_size: rows a step, more or less.
            more_to_come: leave rows that are less than half a batch for the next call.

        Raises:
            NonFiniteError: a loss or gradient is NaN or infinite; the weights are those before.
        """
        order = index[np.argsort(examples.timestamps[index], kind="stable")]
        batch = examples.batch(order)
        if self._pending is not None:
            batch = Batch(*(np.concatenate(pair)
                            for pair in zip(self._pending, batch, strict=True)))
        self._pending = None
        steps = round(len(batch.labels) / batch_size)
        if not steps:
            if more_to_come:
                self._pending = batch
                return Learned(rows=0, loss=None, seconds=0.0, timed_rows=0)
            steps = min(1, len(batch.labels))
        tower, losses, seconds, timed = [self.student], [], 0.0, 0
        for part in np.array_split(np.arange(len(batch.labels)), steps) if steps else ():
            of_step = Batch(*(values[part] for values in batch))
            compiled = self.train_step.is_compiled(tower)
            began = time.perf_counter()
            found, finite = self.train_step.run(tower, of_step, self.steps)
            if not finite.numpy().all():
                raise NonFiniteError(
                    f"the loss or gradient of the student {self.student} is not finite after "
                    f"{self.steps} steps. Look for extreme values in the newest samples, or lower "
                    "its learning rate.")
            if compiled:
                seconds += time.perf_counter() - began
                timed += len(part)
            losses.append(float(found[self.student]["label_loss"]))
            self._touch(of_step.rows)
        return Learned(rows=len(batch.labels), loss=float(np.mean(losses)) if losses else None,
                       seconds=seconds, timed_rows=timed)

    @property
    def has_pending(self) -> bool:
        """Has `learn` left rows for later?"""
        return self._pending is not None

    def learn_pending(self) -> None:
        """Learn what `learn` has left for later.

        Raises:
            NonFiniteError: as `learn`.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            _, finite = self.train_step.run([self.student], pending, self.steps)
            if not finite.numpy().all():
                raise NonFiniteError(f"the loss of the student {self.student} is not finite.")
            self._touch(pending.rows)

    def _touch(self, rows: np.ndarray) -> None:
        embedding = self.model.embedding
        for table, members in embedding.schema.tables().items():
            owner = embedding.tables[table]
            if owner.trainable:
                for field in members:
                    self._touched[owner.name][rows[:, embedding.schema.cells(field.name)]] = True

    # --- scoring ---

    def score(self, examples: Examples, index: np.ndarray) -> np.ndarray:
        """Logits (n,) float32 as they would be served now; the learner is left as it is."""
        blocks = [self.train_step.score(self.student, examples.rows[part], examples.dense[part],
                                        self._since)
                  for part in np.split(index, range(_SCORED_ROWS, len(index), _SCORED_ROWS))]
        return np.concatenate([np.zeros(0, np.float32), *blocks])

    def best(self) -> BestWeights:
        """The student's weights as they would be served; those of training stay in place."""
        model, average = self.model, self.train_step.dense_averages[self.student]
        tables = []
        for table in model.embedding.trained_tables:
            optimizer = self.train_step.table_optimizers[table.name]
            rows = np.flatnonzero(self._touched[table.name]).astype(np.int32)
            served = optimizer.served(tf.constant(rows), self._since[table.name])
            for stored, changed in zip(optimizer.averages or table.columns(), served, strict=True):
                whole = stored.numpy()
                whole[rows] = changed.numpy()
                tables.append(whole)
        average.exchange()
        try:
            dense = [variable.numpy() for variable in model.network_variables(self.student)]
            matrices = [variable.numpy() for variable in model.embedding.dense_variables()]
        finally:
            average.exchange()
        name = model.embedding.name
        return BestWeights(dense={self.student: dense}, table_steps={self.student: {name: 0}},
                           tables={(name, 0): [*tables, *matrices]})

    # --- on disk ---

    def save(self, folder: Path, about: Mapping[str, Any]) -> None:
        """Write the overlay into an existing, empty folder.

        Args:
            folder: not yet holding one.
            about: JSON-able notes.
        """
        (folder / _ROW_MAP).mkdir()
        self.row_map.save(folder / _ROW_MAP)
        rows = {name: np.flatnonzero(touched).astype(np.int32)
                for name, touched in self._touched.items()}
        arrays: dict[str, np.ndarray | tf.Variable] = {
            f"rows/{name}": numbers for name, numbers in rows.items()}
        for name, variable in self._variables().items():
            part, owner, _ = name.split("/", 2)
            whole = part != "table" or not variable.shape.rank
            arrays[name] = variable if whole else tf.gather(variable, rows[owner]).numpy()
        if self._waiting is not None:
            arrays |= {f"waiting/{one.name}": getattr(self._waiting, one.name)
                       for one in fields(Occurrences)}
        save_checkpoint(folder / _OVERLAY, arrays, about)

    def load(self, stored: StoredStudent | None) -> None:
        """Become what was saved on the same base, to the bit; None for the base itself.

        Raises:
            DataError: it was saved on another base or with other towers.
        """
        self._start()
        if stored is None:
            return
        arrays, mine = stored.arrays(), self._variables()
        try:
            rows = {name: arrays[f"rows/{name}"] for name in self._touched}
            dense = {name: variable for name, variable in mine.items()
                     if not (name.startswith("table/") and variable.shape.rank)}
            restore(dense, arrays, stored.folder)
            for name in mine.keys() - dense.keys():
                self._put(name, mine[name], rows[name.split("/", 2)[1]], arrays[name])
        except (KeyError, ValueError, tf.errors.InvalidArgumentError) as error:
            raise DataError(f"{stored.folder} is no overlay of {self.base.folder}: {error}. "
                            "Remove it, and start again from the version.") from error
        self.row_map = stored.row_map
        for name, numbers in rows.items():
            touched = np.zeros(self.train_step.table_optimizers[name].table.num_rows, bool)
            touched[numbers] = True
            self._touched[name] = touched
        if "waiting/signs" in arrays:
            self._waiting = Occurrences(**{one.name: arrays[f"waiting/{one.name}"]
                                           for one in fields(Occurrences)})

    @staticmethod
    def _put(name: str, variable: tf.Variable, rows: np.ndarray, values: np.ndarray) -> None:
        if values.shape != (len(rows), *variable.shape[1:]):
            raise ValueError(f"`{name}` has shape {values.shape} for {len(rows)} rows")
        append_rows(variable, max(int(tf.shape(variable)[0]), int(rows.max(initial=-1)) + 1))
        variable.scatter_update(tf.IndexedSlices(values, rows))


