"""From a checked plan to the parts that run: data, model, trainer."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import tensorflow as tf

from dualdnn.data.examples import Examples, RowMapMaker, TrainingSize, open_examples
from dualdnn.data.row_map import RowMap, build_row_map
from dualdnn.distillation.objective import Objective
from dualdnn.export.student import serving_graph as serving_graph
from dualdnn.layers.hint import HintProjection
from dualdnn.layers.shared_embedding import SharedEmbedding
from dualdnn.models.dual_dnn import SHARED_EMBEDDING, TEACHER, DualDNN, StudentTower
from dualdnn.models.student import Student
from dualdnn.models.teacher import Teacher
from dualdnn.schema import Schema
from dualdnn.training.learner import Learner, StoredState
from dualdnn.training.student_learner import StudentLearner
from dualdnn.training.train_step import TrainStep
from dualdnn.training.trainer import Listener, Trainer
from pipelines.baselines import BaselinePlan
from pipelines.plan import Plan, StudentPlan
from pipelines.teachers import build_teacher

_log = logging.getLogger("dualdnn")


def open_plan_data(plan: Plan, state: Path, row_map: RowMap | RowMapMaker = build_row_map,
                   on_day: Callable[[datetime.date, bool], None] | None = None) -> Examples:
    """Build the lake where a source is named, and open the window."""
    if plan.source:
        plan.source.prepare(plan.lake.path)
    return open_examples(lake=plan.lake, schema=plan.schema, window=plan.window, state=state,
                         row_map=row_map, on_day=on_day)


def build_model(plan: Plan, schema: Schema, row_map: RowMap, owner: str = TEACHER) -> DualDNN:
    """Teacher, students and controls with their initial weights.

    Args:
        plan: the towers.
        schema: the fields that are read.
        row_map: of these fields.
        owner: see `DualDNN`.
    """

    def embedding(name: str, *, linear: bool, privileged: bool,
                  only: Sequence[str] | None = None,
                  dim: int = plan.embedding.dim) -> SharedEmbedding:
        return SharedEmbedding(
            schema=schema, table_rows=row_map.table_rows, vectors=row_map.vectors,
            embedding_dim=dim, initial_stddev=plan.embedding.initial_stddev,
            linear=linear, privileged=privileged, only=only, seed=plan.seed, name=name,
        )

    shared = embedding(SHARED_EMBEDDING, linear=plan.teacher.linear, privileged=True)

    def tower(student: StudentPlan) -> StudentTower:
        network = Student(
            hidden_units=student.network.hidden_units, activation=student.network.activation,
            dropout=student.network.dropout, linear=student.network.linear, fm=student.network.fm,
            seed=plan.seed, name=student.name,
        )
        hints = student.objective.hints if student.objective.hint_weight else ()
        return StudentTower(
            network=network, objective=student.objective,
            embedding=embedding(student.name, linear=student.network.linear,
                                privileged=False)
            if student.owns_table else shared,
            extra=embedding(student.name, linear=student.network.linear, privileged=False,
                            only=student.extra_fields) if student.extra_fields else None,
            after_teacher=student.scheme.after_teacher,
            projections=[
                HintProjection(teacher_units=plan.teacher.hidden_units[theirs], seed=plan.seed,
                               name=f"{student.name}_hint_{i}")
                for i, (theirs, _) in enumerate(hints)
            ],
        )

    def rival(baseline: BaselinePlan) -> StudentTower:
        network = baseline_network(baseline, plan.seed)
        return StudentTower(
            network=network, objective=Objective(),
            embedding=embedding(baseline.tower, linear=baseline.network.linear, privileged=False,
                                dim=plan.embedding.dim if network.reads_vectors else 1))

    return DualDNN(embedding=shared, teacher=build_teacher(plan.teacher, plan.seed, TEACHER),
                   teacher_embeddings=[
                       embedding(f"{TEACHER}.{name}", linear=linear, privileged=True)
                       for name, linear in plan.teacher.own_embeddings.items()],
                   owner=owner,
                   students=[*(tower(student) for student in [*plan.students, *plan.controls]),
                             *(rival(one) for one in plan.baselines if one.gbdt is None)])


def baseline_network(baseline: BaselinePlan, seed: int) -> Teacher:
    """The network of a baseline with its initial weights."""
    return Teacher(
        interactions=baseline.interactions, hidden_units=baseline.network.hidden_units,
        activation=baseline.network.activation, dropout=baseline.network.dropout,
        deep=baseline.deep, seed=seed, name=baseline.tower,
    )


def build_train_step(plan: Plan, model: DualDNN, size: TrainingSize) -> TrainStep:
    """An optimizer for every table and tower of the plan's model."""
    if plan.training.deterministic:
        tf.config.experimental.enable_op_determinism()
    towers = [*plan.students, *plan.controls]
    baselines = [one for one in plan.baselines if one.gbdt is None]
    return TrainStep(
        model=model, table_settings=plan.table, size=size,
        dense_settings={TEACHER: plan.teacher_optimizer,
                        **{student.name: student.optimizer for student in towers},
                        **{one.tower: one.optimizer for one in baselines}},
        averaging=plan.training.averaging,
        own_table_settings={one.tower: one.table for one in baselines},
    )


def new_learner(plan: Plan, schema: Schema, row_map: RowMap, size: TrainingSize) -> Learner:
    """Untrained towers of a plan, whose tables fit a row map."""
    model = build_model(plan, schema, row_map)
    return Learner(build_train_step(plan, model, size), row_map)


def alone(plan: Plan, student: str) -> Plan:
    """The plan of one student that learns from labels, without the others and the controls."""
    chosen = next(one for one in plan.students if one.name == student)
    return replace(plan, students=[replace(chosen, objective=Objective())], controls=[],
                   baselines=[])


def new_student_learner(plan: Plan, student: str, base: StoredState) -> StudentLearner:
    """A student of a plan that goes on alone, from the training state of a version."""
    only = alone(plan, student)
    model = build_model(only, only.schema, base.row_map, owner=student)
    return StudentLearner(build_train_step(only, model, base.size), base)


def build_trainer(plan: Plan, model: DualDNN, examples: Examples, folder: Path,
                  listener: Listener | None = None) -> Trainer:
    """The trainer of a new model."""
    return Trainer(
        train_step=build_train_step(plan, model, examples.training_size), examples=examples,
        settings=plan.training, seed=plan.seed, folder=folder, listener=listener,
    )
