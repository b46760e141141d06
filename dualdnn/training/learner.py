"""Towers, optimizers and a row map that live through many windows: learn, grow, score, save."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dualdnn.data.admission import NO_LIMITS, Admission, Occurrences
from dualdnn.data.encoded_day import EncodedDay
from dualdnn.data.examples import Examples, TrainingSize, open_examples
from dualdnn.data.lake import Lake
from dualdnn.data.row_map import RowMap, load_row_map
from dualdnn.data.row_map_growth import Growth, grown
from dualdnn.data.window import Window
from dualdnn.errors import DataError
from dualdnn.models.dual_dnn import DualDNN
from dualdnn.schema import Schema
from dualdnn.training.best_weights import BestWeights
from dualdnn.training.checkpoint import read_arrays, read_state, restore, save_checkpoint
from dualdnn.training.scoring import Scorer
from dualdnn.training.settings import TrainingSettings
from dualdnn.training.train_step import TrainStep
from dualdnn.training.trainer import Listener, Trainer

_ROW_MAP, _WEIGHTS = "row_map", "weights"


@dataclass(frozen=True, kw_only=True)
class StoredState:
    """A training state on disk: what `Learner.save` wrote.

    Attributes:
        folder: where it is.
        row_map: sign to row.
        about: what was noted with it; `num_examples`, `mean_weight`, `schema` and `members`, those
            of a pool of teachers in their order, always.
    """

    folder: Path
    row_map: RowMap
    about: Mapping[str, Any]

    @property
    def size(self) -> TrainingSize:
        """Of the training part of its last training from scratch."""
        # States from before losses knew the mean weight have none.
        return TrainingSize(self.about["num_examples"], self.about.get("mean_weight", 1.0))

    def arrays(self) -> dict[str, np.ndarray]:
        """Weights, slots and averages by name."""
        return read_arrays(self.folder / _WEIGHTS)


def open_state(folder: Path) -> StoredState:
    """Open a training state; its weights are read when they are asked for.

    Raises:
        DataError: it is missing or unreadable.
    """
    about = read_state(folder / _WEIGHTS)
    try:
        row_map = load_row_map(folder / _ROW_MAP)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{folder} is not a readable training state: {error}. Restore it, or "
                        "start from another version.") from error
    return StoredState(folder=folder, row_map=row_map, about=about)


def open_growing(
    row_map: RowMap, *, lake: Lake, schema: Schema, window: Window, state: Path,
    admission: Admission = NO_LIMITS, waiting: Occurrences | None = None,
    on_day: Callable[[datetime.date, bool], None] | None = None,
) -> tuple[Examples, Growth]:
    """Open rows with a row map that ids, new in their training part, are admitted to.

    Args:
        row_map: as it was so far.
        lake: the log.
        schema: as the row map was made for.
        window: chooses the rows.
        state: `paths.state`, where encoded days are kept.
        admission: expiry and capacity.
        waiting: see `grown`.
        on_day: called after each day with (day, was it already encoded).

    Raises:
        DataError: as `open_examples` and `grown`.
    """
    made: list[Growth] = []

    def grow(kept: Schema, days: Sequence[EncodedDay],
             parts: Sequence[np.ndarray | None]) -> RowMap:
        made.append(grown(row_map, kept, days, parts, admission, waiting))
        return made[0].row_map

    examples = open_examples(lake=lake, schema=schema, window=window, state=state,
                             row_map=grow, on_day=on_day)
    return examples, made[0]


class Learner:
    """One dual DNN over its whole life.

    Everything that was compiled serves every window: a retrain starts the same variables anew, a
    fine-tune lets the tables grow in place.

    Attributes:
        train_step: the towers and their optimizers.
        row_map: which row every sign owns in the tables as they are.
    """

    def __init__(self, train_step: TrainStep, row_map: RowMap) -> None:
        """Take over towers whose tables fit the row map."""
        self.train_step = train_step
        self.row_map = row_map
        self._scorer = Scorer(train_step.model)

    @property
    def model(self) -> DualDNN:
        """The towers."""
        return self.train_step.model

    def restart(self, examples: Examples) -> None:
        """Forget everything, as a new model of this window would be."""
        self.train_step.reset(examples.row_map, examples.training_size)
        self.row_map = examples.row_map

    def open_newest(
        self, *, lake: Lake, schema: Schema, window: Window, state: Path,
        admission: Admission = NO_LIMITS,
        on_day: Callable[[datetime.date, bool], None] | None = None,
    ) -> tuple[Examples, Growth]:
        """Open rows to go on with: ids that are new in their training part get a row.

        Args:
            lake: the log.
            schema: as the row map was made for.
            window: chooses the rows.
            state: `paths.state`, where encoded days are kept.
            admission: expiry and capacity.
            on_day: called after each day with (day, was it already encoded).

        Returns:
            the examples, and what `grow` needs before they can be learned.

        Raises:
            DataError: as `open_examples`.
        """
        return open_growing(self.row_map, lake=lake, schema=schema, window=window, state=state,
                            admission=admission, on_day=on_day)

    def grow(self, growth: Growth, draw: int) -> None:
        """Give tables and slots the rows of a grown row map.

        Args:
            growth: of `open_newest`.
            draw: > 0; another number draws other initial values.
        """
        self.train_step.grow(growth, draw)
        self.row_map = growth.row_map

    def train(
        self, examples: Examples, settings: TrainingSettings, *, seed: int, folder: Path,
        listener: Listener | None = None, towers: Sequence[str] | None = None,
        goes_on: bool = False,
    ) -> Trainer:
        """Learn the training part; a killed training goes on at its last checkpoint.

        Args:
            examples: opened with this learner's row map.
            settings: passes, batch size, order.
            seed: of the order of rows.
            folder: for checkpoints.
            listener: hears of steps and evaluations.
            towers: those that learn; None for all.
            goes_on: see `Trainer`.

        Returns:
            the trainer, done; its `best` holds what is scored and exported.

        Raises:
            NonFiniteError: the teacher's weights are no longer numbers.
        """
        trainer = Trainer(train_step=self.train_step, examples=examples, settings=settings,
                          seed=seed, folder=folder, listener=listener, towers=towers,
                          goes_on=goes_on)
        trainer.resume()
        trainer.run()
        return trainer

    def fine_tune(
        self, examples: Examples, growth: Growth, settings: TrainingSettings, *, seed: int,
        folder: Path, listener: Listener | None = None, towers: Sequence[str] | None = None,
    ) -> Trainer:
        """Go on from the present weights, slots and averages on the rows of `open_newest`.

        The averages go on as well: what few new rows say is small beside the noise of the last
        steps, so that a fine-tune scored without older steps is worse than none. They reach back
        a tenth of the steps that the whole window takes.
        """
        # The draw differs from day to day, so that a recycled row is not what it was at first.
        self.grow(growth, draw=examples.days[-1].day.toordinal())
        self.train_step.limit_averages(
            settings.epochs * -(-self.train_step.size.num_examples // settings.batch_size))
        return self.train(examples, settings, seed=seed, folder=folder, listener=listener,
                          towers=towers, goes_on=True)

    def score(self, examples: Examples, index: np.ndarray,
              towers: Sequence[str] | None = None) -> dict[str, np.ndarray]:
        """Logits (n,) float32 by tower, with the weights that would be served.

        Args:
            examples: opened with this learner's row map.
            index: (n,) row numbers.
            towers: names; None for all.
        """
        with self.train_step.averaged():
            return self._scorer(examples.rows[index], towers or self.model.towers,
                                examples.dense[index], examples.scores_at(index))

    def best(self) -> BestWeights:
        """The weights of every tower as they would be served; those of training stay in place."""
        best = BestWeights()
        with self.train_step.averaged():
            for tower in self.model.towers:
                best.keep(self.model, tower, 0)
        return best

    # --- on disk ---

    def save(self, folder: Path, about: Mapping[str, Any]) -> None:
        """Write the training state into an existing folder.

        Args:
            folder: empty, or not yet holding a state.
            about: JSON-able notes.
        """
        self.train_step.catch_up()
        (folder / _ROW_MAP).mkdir()
        self.row_map.save(folder / _ROW_MAP)
        save_checkpoint(folder / _WEIGHTS, self.train_step.named_variables(), {
            **about, **self.train_step.size._asdict(), "members": self.model.members,
            "schema": self.model.embedding.schema.to_dict()})

    def load(self, stored: StoredState) -> None:
        """Become what was saved: weights, slots, averages and row map, to the bit.

        The towers must be those that were saved; `warm_start` takes over what it can of others.

        Raises:
            DataError: a variable is missing or has another shape, or the members of a pool of
                teachers are others or in another order.
        """
        # States from before they were noted name none.
        members = stored.about.get("members", self.model.members)
        if members != self.model.members:
            raise DataError(
                f"{stored.folder} is of a pool of {', '.join(members) or 'nobody'}, expected "
                f"{', '.join(self.model.members) or 'nobody'} in this order: it belongs to another "
                "configuration.")
        arrays = stored.arrays()
        self.train_step.reset(stored.row_map, stored.size)
        restore(self.train_step.named_variables(), arrays, stored.folder)
        self.row_map = stored.row_map
