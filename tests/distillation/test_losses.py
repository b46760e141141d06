import dualdnn  # noqa: F401, I001  (first: it selects the Keras API)

import numpy as np
import pytest
import tensorflow as tf

from dualdnn.distillation.losses import (
    cosine_hint_loss,
    hint_loss,
    label_loss,
    logit_loss,
    soft_label_divergence,
    soft_label_loss,
    standardized,
    z_scored_logit_loss,
)

TEACHER = tf.constant([3.0, -2.0, 0.5])
STUDENT = tf.constant([-3.0, 2.0, 0.1])


def gradient(loss, *arguments):
    """Of the sum of a loss by its first argument."""
    first = tf.Variable(arguments[0])
    with tf.GradientTape() as tape:
        value = loss(first, *arguments[1:])
    return tape.gradient(value, first).numpy()


def test_reference_numbers():
    assert float(tf.reduce_mean(soft_label_loss(STUDENT, TEACHER, 2.0))) == pytest.approx(
        4.216595, abs=1e-6)
    assert float(tf.reduce_mean(soft_label_divergence(STUDENT, TEACHER, 2.0))) == pytest.approx(
        1.893061, abs=1e-6)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_soft_labels_equal_the_softmax_of_two_classes_with_logits_0_and_z(temperature):
    def two_classes(logits):
        return np.stack([np.zeros(3), logits.numpy() / temperature], axis=1)

    def softmax(logits):
        return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)

    share, predicted = softmax(two_classes(TEACHER)), softmax(two_classes(STUDENT))
    cross_entropy = -(share * np.log(predicted)).sum(axis=1) * temperature**2
    np.testing.assert_allclose(soft_label_loss(STUDENT, TEACHER, temperature), cross_entropy,
                               rtol=1e-5)
    divergence = (share * np.log(share / predicted)).sum(axis=1) * temperature**2
    np.testing.assert_allclose(soft_label_divergence(STUDENT, TEACHER, temperature), divergence,
                               rtol=1e-5, atol=1e-6)


def test_a_certain_teacher_at_temperature_1_is_a_hard_label():
    labels = tf.constant([1.0, 0.0, 1.0])
    certain = tf.constant([100.0, -100.0, 100.0])
    np.testing.assert_allclose(soft_label_loss(STUDENT, certain, 1.0),
                               label_loss(labels, STUDENT), rtol=1e-6)


def test_label_loss_is_minus_the_log_of_the_probability_given_to_what_happened():
    probability = 1 / (1 + np.exp(-STUDENT.numpy()))
    expected = -np.log([probability[0], 1 - probability[1], probability[2]])
    np.testing.assert_allclose(label_loss(tf.constant([1.0, 0.0, 1.0]), STUDENT), expected,
                               rtol=1e-5)


@pytest.mark.parametrize("loss", [soft_label_loss, soft_label_divergence])
@pytest.mark.parametrize("temperature", [1.0, 2.0, 10.0])
def test_gradient_is_t_times_the_difference_of_softened_probabilities(loss, temperature):
    expected = temperature * (tf.sigmoid(STUDENT / temperature) - tf.sigmoid(TEACHER / temperature))
    np.testing.assert_allclose(gradient(loss, STUDENT, TEACHER, temperature), expected, rtol=1e-5)


def test_gradient_tends_to_a_quarter_of_the_difference_of_logits_as_t_grows():
    quarter = (STUDENT - TEACHER).numpy() / 4
    errors = [np.abs(gradient(soft_label_loss, STUDENT, TEACHER, t) - quarter).max()
              for t in (1.0, 10.0, 100.0)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-3


def test_divergence_is_zero_where_the_logits_agree_and_positive_elsewhere():
    np.testing.assert_array_equal(soft_label_divergence(TEACHER, TEACHER, 3.0), np.zeros(3))
    assert np.all(soft_label_divergence(STUDENT, TEACHER, 3.0).numpy() > 0)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 5.0])
def test_extreme_logits_stay_finite(temperature):
    extreme = tf.constant([1e4, -1e4, 1e4, 0.0])
    other = tf.constant([-1e4, 1e4, 1e4, -1e4])
    labels = tf.constant([0.0, 1.0, 1.0, 0.0])
    for loss, arguments in ((soft_label_loss, (other, temperature)),
                            (soft_label_divergence, (other, temperature)),
                            (logit_loss, (other,))):
        assert np.isfinite(loss(extreme, *arguments)).all()
        assert np.isfinite(gradient(loss, extreme, *arguments)).all()
    assert label_loss(labels, extreme).numpy().tolist() == pytest.approx([1e4, 1e4, 0, np.log(2)])


def test_logit_loss_by_hand():
    np.testing.assert_allclose(logit_loss(STUDENT, TEACHER), [36.0, 16.0, 0.16], rtol=1e-6)


def test_hint_loss_by_hand_and_it_pulls_towards_the_teacher():
    mine = tf.constant([[1.0, 2.0], [0.0, 0.0]])
    theirs = tf.constant([[1.0, 5.0], [0.0, 0.0]])
    # (0 + 9) / 2 units, and agreement costs nothing.
    np.testing.assert_array_equal(hint_loss(mine, theirs), [4.5, 0.0])
    # Descent moves 2.0 up to 5.0: the sign that others got wrong.
    np.testing.assert_array_equal(gradient(hint_loss, mine, theirs), [[0.0, -3.0], [0.0, 0.0]])


# --- what does not depend on scale ---

def test_standardised_logits_have_mean_0_and_variance_1_under_the_weights():
    weights = np.array([1.0, 2.0, 0.5])
    found = standardized(TEACHER, tf.constant(weights, tf.float32)).numpy()
    mean = np.average(TEACHER, weights=weights)
    spread = np.sqrt(np.average((TEACHER.numpy() - mean) ** 2, weights=weights))
    np.testing.assert_allclose(found, (TEACHER.numpy() - mean) / spread, rtol=1e-5)


def test_a_student_that_is_off_by_a_scale_and_a_shift_has_no_z_scored_loss():
    ones = tf.ones(3)
    np.testing.assert_allclose(z_scored_logit_loss(0.1 * TEACHER + 7, TEACHER, ones), np.zeros(3),
                               atol=1e-6)
    np.testing.assert_allclose(tf.reduce_mean(z_scored_logit_loss(-TEACHER, TEACHER, ones)), 4,
                               rtol=1e-5)  # r = -1
    shifted = z_scored_logit_loss(STUDENT + 5, TEACHER, ones)
    np.testing.assert_allclose(shifted, z_scored_logit_loss(STUDENT, TEACHER, ones), rtol=1e-4)


@pytest.mark.parametrize("logits", [tf.zeros(3), tf.fill((3,), 2.5)])
def test_equal_logits_have_a_finite_gradient(logits):
    found = gradient(z_scored_logit_loss, logits, TEACHER, tf.ones(3))
    assert np.isfinite(found).all()


def test_a_hint_by_cosine_knows_directions_alone():
    mine = tf.constant([[1.0, 0.0], [3.0, 3.0], [0.0, 0.0], [-1.0, 0.0]])
    theirs = tf.constant([[0.0, 2.0], [1.0, 1.0], [1.0, 1.0], [4.0, 0.0]])
    np.testing.assert_allclose(cosine_hint_loss(mine, theirs), [1, 0, 1, 2], atol=1e-5)
    np.testing.assert_allclose(cosine_hint_loss(100 * mine, theirs), [1, 0, 1, 2], atol=1e-5)
    assert np.isfinite(gradient(cosine_hint_loss, mine, theirs)).all()
