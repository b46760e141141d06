"""From a checked plan to the parts that run: data, model, trainer."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Callable
from pathlib import Path

import tensorflow as tf

from dualdnn.data.examples import Examples, open_examples
from dualdnn.data.row_map import RowMap
from dualdnn.export.student import serving_graph as serving_graph
from dualdnn.layers.hint import HintProjection
from dualdnn.layers.shared_embedding import SharedEmbedding
from dualdnn.models.dual_dnn import TEACHER, DualDNN, StudentTower
from dualdnn.models.student import Student
from dualdnn.models.teacher import Teacher
from dualdnn.training.trainer import Listener, Trainer
from pipelines.plan import Plan, StudentPlan

_log = logging.getLogger("dualdnn")


def open_plan_data(plan: Plan, state: Path, row_map: RowMap | None = None,
                   on_day: Callable[[datetime.date, bool], None] | None = None) -> Examples:
    """Build the lake where a source is named, and open the window."""
    if plan.source:
        plan.source.prepare(plan.lake.path)
    return open_examples(lake=plan.lake, schema=plan.schema, window=plan.window, state=state,
                         row_map=row_map, on_day=on_day)


def build_model(plan: Plan, examples: Examples) -> DualDNN:
    """Teacher, students and controls with their initial weights."""
    row_map = examples.row_map

    def embedding(name: str, *, linear: bool, privileged: bool) -> SharedEmbedding:
        return SharedEmbedding(
            schema=examples.schema, table_rows=row_map.table_rows, vectors=row_map.vectors,
            embedding_dim=plan.embedding.dim, initial_stddev=plan.embedding.initial_stddev,
            linear=linear, privileged=privileged, seed=plan.seed, name=name,
        )

    shared = embedding("shared", linear=plan.teacher.linear, privileged=True)
    teacher = Teacher(
        interactions=plan.interactions, hidden_units=plan.teacher.hidden_units,
        activation=plan.teacher.activation, dropout=plan.teacher.dropout, seed=plan.seed,
        name=TEACHER,
    )

    def tower(student: StudentPlan) -> StudentTower:
        network = Student(
            hidden_units=student.network.hidden_units, activation=student.network.activation,
            dropout=student.network.dropout, linear=student.network.linear, seed=plan.seed,
            name=student.name,
        )
        hints = student.objective.hints if student.objective.hint_weight else ()
        return StudentTower(
            network=network, objective=student.objective,
            embedding=embedding(student.name, linear=student.network.linear,
                                privileged=False)
            if student.owns_table else shared,
            projections=[
                HintProjection(teacher_units=plan.teacher.hidden_units[theirs], seed=plan.seed,
                               name=f"{student.name}_hint_{i}")
                for i, (theirs, _) in enumerate(hints)
            ],
        )

    return DualDNN(embedding=shared, teacher=teacher,
                   students=[tower(student) for student in [*plan.students, *plan.controls]])


def build_trainer(plan: Plan, model: DualDNN, examples: Examples, folder: Path,
                  listener: Listener | None = None) -> Trainer:
    """The trainer with an optimizer for every table and tower."""
    if plan.training.deterministic:
        tf.config.experimental.enable_op_determinism()
    towers = [*plan.students, *plan.controls]
    return Trainer(
        model=model, examples=examples, settings=plan.training, seed=plan.seed, folder=folder,
        table_settings=plan.table,
        dense_settings={TEACHER: plan.teacher_optimizer,
                        **{student.name: student.optimizer for student in towers}},
        listener=listener,
    )
