"""Early stopping of one tower."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Progress:
    """Where one tower stands.

    Attributes:
        status: `training`, `stopped` (early, at its best) or `diverged` (dropped out).
        best: best value of the monitor so far; lower is better.
        best_step: the step it was measured at.
        waited: evaluations since then.
        ended_step: the step at which the tower stopped or diverged.
    """

    status: str = "training"
    best: float | None = None
    best_step: int = 0
    waited: int = 0
    ended_step: int | None = None

    def judge(self, value: float, step: int, patience: int) -> bool:
        """Take in one evaluation.

        Args:
            value: of the monitor, lower is better; an equal value is no improvement.
            step: finished steps.
            patience: evaluations without improvement after which the tower stops.

        Returns:
            whether these are the best weights so far.
        """
        if self.best is None or value < self.best:
            self.best, self.best_step, self.waited = value, step, 0
            return True
        self.waited += 1
        if self.waited >= patience:
            self.status, self.ended_step = "stopped", step
        return False
