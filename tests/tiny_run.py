"""A tiny feed and a tiny dual DNN, built alike in every process.

Also a program, so that a test can kill it: python -m tests.tiny_run --help
"""

import dualdnn  # noqa: F401, I001  (first: it selects the Keras API)

import argparse
import datetime
import hashlib
import json
import os
import signal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf

from dualdnn.data.examples import open_examples
from dualdnn.data.lake import Lake
from dualdnn.data.window import TimeFraction
from dualdnn.distillation.objective import Objective
from dualdnn.layers.cross import CrossNetwork
from dualdnn.layers.hint import HintProjection
from dualdnn.layers.shared_embedding import SharedEmbedding
from dualdnn.models.dual_dnn import DualDNN, StudentTower
from dualdnn.models.student import Student
from dualdnn.models.teacher import Teacher
from dualdnn.schema import schema_from_dict
from dualdnn.training.settings import DenseOptimizerSettings, TrainingSettings
from dualdnn.training.table_optimizer import TableOptimizerSettings
from dualdnn.training.train_step import TrainStep
from dualdnn.training.trainer import Trainer

SCHEMA = schema_from_dict({
    "name": "tiny", "label": "click", "timestamp": "ts", "group": "user", "fields": [
        {"name": "user", "kind": "id", "side": "user"},
        {"name": "item", "kind": "id", "side": "item", "min_count": 2},
        {"name": "tags", "kind": "ids", "side": "item", "max_length": 3},
        {"name": "age", "kind": "number", "side": "user", "buckets": 4},
    ],
})
DAYS, ROWS_A_DAY = 4, 110
# Every distillation loss at once; the other students are made from it.
EVERYTHING = Objective(label_weight=0.5, soft_label_weight=1.0, temperature=2.0,
                       logit_weight=0.05, hint_weight=0.1, hints=((-1, -1), (0, -1)))


def write_lake(path: Path) -> Lake:
    """Four days in which users and items decide about the click; some values are missing."""
    rng = np.random.default_rng(7)
    taste, appeal = rng.normal(size=20), rng.normal(size=30)
    for number in range(DAYS):
        user, item = rng.integers(0, 20, ROWS_A_DAY), rng.integers(0, 30, ROWS_A_DAY)
        chance = 1 / (1 + np.exp(-2 * (taste[user] + appeal[item])))
        start = int(datetime.datetime(2024, 1, 1 + number, tzinfo=datetime.UTC).timestamp())
        age = np.where(rng.random(ROWS_A_DAY) < 0.1, np.nan, rng.integers(18, 70, ROWS_A_DAY))
        folder = path / f"dt=2024-01-{1 + number:02d}"
        folder.mkdir(parents=True)
        pq.write_table(pa.table({
            "click": (rng.random(ROWS_A_DAY) < chance).astype(np.int64),
            "ts": start + np.arange(ROWS_A_DAY),
            "user": [None if u == 19 else f"u{u}" for u in user],
            "item": item,
            "tags": [[f"t{i % 5}", f"t{i % 3}ü"][: i % 3] for i in item],
            "age": age,
        }), folder / "part.parquet")
    (folder / "_SUCCESS").touch()
    return Lake(path)


def open_tiny(folder: Path, *, valid=0.2):
    """The examples of the lake in `folder`, written there if it is missing: 264 train, 88 valid."""
    lake = Lake(folder / "lake") if (folder / "lake").exists() else write_lake(folder / "lake")
    window = TimeFraction(train=0.8 - valid, valid=valid, test=0.2)
    return open_examples(lake=lake, schema=SCHEMA, window=window, state=folder / "state")


def embedding_for(examples, name, *, linear=False, privileged=False, only=None):
    return SharedEmbedding(
        schema=examples.schema, table_rows=examples.row_map.table_rows,
        vectors=examples.row_map.vectors, embedding_dim=4, initial_stddev=0.1, linear=linear,
        privileged=privileged, only=only, seed=3, name=name,
    )


def build_model(examples, objectives, *, dropout=0.2, alone=False, interactions=None,
                owner="teacher", late=(), late_own=None, extra=()):
    """A teacher and one student `s0`, `s1`, ... an objective; `alone` adds one with its table.

    Students that start when the teacher has finished: `late0`, ... an objective of `late`; `own`
    with a table of its own and the objective `late_own`; `extra` that learns the named fields.
    """
    shared = embedding_for(examples, "shared", linear=True, privileged=True)
    teacher = Teacher(
        interactions=interactions or [CrossNetwork(num_layers=1, seed=3, name="teacher_cross")],
        hidden_units=[8, 4], dropout=dropout, seed=3,
    )

    def student(name, objective, embedding, **more):
        hints = objective.hints if objective.hint_weight else ()
        return StudentTower(
            network=Student(hidden_units=[6], dropout=dropout, seed=3, name=name),
            embedding=embedding, objective=objective,
            projections=[HintProjection(teacher_units=[8, 4][theirs], seed=3, name=f"{name}_{i}")
                         for i, (theirs, _) in enumerate(hints)],
            **more,
        )

    students = [student(f"s{i}", one, shared) for i, one in enumerate(objectives)]
    if alone:
        students.append(student("alone", Objective(), embedding_for(examples, "alone")))
    students += [student(f"late{i}", one, shared, after_teacher=True)
                 for i, one in enumerate(late)]
    if late_own is not None:
        students.append(student("own", late_own, embedding_for(examples, "own"),
                                after_teacher=True))
    if extra:
        students.append(student("extra", Objective(), shared, after_teacher=True,
                                extra=embedding_for(examples, "extra", linear=True, only=extra)))
    return DualDNN(embedding=shared, teacher=teacher, students=students, owner=owner)


def build_trainer(examples, model, folder, *, listener=None, seed=1, rates=None, clip_norm=1.0,
                  table=None, **training):
    """A trainer with steps of 48 rows, two passes and a checkpoint every second step."""
    values = {"epochs": 2, "batch_size": 48, "evaluations_per_epoch": 1, "patience": 5,
              "checkpoint_every_steps": 2, **training}
    table = table or TableOptimizerSettings(learning_rate=0.02, l2=1.0)
    settings = TrainingSettings(**values)
    train_step = TrainStep(
        model=model, table_settings=table, size=examples.training_size,
        dense_settings={
            tower: DenseOptimizerSettings(learning_rate=(rates or {}).get(tower, 0.01),
                                          clip_norm=clip_norm)
            for tower in model.towers
        },
        averaging=settings.averaging,
    )
    return Trainer(train_step=train_step, examples=examples, settings=settings, seed=seed,
                   folder=folder, listener=listener)


def anew(trainer, folder, *, examples=None, listener=None):
    """A trainer of the same towers as new, whose steps need not be compiled again.

    What they had learned is gone: digests of it must have been taken before.
    """
    examples = examples or trainer.examples
    trainer.train_step.reset(examples.row_map, examples.training_size)
    return Trainer(train_step=trainer.train_step, examples=examples, settings=trainer.settings,
                   seed=trainer.seed, folder=folder, listener=listener)


def weights_of(model, tower):
    """The dense weights of a tower and its embedding, as they are now."""
    variables = [*model.network_variables(tower),
                 *(v for one in model.embeddings_of(tower) for v in one.trained_variables())]
    return [variable.numpy() for variable in variables]


def digest_of(model, tower):
    """One line for `weights_of`, to compare processes by."""
    digest = hashlib.sha256()
    for value in weights_of(model, tower):
        digest.update(value.tobytes())
    return digest.hexdigest()


class Killer:
    """A listener that ends its process as the kernel would: no handler, no clean-up."""

    def __init__(self, step):
        self.step = step

    def on_step(self, step, steps):
        if step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)

    def on_record(self, record):
        pass


def main():
    parser = argparse.ArgumentParser(description="Train a tiny pair; print the weights' digests.")
    parser.add_argument("folder", type=Path, help="holds the lake, its state and checkpoints")
    parser.add_argument("--students", type=int, default=1)
    parser.add_argument("--deterministic", action="store_true")
    parser.add_argument("--kill-at-step", type=int)
    given = parser.parse_args()
    if given.deterministic:
        tf.config.experimental.enable_op_determinism()
    examples = open_tiny(given.folder)
    model = build_model(examples, [EVERYTHING, *[Objective(soft_label_weight=1.0)] * 4]
                        [: given.students], alone=given.students > 1)
    trainer = build_trainer(examples, model, given.folder / "checkpoints",
                            listener=Killer(given.kill_at_step))
    resumed = trainer.resume()
    trainer.run()
    print(json.dumps({"resumed": resumed, "step": trainer.step,
                      **{tower: digest_of(model, tower) for tower in model.towers}}))


if __name__ == "__main__":
    main()

