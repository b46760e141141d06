"""Pools of tiny teachers on the feed of `tiny_run`."""

import dualdnn  # noqa: F401, I001  (first: it selects the Keras API)

from dualdnn.layers.cross import CrossNetwork
from dualdnn.layers.fm import FactorizationMachine
from dualdnn.models.dual_dnn import DualDNN
from dualdnn.models.student import Student
from dualdnn.models.dual_dnn import StudentTower
from dualdnn.models.teacher import Teacher
from dualdnn.models.teacher_pool import PoolTower, TeacherPool
from dualdnn.distillation.objective import Objective
from tests.tiny_run import embedding_for

HIDDEN = {"cross": [8, 4], "fm": [6], "own": [5, 3]}


def network_of(name, *, dropout=0.2):
    """The tower `cross`, `fm` or `own` of a pool."""
    layers = {"cross": lambda: [CrossNetwork(num_layers=1, seed=3, name=f"teacher.{name}_cross")],
              "fm": lambda: [FactorizationMachine(seed=3, name=f"teacher.{name}_fm")],
              "own": list}
    return Teacher(interactions=layers[name](), hidden_units=HIDDEN[name], dropout=dropout, seed=3,
                   name=f"teacher.{name}")


def pool_of(names, *, dropout=0.2, **options):
    """A pool whose tower `own` reads a second embedding."""
    return TeacherPool(towers={
        name: PoolTower(network=network_of(name, dropout=dropout), embedding=int(name == "own"))
        for name in names}, **options)


def pooled_model(examples, names=("cross", "fm"), *, dropout=0.2, students=(), **options):
    """A pool of teachers on a new embedding, with a student an objective."""
    shared = embedding_for(examples, "shared", linear=True, privileged=True)
    own = [embedding_for(examples, "teacher.own", linear=True, privileged=True)]
    return DualDNN(
        embedding=shared, teacher=pool_of(names, dropout=dropout, **options),
        teacher_embeddings=own if "own" in names else [],
        students=[StudentTower(network=Student(hidden_units=[6], seed=3, name=f"s{i}"),
                               embedding=shared, objective=objective)
                  for i, objective in enumerate(students)],
    )


SOFT = Objective(soft_label_weight=1.0)
