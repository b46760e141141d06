"""What a checkpoint and the run that resumes it must agree on."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import Any

from dualdnn.data.examples import Examples
from dualdnn.training.settings import TrainingSettings
from dualdnn.training.train_step import TrainStep


def run_identity(
    train_step: TrainStep, examples: Examples, settings: TrainingSettings, seed: int
) -> dict[str, Any]:
    """Settings, data and towers by name, as JSON-able values.

    Args:
        train_step: the towers and their optimizers.
        examples: the data, with its parts.
        settings: of the training.
        seed: of the order of rows.
    """
    parts = {name: [len(index), int(index.sum())]
             for name, index in vars(examples.split).items()}
    students = train_step.model.students.items()
    members = train_step.model.members
    scores = {} if examples.scores is None else {
        "scores": [train_step.model.scored, hashlib.sha256(examples.scores.tobytes()).hexdigest()]}
    described = {
        "seed": seed, "training": asdict(settings),
        "data": {"fingerprint": examples.fingerprint, **parts},
        **scores,
        # In their order, which gives columns of a gate and kept weights their meaning.
        **({"members of the pool": members} if members else {}),
        "after the teacher": [name for name, student in students if student.after_teacher],
        **{f"objective of {name}": asdict(student.objective) for name, student in students},
        **{f"optimizer of {tower}": asdict(one)
           for tower, one in train_step.dense_settings.items()},
        **{f"optimizer of table {name}": asdict(optimizer.settings)
           for name, optimizer in train_step.table_optimizers.items()},
    }
    return json.loads(json.dumps(described))
