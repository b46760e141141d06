"""Towers stop one by one: what is kept, what rests, what goes on."""

import dualdnn  # noqa: F401, I001  (first: it selects the Keras API)

from dataclasses import replace

import numpy as np
import pytest

from dualdnn.distillation.objective import Objective
from dualdnn.evaluation.metrics import log_loss
from dualdnn.models.dual_dnn import TEACHER
from dualdnn.training.measure import score_with_best
from tests.scripted_validation import ScriptedValidation
from tests.tiny_run import EVERYTHING, anew, build_model, build_trainer, open_tiny, weights_of


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    return open_tiny(tmp_path_factory.mktemp("feed"))


def run_script(examples, folder, script, *, patience=2, epochs=10, **training):
    objectives = [EVERYTHING, Objective()][: sum(name.startswith("s") for name in script)]
    model = build_model(examples, objectives, alone="alone" in script)
    trainer = build_trainer(examples, model, folder, patience=patience, epochs=epochs,
                            batch_size=264, **training)  # one step a pass: step = evaluation
    trainer._scorer = ScriptedValidation(trainer, script)
    trainer.run()
    return trainer


def assert_best(trainer, tower, *, evaluation, table_of=None):
    """The best weights are those of the named evaluation, bit for bit."""
    model, seen = trainer.model, trainer._scorer.seen
    columns = sum(len(one.trained_variables()) for one in model.embeddings_of(tower))
    expected = seen[tower][evaluation - 1]
    if table_of:
        owner, number = table_of
        expected = expected[:-columns] + seen[owner][number - 1][-columns:]
    trainer.best.load_into(model, tower)
    for value, wanted in zip(weights_of(model, tower), expected, strict=True):
        np.testing.assert_array_equal(value, wanted)
    assert trainer.progress[tower].best_step == evaluation


@pytest.fixture(scope="module")
def staggered(examples, tmp_path_factory):
    """The teacher stops at 4, s1 at 3 (before it), s0 long after, `alone` on its own."""
    return run_script(examples, tmp_path_factory.mktemp("run"), {
        TEACHER: [1, 3, 2, 2],
        "s0": [1, 1.5, 1.6, 1.1, 1.3, 1.9, 1.8, 1.7],
        "s1": [2, 1, 1],
        "alone": [1, 2, 3, 4, 5, 4, 4],
    })


def test_negatives_of_any_rate_are_judged_as_they_are_learned(examples, tmp_path):
    rates = np.where(np.arange(len(examples.labels)) % 2, 0.1, 0.5).astype(np.float32)
    sampled = replace(examples, sampling_rates=rates)
    model = build_model(sampled, [])
    trainer = build_trainer(sampled, model, tmp_path, epochs=1)
    trainer.run()
    valid = sampled.split.valid
    weights = sampled.loss_weights(valid)
    assert len(set(weights[sampled.labels[valid] == 0])) == 2
    (recorded,) = [row["value"] for row in trainer.history
                   if (row["part"], row["metric"]) == ("valid", "log_loss")]
    logits = score_with_best(model, trainer.best, sampled, valid)[TEACHER]
    assert recorded == pytest.approx(log_loss(sampled.labels[valid], logits, weights), rel=1e-5)
    assert recorded != pytest.approx(log_loss(sampled.labels[valid], logits), rel=1e-3)


def test_each_tower_stops_after_its_own_patience(staggered):
    ended = {tower: (p["status"], p["best_step"], p["ended_step"])
             for tower, p in staggered.summary().items()}
    assert ended == {TEACHER: ("stopped", 2, 4), "s0": ("stopped", 6, 8), "s1": ("stopped", 1, 3),
                     "alone": ("stopped", 5, 7)}
    assert staggered.step == 8 < staggered.total_steps


def test_best_weights_are_those_of_the_best_evaluation(staggered):
    assert_best(staggered, TEACHER, evaluation=2)
    assert_best(staggered, "alone", evaluation=5)


def test_a_student_keeps_the_table_it_was_scored_with(staggered):
    # s1 was best before the table reached the teacher's best; s0 after the table came to rest.
    assert_best(staggered, "s1", evaluation=1)
    assert_best(staggered, "s0", evaluation=6, table_of=(TEACHER, 2))
    steps = {TEACHER: {"shared": 2}, "s0": {"shared": 2}, "s1": {"shared": 1},
             "alone": {"alone": 5}}
    assert staggered.best.table_steps == steps
    # Towers share one copy, and none is kept without need.
    assert set(staggered.best.tables) == {("shared", 2), ("shared", 1), ("alone", 5)}


def test_a_stopped_teacher_and_its_table_rest_at_their_best_while_students_learn(staggered):
    seen = staggered._scorer.seen
    best_table, columns = seen[TEACHER][1][-2:], 2
    for scored in seen["s0"][4:]:
        for value, wanted in zip(scored[-columns:], best_table, strict=True):
            np.testing.assert_array_equal(value, wanted)
    for before, after in zip(seen["s0"][3:-1], seen["s0"][4:], strict=True):
        assert np.any(before[0] != after[0])
    # Patience begins anew there: evaluations 4 and 5 would have ended s0.
    assert len(seen["s0"]) == 8


def test_a_stopped_student_learns_no_more(examples, tmp_path):
    trainer = run_script(examples, tmp_path, {TEACHER: [1, 2, 3, 4], "s0": [2, 1]}, patience=1,
                         epochs=4, averaging=False)
    assert trainer.summary()["s0"]["ended_step"] == 2
    last = trainer._scorer.seen["s0"][-1]
    for value, wanted in zip(weights_of(trainer.model, "s0")[:4], last[:4], strict=True):
        np.testing.assert_array_equal(value, wanted)
    assert trainer.summary()[TEACHER]["status"] == "training"
    assert_best(trainer, TEACHER, evaluation=4)


def test_equal_is_not_better_and_the_first_of_equals_is_kept(examples, tmp_path):
    trainer = run_script(examples, tmp_path, {TEACHER: [2, 2, 2, 2, 2]}, patience=3)
    assert (trainer.step, trainer.progress[TEACHER].best_step) == (4, 1)


@pytest.mark.parametrize("monitor", ["log_loss", "auc"])
def test_a_validation_row_of_weight_0_decides_nothing(examples, tmp_path, monitor):
    valid = examples.split.valid
    weights, labels = np.ones(len(examples.labels), np.float32), examples.labels.copy()
    weights[valid[::2]], labels[valid[::2]] = 0.0, 1 - labels[valid[::2]]

    first = build_trainer(examples, build_model(examples, [EVERYTHING]), tmp_path, epochs=2,
                          batch_size=264, monitor=monitor)

    def curve(name, **changes):
        trainer = anew(first, tmp_path / name, examples=replace(examples, **changes))
        trainer.run()
        return ([one for one in trainer.history if one["part"] == "valid"],
                {tower: state.best for tower, state in trainer.progress.items()})

    assert curve("a", weights=weights) == curve("b", weights=weights, labels=labels)
    assert curve("c") != curve("d", labels=labels)


@pytest.mark.parametrize(("monitor", "best_step"), [("log_loss", 2), ("auc", 1)])
def test_the_monitor_decides_what_is_better(examples, tmp_path, monitor, best_step):
    # Evaluation 1 ranks perfectly but timidly; evaluation 2 is sure, and wrong about one pair.
    trainer = build_trainer(examples, build_model(examples, []), tmp_path, epochs=2,
                            batch_size=264, monitor=monitor)
    labels = examples.labels[examples.split.valid]
    sign = 2 * labels - 1
    sure = 3 * sign
    sure[np.argmax(labels)] = -3.5
    answers = iter([0.01 * sign, sure])
    trainer._scorer = lambda *inputs: {TEACHER: next(answers).astype(np.float32)}
    trainer.run()
    assert trainer.progress[TEACHER].best_step == best_step
