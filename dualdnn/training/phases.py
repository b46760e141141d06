"""The two parts of a training: with the learning teacher, and after it has finished."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from dualdnn.models.dual_dnn import TEACHER, DualDNN
from dualdnn.training.settings import TrainingSettings

TOGETHER, AFTER_TEACHER = "together", "after_teacher"


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A part of the training; its passes are counted from its own beginning.

    Attributes:
        name: `together` or `after_teacher`.
        start: the step it begins at.
        limits: by tower that takes part, the steps that it takes at most.
        consolidating: students among them that learn from the teacher's logits alone.
    """

    name: str
    start: int = 0
    limits: Mapping[str, int] = field(default_factory=dict)
    consolidating: Sequence[str] = ()

    @property
    def steps(self) -> int:
        """Steps if no tower stops early."""
        return max(self.limits.values(), default=0)

    def progress(self, step: int) -> dict[str, float]:
        """By tower the share of its steps that are done at a step of the training."""
        return {tower: min((step - self.start) / limit, 1.0)
                for tower, limit in self.limits.items()}


def together(model: DualDNN, towers: Collection[str], settings: TrainingSettings,
             steps_per_epoch: int) -> Phase:
    """The teacher, and all that starts with it.

    Args:
        model: the towers.
        towers: those that learn in this training.
        settings: passes.
        steps_per_epoch: steps of one pass.
    """
    return Phase(name=TOGETHER, limits={
        tower: settings.epochs * steps_per_epoch for tower in model.towers
        if tower in towers and not (tower != TEACHER and model.students[tower].after_teacher)})


def after_teacher(model: DualDNN, towers: Collection[str], settings: TrainingSettings,
                  steps_per_epoch: int, start: int) -> Phase:
    """The students that start now, with passes of their own, and those that consolidate.

    Args:
        model: the towers.
        towers: those that learn in this training and have not dropped out.
        settings: passes.
        steps_per_epoch: steps of one pass.
        start: the step it begins at.
    """
    late = [name for name, student in model.students.items()
            if name in towers and student.after_teacher]
    consolidating = [name for name, student in model.students.items()
                     if name in towers and settings.consolidation_epochs
                     and student.consolidation is not None]
    return Phase(name=AFTER_TEACHER, start=start, consolidating=consolidating, limits={
        **{name: settings.epochs * steps_per_epoch for name in late},
        **{name: settings.consolidation_epochs * steps_per_epoch for name in consolidating}})
