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
from dualdnn.layers.embedding_reader import EmbeddingReader
from dualdnn.layers.hint import HintProjection
from dualdnn.layers.shared_embedding import SharedEmbedding
from dualdnn.models.student import Student
from dualdnn.models.teacher import Teacher
from dualdnn.models.towers import TowerOutput

TEACHER = "teacher"


@dataclass(frozen=True, kw_only=True)
class StudentTower:
    """One student and how it is taught.

    Attributes:
        network: the light network, or a baseline of the teacher's form; its name is the tower's.
        embedding: the shared one, or its own where it trains alone.
        objective: what it learns from.
        projections: one per pair of `objective.hints`, where hints are used.
    """

    network: Student | Teacher
    embedding: SharedEmbedding
    objective: Objective
    projections: Sequence[HintProjection] = field(default=())

    @property
    def name(self) -> str:
        """Name of the tower."""
        return self.network.name

    def moves(self, embedding: SharedEmbedding) -> bool:
        """Do its losses reach the shared embedding or the teacher?"""
        stop = self.objective.stop_gradient
        through_input = self.embedding is embedding and not stop.embedding
        return through_input or (self.objective.distills and not stop.teacher)


class DualDNN(tfrs.models.Model):
    """Teacher and students on one shared embedding.

    A student reads `stop_gradient` of the shared input, its soft labels and hints are
    `stop_gradient` of the teacher: nothing of a student can reach the teacher or the embedding, so
    their weights are the same with and without students. Only an `Objective` that switches a
    stop-gradient off (as Rocket Launching does, Zhou et al. 2018) gives that up.

    A student that goes on alone after the training takes the embedding over: it becomes its
    `owner`, and the teacher, whose rows these no longer are, must not be asked any more.

    Attributes:
        embedding: the shared one.
        teacher: the teacher's network.
        students: by name.
        owner: the tower that `embedding` learns from.
    """

    def __init__(
        self, *, embedding: SharedEmbedding, teacher: Teacher,
        students: Sequence[StudentTower] = (), owner: str = TEACHER,
    ) -> None:
        """Join the towers.

        Args:
            embedding: the shared one. Students do not read its privileged fields.
            teacher: reads `embedding`, and trains it unless a student owns it.
            students: their names must differ.
            owner: the teacher, or a student that reads `embedding` and learns from labels alone.

        Raises:
            ConfigError: two towers share a name, a student's projections do not fit its hints, or
                the owner reads another embedding or listens to the teacher.
        """
        super().__init__(name="dual_dnn")
        names = [TEACHER, *(student.name for student in students)]
        if len(set(names)) != len(names):
            raise ConfigError(f"towers must have different names, got {', '.join(names)}. "
                              "Rename a student.")
        for student in students:
            _check_projections(student, teacher)
        self.embedding = embedding
        self.teacher = teacher
        self.students = {student.name: student for student in students}
        self.owner = owner
        if owner != TEACHER:
            heir = self.students.get(owner)
            if heir is None or heir.embedding is not embedding or heir.objective.distills:
                raise ConfigError(f"owner must be a student that reads the shared embedding and "
                                  f"learns from labels alone, got {owner!r}.")
        self._readers = {one.name: one.reader() for one in self.embeddings(self.towers)}
        fields = embedding.fields
        public = [i for i, field in enumerate(fields) if not field.privileged]
        self._public = None if len(public) == len(fields) else public
        self._build()

    def _build(self) -> None:
        """Create every variable before anything is traced or restored."""
        schema = self.embedding.schema
        pooled = self.lookup(tf.zeros((1, schema.width), tf.int32),
                             tf.zeros((1, schema.dense_width)))
        self.tower_losses(self.forward(pooled, tf.constant(0, tf.int64)), tf.zeros(1), tf.ones(1))

    @property
    def towers(self) -> list[str]:
        """Names of all towers, the teacher first."""
        return [TEACHER, *self.students]

    def embedding_of(self, tower: str) -> SharedEmbedding:
        """The embedding that a tower reads."""
        return self.embedding if tower == TEACHER else self.students[tower].embedding

    def embeddings(self, towers: Sequence[str]) -> list[SharedEmbedding]:
        """The embeddings that the named towers read, each once."""
        return list({id(e): e for e in map(self.embedding_of, towers)}.values())

    def owns_embedding(self, tower: str) -> bool:
        """Does the embedding that it reads learn from this tower?"""
        return tower == self.owner or self.embedding_of(tower) is not self.embedding

    def tables(self, towers: Sequence[str]) -> list[EmbeddingTable]:
        """The tables that learn, of all embeddings that the named towers read, each once."""
        return [table for embedding in self.embeddings(towers)
                for table in embedding.trained_tables]

    def reader(self, embedding: SharedEmbedding) -> EmbeddingReader:
        """The reader of inputs that hold all fields."""
        return self._readers[embedding.name]

    def network_variables(self, tower: str) -> list[tf.Variable]:
        """Trainable variables of a tower beside its embedding; of a student, projections too."""
        if tower == TEACHER:
            return self.teacher.trainable_variables
        student = self.students[tower]
        layers: list[keras.layers.Layer] = [student.network, *student.projections]
        return [variable for layer in layers for variable in layer.trainable_variables]

    def dense_variables(self, tower: str) -> list[tf.Variable]:
        """What the tower's dense optimizer changes: its network, and matrices of its embedding."""
        network = self.network_variables(tower)
        if not self.owns_embedding(tower):
            return network
        return [*network, *self.embedding_of(tower).dense_variables()]

    def lookup(self, rows: tf.Tensor, dense: tf.Tensor | None = None,
               towers: Sequence[str] | None = None) -> dict[str, list[tf.Tensor]]:
        """What the embeddings of all towers, or of the named ones, say about a batch.

        Args:
            rows: `(batch_size, width)`.
            dense: `(batch_size, dense_width)`; None where the schema has no floats.
            towers: names; None for all.

        Returns:
            by name of the embedding `(batch_size, num_fields, embedding_dim)` and, where it has
            first-order weights, `(batch_size, num_fields, 1)`.
        """
        return {one.name: self.reader(one).lookup(rows, dense)
                for one in self.embeddings(self.towers if towers is None else towers)}

    def forward(
        self,
        pooled: Mapping[str, Sequence[tf.Tensor]],
        step: tf.Tensor,
        towers: Sequence[str] | None = None,
        training: bool = False,
    ) -> dict[str, TowerOutput]:
        """Score a batch with every tower, or with the named ones and the teacher.

        Args:
            pooled: of `lookup`.
            step: scalar int64, for dropout.
            towers: names; None for all.
            training: whether to drop.
        """
        outputs = {}
        for tower in self.towers if towers is None else towers:
            inputs = list(pooled[self.embedding_of(tower).name])
            network = self.teacher if tower == TEACHER else self.students[tower].network
            if tower != TEACHER and self.embedding_of(tower) is self.embedding:
                stop = self.students[tower].objective.stop_gradient.embedding
                if stop and not self.owns_embedding(tower):
                    inputs = [tf.stop_gradient(one) for one in inputs]
                if self._public is not None:
                    inputs = [tf.gather(one, self._public, axis=1) for one in inputs]
            vectors, linear = inputs if len(inputs) > 1 else (inputs[0], None)
            outputs[tower] = network(vectors, linear, step, training=training)
        return outputs

    def tower_losses(
        self, outputs: Mapping[str, TowerOutput], labels: tf.Tensor, weights: tf.Tensor
    ) -> dict[str, dict[str, tf.Tensor]]:
        """Scalar losses by tower and name; `total` is what the tower minimises.

        Args:
            outputs: of `forward`, the teacher's among them where a student listens to it.
            labels: `(batch_size,)`.
            weights: `(batch_size,)`.
        """
        teacher = outputs.get(TEACHER)
        losses: dict[str, dict[str, tf.Tensor]] = {}
        for name, output in outputs.items():
            if name == TEACHER:
                # tfrs.tasks.Ranking divides by the batch size; weight 0 must equal dropping the
                # example.
                of_labels = weighted_mean(label_loss(labels, output.logits), weights)
                losses[name] = {"label_loss": of_labels, "total": of_labels}
                continue
            student = self.students[name]
            hints = [] if teacher is None else [
                (project(output.hidden[mine]), teacher.hidden[theirs])
                for project, (theirs, mine) in zip(
                    student.projections, student.objective.hints, strict=False
                )
            ]
            losses[name] = dict(
                student.objective.losses(
                    labels=labels, weights=weights, student_logits=output.logits,
                    teacher_logits=None if teacher is None else teacher.logits, hints=hints,
                )
            )
        return losses

    def asked(self, towers: Sequence[str]) -> list[str]:
        """The towers that must answer where the named ones learn: those, and whom they hear."""
        hears = any(tower != TEACHER and self.students[tower].objective.distills
                    for tower in towers)
        return list(dict.fromkeys([*([TEACHER] if hears else []), *towers]))

    def train_step(self, inputs: object) -> dict[str, tf.Tensor]:
        """Refuse `fit`: it knows one optimizer, and would leave tables and students as they are.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("DualDNN trains with dualdnn.training.trainer.Trainer, not with "
                                  "fit, which would train the teacher's dense layers alone.")

    def compute_loss(self, inputs: tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor],
                     training: bool = False) -> tf.Tensor:
        """The sum of every tower's total, as tensorflow-recommenders asks for it.

        Args:
            inputs: rows `(batch_size, width)`, floats `(batch_size, dense_width)`, labels and
                weights `(batch_size,)`.
            training: whether to drop.
        """
        rows, dense, labels, weights = inputs
        outputs = self.forward(self.lookup(rows, dense), tf.constant(0, tf.int64),
                               training=training)
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
