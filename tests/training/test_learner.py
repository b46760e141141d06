import dualdnn  # noqa: F401, I001  (first: it selects the Keras API)

import datetime
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from dualdnn.data.admission import Admission
from dualdnn.data.examples import TrainingSize, open_examples
from dualdnn.data.lake import Lake
from dualdnn.data.row_match import adapted, matched_rows
from dualdnn.data.window import ChosenDays
from dualdnn.distillation.objective import Objective
from dualdnn.distillation.schedules import Schedule, Schedules
from dualdnn.errors import DataError
from dualdnn.models.dual_dnn import TEACHER, DualDNN, StudentTower
from dualdnn.models.student import Student
from dualdnn.models.teacher import Teacher
from dualdnn.schema import schema_from_dict
from dualdnn.training.checkpoint import read_arrays, save_checkpoint
from dualdnn.training.learner import Learner, open_state
from dualdnn.training.settings import TrainingSettings
from dualdnn.training.warm_start import COPIED, PARTLY, warm_start
from tests.tiny_run import (
    EVERYTHING, SCHEMA, build_model, build_trainer, digest_of, embedding_for, write_lake,
)

DAYS = [datetime.date(2024, 1, n) for n in range(1, 5)]
SETTINGS = TrainingSettings(epochs=1, batch_size=48)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("feed")
    write_lake(folder / "lake")
    return folder


def where(place):
    return {"lake": Lake(place / "lake"), "schema": SCHEMA, "state": place / "state"}


def window_of(place, *days, **options):
    window = ChosenDays(train=[DAYS[i] for i in days])
    return open_examples(**where(place), window=window, **options)


def learner_for(examples, students=1, folder="unused"):
    model = build_model(examples, [EVERYTHING] * students)
    return Learner(build_trainer(examples, model, folder).train_step, examples.row_map)


def newest(place, learner, day, **options):
    return learner.open_newest(**where(place), window=ChosenDays(train=[DAYS[day]]), **options)


def everything_of(learner):
    return {name: variable.numpy() for name, variable in
            learner.train_step.named_variables().items()}


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name], err_msg=name)


def test_starting_anew_is_a_new_model_of_that_window(place, tmp_path):
    used = learner_for(window_of(place, 0))
    used.train(window_of(place, 0), SETTINGS, seed=1, folder=tmp_path / "a")
    examples = window_of(place, 1, 2)
    used.restart(examples)
    fresh = learner_for(examples)
    assert_same(everything_of(used), everything_of(fresh))
    for number, learner in enumerate((used, fresh)):
        learner.train(examples, SETTINGS, seed=1, folder=tmp_path / f"b{number}")
    assert_same(everything_of(used), everything_of(fresh))


def test_growth_leaves_what_was_learned_where_it_was(place, tmp_path):
    learner = learner_for(window_of(place, 0))
    learner.train(window_of(place, 0), SETTINGS, seed=1, folder=tmp_path)
    old_map, old = learner.row_map, everything_of(learner)
    examples, growth = newest(place, learner, 1)
    learner.grow(growth, draw=5)
    assert growth.admitted == len(growth.fresh_rows["main"]) > 0
    fresh = growth.fresh_rows["main"]
    kept = np.setdiff1d(np.arange(old_map.table_rows["main"]), fresh)
    for name, value in everything_of(learner).items():
        if value.ndim and name.startswith("table/"):
            np.testing.assert_array_equal(value[kept], old[name][kept], err_msg=name)
        else:
            np.testing.assert_array_equal(value, old[name], err_msg=name)
    now = everything_of(learner)
    assert not now["table/shared/shared_vectors_accumulator"][fresh].any()
    assert not now["table/shared/shared_linear"][fresh].any()
    drawn = now["table/shared/shared_vectors"][fresh]
    assert len(np.unique(drawn)) == drawn.size
    assert 0.05 < drawn.std() < 0.2  # initial_stddev is 0.1
    np.testing.assert_array_equal(now["table/shared/shared_vectors_average"][fresh], drawn)
    steps = now["table/shared/shared_steps"]
    assert (now["table/shared/shared_decayed_to"] == steps).all()
    assert steps > 0
    assert (now["table/shared/shared_born"][fresh] == steps).all()
    assert examples.row_map is learner.row_map


def test_the_size_of_the_training_part_is_kept_with_a_state(place, tmp_path):
    examples = window_of(place, 0)
    weights = np.full(len(examples.labels), 28.0, np.float32)
    weights[:10] = 0
    first = learner_for(replace(examples, weights=weights))
    (tmp_path / "state").mkdir()
    first.save(tmp_path / "state", {})
    stored = open_state(tmp_path / "state")
    assert stored.size == first.train_step.size == TrainingSize(100, 28.0)
    second = learner_for(window_of(place, 1))
    second.load(stored)
    assert second.train_step.size == stored.size
    second.restart(examples)
    assert second.train_step.size == TrainingSize(110)
    # A state of 0.3 says nothing of weights.
    about = {key: value for key, value in stored.about.items() if key != "mean_weight"}
    assert replace(stored, about=about).size == TrainingSize(100)


def test_a_row_that_changes_tables_takes_its_age_along(place, tmp_path):
    """A field that becomes privileged moves to a table whose clock starts anew."""
    changed = schema_from_dict({**SCHEMA.to_dict(), "fields": [
        {**field, "privileged": field["name"] == "tags"} for field in SCHEMA.to_dict()["fields"]]})
    examples = window_of(place, 0, 1)
    old = learner_for(examples)
    old.train(examples, replace(SETTINGS, epochs=8, batch_size=8), seed=1, folder=tmp_path)
    old.train_step.catch_up()

    def adapt(schema, days, parts):
        return adapted(old.row_map, SCHEMA, schema, days, parts)

    moved = open_examples(**{**where(place), "schema": changed}, row_map=adapt,
                          window=ChosenDays(train=DAYS[:2]))
    new = learner_for(moved)
    warm_start(new.train_step, everything_of(old), old_schema=SCHEMA, old_row_map=old.row_map,
               new_row_map=moved.row_map)
    optimizers = list(new.train_step.table_optimizers.values())
    assert len({int(one.steps) for one in optimizers}) == 2
    for one in optimizers:
        assert (one.decayed_to.numpy() <= int(one.steps)).all()
    index = np.arange(len(examples.labels))
    np.testing.assert_allclose(new.score(moved, index, [TEACHER])[TEACHER],
                               old.score(examples, index, [TEACHER])[TEACHER], atol=1e-4)


def test_rows_that_a_warm_start_does_not_know_begin_with_it(place, tmp_path):
    first, more = window_of(place, 0), window_of(place, 0, 1, 2)
    old, new = learner_for(first), learner_for(more)
    old.train(first, SETTINGS, seed=1, folder=tmp_path)
    warm_start(new.train_step, everything_of(old), old_schema=SCHEMA,
               old_row_map=old.row_map, new_row_map=new.row_map)
    known = [match.new_rows for match in matched_rows(old.row_map, SCHEMA, new.row_map, SCHEMA)]
    fresh = np.setdiff1d(np.arange(new.row_map.table_rows["main"]), np.concatenate(known))
    assert len(fresh)
    now = everything_of(new)
    steps = now["table/shared/shared_steps"]
    assert steps > 0
    assert (now["table/shared/shared_born"][fresh] == steps).all()
    assert not np.delete(now["table/shared/shared_born"], fresh).any()


def test_a_first_layer_keeps_its_blocks_where_a_field_or_the_fm_vector_comes_or_goes(place):
    days = {**where(place), "window": ChosenDays(train=DAYS)}
    before = SCHEMA.without({"age"})
    first = open_examples(**{**days, "schema": before})
    more = open_examples(**days, row_map=lambda *kept: adapted(first.row_map, before, *kept))

    def learner_of(examples, fm=True):
        shared = embedding_for(examples, "shared", privileged=True)
        student = Student(hidden_units=[6], fm=fm, seed=3, name="s")
        model = DualDNN(
            embedding=shared, teacher=Teacher(interactions=[], hidden_units=[4], seed=3),
            students=[StudentTower(network=student, embedding=shared, objective=Objective())])
        return Learner(build_trainer(examples, model, "unused").train_step, examples.row_map)

    old, new = learner_of(first), learner_of(more)
    name = "tower/s/s/s_mlp/dense_0/kernel"

    def first_layer(new, old, schema):
        """Before and now, and what became of it."""
        arrays = everything_of(old)
        (one,) = (one for one in warm_start(
            new.train_step, arrays, old_schema=schema, old_row_map=old.row_map,
            new_row_map=new.row_map) if one.name == name)
        return arrays[name], everything_of(new)[name], (one.fate, one.rows, one.of)

    was, now, fate = first_layer(new, old, before)
    assert fate == (PARTLY, 16, 20)
    np.testing.assert_array_equal(now, np.concatenate([was[:12], np.zeros((4, 6)), was[12:]]))
    # The new field is in the products of pairs alone.
    index = np.arange(50)
    np.testing.assert_allclose(new.score(more, index, ["s"])["s"],
                               old.score(first, index, ["s"])["s"], atol=0.1)

    # Without the vector the fields keep their blocks; where it is new, it says nothing at first.
    plain = learner_of(first, fm=False)
    was, now, fate = first_layer(plain, old, before)
    assert fate == (COPIED, 12, 12)
    np.testing.assert_array_equal(now, was[:12])
    was, now, fate = first_layer(old, plain, before)
    assert fate == (PARTLY, 12, 16)
    np.testing.assert_array_equal(now, np.concatenate([was, np.zeros((4, 6))]))
    np.testing.assert_allclose(old.score(first, index, ["s"])["s"],
                               plain.score(first, index, ["s"])["s"], atol=1e-6)
    # With a new field at the same time.
    was, now, fate = first_layer(new, plain, before)
    assert fate == (PARTLY, 12, 20)
    np.testing.assert_array_equal(now, np.concatenate([was, np.zeros((8, 6))]))


def test_a_state_from_before_rows_had_an_age_is_still_read(place, tmp_path):
    learner = learner_for(window_of(place, 0))
    now = learner.train_step.named_variables()
    ages = [name for name in now if name.endswith("_born")]
    assert ages
    save_checkpoint(tmp_path / "old", {name: now[name] for name in now.keys() - set(ages)}, {})
    found = read_arrays(tmp_path / "old")
    assert_same({name: found[name] for name in ages},
                {name: np.zeros_like(now[name]) for name in ages})


def test_a_recycled_row_starts_as_new_with_its_slots(place, tmp_path):
    # The first 31 rows of one day, then the last 30 of another: other users and items.
    few = open_examples(**where(place), window=ChosenDays(train=DAYS[:1], test_share=0.72))
    assert len(few.split.train) == 31
    learner = learner_for(few)
    learner.train(few, SETTINGS, seed=1, folder=tmp_path)
    before = learner.row_map.table_rows["main"]
    accumulated = everything_of(learner)["table/shared/shared_vectors_accumulator"]
    midnight = int(datetime.datetime(2024, 1, 4, tzinfo=datetime.UTC).timestamp())
    _, growth = learner.open_newest(
        **where(place), admission=Admission(expire_after_days=2),
        window=ChosenDays(train=DAYS[3:], after=(DAYS[3], midnight + 79)))
    assert growth.expired > 0
    recycled = growth.fresh_rows["main"][growth.fresh_rows["main"] < before]
    assert len(recycled) == min(growth.expired, growth.admitted) > 0
    assert accumulated[recycled].any()
    learner.grow(growth, draw=7)
    assert not everything_of(learner)["table/shared/shared_vectors_accumulator"][recycled].any()


def test_saved_and_loaded_it_goes_on_to_the_bit(place, tmp_path):
    first = learner_for(window_of(place, 0, 1))
    first.train(window_of(place, 0, 1), SETTINGS, seed=1, folder=tmp_path / "a")
    (tmp_path / "state").mkdir()
    first.save(tmp_path / "state", {"note": 1})
    stored = open_state(tmp_path / "state")
    assert (stored.about["note"], stored.size) == (1, TrainingSize(220))
    second = learner_for(window_of(place, 3))
    second.load(stored)
    assert_same(everything_of(first), everything_of(second))
    scores = []
    for number, learner in enumerate((first, second)):
        examples, growth = newest(place, learner, 2)
        learner.fine_tune(examples, growth, SETTINGS, seed=1, folder=tmp_path / f"f{number}")
        scores.append(learner.score(examples, examples.split.train))
    assert_same(everything_of(first), everything_of(second))
    assert_same(*scores)


def test_scoring_leaves_training_alone_and_sees_the_averages(place, tmp_path):
    examples = window_of(place, 0, 1)
    learner = learner_for(examples)
    trainer = learner.train(examples, SETTINGS, seed=1, folder=tmp_path)
    before = everything_of(learner)
    scores = learner.score(examples, np.arange(20))
    assert_same(everything_of(learner), before)
    learner.best()
    assert_same(everything_of(learner), before)
    for tower in ("teacher", "s0"):
        trainer.best.load_into(learner.model, tower)
        logits = learner._scorer(examples.rows[:20], [tower], examples.dense[:20])[tower]
        np.testing.assert_array_equal(scores[tower], logits)


def test_a_fine_tuned_teacher_is_the_same_with_any_students(place, tmp_path):
    """One that consolidates, as by default; three that do not; one that waits; none."""
    digests = []
    for name, objectives, late, consolidation in (
            ("one", [EVERYTHING], (), 1), ("three", [EVERYTHING] * 3, (), 0),
            ("late", [], (EVERYTHING,), 0), ("none", [], (), 1)):
        examples = window_of(place, 0, 1)
        model = build_model(examples, objectives, late=late)
        learner = Learner(build_trainer(examples, model, "unused").train_step, examples.row_map)
        learner.train(examples, replace(SETTINGS, consolidation_epochs=consolidation), seed=1,
                      folder=tmp_path / name / "first")
        for day in (2, 3):
            newer, growth = newest(place, learner, day)
            learner.fine_tune(newer, growth, SETTINGS, seed=1, folder=tmp_path / name / f"{day}")
        learner.train_step.catch_up()
        digests.append(digest_of(learner.model, "teacher"))
    assert len(set(digests)) == 1


def test_averages_go_on_and_reach_back_no_further_than_a_window(place, tmp_path):
    learner = learner_for(window_of(place, 0, 1))
    learner.train(window_of(place, 0, 1), replace(SETTINGS, epochs=2), seed=1,
                  folder=tmp_path / "a")
    before = everything_of(learner)
    assert before["table/shared/shared_steps"] == 10
    examples, growth = newest(place, learner, 3)
    learner.fine_tune(examples, growth, replace(SETTINGS, batch_size=110), seed=1,
                      folder=tmp_path / "b")
    now = everything_of(learner)
    # The window's 220 rows are two steps of 110.
    assert now["table/shared/shared_horizon"] == now["tower/teacher/horizon"] == 2
    name = "tower/teacher/teacher/output/bias"
    # The third step: 2 + 1 of 2 + 10 is kept.
    kept = 3 / 12
    expected = now[name] + kept * (before[f"{name}_average"] - now[name])
    np.testing.assert_allclose(now[f"{name}_average"], expected, rtol=1e-5)


def test_rows_in_time_order(place, tmp_path):
    examples = window_of(place, 0, 1)
    seen = []
    learner = learner_for(examples)
    run = learner.train_step.run

    def watched(training, batch, step, **more):
        seen.extend(batch.labels.tolist())
        return run(training, batch, step, **more)

    learner.train_step.run = watched
    learner.train(examples, replace(SETTINGS, order="time"), seed=1, folder=tmp_path)
    by_time = np.argsort(examples.timestamps, kind="stable")
    assert seen == examples.labels[by_time].tolist()


def test_a_broken_state_is_named(place, tmp_path):
    with pytest.raises(DataError, match="is not a readable checkpoint"):
        open_state(tmp_path)
    learner = learner_for(window_of(place, 0))
    (tmp_path / "state").mkdir()
    learner.save(tmp_path / "state", {})
    (tmp_path / "state" / "row_map" / "signs.npy").unlink()
    with pytest.raises(DataError, match="is not a readable training state"):
        open_state(tmp_path / "state")


def test_a_state_of_other_towers_does_not_load(place, tmp_path):
    (tmp_path / "state").mkdir()
    learner_for(window_of(place, 0)).save(tmp_path / "state", {})
    with pytest.raises(DataError, match="lacks `tower/s1/"):
        learner_for(window_of(place, 0), students=2).load(open_state(tmp_path / "state"))


def test_memory_and_rows_stay_flat_while_ids_come_and_go(place, tmp_path):
    learner = learner_for(window_of(place, 0))
    learner.train(window_of(place, 0), SETTINGS, seed=1, folder=tmp_path / "a")
    compiled = dict(learner.train_step._compiled)
    for turn in range(6):
        examples, growth = newest(place, learner, 1 + turn % 3)
        learner.fine_tune(examples, growth, SETTINGS, seed=1, folder=tmp_path / f"b{turn}")
    assert learner.train_step._compiled.keys() == compiled.keys()
    rows = int(tf.shape(learner.model.embedding.tables["main"].vectors)[0])
    assert rows == learner.row_map.table_rows["main"]


def test_a_fine_tune_goes_on_from_a_consolidated_student_at_the_end_of_its_schedules(place,
                                                                                    tmp_path):
    ramp = Schedules(soft_label_weight=Schedule(shape="linear"))
    examples = window_of(place, 0)
    model = build_model(examples, [replace(EVERYTHING, schedule=ramp)])
    learner = Learner(build_trainer(examples, model, "unused").train_step, examples.row_map)
    trainer = learner.train(examples, replace(SETTINGS, consolidation_epochs=1), seed=1,
                            folder=tmp_path / "a")
    assert trainer.summary()["s0"]["best_step"] == 2 * trainer.steps_per_epoch
    # What would be saved and served is what was consolidated, on the rested teacher.
    served = learner.best()
    for tower in model.towers:
        for mine, theirs in zip(served.of_tower(tower), trainer.best.of_tower(tower), strict=True):
            np.testing.assert_array_equal(mine, theirs)

    progress, run = [], learner.train_step.run

    def watched(training, batch, step, **more):
        progress.append(more["progress"]["s0"])
        return run(training, batch, step, **more)

    learner.train_step.run = watched
    learner.fine_tune(*newest(place, learner, 1), SETTINGS, seed=1, folder=tmp_path / "b")
    assert set(progress) == {1.0}
