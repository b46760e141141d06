import dualdnn  # noqa: F401, I001  (first: it selects the Keras API)

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.quality import few_rows_hints
from benchmarks.quality.few_rows_hints import ARMS, PAIRS, few_rows, train_students
from benchmarks.quality.hint_ablation import TEACHER, overrides_of
from benchmarks.quality.in_process import best_logits, open_data, train_plan
from dualdnn.training.scoring import Scorer


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    state = tmp_path_factory.mktemp("state")
    return open_data([*overrides_of(regime="third_order", rows=4000, train_days=26,
                                    state=str(state)),
                      "controls=[]", "training.epochs=1", "teacher=plain",
                      "teacher.hidden_units=[8,4]"],
                     {name: arm.config() for name, arm in ARMS.items()})


def test_arms_are_students_of_a_finished_teacher_and_pairs_differ_in_hints_alone(opened):
    plan, _ = opened
    objectives = {one.name: one.objective for one in plan.students}
    assert {one.scheme.name for one in plan.students} == {"two_stage_hints"}
    assert len(objectives) == len(ARMS)
    assert [ARMS[hinted].without_hints for hinted, _ in PAIRS] == [ARMS[name] for _, name in PAIRS]
    for hinted, plain in PAIRS:
        assert objectives[hinted].hint_weight > 0 == objectives[plain].hint_weight
        assert replace(objectives[hinted], hints=(), hint_weight=0.0) == replace(
            objectives[plain], hints=())
    assert {(name, one.label_weight, one.soft_label_weight) for name, one in objectives.items()
            if not one.hint_weight} == {("labels", 1, 0), ("soft", 0, 1), ("labels_soft", 1, 1)}


def test_few_rows_are_drawn_from_the_training_part_and_leave_the_others(opened):
    _, examples = opened
    few = few_rows(examples, 300, seed=1)
    assert len(set(few.split.train)) == 300
    assert set(few.split.train) < set(examples.split.train)
    assert few.split.valid is examples.split.valid
    assert few.split.test is examples.split.test
    np.testing.assert_array_equal(few.split.train, few_rows(examples, 300, seed=1).split.train)
    assert set(few.split.train) != set(few_rows(examples, 300, seed=2).split.train)


def test_students_learn_from_the_best_weights_of_a_teacher_that_stays(opened, monkeypatch):
    plan, examples = opened
    monkeypatch.setattr(few_rows_hints, "MOST_STEPS", 20)
    finished = train_plan(replace(plan, students=[]), examples)
    valid = examples.split.valid
    expected = best_logits(finished, examples, valid)[TEACHER]
    trainer = train_students(plan, few_rows(examples, 300, seed=1), finished.best)
    scorer = Scorer(trainer.model)
    with trainer.train_step.averaged():
        heard = scorer(examples.rows[valid], [TEACHER], examples.dense[valid])[TEACHER]
    np.testing.assert_array_equal(heard, expected)
    assert set(trainer.best.dense) == set(ARMS)
    assert {state.best_step for state in trainer.progress.values()} <= set(range(1, 21))
    logits = best_logits(trainer, examples, valid)
    assert not np.array_equal(logits["soft_all_10"], logits["soft"])
