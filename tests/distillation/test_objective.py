import dualdnn  # noqa: F401, I001  (first: it selects the Keras API)

from dataclasses import fields, replace

import numpy as np
import pytest
import tensorflow as tf

from dualdnn.distillation.losses import label_loss, mean_loss
from dualdnn.distillation.objective import Objective, StopGradient
from dualdnn.distillation.schedules import Schedule, Schedules

EVERYTHING = Objective(label_weight=0.5, soft_label_weight=0.7, temperature=2.0, logit_weight=0.3,
                       hint_weight=0.2, hints=((0, 0),))
LABELS = tf.constant([1.0, 0.0, 1.0])
STUDENT, TEACHER = tf.constant([0.2, -1.0, 2.0]), tf.constant([1.5, -2.0, 0.0])
HINT = (tf.constant([[1.0], [2.0], [3.0]]), tf.constant([[0.0], [2.5], [1.0]]))
WEIGHTS = tf.constant([1.0, 3.0, 0.5])


def losses(objective, *, rows=slice(None), weights=WEIGHTS, hints=(HINT,), now=None):
    found = objective.losses(
        labels=LABELS[rows], weights=weights, student_logits=STUDENT[rows],
        teacher_logits=TEACHER[rows], hints=[(a[rows], b[rows]) for a, b in hints], now=now,
    )
    return {name: float(value) for name, value in found.items()}


def test_total_is_the_weighted_sum_of_the_parts():
    found = losses(EVERYTHING)
    assert found["total"] == pytest.approx(
        0.5 * found["label_loss"] + 0.7 * found["soft_label_loss"] + 0.3 * found["logit_loss"]
        + 0.2 * found["hint_loss"], rel=1e-6)


def test_parts_are_weighted_sums_over_the_number_of_examples():
    # Squared differences 1.69, 1, 4 and 1, 0.25, 4 under the weights 1, 3, 0.5.
    assert losses(EVERYTHING)["logit_loss"] == pytest.approx((1.69 + 3 + 2) / 3)
    assert losses(EVERYTHING)["hint_loss"] == pytest.approx((1 + 0.75 + 2) / 3)


def test_several_hints_are_averaged():
    assert losses(EVERYTHING, hints=(HINT, HINT))["hint_loss"] == pytest.approx(
        losses(EVERYTHING)["hint_loss"])


@pytest.mark.parametrize("logit_loss", ["squared", "z_scored"])
@pytest.mark.parametrize("hint_loss", ["mse", "cosine"])
def test_weight_zero_equals_dropping_the_example(logit_loss, hint_loss):
    objective = replace(EVERYTHING, logit_loss=logit_loss, hint_loss=hint_loss)
    masked = losses(objective, weights=tf.constant([1.0, 0.0, 0.5]))
    for name, value in losses(objective, rows=slice(None, None, 2),
                              weights=tf.constant([1.0, 0.5])).items():
        assert masked[name] == pytest.approx(value, rel=1e-5), name


def test_the_z_scored_loss_is_two_less_two_correlations():
    found = losses(replace(EVERYTHING, logit_loss="z_scored"))["logit_loss"]
    covariance = np.cov(STUDENT.numpy(), TEACHER.numpy(), aweights=WEIGHTS.numpy(), ddof=0)
    correlation = covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1])
    # The mean weight is 1.5.
    assert found == pytest.approx(1.5 * (2 - 2 * correlation), rel=1e-5)


def test_the_cosine_loss_is_one_less_the_cosine():
    three_by_two = (tf.constant([[1.0, 0.0], [1.0, 1.0], [-2.0, 0.0]]),
                    tf.constant([[3.0, 4.0], [2.0, 2.0], [5.0, 0.0]]))
    found = losses(replace(EVERYTHING, hint_loss="cosine"), hints=(three_by_two,))["hint_loss"]
    assert found == pytest.approx(((1 - 0.6) * 1 + 0 * 3 + 2 * 0.5) / 3, rel=1e-5)


def test_values_of_a_step_stand_for_those_of_the_objective():
    now = {"label_weight": 0.25, "soft_label_weight": 0.0, "temperature": 5.0, "logit_weight": 2.0,
           "hint_weight": 1.5}
    found = losses(EVERYTHING, now={name: tf.constant(value) for name, value in now.items()})
    fixed = losses(replace(EVERYTHING, **{**now, "soft_label_weight": 1.0}))
    # Of weight 0 for now, but still watched.
    assert found["soft_label_loss"] == pytest.approx(fixed["soft_label_loss"], rel=1e-6)
    assert found["total"] == pytest.approx(fixed["total"] - fixed["soft_label_loss"], rel=1e-5)


def test_a_weight_of_two_equals_the_example_twice():
    twice = tf.constant([0, 1, 1])
    doubled = mean_loss(tf.gather(label_loss(LABELS, STUDENT), twice), tf.ones(3))
    # As the weights of the step have them: with mean 1.
    weighted = mean_loss(label_loss(LABELS, STUDENT)[:2], tf.constant([1.0, 2.0]) / 1.5)
    assert float(doubled) == pytest.approx(float(weighted))


def test_a_batch_of_heavy_examples_moves_a_model_more_than_one_of_light_examples():
    """The parts of a whole add up to it, however it is cut: no example is discounted."""
    values, weights = label_loss(LABELS, STUDENT), WEIGHTS / 1.5
    cut = [mean_loss(values[:1], weights[:1]), mean_loss(values[1:], weights[1:])]
    assert (float(cut[0]) + 2 * float(cut[1])) / 3 == pytest.approx(float(mean_loss(values,
                                                                                    weights)))


def test_a_batch_without_weight_counts_nothing():
    assert set(losses(EVERYTHING, weights=tf.zeros(3)).values()) == {0.0}


@pytest.mark.parametrize("option", ["label_weight", "soft_label_weight", "logit_weight",
                                    "hint_weight"])
def test_a_loss_of_weight_zero_is_not_computed(option):
    name = {"hint_weight": "hint_loss", "logit_weight": "logit_loss"}.get(
        option, option.replace("_weight", "_loss"))
    full, without = losses(EVERYTHING), losses(replace(EVERYTHING, **{option: 0.0}))
    assert name in full
    assert name not in without
    assert without["total"] == pytest.approx(
        full["total"] - getattr(EVERYTHING, option) * full[name], rel=1e-5)


CHANGES = {"label_weight": 0.9, "soft_label_weight": 0.9, "temperature": 3.0,
           "logit_weight": 0.9, "logit_loss": "z_scored", "hint_weight": 0.9,
           "hint_loss": "cosine"}


@pytest.mark.parametrize("option", [*CHANGES])
def test_every_number_moves_the_total(option):
    assert losses(replace(EVERYTHING, **{option: CHANGES[option]}))["total"] != pytest.approx(
        losses(EVERYTHING)["total"], rel=1e-3)


def test_no_option_is_left_out_of_these_tests():
    # Hints choose layers, which the model pairs; stop-gradients follow below; schedules are
    # followed by the training step.
    assert {f.name for f in fields(Objective)} == {*CHANGES, "hints", "stop_gradient", "schedule"}


@pytest.mark.parametrize("stopped", [True, False])
def test_stop_gradient_teacher_keeps_the_loss_from_the_teachers_outputs(stopped):
    objective = replace(EVERYTHING, stop_gradient=StopGradient(teacher=stopped))
    teacher, hidden = tf.Variable(TEACHER), tf.Variable(HINT[1])
    with tf.GradientTape() as tape:
        total = objective.losses(labels=LABELS, weights=WEIGHTS, student_logits=STUDENT,
                                 teacher_logits=teacher, hints=[(HINT[0], hidden)])["total"]
    of_teacher, of_hidden = tape.gradient(total, [teacher, hidden])
    if stopped:
        assert of_teacher is None
        assert of_hidden is None
    else:
        assert np.all(of_teacher.numpy() != 0)
        assert np.all(of_hidden.numpy() != 0)


def test_a_teacher_that_soft_labels_move_rests_where_both_agree():
    objective = Objective(soft_label_weight=1.0, label_weight=0.0, temperature=2.0,
                          stop_gradient=StopGradient(teacher=False))
    teacher = tf.Variable(TEACHER)
    with tf.GradientTape() as tape:
        total = objective.losses(labels=LABELS, weights=WEIGHTS, student_logits=TEACHER,
                                 teacher_logits=teacher, hints=[])["total"]
    np.testing.assert_allclose(tape.gradient(total, teacher), np.zeros(len(TEACHER)), atol=1e-6)


def test_distills_says_whether_the_teacher_is_heard():
    assert not Objective().distills
    assert all(Objective(**{name: 0.1}).distills
               for name in ("soft_label_weight", "logit_weight", "hint_weight"))


@pytest.mark.parametrize(("values", "match"), [
    ({"label_weight": -1.0}, r"d\.label_weight must be >= 0, got -1\.0\. Use 0 to switch it off"),
    ({"soft_label_weight": float("nan")}, r"d\.soft_label_weight must be >= 0, got nan"),
    ({"logit_weight": float("inf")}, r"d\.logit_weight must be >= 0, got inf"),
    ({"hint_weight": -0.1}, r"d\.hint_weight must be >= 0, got -0\.1"),
    ({"label_weight": 0.0}, r"every weight is 0, so the student would learn nothing"),
    ({"temperature": 0.0}, r"d\.temperature must lie in \[0\.01, 1000\], got 0\.0"),
    ({"temperature": float("inf")}, r"d\.temperature must lie in \[0\.01, 1000\], got inf"),
    ({"temperature": 1e7}, r"d\.temperature must lie in \[0\.01, 1000\], got 10000000"),
    ({"temperature": 500.0, "schedule": Schedules(temperature=Schedule(
        shape="linear", initial=1.0, final=4.0))}, r"temperature leads to 2000, but a temperature"),
    ({"logit_loss": "l1"}, r"d\.logit_loss must be one of squared, z_scored, got 'l1'"),
    ({"hint_loss": "l1"}, r"d\.hint_loss must be one of mse, cosine, got 'l1'"),
    ({"schedule": Schedules(label_weight=Schedule(shape="steps"))},
     r"d\.schedule\.label_weight\.shape must be one of constant, .* got 'steps'"),
    ({"label_weight": 0.0, "logit_weight": 1.0, "logit_loss": "z_scored"},
     r"d\.logit_loss: z_scored alone \(at progress .*leaves the student's mean and scale open"),
    ({"hint_weight": 1.0}, r"hint_weight is 1 but d\.hints is empty.*such as \[\[-1,-1\]\]"),
    ({"hint_weight": 1.0, "hints": ((0,),)}, r"must be pairs .*got \[0\]"),
    ({"hint_weight": 1.0, "hints": ((2, 0),)}, r"names teacher layer 2, but .* has 2 hidden"),
    ({"hint_weight": 1.0, "hints": ((-1, -2),)}, r"names student layer -2, but .* has 1 hidden"),
])
def test_mistakes_name_the_setting_and_the_value(values, match):
    found = Objective(**values).mistakes("d", teacher_layers=2, student_layers=1)
    assert len(found) == 1
    with pytest.raises(ValueError, match=match):
        raise ValueError(found[0])


def test_sound_objectives_have_no_mistakes():
    assert EVERYTHING.mistakes("d", 2, 1) == []
    assert replace(EVERYTHING, logit_loss="z_scored").mistakes("d", 2, 1) == []
    unused = Objective(hints=((9, 9),))
    assert unused.mistakes("d", 2, 1) == []
