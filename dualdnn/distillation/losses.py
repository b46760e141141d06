"""Distillation losses: pure functions, one value per example, from logits.

Weighting and reduction happen once, in `objective` and the teachers, by `mean_loss`.
"""

from __future__ import annotations

import tensorflow as tf

# Below the square of anything that a network says on purpose: keeps gradients finite at 0.
_EPSILON = 1e-6


def mean_loss(values: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Sum of weighted losses over the number of examples that count.

    Not over the sum of their weights: a batch that happens to hold heavy examples must move the
    model more, or all steps together would discount just these, and bias the odds.

    Args:
        values: `(batch_size,)`.
        weights: `(batch_size,)` with mean 1 over the training part; weight 0 equals dropping the
            example.

    Returns:
        a scalar; 0 where every weight is 0.
    """
    counted = tf.math.count_nonzero(weights, dtype=values.dtype)
    return tf.math.divide_no_nan(tf.reduce_sum(values * weights), counted)


def weighted_mean(values: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Mean of `(batch_size,)` values under `(batch_size,)` weights; 0 where all of these are 0."""
    return tf.math.divide_no_nan(tf.reduce_sum(values * weights), tf.reduce_sum(weights))


def label_loss(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Binary cross-entropy.

    Args:
        labels: `(batch_size,)` in [0, 1].
        logits: `(batch_size,)`.

    Returns:
        `(batch_size,)`.
    """
    return tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits)


def soft_label_loss(
    student_logits: tf.Tensor, teacher_logits: tf.Tensor, temperature: float | tf.Tensor
) -> tf.Tensor:
    """Bernoulli cross-entropy with the teacher's softened probability, times T^2.

    Equals Hinton et al. 2015 (arXiv:1503.02531) for two classes with logits (0, z). The factor
    T^2 keeps the gradient, T * (sigmoid(s / T) - sigmoid(t / T)), of one size for any T.

    Args:
        student_logits: `(batch_size,)`.
        teacher_logits: `(batch_size,)`.
        temperature: T > 0.

    Returns:
        `(batch_size,)`.
    """
    cross_entropy = tf.nn.sigmoid_cross_entropy_with_logits(
        labels=tf.sigmoid(teacher_logits / temperature), logits=student_logits / temperature
    )
    return cross_entropy * temperature**2


def soft_label_divergence(
    student_logits: tf.Tensor, teacher_logits: tf.Tensor, temperature: float | tf.Tensor
) -> tf.Tensor:
    """Kullback-Leibler divergence of the same two distributions, times T^2.

    Same gradient for the student as `soft_label_loss`, and 0 where the logits agree. That of a
    teacher that is moved too is 0 there as well (Zhang et al. 2018, "Deep mutual learning",
    arXiv:1706.00384), where the cross-entropy would drive it to certainty.
    """
    entropy = soft_label_loss(teacher_logits, teacher_logits, temperature)
    return soft_label_loss(student_logits, teacher_logits, temperature) - entropy


def logit_loss(student_logits: tf.Tensor, teacher_logits: tf.Tensor) -> tf.Tensor:
    """Squared difference of the logits (Ba and Caruana 2014, arXiv:1312.6184), `(batch_size,)`."""
    return tf.square(student_logits - teacher_logits)


def standardized(logits: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Logits with mean 0 and variance 1 over the batch, both under the weights.

    Args:
        logits: `(batch_size,)`.
        weights: `(batch_size,)`; weight 0 equals dropping the example.

    Returns:
        `(batch_size,)`; zeros where all logits are equal.
    """
    centred = logits - weighted_mean(logits, weights)
    variance = weighted_mean(tf.square(centred), weights)
    return centred * tf.math.rsqrt(variance + _EPSILON)


def z_scored_logit_loss(
    student_logits: tf.Tensor, teacher_logits: tf.Tensor, weights: tf.Tensor
) -> tf.Tensor:
    """Squared difference of the standardised logits.

    The student follows the relations of the teacher's logits, and is free in mean and scale.
    Logit standardisation (Sun et al. 2024, arXiv:2403.01494) takes the z-score over the classes of
    an example; one logit has no other classes, so here it is taken over the examples of the batch.
    Its weighted mean over the batch is 2 - 2 * r with r the weighted correlation of the logits.

    Args:
        student_logits: `(batch_size,)`.
        teacher_logits: `(batch_size,)`.
        weights: `(batch_size,)`; weight 0 equals dropping the example.

    Returns:
        `(batch_size,)`.
    """
    return logit_loss(standardized(student_logits, weights), standardized(teacher_logits, weights))


def cosine_hint_loss(projected: tf.Tensor, teacher_hidden: tf.Tensor) -> tf.Tensor:
    """1 - cosine of the angle between two hidden layers: their direction alone, in [0, 2].

    Args:
        projected: `(batch_size, teacher_units)`, the student's layer after its projection.
        teacher_hidden: `(batch_size, teacher_units)`.

    Returns:
        `(batch_size,)`; 1 where either layer is all zeros.
    """
    squares = [tf.reduce_sum(tf.square(one), axis=-1) for one in (projected, teacher_hidden)]
    product = tf.reduce_sum(projected * teacher_hidden, axis=-1)
    return 1 - product * tf.math.rsqrt((squares[0] + _EPSILON) * (squares[1] + _EPSILON))


def hint_loss(projected: tf.Tensor, teacher_hidden: tf.Tensor) -> tf.Tensor:
    """Mean squared difference over the units of a hidden layer (FitNets, Romero et al. 2015).

    Args:
        projected: `(batch_size, teacher_units)`, the student's layer after its projection.
        teacher_hidden: `(batch_size, teacher_units)`.

    Returns:
        `(batch_size,)`.
    """
    return tf.reduce_mean(tf.square(projected - teacher_hidden), axis=-1)
