"""The dual DNN: one teacher and any number of students, trained in one pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras as keras

from dualdnn.distillation.losses import label_loss
from dualdnn.distillation.objective import Objective, weighted_mean
from dualdnn.errors import ConfigError
from dualdnn.layers.embedding import EmbeddingTable
from dualdnn.layers.hint import HintProjection
from dualdnn.models.student import Student
from dualdnn.models.teacher import Teacher
from dualdnn.models.towers import TowerOutput

TEACHER = "teacher"


@dataclass(frozen=True, kw_only=True)
class StudentTower:
    """One student and how it is taught.

    Attributes:
        network: the light network; its name is the tower's.
        table: the shared table, or its own where it trains alone.
        objective: what it learns from.
        projections: one per pair of `objective.hints`, where hints are used.
    """

    network: Student
    table: EmbeddingTable
    objective: Objective
    projections: Sequence[HintProjection] = field(default=())

    @property
    def name(self) -> str:
        """Name of the tower."""
        return self.network.name

    def moves(self, table: EmbeddingTable) -> bool:
        """Do its losses reach the shared table or the teacher?"""
        stop = self.objective.stop_gradient
        through_input = self.table is table and not stop.embedding
        return through_input or (self.objective.distills and not stop.teacher)


class DualDNN(tfrs.models.Model):
    """Teacher and students on one shared embedding.

    A student reads `stop_gradient` of the shared input, its soft labels and hints are
    `stop_gradient` of the teacher: nothing of a student can reach the teacher or the table, so
    their weights are the same with and without students. Only an `Objective` that switches a
    stop-gradient off (as Rocket Launching does, Zhou et al. 2018) gives that up.
    """

    def __init__(
        self, *, table: EmbeddingTable, teacher: Teacher, students: Sequence[StudentTower] = ()
    ) -> None:
        """Join the towers.

        Args:
            table: the shared embedding.
            teacher: reads and trains `table`.
            students: their names must differ.

        Raises:
            ConfigError: two towers share a name, or a student's projections do not fit its hints.
        """
        super().__init__(name="dual_dnn")
        names = [TEACHER, *(student.name for student in students)]
        if len(set(names)) != len(names):
            raise ConfigError(f"towers must have different names, got {', '.join(names)}. "
                              "Rename a student.")
        for student in students:
            _check_projections(student, teacher)
        self.table = table
        self.teacher = teacher
        self.students = {student.name: student for student in students}
        self._build()

    def _build(self) -> None:
        """Create every variable before anything is traced or restored."""
        rows = tf.zeros((1, sum(self.table.field_widths)), tf.int32)
        outputs = self.forward(self.lookup(rows), tf.constant(0, tf.int64))
        self.tower_losses(outputs, tf.zeros(1), tf.ones(1))

    @property
    def towers(self) -> list[str]:
        """Names of all towers, the teacher first."""
        return [TEACHER, *self.students]

    def table_of(self, tower: str) -> EmbeddingTable:
        """The table that a tower reads."""
        return self.table if tower == TEACHER else self.students[tower].table

    def tables(self, towers: Sequence[str]) -> list[EmbeddingTable]:
        """The tables that the named towers read, each once."""
        return list({id(t): t for t in map(self.table_of, towers)}.values())

    def dense_variables(self, tower: str) -> list[tf.Variable]:
        """Trainable variables of a tower beside its table; of a student, projections included."""
        if tower == TEACHER:
            return self.teacher.trainable_variables
        student = self.students[tower]
        layers: list[keras.layers.Layer] = [student.network, *student.projections]
        return [variable for layer in layers for variable in layer.trainable_variables]

    def lookup(self, rows: tf.Tensor) -> dict[str, list[tf.Tensor]]:
        """Pooled columns of every table, by table name, for rows `(batch_size, width)`."""
        return {table.name: table.lookup(rows) for table in self.tables(self.towers)}

    def forward(
        self,
        pooled: Mapping[str, Sequence[tf.Tensor]],
        step: tf.Tensor,
        towers: Sequence[str] | None = None,
        training: bool = False,
    ) -> dict[str, TowerOutput]:
        """Score a batch with every tower, or with the named ones and the teacher.

        Args:
            pooled: by table name `(batch_size, num_fields, embedding_dim)` and, of the shared
                table, `(batch_size, num_fields, 1)`.
            step: scalar int64, for dropout.
            towers: names; None for all.
            training: whether to drop.
        """
        outputs = {}
        for tower in self.towers if towers is None else towers:
            if tower == TEACHER:
                shared, *linear = pooled[self.table.name]
                outputs[tower] = self.teacher(shared, linear[0] if linear else None, step,
                                              training=training)
                continue
            student = self.students[tower]
            vectors = pooled[student.table.name][0]
            if student.table is self.table and student.objective.stop_gradient.embedding:
                vectors = tf.stop_gradient(vectors)
            outputs[tower] = student.network(vectors, step, training=training)
        return outputs

    def tower_losses(
        self, outputs: Mapping[str, TowerOutput], labels: tf.Tensor, weights: tf.Tensor
    ) -> dict[str, dict[str, tf.Tensor]]:
        """Scalar losses by tower and name; `total` is what the tower minimises.

        Args:
            outputs: of `forward`, the teacher's among them.
            labels: `(batch_size,)`.
            weights: `(batch_size,)`.
        """
        teacher = outputs[TEACHER]
        # tfrs.tasks.Ranking divides by the batch size; weight 0 must equal dropping the example.
        of_labels = weighted_mean(label_loss(labels, teacher.logits), weights)
        losses = {TEACHER: {"label_loss": of_labels, "total": of_labels}}
        for name, output in outputs.items():
            if name == TEACHER:
                continue
            student = self.students[name]
            hints = [
                (project(output.hidden[mine]), teacher.hidden[theirs])
                for project, (theirs, mine) in zip(
                    student.projections, student.objective.hints, strict=False
                )
            ]
            losses[name] = dict(
                student.objective.losses(
                    labels=labels, weights=weights, student_logits=output.logits,
                    teacher_logits=teacher.logits, hints=hints,
                )
            )
        return losses

    def train_step(self, inputs: object) -> dict[str, tf.Tensor]:
        """Refuse `fit`: it knows one optimizer, and would leave tables and students as they are.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("DualDNN trains with dualdnn.training.trainer.Trainer, not with "
                                  "fit, which would train the teacher's dense layers alone.")

    def compute_loss(self, inputs: tuple[tf.Tensor, tf.Tensor, tf.Tensor],
                     training: bool = False) -> tf.Tensor:
        """The sum of every tower's total, as tensorflow-recommenders asks for it.

        Args:
            inputs: rows `(batch_size, width)`, labels and weights `(batch_size,)`.
            training: whether to drop.
        """
        rows, labels, weights = inputs
        outputs = self.forward(self.lookup(rows), tf.constant(0, tf.int64), training=training)
        losses = self.tower_losses(outputs, labels, weights)
        return tf.add_n([losses[tower]["total"] for tower in losses])


def _check_projections(student: StudentTower, teacher: Teacher) -> None:
    """Else a missing projection would drop its hint, and one unit would be spread over all."""
    objective = student.objective
    hints = objective.hints if objective.hint_weight else ()
    wanted = [teacher.mlp.dense[theirs].units for theirs, _ in hints]
    given = [projection.dense.units for projection in student.projections]
    if given != wanted:
        raise ConfigError(f"student {student.name} needs projections to {wanted} units, one a hint "
                          f"in use and as wide as the teacher's layer, got {given}.")
