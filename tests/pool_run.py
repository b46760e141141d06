"""Pools of tiny teachers on the feed of `tiny_run`."""

import dualdnn  # noqa: F401, I001  (first: it selects the Keras API)

from dualdnn.layers.cross import CrossNetwork
from dualdnn.layers.fm import FactorizationMachine
from dualdnn.models.dual_dnn import DualDNN, StudentTower
from dualdnn.models.student import Student
from dualdnn.models.teacher import Teacher
from dualdnn.models.teacher_pool import PoolTower, TeacherPool
from tests.tiny_run import embedding_for

HIDDEN = {"cross": [8, 4], "fm": [6], "own": [5, 3]}


def network_of(name, *, dropout=0.2):
    """The tower `cross`, `fm` or `own` of a pool."""
    layers = {"cross": lambda: [CrossNetwork(num_layers=1, seed=3, name="teacher.cross_cross")],
              "fm": lambda: [FactorizationMachine(seed=3, name="teacher.fm_fm")],
              "own": list}
    return Teacher(interactions=layers[name](), hidden_units=HIDDEN[name], dropout=dropout, seed=3,
                   name=f"teacher.{name}")


def pool_of(names=("cross", "fm"), *, dropout=0.2, linear=True, **options):
    """A pool of untrained towers, of which `own` reads a second embedding."""
    return TeacherPool(towers={
        name: PoolTower(network=network_of(name, dropout=dropout), embedding=int(name == "own"),
                        linear=linear)
        for name in names}, **options)


def own_embedding(examples):
    """Of the tower `own`."""
    return embedding_for(examples, "teacher.own", linear=True, privileged=True)


def pooled_model(examples, names=("cross", "fm"), *, objectives=(), **options):
    """A pool of teachers, and a student on the shared embedding an objective."""
    shared = embedding_for(examples, "shared", linear=True, privileged=True)
    return DualDNN(
        embedding=shared, teacher=pool_of(names, **options),
        teacher_embeddings=[own_embedding(examples)] if "own" in names else [],
        students=[StudentTower(network=Student(hidden_units=[6], seed=3, name=f"s{i}"),
                               embedding=shared, objective=objective)
                  for i, objective in enumerate(objectives)],
    )
