"""The dual DNN: one teacher and any number of students, trained in one pass."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras as keras

from dualdnn.distillation.objective import Objective
from dualdnn.errors import ConfigError
from dualdnn.layers.embedding import EmbeddingTable
from dualdnn.layers.embedding_reader import EmbeddingReader
from dualdnn.layers.hint import HintProjection
from dualdnn.layers.shared_embedding import SharedEmbedding
from dualdnn.models.student import Student
from dualdnn.models.teacher import Teacher
from dualdnn.models.teacher_pool import TeacherPool
from dualdnn.models.towers import TowerInput, TowerOutput, side_by_side, tower_input
from dualdnn.schema import Field

TEACHER = "teacher"
# Name of the embedding that the teacher trains. Others have the name of their tower.
SHARED_EMBEDDING = "shared"


@dataclass(frozen=True, kw_only=True)
class StudentTower:
    """One student and how it is taught.

    Attributes:
        network: the light network, or a baseline of the teacher's form; its name is the tower's.
        embedding: the shared one, or its own where it trains alone.
        objective: what it learns from.
        projections: one per pair of `objective.hints`, where hints are used.
        extra: an embedding that it learns itself, of some fields; it reads these there, and the
            others in `embedding`.
        after_teacher: starts when the teacher has finished, instead of together with it.
    """

    network: Student | Teacher
    embedding: SharedEmbedding
    objective: Objective
    projections: Sequence[HintProjection] = field(default=())
    extra: SharedEmbedding | None = None
    after_teacher: bool = False

    @property
    def embeddings(self) -> list[SharedEmbedding]:
        """All that it reads, in the order of its input."""
        return [self.embedding] if self.extra is None else [self.embedding, self.extra]

    def fields_of(self, embedding: SharedEmbedding) -> list[Field]:
        """The fields that it reads of one of its embeddings, in the order of its input."""
        if embedding is self.extra:
            return list(embedding.fields)
        extra = () if self.extra is None else self.extra.fields
        return [one for one in embedding.fields if not one.privileged and one not in extra]

    @property
    def name(self) -> str:
        """Name of the tower."""
        return self.network.name

    def moves(self, embedding: SharedEmbedding) -> bool:
        """Do its losses reach the shared embedding or the teacher?"""
        stop = self.objective.stop_gradient
        through_input = self.embedding is embedding and not stop.embedding
        return through_input or (self.objective.distills and not stop.teacher)

    @property
    def consolidation(self) -> Objective | None:
        """What it goes on to learn from once the teacher has finished; None for nothing.

        That is for students that learned while the teacher moved: those that start later have
        listened to nothing but the finished teacher.
        """
        if self.after_teacher or self.moves(self.embedding):
            return None
        return self.objective.consolidated()


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
        self, *, embedding: SharedEmbedding, teacher: Teacher | TeacherPool,
        students: Sequence[StudentTower] = (), owner: str = TEACHER,
        teacher_embeddings: Sequence[SharedEmbedding] = (),
    ) -> None:
        """Join the towers.

        Args:
            embedding: the shared one. Students do not read its privileged fields.
            teacher: reads `embedding`, and trains it unless a student owns it.
            students: their names must differ.
            owner: the teacher, or a student that reads `embedding` and learns from labels alone.
            teacher_embeddings: more that the teacher alone reads and trains.

        Raises:
            ConfigError: two towers, embeddings or tables share a name, a student's projections do
                not fit its hints, the owner reads another embedding or listens to the teacher, or
                the towers of a pool do not read every embedding of the teacher.
        """
        super().__init__(name="dual_dnn")
        names = [TEACHER, *(student.name for student in students)]
        if len(set(names)) != len(names):
            raise ConfigError(f"towers must have different names, got {', '.join(names)}. "
                              "Rename a student.")
        for student in students:
            _check_projections(student, teacher)
            if student.after_teacher and student.moves(embedding):
                raise ConfigError(f"student {student.name} starts when the teacher has finished, "
                                  "so that its losses cannot move it. Leave its stop-gradients on.")
        if isinstance(teacher, TeacherPool):
            read = {one.embedding for one in teacher.towers.values()}
            if read != set(range(1 + len(teacher_embeddings))):
                raise ConfigError(f"the towers of the pool read embeddings {sorted(read)}, but the "
                                  f"teacher has {1 + len(teacher_embeddings)}, counted from 0.")
        self.embedding = embedding
        self.teacher = teacher
        self.students = {student.name: student for student in students}
        self.teacher_embeddings = list(teacher_embeddings)
        self.owner = owner
        if owner != TEACHER:
            heir = self.students.get(owner)
            if heir is None or heir.embedding is not embedding or heir.objective.distills:
                raise ConfigError(f"owner must be a student that reads the shared embedding and "
                                  f"learns from labels alone, got {owner!r}.")
        _check_names(self.embeddings(self.towers))
        self._readers = {one.name: one.reader() for one in self.embeddings(self.towers)}
        self._places = {(tower, one.name): self._places_of(tower, one)
                        for tower in self.towers for one in self.embeddings_of(tower)}
        self._build()

    def _places_of(self, tower: str, embedding: SharedEmbedding) -> list[int] | None:
        """Where the fields that a tower reads stand in an embedding; None for all of them."""
        places = [embedding.fields.index(one) for one in self.fields_of(tower, embedding)]
        return None if places == list(range(len(embedding.fields))) else places

    def _build(self) -> None:
        """Create every variable before anything is traced or restored."""
        schema = self.embedding.schema
        pooled = self.lookup(tf.zeros((1, schema.width), tf.int32),
                             tf.zeros((1, schema.dense_width)))
        outputs = self.forward(pooled, tf.constant(0, tf.int64),
                               scores=tf.zeros((1, len(self.scored))))
        self.tower_losses(outputs, tf.zeros(1), tf.ones(1))

    @property
    def scored(self) -> list[str]:
        """Members of a pool of teachers whose logits are given with every batch."""
        return list(self.teacher.scored) if isinstance(self.teacher, TeacherPool) else []

    @property
    def members(self) -> list[str]:
        """Members of a pool of teachers, in the order of the columns of its gate; else none."""
        return list(self.teacher.members) if isinstance(self.teacher, TeacherPool) else []

    @property
    def towers(self) -> list[str]:
        """Names of all towers, the teacher first."""
        return [TEACHER, *self.students]

    def embeddings_of(self, tower: str) -> list[SharedEmbedding]:
        """The embeddings that a tower reads, in the order of its input."""
        if tower == TEACHER:
            return [self.embedding, *self.teacher_embeddings]
        return self.students[tower].embeddings

    def embeddings(self, towers: Sequence[str]) -> list[SharedEmbedding]:
        """The embeddings that the named towers read, each once."""
        return list({id(e): e for tower in towers for e in self.embeddings_of(tower)}.values())

    def owned_embeddings(self, tower: str) -> list[SharedEmbedding]:
        """The embeddings that learn from this tower."""
        return [one for one in self.embeddings_of(tower)
                if tower == self.owner or one is not self.embedding]

    def reads_shared(self, tower: str) -> bool:
        """Does it read the shared embedding?"""
        return any(one is self.embedding for one in self.embeddings_of(tower))

    def fields_of(self, tower: str, embedding: SharedEmbedding) -> list[Field]:
        """The fields that a tower reads of one of its embeddings, in the order of its input."""
        if tower == TEACHER:
            return list(embedding.fields)
        return self.students[tower].fields_of(embedding)

    def tables(self, towers: Sequence[str]) -> list[EmbeddingTable]:
        """The tables that learn, of all embeddings that the named towers read, each once."""
        return [table for embedding in self.embeddings(towers)
                for table in embedding.trained_tables]

    def reader(self, embedding: SharedEmbedding) -> EmbeddingReader:
        """The reader of inputs that hold all fields."""
        return self._readers[embedding.name]

    def readers_of(self, tower: str) -> list[EmbeddingReader]:
        """What a tower is served with, of each of its embeddings; a student's inputs are public."""
        return [one.reader(self.fields_of(tower, one), served=tower != TEACHER)
                for one in self.embeddings_of(tower)]

    def network_variables(self, tower: str) -> list[tf.Variable]:
        """Trainable variables of a tower beside its embedding; of a student, projections too."""
        if tower == TEACHER:
            return self.teacher.trainable_variables
        student = self.students[tower]
        layers: list[keras.layers.Layer] = [student.network, *student.projections]
        return [variable for layer in layers for variable in layer.trainable_variables]

    def dense_variables(self, tower: str) -> list[tf.Variable]:
        """What the tower's dense optimizer changes: its network, and matrices of its embedding."""
        matrices = [matrix for embedding in self.owned_embeddings(tower)
                    for matrix in embedding.dense_variables()]
        return [*self.network_variables(tower), *matrices]

    def learning_apart(self, tower: str) -> list[tuple[list[tf.Variable], list[SharedEmbedding]]]:
        """Networks of a tower and the embeddings that they train, whose gradients are apart."""
        if tower == TEACHER and isinstance(self.teacher, TeacherPool):
            embeddings, owned = self.embeddings_of(tower), self.owned_embeddings(tower)
            return [(variables, [embeddings[i] for i in places if embeddings[i] in owned])
                    for variables, places in self.teacher.learning_apart()]
        return [(self.network_variables(tower), self.owned_embeddings(tower))]

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
        training: Collection[str] = (),
        scores: tf.Tensor | None = None,
    ) -> dict[str, TowerOutput]:
        """Score a batch with every tower, or with the named ones and the teacher.

        Args:
            pooled: of `lookup`.
            step: scalar int64, for dropout.
            towers: names; None for all.
            training: those that drop units; a teacher that has finished teaches without.
            scores: `(batch_size, members)` logits of `scored`; None where there are none.
        """
        outputs = {}
        for tower in self.towers if towers is None else towers:
            inputs = [tower_input(self._input(tower, one, pooled[one.name]))
                      for one in self.embeddings_of(tower)]
            outputs[tower] = self.answer(tower, inputs, step, training=tower in training,
                                         scores=scores)
        return outputs

    def _input(self, tower: str, embedding: SharedEmbedding,
               pooled: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """What a tower gets of an embedding: its fields, cut off where it may not train them."""
        inputs = list(pooled)
        if (tower not in (TEACHER, self.owner) and embedding is self.embedding
                and self.students[tower].objective.stop_gradient.embedding):
            inputs = [tf.stop_gradient(one) for one in inputs]
        places = self._places[tower, embedding.name]
        return inputs if places is None else [tf.gather(one, places, axis=1) for one in inputs]

    def answer(self, tower: str, inputs: Sequence[TowerInput], step: tf.Tensor,
               training: bool = False, scores: tf.Tensor | None = None) -> TowerOutput:
        """Score a batch with one tower.

        Args:
            tower: its name.
            inputs: of each of its embeddings, in their order, the fields that it reads.
            step: scalar int64, for dropout.
            training: whether to drop.
            scores: see `forward`.
        """
        if tower == TEACHER:
            return self.teacher.answer(inputs, scores, step, training=training)
        vectors, linear = side_by_side(inputs)
        return self.students[tower].network(vectors, linear, step, training=training)

    def objective_of(self, student: str, consolidating: Collection[str] = ()) -> Objective:
        """What a student learns from now; those of `consolidating` from logits alone."""
        found = self.students[student]
        consolidation = found.consolidation if student in consolidating else None
        return consolidation or found.objective

    def tower_losses(
        self, outputs: Mapping[str, TowerOutput], labels: tf.Tensor, weights: tf.Tensor,
        *, consolidating: Collection[str] = (),
        now: Mapping[str, Mapping[str, tf.Tensor]] | None = None,
    ) -> dict[str, dict[str, tf.Tensor]]:
        """Scalar losses by tower and name; `total` is what the tower minimises.

        Args:
            outputs: of `forward`, the teacher's among them where a student listens to it.
            labels: `(batch_size,)`.
            weights: `(batch_size,)`.
            consolidating: students that learn from the teacher's logits alone.
            now: by student the scheduled values of this step; without them those that the
                schedules are factors of.
        """
        teacher = outputs.get(TEACHER)
        losses: dict[str, dict[str, tf.Tensor]] = {}
        for name, output in outputs.items():
            if name == TEACHER:
                losses[name] = self.teacher.losses(output, labels, weights)
                continue
            objective = self.objective_of(name, consolidating)
            hints = [] if teacher is None else [
                (project(output.hidden[mine]), teacher.hidden[theirs])
                for project, (theirs, mine) in zip(
                    self.students[name].projections, objective.hints, strict=False
                )
            ]
            losses[name] = dict(
                objective.losses(
                    labels=labels, weights=weights, student_logits=output.logits,
                    teacher_logits=None if teacher is None else teacher.logits, hints=hints,
                    now=(now or {}).get(name),
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
                               training=self.towers if training else ())
        losses = self.tower_losses(outputs, labels, weights)
        return tf.add_n([losses[tower]["total"] for tower in losses])


def _check_names(embeddings: Sequence[SharedEmbedding]) -> None:
    """Else readers, optimizers and best weights, all by name, would be those of another one."""
    tables = [table.name for one in embeddings for table in one.tables.values()]
    for what, names in (("embeddings", [one.name for one in embeddings]), ("tables", tables)):
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ConfigError(f"{what} must have different names, got {', '.join(twice)} twice. An "
                              "embedding is named as the student that trains it, and its tables "
                              "EMBEDDING or EMBEDDING_TABLE. Rename a student.")


def _check_projections(student: StudentTower, teacher: Teacher | TeacherPool) -> None:
    """Else a missing projection would drop its hint, and one unit would be spread over all."""
    objective = student.objective
    hints = objective.hints if objective.hint_weight else ()
    wanted = [teacher.mlp.dense[theirs].units for theirs, _ in hints]
    given = [projection.dense.units for projection in student.projections]
    if given != wanted:
        raise ConfigError(f"student {student.name} needs projections to {wanted} units, one a hint "
                          f"in use and as wide as the teacher's layer, got {given}.")
