import dualdnn  # noqa: F401, I001  (first: it selects the Keras API)

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from dualdnn.data.examples import TrainingSize
from dualdnn.distillation.objective import Objective, StopGradient
from dualdnn.layers.cross import CrossNetwork
from dualdnn.models.dual_dnn import TEACHER, DualDNN
from dualdnn.models.teacher import Teacher
from dualdnn.training.settings import DenseOptimizerSettings
from dualdnn.training.table_optimizer import TableOptimizerSettings
from dualdnn.training.train_step import TrainStep
from dualdnn.training.warm_start import warm_start
from tests.tiny_run import EVERYTHING, build_model, embedding_for, open_tiny, weights_of


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    return open_tiny(tmp_path_factory.mktemp("feed"))


def step_for(model, *, clip_norm=None, learning_rate=0.01, l2=1.0, mean_weight=1.0):
    table = TableOptimizerSettings(method="adam", learning_rate=0.02, l2=l2)
    return TrainStep(
        model=model, table_settings=table, size=TrainingSize(264, mean_weight),
        dense_settings={tower: DenseOptimizerSettings(learning_rate=learning_rate,
                                                      clip_norm=clip_norm)
                        for tower in model.towers},
    )


def run(train_step, examples, *, training=None, steps=range(1), weights=None):
    """Take the steps on 40 rows each; returns the losses and verdicts of the last."""
    for step in steps:
        batch = examples.batch(examples.split.train[40 * step : 40 * step + 40])
        if weights is not None:
            batch = batch._replace(weights=weights)
        done = train_step.run(training or train_step.model.towers, batch, step)
    return done


def assert_equal(first, second):
    for mine, theirs in zip(first, second, strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.fixture(scope="module")
def teacher_alone(examples):
    model = build_model(examples, [])
    run(step_for(model, clip_norm=1.0), examples, steps=range(6))
    return weights_of(model, TEACHER)


@pytest.mark.parametrize("students", [1, 5])
def test_teacher_is_bit_identical_with_students(examples, teacher_alone, students):
    model = build_model(examples, [EVERYTHING] * students, alone=students > 1)
    run(step_for(model, clip_norm=1.0), examples, steps=range(6))
    assert_equal(weights_of(model, TEACHER), teacher_alone)


def test_the_update_of_a_tower_is_traced_once_for_all_sets_of_towers(examples, monkeypatch):
    traced = []
    update = TrainStep._update_if

    def noted(self, tower, *positional):
        traced.append(tower)
        return update(self, tower, *positional)

    monkeypatch.setattr(TrainStep, "_update_if", noted)
    train_step = step_for(build_model(examples, [EVERYTHING]))
    run(train_step, examples)
    run(train_step, examples, training=["s0"])
    assert traced == [TEACHER, "s0"]


@pytest.mark.parametrize("policy", [StopGradient(embedding=False), StopGradient(teacher=False)])
def test_without_its_stop_gradients_a_student_moves_the_teacher(examples, teacher_alone, policy):
    model = build_model(examples, [replace(EVERYTHING, stop_gradient=policy)])
    run(step_for(model, clip_norm=1.0), examples, steps=range(6))
    assert np.abs(weights_of(model, TEACHER)[-2] - teacher_alone[-2]).max() > 1e-4


@pytest.mark.parametrize("how", ["poisoned", "enormous learning rate"])
def test_a_student_that_diverges_keeps_its_weights_and_leaves_the_teacher_alone(
        examples, teacher_alone, how):
    model = build_model(examples, [EVERYTHING, Objective()])
    train_step = step_for(model, clip_norm=1.0)
    if how == "poisoned":
        model.students["s0"].network.output_layer.bias.assign([np.nan])
    else:
        train_step.dense_optimizers["s0"].learning_rate = 1e38
    verdicts = [run(train_step, examples, steps=[step])[1].numpy() for step in range(6)]
    assert [v[0] for v in verdicts] == [True] * 6
    assert [v[2] for v in verdicts] == [True] * 6
    assert not verdicts[-1][1]
    assert_equal(weights_of(model, TEACHER), teacher_alone)
    frozen = weights_of(model, "s0")[:2]
    run(train_step, examples, steps=[5])
    assert_equal(weights_of(model, "s0")[:2], frozen)


def test_a_teacher_that_diverges_keeps_its_weights_and_its_table(examples):
    model = build_model(examples, [])
    train_step = step_for(model)
    run(train_step, examples)
    model.teacher.output_layer.bias.assign([np.inf])
    before, steps = weights_of(model, TEACHER), train_step.table_optimizers["shared"].steps.numpy()
    _, finite = run(train_step, examples, steps=[1])
    assert finite.numpy().tolist() == [False]
    assert_equal(weights_of(model, TEACHER), before)
    assert train_step.table_optimizers["shared"].steps.numpy() == steps


def test_the_table_rests_with_its_tower(examples):
    model = build_model(examples, [EVERYTHING], alone=True)
    train_step = step_for(model)
    run(train_step, examples)
    before = {tower: weights_of(model, tower) for tower in model.towers}
    run(train_step, examples, training=["s0"], steps=[1])
    for tower in (TEACHER, "alone"):
        assert_equal(weights_of(model, tower), before[tower])
    assert np.any(weights_of(model, "s0")[0] != before["s0"][0])
    assert train_step.table_optimizers["shared"].steps.numpy() == 1


def gradients_of(train_step, tower):
    """After one first step: Adam's first moment is 0.1 times the gradient."""
    model = train_step.model
    moments = train_step.dense_optimizers[tower].variables[1::2]  # after the count of steps
    dense = [moment.numpy() / 0.1 for moment in moments]
    assert [m.shape for m in dense] == [v.shape for v in model.dense_variables(tower)]
    table = train_step.table_optimizers[model.embeddings_of(tower)[0].name]
    return dense, [slots[0].numpy() / 0.1 for slots in table.slots]


def test_gradients_equal_those_of_a_plain_tape(examples):
    model = build_model(examples, [EVERYTHING], dropout=0.0)
    rows, dense, labels, weights = map(tf.constant, examples.batch(examples.split.train[:40]))
    watched = {tower: model.dense_variables(tower) for tower in model.towers}
    with tf.GradientTape() as tape:
        outputs = model.forward(model.lookup(rows, dense), tf.constant(0, tf.int64))
        losses = model.tower_losses(outputs, labels, weights)
        total = losses[TEACHER]["total"] + losses["s0"]["total"]
    dense, table = tape.gradient(total, (watched, model.embedding.tables["main"].columns()))
    train_step = step_for(model)
    run(train_step, examples)
    for tower in model.towers:
        for mine, expected in zip(gradients_of(train_step, tower)[0], dense[tower], strict=True):
            np.testing.assert_allclose(mine, expected, rtol=1e-3, atol=1e-6)
    # A row of several cells gets the sum over them, a row that is not in the batch nothing.
    for mine, expected in zip(gradients_of(train_step, TEACHER)[1], table, strict=True):
        np.testing.assert_allclose(mine, tf.convert_to_tensor(expected), rtol=1e-3, atol=1e-6)


def test_one_global_norm_a_tower_bounds_its_gradients_table_included(examples):
    free, clipped = (step_for(build_model(examples, [EVERYTHING]), clip_norm=c)
                     for c in (None, 0.01))
    for train_step in (free, clipped):
        run(train_step, examples)

    def flat(train_step, tower):
        dense, table = gradients_of(train_step, tower)
        return np.concatenate([g.ravel() for g in dense + (table if tower == TEACHER else [])])

    for tower in (TEACHER, "s0"):
        before, after = flat(free, tower), flat(clipped, tower)
        assert np.linalg.norm(before) > 0.02
        np.testing.assert_allclose(after, before * 0.01 / np.linalg.norm(before), rtol=1e-3,
                                   atol=1e-8)


def test_weight_zero_equals_dropping_the_row(examples):
    index = examples.split.train[:40]
    masked, dropped = (build_model(examples, [EVERYTHING], dropout=0.0, alone=True)
                       for _ in range(2))
    for model, kept in ((masked, slice(None)), (dropped, slice(30))):
        batch = examples.batch(index[kept])
        batch.weights[30:] = 0
        train_step = step_for(model)
        train_step.run(model.towers, batch, 0)
        for optimizer in train_step.table_optimizers.values():
            optimizer.catch_up()
    for tower in masked.towers:
        for mine, theirs in zip(weights_of(masked, tower), weights_of(dropped, tower),
                                strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-5)


def test_weights_count_by_their_mean_over_the_training_part(examples):
    """Eight times all weights teach the same; eight times those of one batch teach more."""
    weights = np.linspace(0.5, 1.5, 40).astype(np.float32)
    found = {}
    for name, times, mean in (("plain", 1, 1.0), ("scaled", 8, 8.0), ("heavy", 8, 1.0)):
        model = build_model(examples, [EVERYTHING], dropout=0.0)
        found[name] = run(step_for(model, mean_weight=mean), examples, weights=weights * times)[0]
        found[f"{name} weights"] = weights_of(model, TEACHER)
    assert_equal(found["plain weights"], found["scaled weights"])
    for tower, losses in found["plain"].items():
        for name, value in losses.items():
            assert float(found["scaled"][tower][name]) == float(value)
            assert float(found["heavy"][tower][name]) == pytest.approx(8 * float(value), rel=1e-5)


def test_a_batch_without_weight_teaches_nothing(examples):
    model = build_model(examples, [EVERYTHING])
    before = {tower: weights_of(model, tower) for tower in model.towers}
    _, finite = run(step_for(model, l2=0.0), examples, weights=np.zeros(40, np.float32))
    assert finite.numpy().all()
    for tower in model.towers:
        assert_equal(weights_of(model, tower), before[tower])


class Nameless(keras.layers.Layer):
    """Holds layers that nobody has named, and one whose name has a number."""

    def __init__(self, *, seed, name):
        super().__init__(name=name)
        self.dense = [keras.layers.Dense(3, activation="PReLU"), keras.layers.Dense(3),
                      keras.layers.Dense(2, name="hop_2")]

    def call(self, inputs):
        value = tf.reshape(inputs, (-1, inputs.shape[1] * inputs.shape[2]))
        for layer in self.dense:
            value = layer(value)
        return value


def test_names_do_not_tell_what_else_is_in_the_process(examples):
    def train_step():
        teacher = Teacher(interactions=[
            Nameless(seed=3, name="teacher_a"), Nameless(seed=3, name="teacher_b"),
            CrossNetwork(num_layers=2, seed=3, name="teacher_cross")],
            hidden_units=[8, 4], activation="PReLU", seed=3)
        return step_for(DualDNN(embedding=embedding_for(examples, "shared"), teacher=teacher))

    first, second = train_step(), train_step()
    of_teacher = "tower/teacher/teacher/"
    layers = {name.removeprefix(of_teacher).rpartition("/")[0]
              for name in first.named_variables() if name.startswith(of_teacher)}
    # Those of cross networks and of layers that have a name are older than this rule.
    assert layers == {
        *(f"teacher_{one}/{layer}" for one in "ab"
          for layer in ("dense", "dense/p_re_lu", "dense_1", "hop_2")),
        "teacher_cross/cross_0/dense", "teacher_cross/cross_1/dense_1", "output",
        *(f"teacher_mlp/dense_{i}{layer}" for i in range(2) for layer in ("", "/p_re_lu"))}
    assert list(first.named_variables()) == list(second.named_variables())
    # A state of an earlier release has the numbers of its process.
    for variable in first._dense_variables():
        variable.assign(tf.ones_like(variable))
    earlier = {name: variable.numpy() for name, variable in first.named_variables().items()
               if name.startswith("table/")}
    earlier |= {f"tower/teacher/{variable.name.removesuffix(':0')}": variable.numpy()
                for variable in first._dense_variables()}
    taken = warm_start(second, earlier, old_schema=examples.schema,
                       old_row_map=examples.row_map, new_row_map=examples.row_map)
    assert {one.fate for one in taken} == {"copied"}
    for variable in second._dense_variables():
        assert np.all(variable.numpy() == 1), variable.name
