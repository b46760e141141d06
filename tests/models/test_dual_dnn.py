import dualdnn  # noqa: F401, I001  (first: it selects the Keras API)

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from dualdnn.distillation.objective import Objective, StopGradient
from dualdnn.errors import ConfigError
from dualdnn.layers.cross import CrossNetwork
from dualdnn.layers.hint import HintProjection
from dualdnn.layers.shared_embedding import SharedEmbedding
from dualdnn.models.dual_dnn import TEACHER, DualDNN, StudentTower
from dualdnn.models.student import Student
from dualdnn.models.teacher import Teacher
from dualdnn.schema import Field, Schema

EVERYTHING = Objective(label_weight=0.5, soft_label_weight=1.0, temperature=2.0, logit_weight=0.1,
                       hint_weight=0.3, hints=((-1, -1), (0, 0)))
LABELS, WEIGHTS, STEP = tf.constant([1.0, 0.0, 1.0]), tf.ones(3), tf.constant(5, tf.int64)
ROWS = tf.constant([[4, 5, 0], [6, 7, 8], [4, 0, 7]])
NO_FLOATS = tf.zeros((3, 0))


SCHEMA = Schema(name="n", label="y", timestamp="t", fields=(
    Field(name="a", kind="id"), Field(name="b", kind="ids", max_length=2)))


def embedding_of(name, *, linear, schema=SCHEMA):
    return SharedEmbedding(schema=schema, table_rows=dict.fromkeys(schema.tables(), 9),
                           embedding_dim=3, initial_stddev=1.0, linear=linear, seed=1, name=name)


def student_of(objective, embedding, *, name="light", projections=(4, 6)):
    return StudentTower(
        network=Student(hidden_units=[5], seed=1, name=name), embedding=embedding,
        objective=objective,
        projections=[HintProjection(teacher_units=units, seed=1, name=f"{name}_hint_{i}")
                     for i, units in enumerate(projections)],
    )


def model_of(objective=EVERYTHING, *, alone=False, dropout=0.0):
    embedding = embedding_of("shared", linear=True)
    teacher = Teacher(interactions=[CrossNetwork(num_layers=1, seed=1, name="cross")],
                      hidden_units=[6, 4], dropout=dropout, seed=1)
    students = [student_of(objective, embedding,
                           projections=(4, 6) if objective.hint_weight else ())]
    if alone:
        students.append(student_of(Objective(), embedding_of("alone", linear=False), name="alone",
                                   projections=()))
    model = DualDNN(embedding=embedding, teacher=teacher, students=students)
    linear = embedding.tables["main"].linear
    linear.assign_add(tf.reshape(tf.range(9.0) / 9, (9, 1)))
    return model


def losses_of(model, towers=None):
    outputs = model.forward(model.lookup(ROWS), STEP, towers, training=model.towers)
    return model.tower_losses(outputs, LABELS, WEIGHTS)


def touched(model, *, loss_of):
    """Names of the towers and tables that the loss of one tower has a gradient for."""
    groups = {tower: model.dense_variables(tower) for tower in model.towers}
    groups |= {f"table {t.name}": t.columns() for t in model.tables(model.towers)}
    with tf.GradientTape() as tape:
        total = losses_of(model)[loss_of]["total"]
    gradients = tape.gradient(total, groups)
    return {name for name, found in gradients.items()
            if any(g is not None and np.any(tf.convert_to_tensor(g)) for g in found)}


@pytest.mark.parametrize(("embedding", "teacher", "reached"), [
    (True, True, {"light"}),
    (False, True, {"light", "table shared"}),
    # Soft labels and hints reach the table through the teacher's outputs as well.
    (True, False, {"light", "teacher", "table shared"}),
    (False, False, {"light", "teacher", "table shared"}),
])
def test_each_stop_gradient_policy(embedding, teacher, reached):
    policy = StopGradient(embedding=embedding, teacher=teacher)
    model = model_of(replace(EVERYTHING, stop_gradient=policy))
    assert touched(model, loss_of="light") == reached
    assert touched(model, loss_of=TEACHER) == {"teacher", "table shared"}


def test_a_student_with_its_own_table_trains_it_and_nothing_else():
    model = model_of(alone=True)
    assert touched(model, loss_of="alone") == {"alone", "table alone"}
    assert model.towers == [TEACHER, "light", "alone"]
    assert [t.name for t in model.tables(model.towers)] == ["shared", "alone"]
    assert [t.name for t in model.tables(["light", TEACHER])] == ["shared"]


def test_a_student_without_labels_or_teacher_ignores_them():
    model = model_of(Objective(label_weight=0.0, soft_label_weight=1.0))
    outputs = model.forward(model.lookup(ROWS), STEP)
    either = [float(model.tower_losses(outputs, labels, WEIGHTS)["light"]["total"])
              for labels in (LABELS, 1 - LABELS)]
    assert either[0] == either[1]
    model = model_of(Objective())
    before = float(losses_of(model)["light"]["total"])
    model.teacher.output_layer.bias.assign([3.0])
    assert float(losses_of(model)["light"]["total"]) == before


def test_teacher_is_linear_part_plus_cross_and_mlp():
    model = model_of()
    shared, linear = model.lookup(ROWS)["shared"]
    with_linear = model.teacher(shared, linear, STEP).logits
    without = model.teacher(shared, None, STEP).logits
    np.testing.assert_allclose(with_linear - without, tf.reduce_sum(linear, (1, 2)), atol=1e-6)
    kernel, bias = (v.numpy() for v in model.teacher.output_layer.weights)
    # 6 crossed floats and the last hidden layer.
    assert kernel.shape == (6 + 4, 1)
    crossed = model.teacher.interactions[0](shared).numpy()
    hidden = model.teacher(shared, None, STEP).hidden[-1].numpy()
    expected = np.concatenate([crossed, hidden], axis=1) @ kernel + bias
    np.testing.assert_allclose(without, expected[:, 0], atol=1e-5)


@pytest.mark.parametrize(("option", "value"), [
    ("label_weight", 2.0), ("temperature", 5.0), ("hint_weight", 1.0), ("logit_weight", 1.0),
])
def test_objectives_reach_the_loss(option, value):
    changed = losses_of(model_of(replace(EVERYTHING, **{option: value})))["light"]["total"]
    assert float(changed) != pytest.approx(float(losses_of(model_of())["light"]["total"]),
                                           rel=1e-3)


def test_a_hint_compares_the_named_layers():
    model = model_of(Objective(hint_weight=1.0, hints=((1, 0), (0, -1))))
    outputs = model.forward(model.lookup(ROWS), STEP)
    mine, theirs = outputs["light"].hidden, outputs[TEACHER].hidden
    projections = model.students["light"].projections
    expected = [np.mean((projections[0](mine[0]) - theirs[1]) ** 2),
                np.mean((projections[1](mine[0]) - theirs[0]) ** 2)]
    assert float(losses_of(model)["light"]["hint_loss"]) == pytest.approx(np.mean(expected),
                                                                          rel=1e-5)


def test_only_the_named_towers_are_scored():
    model = model_of(alone=True)
    assert list(model.forward(model.lookup(ROWS), STEP, ["alone"])) == ["alone"]


def test_dropout_of_the_teacher_follows_the_step_alone():
    model = model_of(dropout=0.5)
    pooled = model.lookup(ROWS)
    first, again, later, off = (
        model.forward(pooled, tf.constant(step, tf.int64),
                      training=[TEACHER] if training else [])[TEACHER].logits
        for step, training in ((1, True), (1, True), (2, True), (1, False)))
    np.testing.assert_array_equal(first, again)
    assert np.any(first != later)
    assert np.any(first != off)


def test_a_teacher_that_has_finished_teaches_without_dropout():
    model = model_of(dropout=0.5)
    pooled = model.lookup(ROWS)
    rested = model.forward(pooled, STEP, training=["light"])
    scored = model.forward(pooled, STEP)
    np.testing.assert_array_equal(rested[TEACHER].logits, scored[TEACHER].logits)


def test_initial_weights_do_not_depend_on_what_else_is_in_the_model():
    lonely = model_of(Objective())
    crowded = model_of(EVERYTHING, alone=True)
    for tower in (TEACHER, "light"):
        for mine, theirs in zip(lonely.dense_variables(tower), crowded.dense_variables(tower),
                                strict=False):
            np.testing.assert_array_equal(mine, theirs)


def test_compute_loss_is_the_sum_of_the_totals():
    model = model_of(alone=True)
    totals = [float(one["total"]) for one in losses_of(model).values()]
    whole = model.compute_loss((ROWS, NO_FLOATS, LABELS, WEIGHTS))
    assert float(whole) == pytest.approx(sum(totals))


def test_towers_of_one_name_are_refused():
    embedding = embedding_of("shared", linear=False)
    teacher = Teacher(interactions=[], hidden_units=[4], seed=1)
    for names in (("a", "a"), (TEACHER, "a")):
        students = [student_of(Objective(), embedding, name=name, projections=()) for name in names]
        with pytest.raises(ConfigError, match="towers must have different names, got teacher, "):
            DualDNN(embedding=embedding, teacher=teacher, students=students)


@pytest.mark.parametrize(("of_students", "message"), [
    (["shared"], "embeddings must have different names, got shared twice"),
    (["a", "a"], "embeddings must have different names, got a twice"),
    (["a", "a_size2"], "tables must have different names, got a_size2 twice"),
])
def test_embeddings_and_tables_of_one_name_are_refused(of_students, message):
    schema = replace(SCHEMA, fields=(*SCHEMA.fields, Field(name="small", kind="id", size=2)))
    embedding, *own = (embedding_of(name, linear=False, schema=schema)
                       for name in ("shared", *of_students))
    students = [student_of(Objective(), one, name=f"s{i}", projections=())
                for i, one in enumerate(own)]
    with pytest.raises(ConfigError, match=message):
        DualDNN(embedding=embedding, students=students,
                teacher=Teacher(interactions=[], hidden_units=[4], seed=1))


@pytest.mark.parametrize("units", [(), (4,), (4, 1), (4, 6, 6)])
def test_projections_that_do_not_fit_the_hints_are_refused(units):
    embedding = embedding_of("shared", linear=False)
    teacher = Teacher(interactions=[], hidden_units=[6, 4], seed=1)
    student = student_of(EVERYTHING, embedding, projections=units)
    with pytest.raises(ConfigError, match=r"student light needs projections to \[4, 6\] units"):
        DualDNN(embedding=embedding, teacher=teacher, students=[student])


def test_fit_is_refused_because_it_would_train_a_part():
    model = model_of()
    model.compile(optimizer=keras.optimizers.Adam())
    data = tf.data.Dataset.from_tensor_slices((ROWS, NO_FLOATS, LABELS, WEIGHTS)).batch(3)
    with pytest.raises(NotImplementedError, match=r"trains with dualdnn\.training\.trainer"):
        model.fit(data, verbose=0)


def test_a_student_adds_the_frozen_first_order_weights():
    embedding = embedding_of("shared", linear=True)
    weights = tf.reshape(tf.range(9.0), (9, 1))
    embedding.tables["main"].linear.assign(weights)
    logits = {}
    for linear in (True, False):
        network = Student(hidden_units=[5], linear=linear, seed=1, name="light")
        teacher = Teacher(interactions=[CrossNetwork(num_layers=1, seed=1, name="cross")],
                          hidden_units=[4], seed=1)
        model = DualDNN(embedding=embedding, teacher=teacher, students=[
            StudentTower(network=network, embedding=embedding, objective=Objective())])
        logits[linear] = model.forward(model.lookup(ROWS), STEP, ["light"])["light"].logits
    # Row 4 and the mean of 5 and padding; 6 and the mean of 7 and 8; 4 and the mean of 0 and 7.
    np.testing.assert_allclose(logits[True] - logits[False], [4 + 5, 6 + 7.5, 4 + 7], rtol=1e-5)
