"""What happens once the teacher has finished: students start, others consolidate."""

import dualdnn  # noqa: F401, I001  (first: it selects the Keras API)

from dataclasses import replace

import numpy as np
import pytest

from dualdnn.distillation.objective import Objective, StopGradient
from dualdnn.distillation.schedules import Schedule, Schedules
from dualdnn.errors import ConfigError
from dualdnn.models.dual_dnn import TEACHER
from dualdnn.training.phases import after_teacher, together
from dualdnn.training.trainer import Trainer
from tests.scripted_validation import ScriptedValidation
from tests.tiny_run import EVERYTHING, build_model, build_trainer, open_tiny, weights_of

SOFT = Objective(soft_label_weight=1.0)


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    return open_tiny(tmp_path_factory.mktemp("feed"))


@pytest.fixture(scope="module")
def without_valid(tmp_path_factory):
    return open_tiny(tmp_path_factory.mktemp("feed"), valid=0.0)


def assert_equal(first, second):
    for mine, theirs in zip(first, second, strict=True):
        np.testing.assert_array_equal(mine, theirs)


class Calls:
    """Remembers what each step was asked to do, and does it."""

    def __init__(self, trainer):
        self.steps, self.trainer, self.run = [], trainer, trainer.train_step.run
        trainer.train_step.run = self

    def __call__(self, training, batch, step, *, progress, consolidating, **more):
        self.steps.append({
            "training": list(training), "step": step, "labels": batch.labels.tolist(),
            "consolidating": list(consolidating), "progress": dict(progress),
            "before": {t: weights_of(self.trainer.model, t) for t in self.trainer.model.towers},
            "averages": {t: [one.numpy() for one in average.averages] for t, average in
                         self.trainer.train_step.dense_averages.items()}})
        return self.run(training, batch, step, progress=progress, consolidating=consolidating,
                        **more)


def scripted(examples, folder, script, *, patience=2, epochs=10, consolidation_epochs=0, **model):
    """One step a pass: step = evaluation."""
    built = build_model(examples, [EVERYTHING] if "s0" in script else [], **model)
    trainer = build_trainer(examples, built, folder, patience=patience, epochs=epochs,
                            batch_size=264, consolidation_epochs=consolidation_epochs)
    trainer._scorer = ScriptedValidation(trainer, script)
    calls = Calls(trainer)
    trainer.run()
    return trainer, calls.steps


# --- students that start later ---

@pytest.fixture(scope="module")
def stopped(examples, tmp_path_factory):
    """The teacher stops at 4; s0 lasts until 6; then late0 stops at its 4th, `own` lasts."""
    return scripted(examples, tmp_path_factory.mktemp("run"), {
        TEACHER: [1, 3, 2, 2], "s0": [1, 2, 3, 4, 3, 3], "late0": [1, 2, 1, 1],
        "own": [1, 2, 3, 4, 5, 6, 7],
    }, epochs=7, late=[EVERYTHING], late_own=SOFT)


def test_a_late_student_starts_when_all_that_started_with_the_teacher_have_ended(stopped):
    trainer, steps = stopped
    assert [one["training"] for one in steps] == [
        *4 * [["teacher", "s0"]], *2 * [["s0"]], *4 * [["late0", "own"]], *3 * [["own"]]]
    ended = {tower: (p["status"], p["best_step"], p["ended_step"])
             for tower, p in trainer.summary().items()}
    assert ended == {TEACHER: ("stopped", 2, 4), "s0": ("stopped", 4, 6),
                     "late0": ("stopped", 8, 10), "own": ("training", 13, None)}


def test_it_finds_the_teacher_at_its_best_and_changes_nothing_of_it(stopped):
    trainer, steps = stopped
    best = trainer._scorer.seen[TEACHER][1]
    for one in steps[6:]:
        assert_equal(one["before"][TEACHER], best)
    assert_equal(weights_of(trainer.model, TEACHER), best)
    assert_equal(steps[6]["before"]["late0"][:4], steps[0]["before"]["late0"][:4])
    assert_equal(steps[6]["before"]["own"], steps[0]["before"]["own"])


def test_its_passes_are_its_own_and_have_the_order_of_the_first_ones(stopped):
    steps = stopped[1]
    assert [one["labels"] for one in steps[6:13]] == [
        one["labels"] for one in steps[:6]] + [steps[12]["labels"]]
    assert [one["progress"]["own"] for one in steps[6:]] == pytest.approx(
        [i / 7 for i in range(7)])
    assert len({tuple(one["labels"]) for one in steps[:6]}) == 6


def test_its_best_weights_go_with_the_embedding_of_the_finished_teacher(stopped):
    trainer, _ = stopped
    assert trainer.best.table_steps["late0"] == {"shared": 2}
    assert trainer.best.table_steps["own"] == {"own": 13}
    assert set(trainer.best.tables) == {("shared", 2), ("shared", 4), ("own", 13)}
    trainer.best.load_into(trainer.model, "late0")
    assert_equal(weights_of(trainer.model, "late0"), trainer._scorer.seen["late0"][1])


def test_a_teacher_that_used_up_its_passes_rests_at_its_best_too(examples, tmp_path):
    trainer, steps = scripted(examples, tmp_path, {TEACHER: [1, 3, 2], "late0": [1, 2, 3]},
                              epochs=3, late=[SOFT])
    assert [one["training"] for one in steps] == 3 * [[TEACHER]] + 3 * [["late0"]]
    for one in steps[3:]:
        assert_equal(one["before"][TEACHER], trainer._scorer.seen[TEACHER][1])
    assert trainer.summary()[TEACHER] == {"status": "training", "best": trainer.progress[
        TEACHER].best, "best_step": 2, "ended_step": None}


def test_the_teacher_is_bit_identical_with_and_without_those_that_wait(examples, tmp_path):
    digests = []
    for name, late in (("without", {}), ("with", {"late": [EVERYTHING], "late_own": SOFT,
                                                  "extra": ["item"]})):
        trainer = build_trainer(examples, build_model(examples, [EVERYTHING], **late),
                                tmp_path / name)
        trainer.run()
        digests.append([trainer.best.of_tower(tower) for tower in (TEACHER, "s0")])
    for mine, theirs in zip(*digests, strict=True):
        assert_equal(mine, theirs)


@pytest.mark.parametrize("averaging", [True, False])
def test_without_validation_the_teacher_rests_at_the_end_of_its_passes(without_valid, tmp_path,
                                                                       averaging):
    model = build_model(without_valid, [EVERYTHING], late=[SOFT])
    trainer = build_trainer(without_valid, model, tmp_path, averaging=averaging,
                            consolidation_epochs=1)
    steps = Calls(trainer).steps
    assert trainer.total_steps == 2 * 8 + 2 * 8
    trainer.run()
    assert trainer.step == 32
    assert [one["training"] for one in steps] == (
        16 * [[TEACHER, "s0"]] + 8 * [["s0", "late0"]] + 8 * [["late0"]])
    rested = trainer.best.of_tower(TEACHER)
    for one in steps[16:]:
        assert_equal(one["before"][TEACHER], rested)
    # An average is something else than the weights of the last step.
    assert np.any(steps[15]["before"][TEACHER][0] != rested[0])
    assert {t: p["best_step"] for t, p in trainer.summary().items()} == {
        TEACHER: 16, "s0": 24, "late0": 32}
    assert trainer.best.table_steps["s0"] == {"shared": 16}


def test_towers_that_take_no_part_wait_for_nobody(without_valid, tmp_path):
    model = build_model(without_valid, [SOFT], late=[SOFT])
    trainer = build_trainer(without_valid, model, tmp_path)
    trainer.progress = {"late0": trainer.progress["late0"]}
    trainer.phase = together(model, trainer.progress, trainer.settings, 8)
    before = weights_of(model, TEACHER)
    trainer.run()
    assert trainer.step == 16
    assert_equal(weights_of(model, TEACHER), before)


def test_a_late_student_that_diverges_leaves_the_others_alone(examples, tmp_path):
    model = build_model(examples, [], late=[SOFT, SOFT])
    trainer = build_trainer(examples, model, tmp_path, rates={"late0": 1e38})
    trainer.run()
    assert {t: p.status for t, p in trainer.progress.items()} == {
        TEACHER: "training", "late0": "diverged", "late1": "training"}
    assert trainer.progress["late1"].best_step > 12


@pytest.mark.parametrize("policy", [StopGradient(embedding=False), StopGradient(teacher=False)])
def test_who_starts_later_cannot_move_the_teacher(examples, policy):
    with pytest.raises(ConfigError, match="student late0 starts when the teacher has finished, so "
                                          "that its losses cannot move it"):
        build_model(examples, [], late=[replace(SOFT, stop_gradient=policy)])


# --- who changes what in one step ---

@pytest.mark.parametrize(("tower", "changed"), [
    ("late0", {"late0"}), ("own", {"own", "table own"}), ("extra", {"extra", "table extra"}),
])
def test_a_step_of_a_late_student_changes_what_is_its_own(examples, tmp_path, tower, changed):
    model = build_model(examples, [SOFT], late=[SOFT], late_own=SOFT, extra=["item", "age"])
    train_step = build_trainer(examples, model, tmp_path).train_step

    def state():
        named = {name: [v.numpy() for v in model.network_variables(name)] for name in model.towers}
        return named | {f"table {t.name}": [c.numpy() for c in t.columns()]
                        for t in model.tables(model.towers)}

    before = state()
    train_step.run([tower], examples.batch(examples.split.train[:40]), 0)
    after = state()
    assert {name for name in before if any(
        np.any(a != b) for a, b in zip(before[name], after[name], strict=True))} == changed


# --- consolidation ---

@pytest.fixture(scope="module")
def consolidated(examples, tmp_path_factory):
    """s0 is best at 1, before the teacher's best at 2; it betters itself in its second pass."""
    return scripted(examples, tmp_path_factory.mktemp("run"), {
        TEACHER: [1, 3, 2], "s0": [2, 1, 1, 1.5, 2.5, 2.2], "alone": [1, 2, 3], "late0": [1, 2, 3],
    }, epochs=3, patience=9, consolidation_epochs=3, alone=True, late=[EVERYTHING])


def test_students_that_listen_go_on_from_their_best_weights_on_the_rested_teacher(consolidated):
    trainer, steps = consolidated
    assert [one["training"] for one in steps] == [
        *3 * [[TEACHER, "s0", "alone"]], *3 * [["s0", "late0"]]]
    assert [one["consolidating"] for one in steps] == 3 * [[]] + 3 * [["s0"]]
    seen = trainer._scorer.seen
    columns = 2
    assert_equal(steps[3]["before"]["s0"][:-columns], seen["s0"][0][:-columns])
    assert_equal(steps[3]["before"]["s0"][-columns:], seen[TEACHER][1][-columns:])
    # Their averages begin there too, not at what came after their best.
    assert_equal(steps[3]["averages"]["s0"], steps[3]["before"]["s0"][:-columns])
    assert np.any(steps[2]["averages"]["s0"][0] != steps[3]["averages"]["s0"][0])


def test_what_is_better_than_before_is_kept_and_what_is_worse_is_not(consolidated, examples,
                                                                    tmp_path):
    trainer, _ = consolidated
    assert trainer.progress["s0"].best_step == 5
    assert trainer.best.table_steps["s0"] == {"shared": 2}
    worse, _ = scripted(examples, tmp_path, {TEACHER: [1, 3, 2], "s0": [2, 1, 1, 1.5, 1.9]},
                        epochs=3, patience=3, consolidation_epochs=2)
    assert worse.progress["s0"].best_step == 1
    assert worse.best.table_steps["s0"] == {"shared": 1}
    assert_equal(worse.best.of_tower("s0"), worse._scorer.seen["s0"][0])


def test_consolidation_stops_early(examples, tmp_path):
    """And has its patience anew: that of the first phase was spent."""
    trainer, steps = scripted(
        examples, tmp_path, {TEACHER: [1, 3, 2], "s0": [2, 1, 1, 1.5, 3, 2, 2]},
        epochs=3, patience=2, consolidation_epochs=9)
    assert len(steps) == 7
    assert (trainer.progress["s0"].status, trainer.progress["s0"].best_step) == ("stopped", 5)


def test_consolidation_learns_from_the_teachers_logits_alone(examples, tmp_path):
    """The step equals one of a student that never had labels or hints."""
    logits_alone = replace(EVERYTHING, label_weight=0.0, hint_weight=0.0, hints=())
    weights, losses = [], []
    for name, objective, consolidating in (("a", EVERYTHING, ["s0"]), ("b", logits_alone, [])):
        model = build_model(examples, [objective])
        train_step = build_trainer(examples, model, tmp_path / name).train_step
        batch = examples.batch(examples.split.train[:40])
        for step in range(3):
            found, _ = train_step.run(["s0"], batch, step, consolidating=consolidating)
        weights.append([v.numpy() for v in model.students["s0"].network.trainable_variables])
        losses.append({key: float(value) for key, value in found["s0"].items()})
    assert losses[0] == losses[1]
    assert set(losses[0]) == {"soft_label_loss", "logit_loss", "total"}
    assert_equal(*weights)


def test_who_consolidates(examples, tmp_path):
    model = build_model(
        examples,
        [SOFT, Objective(), Objective(hint_weight=0.1, hints=((-1, -1),)),
         Objective(logit_weight=0.5, stop_gradient=StopGradient(embedding=False))],
        alone=True, late=[SOFT])
    settings = build_trainer(examples, model, tmp_path, consolidation_epochs=2).settings
    phase = after_teacher(model, model.towers, settings, 5, start=10)
    # Not: labels alone, hints alone, one that moves the table, one that started later.
    assert phase.consolidating == ["s0"]
    assert phase.limits == {"late0": 2 * 5, "s0": 2 * 5}
    assert after_teacher(model, ["late0"], settings, 5, start=10).limits == {"late0": 10}
    none = replace(settings, consolidation_epochs=0)
    assert after_teacher(model, model.towers, none, 5, start=10).limits == {"late0": 10}


def test_a_student_that_diverged_does_not_consolidate(examples, tmp_path):
    model = build_model(examples, [EVERYTHING, SOFT])
    trainer = build_trainer(examples, model, tmp_path, rates={"s0": 1e38}, consolidation_epochs=1)
    trainer.run()
    assert trainer.phase.consolidating == ["s1"]
    assert trainer.progress["s0"].status == "diverged"


# --- schedules ---

def scheduled(**schedules):
    return replace(EVERYTHING, schedule=Schedules(**schedules))


def test_a_student_that_waits_for_the_teacher_learns_labels_alone_until_then(examples, tmp_path):
    """12 steps; soft labels begin with the 7th."""
    waits = Schedule(shape="warm_up", start=0.5)
    weights = {}
    for name, objective in (("labels", Objective()), ("soft", SOFT),
                            ("waits", replace(SOFT, schedule=Schedules(soft_label_weight=waits)))):
        trainer = build_trainer(examples, build_model(examples, [objective]), tmp_path / name)
        steps = Calls(trainer).steps
        trainer.run()
        weights[name] = [one["before"]["s0"] for one in steps]
    for mine, theirs in zip(weights["waits"][:7], weights["labels"][:7], strict=True):
        for a, b in zip(mine, theirs, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
    assert np.abs(weights["waits"][7][0] - weights["labels"][7][0]).max() > 1e-4
    assert np.abs(weights["waits"][6][0] - weights["soft"][6][0]).max() > 1e-4


@pytest.mark.parametrize("name", ["label_weight", "soft_label_weight", "logit_weight",
                                  "hint_weight", "temperature"])
def test_every_schedule_is_followed_step_by_step(examples, tmp_path, name):
    """The losses of a step equal those of a fixed objective with the values of that step."""
    ramp = Schedule(shape="linear", start=0.2, end=0.8, initial=2.0, final=0.5)
    changing = scheduled(**{name: ramp})
    model = build_model(examples, [changing], dropout=0.0)
    train_step = build_trainer(examples, model, tmp_path).train_step
    batch = examples.batch(examples.split.train[:40])
    for progress, factor in ((0.1, 2.0), (0.5, 1.25), (0.9, 0.5)):
        fixed = replace(EVERYTHING, **{name: getattr(EVERYTHING, name) * factor})
        outputs = model.forward(model.lookup(*map(np.asarray, batch[:2])), np.int64(0))
        student, teacher = outputs["s0"], outputs[TEACHER]
        hints = [(project(student.hidden[mine]), teacher.hidden[theirs]) for project, (
            theirs, mine) in zip(model.students["s0"].projections, fixed.hints, strict=True)]
        expected = fixed.losses(labels=batch.labels, weights=batch.weights,
                                student_logits=student.logits, teacher_logits=teacher.logits,
                                hints=hints)
        found, _ = train_step.run(["s0"], batch, 0, progress={"s0": progress})
        for loss, value in expected.items():
            assert float(found["s0"][loss]) == pytest.approx(float(value), rel=1e-4), loss
    assert len(train_step._compiled) == 1


def test_progress_is_the_share_of_the_students_own_steps(examples, tmp_path):
    model = build_model(examples, [EVERYTHING], late=[SOFT])
    trainer = build_trainer(examples, model, tmp_path, patience=99)
    steps = Calls(trainer).steps
    trainer.run()
    assert [one["progress"]["s0"] for one in steps[:12]] == pytest.approx(
        [i / 12 for i in range(12)])
    assert [one["progress"]["late0"] for one in steps[12:]] == pytest.approx(
        [i / 12 for i in range(12)])


def test_in_a_training_that_goes_on_schedules_are_at_their_end(examples, tmp_path):
    model = build_model(examples, [EVERYTHING])
    first = build_trainer(examples, model, tmp_path / "first", epochs=1)
    trainer = Trainer(train_step=first.train_step, examples=examples, settings=first.settings,
                      seed=1, folder=tmp_path / "second", goes_on=True)
    steps = Calls(trainer).steps
    trainer.run()
    assert {one["progress"]["s0"] for one in steps} == {1.0}
