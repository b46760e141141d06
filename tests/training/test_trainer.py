import dualdnn  # noqa: F401, I001  (first: it selects the Keras API)

from dataclasses import replace

import numpy as np
import pytest

from dualdnn.distillation.objective import StopGradient
from dualdnn.errors import DataError, NonFiniteError
from dualdnn.models.dual_dnn import TEACHER
from dualdnn.training.checkpoint import read_arrays
from tests.tiny_run import (
    EVERYTHING, anew, build_model, build_trainer, digest_of, open_tiny, weights_of,
)

STEPS_A_PASS = 6  # 264 rows in steps of 48


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    return open_tiny(tmp_path_factory.mktemp("feed"))


class Recorder:
    """A listener; `after_step` may break something at a step."""

    def __init__(self, after_step=lambda step: None):
        self.after_step = after_step
        self.steps, self.records = [], []

    def on_step(self, step, steps):
        self.steps.append((step, steps))
        self.after_step(step)

    def on_record(self, record):
        self.records.append(record)


# --- the plan ---

def test_every_row_is_read_once_a_pass_in_an_order_of_seed_and_pass(examples, tmp_path):
    def passes(seed):
        trainer = build_trainer(examples, build_model(examples, []), tmp_path, seed=seed)
        assert trainer.steps_per_epoch == STEPS_A_PASS
        batches = []
        for step in range(trainer.total_steps):
            trainer.step = step
            batches.append(trainer._batch())
        assert [len(batch) for batch in batches] == 2 * [44] * 6
        return np.split(np.concatenate(batches), 2)

    first, second = passes(1)
    for one in (first, second):
        assert sorted(one) == list(examples.split.train)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(passes(1)[1], second)
    assert not np.array_equal(passes(2)[0], first)


@pytest.mark.parametrize(("parts", "steps"), [
    (1, [6, 12]), (2, [3, 6, 9, 12]), (3, [2, 4, 6, 8, 10, 12]), (100, list(range(1, 13))),
])
def test_evaluations_divide_the_pass_and_close_it(examples, tmp_path, parts, steps):
    trainer = build_trainer(examples, build_model(examples, []), tmp_path,
                            evaluations_per_epoch=parts)
    found = [step for step in range(1, trainer.total_steps + 1) if trainer._order.ends_part(step)]
    assert found == steps


# --- a whole run ---

@pytest.fixture(scope="module")
def plain_run(examples, tmp_path_factory):
    """The teacher and two students, one of them with its own table."""
    listener = Recorder()
    model = build_model(examples, [EVERYTHING], alone=True)
    trainer = build_trainer(examples, model, tmp_path_factory.mktemp("run"), listener=listener,
                            epochs=4)
    trainer.run()
    return trainer, listener


def test_losses_fall_and_every_step_is_heard_of(plain_run):
    trainer, listener = plain_run
    assert listener.steps == [(step, 24) for step in range(1, 25)]
    assert listener.records == trainer.history
    for tower in trainer.model.towers:
        losses = [r["value"] for r in trainer.history
                  if (r["tower"], r["part"], r["metric"]) == (tower, "train", "total")]
        assert len(losses) == 4
        assert losses[-1] < losses[0]


def test_history_names_every_loss_and_metric_of_every_evaluation_once(plain_run):
    trainer, _ = plain_run
    keys = [(r["step"], r["tower"], r["part"], r["metric"]) for r in trainer.history]
    assert len(set(keys)) == len(keys)
    assert {r["step"] for r in trainer.history} == {6, 12, 18, 24}
    assert {r["epoch"] for r in trainer.history} == {1, 2, 3, 4}
    assert {key[1:] for key in keys} == {
        (tower, part, metric) for tower in trainer.model.towers
        for part, metrics in (("train", ["total", "label_loss"]), ("valid", ["log_loss", "auc"]))
        for metric in metrics
    } | {("s0", "train", f"{name}_loss") for name in ("soft_label", "logit", "hint")}


def test_two_checkpoints_are_kept_and_are_finite(plain_run):
    trainer, _ = plain_run
    assert [path.name for path in trainer.checkpoints()] == ["step-0000000022", "step-0000000024"]
    assert [p.name for p in trainer.folder.iterdir() if not p.name.startswith("step-")] == []
    for path in trainer.checkpoints():
        assert all(np.isfinite(array).all() for array in read_arrays(path).values())


def test_timing_leaves_out_the_steps_that_compile(plain_run):
    trainer, _ = plain_run
    # Four passes of 264 rows; the first step compiled.
    assert trainer.timed_examples == 4 * 264 - 44
    assert trainer.timed_seconds > 0


def test_without_validation_the_last_average_is_the_best(tmp_path):
    examples = open_tiny(tmp_path, valid=0.0)
    model = build_model(examples, [EVERYTHING])
    trainer = build_trainer(examples, model, tmp_path / "run", averaging=True)
    trainer.run()
    averages = [a.numpy() for a in trainer.train_step.dense_averages["s0"].averages]
    for value, best in zip(averages, trainer.best.dense["s0"], strict=True):
        np.testing.assert_array_equal(value, best)
    assert any(np.any(value != live.numpy())
               for value, live in zip(averages, model.dense_variables("s0"), strict=True))


def test_without_validation_the_last_weights_are_the_best(tmp_path):
    examples = open_tiny(tmp_path, valid=0.0)
    model = build_model(examples, [EVERYTHING])
    trainer = build_trainer(examples, model, tmp_path / "run", patience=1, averaging=False)
    trainer.run()
    assert trainer.step == trainer.total_steps == 2 * 8
    assert {r["part"] for r in trainer.history} == {"train"}
    for tower in model.towers:
        now = weights_of(model, tower)
        trainer.best.load_into(model, tower)
        for value, best in zip(now, weights_of(model, tower), strict=True):
            np.testing.assert_array_equal(value, best)
        assert trainer.summary()[tower] == {"status": "training", "best": None,
                                            "best_step": 16, "ended_step": None}


def test_auc_as_monitor_needs_both_classes(examples, tmp_path):
    one_class = examples.split.valid[examples.labels[examples.split.valid] == 0]
    lonely = replace(examples, split=replace(examples.split, valid=one_class))
    trainer = build_trainer(lonely, build_model(lonely, []), tmp_path, monitor="auc")
    with pytest.raises(DataError, match=r"holds one class only, .* so training\.monitor=auc"):
        trainer.run()


# --- what is not finite ---

def poison(variable, at):
    def after_step(step):
        if step == at:
            variable.assign(np.full(variable.numpy().shape, np.nan))
    return after_step


def test_teacher_goes_on_bit_identically_when_a_student_diverges(examples, tmp_path):
    first = build_trainer(examples, build_model(examples, [EVERYTHING]), tmp_path / "fine")
    network = first.model.students["s0"].network
    enormous = build_trainer(examples, build_model(examples, [EVERYTHING]), tmp_path / "enormous",
                             rates={"s0": 1e38})
    digests, summaries = [], []
    for trainer in (
            lambda: first,
            lambda: anew(first, tmp_path / "poisoned",
                         listener=Recorder(poison(network.output_layer.bias, at=7))),
            lambda: enormous,
            # ReLU turns this one into zeros: no loss shows it.
            lambda: anew(first, tmp_path / "hidden",
                         listener=Recorder(poison(network.mlp.dense[0].kernel, at=7)))):
        trainer = trainer()
        trainer.run()
        digests.append(digest_of(trainer.model, TEACHER))
        summaries.append(trainer.summary())
    assert len(set(digests)) == 1
    assert [s[TEACHER] for s in summaries] == [summaries[0][TEACHER]] * 4
    assert [s["s0"]["status"] for s in summaries] == ["training"] + 3 * ["diverged"]
    # At the next step; at the next checkpoint where only the weights can tell.
    assert [s["s0"]["ended_step"] for s in summaries[1::2]] == [8, 8]
    # Its best weights from before are kept, and are finite.
    assert summaries[1]["s0"]["best_step"] == 6
    assert "s0" not in trainer.best.dense or all(
        np.isfinite(value).all() for value in trainer.best.dense["s0"])


@pytest.mark.parametrize("policy", [StopGradient(embedding=False), StopGradient(teacher=False)])
def test_a_student_that_moves_the_teacher_does_not_end_it_either(examples, tmp_path, policy):
    model = build_model(examples, [replace(EVERYTHING, stop_gradient=policy)])
    after_step = poison(model.students["s0"].network.output_layer.bias, at=7)
    trainer = build_trainer(examples, model, tmp_path, listener=Recorder(after_step))
    trainer.run()
    assert trainer.summary()["s0"]["status"] == "diverged"
    assert trainer.summary()[TEACHER]["best_step"] in (6, 12)
    assert all(np.isfinite(value).all() for value in weights_of(model, TEACHER))


@pytest.mark.parametrize(("where", "message"), [
    ("output", r"loss or gradient is not finite at step 8\. .*checkpoint is .*step-0000000006\."),
    # Whether a compiled ReLU lets NaN through to the loss is a matter of the processor.
    ("hidden", r"(loss or gradient|state \(weights and optimizer\)) is not finite at step 8\. "
               r".*step-0000000006\."),
    ("table", r"state \(weights and optimizer\) is not finite at step 8\. .*step-0000000006\."),
])
def test_a_teacher_that_is_not_finite_ends_the_run_and_keeps_good_checkpoints(
        examples, tmp_path, where, message):
    model = build_model(examples, [EVERYTHING])

    def after_step(step):
        if step != 7:
            return
        if where == "table":
            # A row that the next batch does not read: only a look at the table can tell.
            unread = set(range(1, 60)) - set(examples.rows[trainer._batch()].ravel())
            model.embedding.tables["main"].linear[min(unread)].assign([np.inf])
        else:
            bias = model.teacher.output_layer.bias if where == "output" else (
                model.teacher.mlp.dense[0].bias)
            bias.assign(np.full(bias.shape, np.nan))

    trainer = build_trainer(examples, model, tmp_path, listener=Recorder(after_step))
    with pytest.raises(NonFiniteError, match="the teacher's " + message + " Lower the learning"):
        trainer.run()
    assert [path.name for path in trainer.checkpoints()] == ["step-0000000004", "step-0000000006"]
    for path in trainer.checkpoints():
        assert all(np.isfinite(array).all() for array in read_arrays(path).values())


def test_a_first_step_that_is_not_finite_has_no_checkpoint_to_name(examples, tmp_path):
    model = build_model(examples, [])
    model.teacher.output_layer.bias.assign([np.inf])
    with pytest.raises(NonFiniteError, match=r"at step 1\. No checkpoint was written before it\."):
        build_trainer(examples, model, tmp_path).run()
