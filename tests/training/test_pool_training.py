"""Pools of teachers in training: what is apart stays apart, what is saved comes back."""

import dualdnn  # noqa: F401, I001  (first: it selects the Keras API)

import datetime
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from dualdnn.data.window import ChosenDays
from dualdnn.data.examples import open_examples
from dualdnn.data.lake import Lake
from dualdnn.distillation.objective import Objective
from dualdnn.errors import DataError
from dualdnn.export.student import serving_graph
from dualdnn.models.dual_dnn import TEACHER, DualDNN
from dualdnn.models.teacher_pool import PoolTower, TeacherPool
from dualdnn.training.learner import Learner, open_state
from dualdnn.training.measure import measure_members, score_with_best
from dualdnn.training.scoring import Scorer
from dualdnn.training.settings import TrainingSettings
from dualdnn.training.warm_start import COPIED, DROPPED, INITIALISED, PARTLY, warm_start
from tests.pool_run import network_of, own_embedding, pooled_model
from tests.tiny_run import SCHEMA, anew, build_trainer, embedding_for, open_tiny, weights_of

ALL = ("cross", "fm", "own")
SOFT = Objective(soft_label_weight=1.0)
# So low that every part is scaled at every step.
CLIP = 0.01


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("feed")


@pytest.fixture(scope="module")
def examples(place):
    return open_tiny(place)


def trained(examples, model, folder, **options):
    trainer = build_trainer(examples, model, folder, clip_norm=CLIP, **options)
    trainer.run()
    return trainer


def towers_of(model):
    return {name: [value.numpy() for value in tower.network.trainable_variables]
            for name, tower in model.teacher.towers.items()}


def assert_same(first, second):
    assert len(first) == len(second) > 0
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.fixture(scope="module")
def learned(examples, tmp_path_factory):
    """A pool of three towers with a learned gate and a student that listens to it."""
    model = pooled_model(examples, ALL, learned_gate=True, objectives=[SOFT])
    return trained(examples, model, tmp_path_factory.mktemp("learned"))


def test_towers_are_the_same_with_either_gate_and_without_students(examples, learned, tmp_path):
    fixed = pooled_model(examples, ALL, weights={"cross": 1.0, "fm": 2.0, "own": 0.0})
    trained(examples, fixed, tmp_path)
    for name, weights in towers_of(fixed).items():
        assert_same(towers_of(learned.model)[name], weights)
    for mine, theirs in zip(fixed.embeddings([TEACHER]), learned.model.embeddings([TEACHER]),
                            strict=True):
        assert_same([v.numpy() for v in mine.trained_variables()],
                    [v.numpy() for v in theirs.trained_variables()])


def test_a_tower_with_its_own_embedding_is_the_teacher_it_would_be_alone(examples, learned,
                                                                          tmp_path):
    alone = DualDNN(embedding=own_embedding(examples), teacher=network_of("own"))
    trained(examples, alone, tmp_path)
    (embedding,) = learned.model.teacher_embeddings
    assert_same(weights_of(alone, TEACHER),
                [*towers_of(learned.model)["own"],
                 *(v.numpy() for v in embedding.trained_variables())])


def test_towers_on_the_shared_embedding_train_it_together(examples, learned, tmp_path):
    alone = pooled_model(examples, ("cross",))
    trained(examples, alone, tmp_path)
    table = alone.embedding.tables["main"].vectors
    assert np.any(table.numpy() != learned.model.embedding.tables["main"].vectors.numpy())


def test_the_gate_moves_and_its_shares_sum_to_one(examples, learned):
    rows = examples.split.valid
    members = Scorer(learned.model).members(examples.rows[rows], examples.dense[rows])
    shares = np.stack([share for _, share in members.values()])
    np.testing.assert_allclose(shares.sum(axis=0), np.ones(len(rows)), rtol=1e-6)
    assert np.abs(shares - 1 / 3).max() > 1e-3
    assert np.std(shares[0]) > 1e-5


def test_members_are_measured_and_their_losses_recorded(examples, learned):
    index = examples.split.test
    found = measure_members(learned.model, learned.best, examples, index)
    assert list(found) == list(ALL)
    assert sum(one["share"] for one in found.values()) == pytest.approx(1, rel=1e-5)
    assert all(0.4 < one["auc"] < 1 for one in found.values())
    logits = score_with_best(learned.model, learned.best, examples, index)[TEACHER]
    members = Scorer(learned.model).members(examples.rows[index], examples.dense[index])
    combined = sum(share * one for one, share in members.values())
    np.testing.assert_allclose(combined, logits, rtol=1e-4, atol=1e-6)
    recorded = {one["metric"] for one in learned.history if one["tower"] == TEACHER}
    assert {f"label_loss.{name}" for name in ALL} <= recorded


def test_the_graph_of_the_pool_answers_as_the_model(examples, learned):
    learned.best.load_into(learned.model, TEACHER)
    rows, dense = examples.rows[:30], examples.dense[:30]
    graph = serving_graph(learned.model, examples, TEACHER)
    np.testing.assert_allclose(graph.score(tf.constant(rows), tf.constant(dense)),
                               Scorer(learned.model)(rows, [TEACHER], dense)[TEACHER], atol=1e-6)


class Interrupt(Exception):
    """Ctrl-C."""


class Interrupter:
    def on_step(self, step, steps):
        if step == 7:
            raise Interrupt

    def on_record(self, record):
        pass


def given_scores(examples):
    """Logits of a finished model that knows the labels of half the rows."""
    rng = np.random.default_rng(5)
    known = rng.random(len(examples.labels)) < 0.5
    logits = np.where(known, 4 * examples.labels - 2, 0.0)
    return replace(examples, scores=logits.astype(np.float32)[:, None])


def test_an_interrupted_pool_ends_as_if_it_had_not_been(examples, tmp_path):
    scored = given_scores(examples)

    model = pooled_model(scored, ("cross", "own"), learned_gate=True, scored=["earlier"])
    whole = build_trainer(scored, model, tmp_path / "whole", clip_norm=CLIP)
    whole.run()
    expected = weights_of(model, TEACHER)
    with pytest.raises(Interrupt):
        anew(whole, tmp_path / "broken", listener=Interrupter()).run()
    again = anew(whole, tmp_path / "broken")
    assert again.resume()
    assert 0 < again.step < 7
    again.run()
    assert_same(expected, weights_of(model, TEACHER))
    # The gate has seen the right rows of the scores: it prefers who knows the answers.
    index = scored.split.test
    shares = measure_members(model, again.best, scored, index)
    assert shares["earlier"]["share"] > max(shares[name]["share"] for name in ("cross", "own"))
    np.testing.assert_array_equal(
        Scorer(model).members(scored.rows[index], scored.dense[index],
                                    scored.scores_at(index))["earlier"][0],
        scored.scores[index, 0])

    others = replace(scored, scores=scored.scores + 1)
    model = pooled_model(others, ("cross", "own"), learned_gate=True, scored=["earlier"])
    with pytest.raises(DataError, match="scores"):
        build_trainer(others, model, tmp_path / "broken", clip_norm=CLIP).resume()


def test_scores_that_the_teacher_lacks_are_refused(examples, tmp_path):
    model = pooled_model(examples, scored=["earlier"])
    with pytest.raises(ValueError, match=r"needs logits of \['earlier'\] for 44 rows, got"):
        build_trainer(examples, model, tmp_path).run()
    with pytest.raises(ValueError, match=r"needs logits of \[\] for 5 rows, got \(5, 1\)"):
        Scorer(pooled_model(examples))(examples.rows[:5], [TEACHER], examples.dense[:5],
                                       np.zeros((5, 1), np.float32))


def test_a_pool_goes_on_day_after_day(place, tmp_path):
    where = {"lake": Lake(place / "lake"), "schema": SCHEMA, "state": place / "state"}
    days = [datetime.date(2024, 1, n) for n in range(1, 5)]

    def window(*chosen):
        return ChosenDays(train=[days[i] for i in chosen])

    def learner_of(opened, names=ALL):
        model = pooled_model(opened, names, learned_gate=True, objectives=[SOFT])
        return Learner(build_trainer(opened, model, tmp_path).train_step, opened.row_map)

    settings = TrainingSettings(epochs=1, batch_size=48)
    opened = open_examples(**where, window=window(0, 1, 2))
    learner = learner_of(opened)
    learner.train(opened, settings, seed=1, folder=tmp_path / "train")
    before = towers_of(learner.model)
    (tmp_path / "saved").mkdir()
    learner.save(tmp_path / "saved", {})

    newest, growth = learner.open_newest(**where, window=window(3))
    learner.fine_tune(newest, growth, settings, seed=1, folder=tmp_path / "tune")
    assert all(any(np.any(a != b) for a, b in zip(before[name], weights, strict=True))
               for name, weights in towers_of(learner.model).items())

    stored = open_state(tmp_path / "saved")
    other = learner_of(opened)
    other.load(stored)
    for name, weights in towers_of(other.model).items():
        assert_same(before[name], weights)
    fresh = learner_of(opened)
    taken = warm_start(fresh.train_step, stored.arrays(), old_schema=SCHEMA,
                       old_row_map=stored.row_map, new_row_map=fresh.row_map,
                       old_members=stored.about["members"])
    assert {one.fate for one in taken if "average" not in one.name} == {COPIED}
    for name, weights in towers_of(fresh.model).items():
        assert_same(before[name], weights)
    with pytest.raises(DataError, match="is of a pool of cross, fm, own, expected own, fm, cross"):
        learner_of(opened, ALL[::-1]).load(stored)


def test_the_columns_of_a_gate_go_with_their_members(examples, learned, tmp_path):
    model = pooled_model(examples, ("own", "fm", "cross"), learned_gate=True, objectives=[SOFT])
    train_step = build_trainer(examples, model, tmp_path).train_step
    arrays = {name: one.numpy() for name, one in learned.train_step.named_variables().items()}

    def taken_from(*members):
        found = warm_start(train_step, arrays, old_schema=SCHEMA, old_row_map=examples.row_map,
                           new_row_map=examples.row_map, old_members=members)
        return {one.fate for one in found if "/gate/" in one.name}

    assert taken_from(*ALL) == {COPIED}
    was, now = (Scorer(one).members(examples.rows[:40], examples.dense[:40])
                for one in (learned.model, model))
    for name in ALL:
        np.testing.assert_allclose(now[name], was[name], atol=1e-6)
    # A slot moves too; the column of a member that has left is not that of who took its place.
    assert taken_from("cross", "left", "own") == {PARTLY}
    slot = "tower/teacher/v/teacher/gate/kernel"
    old, new = arrays[slot].T, train_step.named_variables()[slot].numpy().T
    np.testing.assert_array_equal(new, [old[2], np.zeros_like(old[1]), old[0]])


def test_a_tower_that_leaves_the_shared_embedding_takes_its_rows_along(examples, learned, tmp_path):
    """`fm` leaves it; `own` comes back to it, and starts anew rather than on strange vectors."""
    model = DualDNN(
        embedding=embedding_for(examples, "shared", linear=True, privileged=True),
        teacher_embeddings=[embedding_for(examples, "teacher.fm", linear=True, privileged=True)],
        teacher=TeacherPool(learned_gate=True, towers={
            name: PoolTower(network=network_of(name), embedding=int(name == "fm"))
            for name in ALL}))
    train_step = build_trainer(examples, model, tmp_path).train_step
    fresh = towers_of(model)
    arrays = {name: one.numpy() for name, one in learned.train_step.named_variables().items()}
    fates = {one.name: one.fate for one in warm_start(
        train_step, arrays, old_schema=SCHEMA, old_row_map=examples.row_map,
        new_row_map=examples.row_map, old_members=ALL)}
    # Slots, averages and clock too.
    of_fm = [name for name in fates if name.startswith("table/teacher.fm/")]
    assert {fates[name] for name in of_fm} == {COPIED}
    for name in of_fm:
        np.testing.assert_array_equal(train_step.named_variables()[name],
                                      arrays[name.replace("teacher.fm", "shared")])
    was, now = (Scorer(one).members(examples.rows[:40], examples.dense[:40])
                for one in (learned.model, model))
    for name in ("cross", "fm"):
        np.testing.assert_allclose(now[name][0], was[name][0], atol=1e-6)
    assert_same(towers_of(model)["own"], fresh["own"])
    assert {fate for name, fate in fates.items() if "/teacher.own/" in name and (
        name.startswith("tower/"))} == {INITIALISED}
    assert {fate for name, fate in fates.items() if name.startswith("table/teacher.own/")} == {
        DROPPED}


def test_a_pool_in_another_order_does_not_resume(examples, tmp_path):
    with pytest.raises(Interrupt):
        build_trainer(examples, pooled_model(examples), tmp_path, listener=Interrupter()).run()
    other = build_trainer(examples, pooled_model(examples, ("fm", "cross")), tmp_path)
    with pytest.raises(DataError, match="differ: members of the pool"):
        other.resume()
