"""A student that goes on alone: what it may touch, what is served, what is kept."""

import dualdnn  # noqa: F401, I001  (first: it selects the Keras API)

import hashlib
import shutil

import numpy as np
import pytest

from dualdnn.data.examples import open_examples
from dualdnn.data.window import ChosenDays
from dualdnn.distillation.objective import Objective
from dualdnn.errors import ConfigError, DataError, NonFiniteError
from dualdnn.training.learner import Learner, open_state
from dualdnn.training.scoring import Scorer
from dualdnn.training.student_learner import StudentLearner, open_student
from tests.tiny_run import EVERYTHING, SCHEMA, build_model, build_trainer, write_lake
from tests.training.test_learner import DAYS, SETTINGS, assert_same, where

BATCH = 24


def early(place, **options):
    """The first 44 rows: many ids come later."""
    return open_examples(**where(place), window=ChosenDays(train=DAYS[:1], test_share=0.6),
                         **options)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A lake, and in `base` the training state of an offline model that saw 44 of its rows."""
    folder = tmp_path_factory.mktemp("feed")
    write_lake(folder / "lake")
    examples = early(folder)
    model = build_model(examples, [EVERYTHING])
    offline = Learner(build_trainer(examples, model, folder / "unused").train_step,
                      examples.row_map)
    offline.train(examples, SETTINGS, seed=1, folder=folder / "checkpoints")
    (folder / "base").mkdir()
    offline.save(folder / "base", {})
    return folder


@pytest.fixture(scope="module")
def offline_logits(place):
    """What the offline model's student says of the third day."""
    base = open_state(place / "base")
    third = open_examples(**where(place), window=ChosenDays(train=(), test=DAYS[2:3]),
                          row_map=base.row_map)
    examples = early(place, row_map=base.row_map)
    model = build_model(examples, [EVERYTHING])
    offline = Learner(build_trainer(examples, model, place / "unused").train_step, base.row_map)
    offline.load(base)
    return third, offline.score(third, third.split.test)["s0"]


def student_of(place):
    base = open_state(place / "base")
    examples = early(place, row_map=base.row_map)
    model = build_model(examples, [Objective()], owner="s0")
    return StudentLearner(build_trainer(examples, model, place / "unused").train_step, base)


def learn_day(place, learner, number, batch_size=BATCH, **options):
    examples, growth = learner.open_newest(**where(place),
                                           window=ChosenDays(train=[DAYS[number]]))
    learner.grow(growth)
    return examples, learner.learn(examples, examples.split.train, batch_size, **options)


def digest(folder):
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            found.update(path.read_bytes())
    return found.hexdigest()


def values_of(learner):
    return {name: variable.numpy() for name, variable in learner._variables().items()}


def test_it_begins_as_the_offline_student(place, offline_logits):
    third, expected = offline_logits
    learner = student_of(place)
    np.testing.assert_array_equal(learner.score(third, third.split.test), expected)
    assert learner.changed_rows == 0


def test_it_learns_and_touches_nothing_of_the_offline_model(place, offline_logits):
    third, before = offline_logits
    kept, learner = digest(place / "base"), student_of(place)
    teacher = [variable.numpy() for variable in learner.model.network_variables("teacher")]
    _, learned = learn_day(place, learner, 2)
    labels = third.labels[third.split.test]

    def loss(logits):
        return float(np.mean(np.logaddexp(0, logits) - labels * logits))

    assert loss(learner.score(third, third.split.test)) < loss(before) - 0.005
    assert (learned.rows, digest(place / "base")) == (110, kept)
    for variable, value in zip(learner.model.network_variables("teacher"), teacher, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


def test_only_rows_that_it_met_are_its_own(place):
    learner = student_of(place)
    before = learner.model.embedding.tables["main"].num_rows
    base = open_state(place / "base")
    examples, growth = learner.open_newest(**where(place), window=ChosenDays(train=[DAYS[2]]))
    learner.grow(growth)
    few = examples.split.train[:12]
    learner.learn(examples, few, BATCH)
    met = np.union1d(examples.rows[few], growth.fresh_rows["main"])
    assert learner.changed_rows == len(met)
    assert len(base.row_map.signs) < len(learner.row_map.signs)
    others = np.setdiff1d(np.arange(before), met)
    assert len(others) > 10
    # As they are served: neither decayed nor moved on.
    averages = base.arrays()["table/shared/shared_vectors_average"]
    served = learner.best().tables["shared", 0][0]
    np.testing.assert_array_equal(served[others], averages[others])
    known = np.setdiff1d(examples.rows[few], [0, *growth.fresh_rows["main"]])
    assert (served[known] != averages[known]).any(axis=1).all()


def test_what_is_scored_is_what_would_be_served(place):
    learner = student_of(place)
    examples, _ = learn_day(place, learner, 2)
    index = examples.split.train
    before = values_of(learner)
    scored, best = learner.score(examples, index), learner.best()
    assert_same(values_of(learner), before)
    best.load_into(learner.model, "s0")
    exported = Scorer(learner.model)(examples.rows[index], ["s0"], examples.dense[index])["s0"]
    np.testing.assert_allclose(scored, exported, rtol=1e-5, atol=1e-6)


def test_saved_and_loaded_it_goes_on_to_the_bit(place, tmp_path):
    first = student_of(place)
    learn_day(place, first, 2)
    (tmp_path / "overlay").mkdir()
    first.save(tmp_path / "overlay", {"note": 1})
    stored = open_student(tmp_path / "overlay")
    assert stored.about == {"note": 1}
    size = sum(path.stat().st_size for path in (tmp_path / "overlay" / "overlay").iterdir())
    assert len(stored.arrays()["rows/shared"]) == first.changed_rows
    second = student_of(place)
    learn_day(place, second, 3)  # is forgotten
    second.load(stored)
    assert_same(values_of(first), values_of(second))
    scores = []
    for learner in (first, second):
        examples, _ = learn_day(place, learner, 3)
        scores.append(learner.score(examples, examples.split.train))
    np.testing.assert_array_equal(*scores)
    assert_same(values_of(first), values_of(second))
    assert size > 0
    second.load(None)
    assert (second.changed_rows, second.row_map) == (0, second.base.row_map)


def test_an_overlay_of_something_else_is_refused(place, tmp_path):
    learner = student_of(place)
    learn_day(place, learner, 2)
    (tmp_path / "overlay").mkdir()
    learner.save(tmp_path / "overlay", {})
    assert open_student(tmp_path / "none") is None
    packed = tmp_path / "overlay" / "overlay" / "packed.npz"
    shutil.copy(packed, tmp_path / "whole.npz")
    with np.load(packed) as file:
        arrays = dict(file)
    name = "table/shared/shared_vectors"
    np.savez(packed, **{**arrays, name: arrays[name][:-1]})
    with pytest.raises(DataError, match=rf"no overlay of .*base: `{name}` has shape"):
        learner.load(open_student(tmp_path / "overlay"))
    packed.write_bytes(b"")
    with pytest.raises(DataError, match="not a readable checkpoint"):
        learner.load(open_student(tmp_path / "overlay"))
    (tmp_path / "overlay" / "row_map" / "row_map.npz").unlink(missing_ok=True)
    shutil.rmtree(tmp_path / "overlay" / "row_map")
    with pytest.raises(DataError, match="not a readable overlay"):
        open_student(tmp_path / "overlay")


def test_ids_are_counted_from_one_call_to_the_next(place):
    """`item` asks for two occurrences; here every call sees one row of a new item."""
    learner = student_of(place)
    known = len(learner.row_map.signs)
    position = SCHEMA.fields.index(SCHEMA.field("item"))
    by_one, growth = [], None
    for start in range(0, 110, 5):
        window = ChosenDays(train=[DAYS[2]], after=(DAYS[2], _second(2) + start - 1))
        examples = open_examples(**where(place), window=window, row_map=learner.row_map)
        rows = examples.split.train[:5]
        until = int(examples.timestamps[rows].max())
        window = _Between(start=_second(2) + start, stop=until)
        _, growth = learner.open_newest(**where(place), window=window)
        learner.grow(growth)
        by_one.append(growth.admitted)
    whole = student_of(place)
    _, at_once = whole.open_newest(**where(place), window=ChosenDays(train=[DAYS[2]]))
    assert sum(by_one) == at_once.admitted > 0
    assert len(learner.row_map.signs) == known + at_once.admitted
    assert sum(one > 0 for one in by_one) > 1
    np.testing.assert_array_equal(growth.waiting.signs[growth.waiting.fields == position],
                                  at_once.waiting.signs[at_once.waiting.fields == position])


class _Between(ChosenDays):
    """Rows of the third day from one second to another."""

    def __init__(self, start, stop):
        super().__init__(train=[DAYS[2]], after=(DAYS[2], start - 1))
        object.__setattr__(self, "stop", stop)

    def split(self, days, timestamps, given):
        found = super().split(days, timestamps, given)
        keep = found.train[timestamps[found.train] <= self.stop]
        return type(found)(train=keep, valid=found.valid, test=found.test)


def _second(number):
    return int(np.datetime64(DAYS[number], "s").astype(np.int64))


def test_steps_are_of_equal_size_and_few_rows_wait(place):
    learner = student_of(place)
    steps = learner.steps
    examples, growth = learner.open_newest(**where(place), window=ChosenDays(train=[DAYS[2]]))
    learner.grow(growth)
    index = examples.split.train
    # 9 of 24 are less than half a batch; with 20 more there is one step of 29.
    assert learner.learn(examples, index[:9], BATCH, more_to_come=True).rows == 0
    assert (learner.steps - steps, learner.changed_rows) == (
        0, sum(map(len, growth.fresh_rows.values())))
    assert learner.learn(examples, index[9:29], BATCH, more_to_come=True).rows == 29
    assert learner.steps - steps == 1
    # 81 are three steps of 27, not three of 24 and one of 9.
    assert learner.learn(examples, index[29:], BATCH, more_to_come=True).rows == 81
    assert learner.steps - steps == 4
    learner.learn(examples, index[:5], BATCH, more_to_come=True)
    learner.learn_pending()
    learner.learn_pending()
    assert learner.steps - steps == 5
    assert learner.learn(examples, index[:5], BATCH).rows == 5
    assert learner.learn(examples, index[:0], BATCH).rows == 0
    assert learner.steps - steps == 6


def test_what_is_not_finite_is_not_learned(place):
    learner = student_of(place)
    examples, growth = learner.open_newest(**where(place), window=ChosenDays(train=[DAYS[2]]))
    learner.grow(growth)
    weights = learner.model.network_variables("s0")
    weights[0].assign(weights[0] * np.nan)
    before = values_of(learner)
    with pytest.raises(NonFiniteError, match="the student s0 is not finite after"):
        learner.learn(examples, examples.split.train, BATCH)
    assert_same(values_of(learner), before)


def test_averages_reach_back_a_tenth_of_the_offline_model(place):
    learner = student_of(place)
    learner.limit_averages(BATCH)
    values = values_of(learner)
    assert values["table/shared/shared_horizon"] == values["tower/s0/horizon"] == 2  # of 44 rows


@pytest.mark.parametrize("owner", ["s1", "nobody", "alone"])
def test_who_may_own_the_embedding(place, owner):
    examples = early(place)
    with pytest.raises(ConfigError, match=f"learns from labels alone, got '{owner}'"):
        build_model(examples, [Objective(), EVERYTHING], alone=True, owner=owner)
