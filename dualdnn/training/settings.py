"""Numbers that steer training, with their ranges."""

from __future__ import annotations

import math
from dataclasses import dataclass

MONITORS = ("log_loss", "auc")
ORDERS = ("shuffled", "time")


@dataclass(frozen=True, kw_only=True)
class DenseOptimizerSettings:
    """How the dense variables of one tower learn: Adam.

    Attributes:
        learning_rate: > 0.
        clip_norm: bound on the global norm of the tower's gradients, its table rows included;
            None for no bound.
    """

    learning_rate: float = 1e-3
    clip_norm: float | None = None

    def mistakes(self, where: str) -> list[str]:
        """What is wrong with the values, one sentence each."""
        found = []
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            found.append(f"{where}.learning_rate must be > 0, got {self.learning_rate}.")
        if self.clip_norm is not None and not self.clip_norm > 0:
            found.append(f"{where}.clip_norm must be > 0 or null, got {self.clip_norm}.")
        return found


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How long and in which order.

    Attributes:
        epochs: most passes over the training part; a student that starts when the teacher has
            finished takes as many of its own.
        consolidation_epochs: most passes that students, once the teacher has finished, go on from
            their best weights and from its logits alone, see `Objective.consolidated`.
        batch_size: rows a step; the last step of a pass takes what is left.
        order: of the rows in a pass: `shuffled`, or by `time`.
        evaluations_per_epoch: times a pass is interrupted to score the validation part.
        patience: evaluations without improvement after which a tower stops; its best weights
            are kept. Needs a validation part; without one every tower takes all its passes.
        monitor: what improvement means on the validation part, `log_loss` or `auc`, weighted as
            the training is where rows have sample weights.
        averaging: score and export the average of the weights over the last tenth of the steps.
        checkpoint_every_steps: steps between checkpoints, beside those at evaluations.
        deterministic: ask TensorFlow for deterministic kernels.
    """

    epochs: int = 1
    consolidation_epochs: int = 0
    batch_size: int = 1024
    order: str = "shuffled"
    evaluations_per_epoch: int = 1
    patience: int = 2
    monitor: str = "log_loss"
    averaging: bool = True
    checkpoint_every_steps: int = 2000
    deterministic: bool = True

    def mistakes(self) -> list[str]:
        """What is wrong with the values, one sentence each."""
        found = [
            f"training.{name} must be >= 1, got {getattr(self, name)}."
            for name in ("epochs", "batch_size", "evaluations_per_epoch", "patience",
                         "checkpoint_every_steps")
            if getattr(self, name) < 1
        ]
        if self.consolidation_epochs < 0:
            found.append("training.consolidation_epochs must be >= 0, got "
                         f"{self.consolidation_epochs}. Use 0 to end with the teacher.")
        if self.order not in ORDERS:
            found.append(f"training.order must be one of {', '.join(ORDERS)}, got {self.order!r}.")
        if self.monitor not in MONITORS:
            found.append(f"training.monitor must be one of {', '.join(MONITORS)}, "
                         f"got {self.monitor!r}.")
        return found
