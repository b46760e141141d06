"""Which rows a step learns: a function of the seed and the step, so that nothing of it is saved."""

from __future__ import annotations

import numpy as np

from dualdnn.data.examples import Examples
from dualdnn.training.settings import TrainingSettings


class RowOrder:
    """Passes over the training part, each in steps of about equal size.

    Attributes:
        steps_per_epoch: steps of one pass.
    """

    def __init__(self, examples: Examples, settings: TrainingSettings, seed: int) -> None:
        """Plan; an order is drawn when it is needed.

        Args:
            examples: whose part train is learned.
            settings: batch size, order, evaluations.
            seed: of the order.
        """
        self.steps_per_epoch = -(-len(examples.split.train) // settings.batch_size)
        self._examples = examples
        self._settings = settings
        self._seed = seed
        self._order: tuple[int, np.ndarray] | None = None

    def rows(self, step: int) -> np.ndarray:
        """The row numbers of a step, counted from the beginning of the first pass."""
        epoch, position = divmod(step, self.steps_per_epoch)
        if self._order is None or self._order[0] != epoch:
            rng = np.random.default_rng([self._seed, epoch])
            train = self._examples.split.train
            if self._settings.order == "time":
                times = self._examples.timestamps[train]
                self._order = (epoch, train[np.argsort(times, kind="stable")])
            else:
                self._order = (epoch, rng.permutation(train))
        # Of about equal size: a last step of a few rows would move as far as any other, and mostly
        # by their noise.
        rows, steps = len(self._order[1]), self.steps_per_epoch
        return self._order[1][position * rows // steps : (position + 1) * rows // steps]

    def ends_part(self, step: int) -> bool:
        """Is a pass, or one of the equal parts that it is evaluated in, done after `step` steps?"""
        parts = min(self._settings.evaluations_per_epoch, self.steps_per_epoch)
        position = (step - 1) % self.steps_per_epoch + 1
        return position in {round(self.steps_per_epoch * (i + 1) / parts) for i in range(parts)}
