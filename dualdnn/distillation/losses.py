"""Distillation losses: pure functions, one value per example, from logits.

Weighting and reduction happen once, in `objective`.
"""

from __future__ import annotations

import tensorflow as tf


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
    student_logits: tf.Tensor, teacher_logits: tf.Tensor, temperature: float
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
    student_logits: tf.Tensor, teacher_logits: tf.Tensor, temperature: float
) -> tf.Tensor:
    """Kullback-Leibler divergence of the same two distributions, times T^2.

    Same gradient for the student as `soft_label_loss`, and 0 where the logits agree: the number
    to watch.
    """
    entropy = soft_label_loss(teacher_logits, teacher_logits, temperature)
    return soft_label_loss(student_logits, teacher_logits, temperature) - entropy


def logit_loss(student_logits: tf.Tensor, teacher_logits: tf.Tensor) -> tf.Tensor:
    """Squared difference of the logits (Ba and Caruana 2014, arXiv:1312.6184), `(batch_size,)`."""
    return tf.square(student_logits - teacher_logits)


def hint_loss(projected: tf.Tensor, teacher_hidden: tf.Tensor) -> tf.Tensor:
    """Mean squared difference over the units of a hidden layer (FitNets, Romero et al. 2015).

    Args:
        projected: `(batch_size, teacher_units)`, the student's layer after its projection.
        teacher_hidden: `(batch_size, teacher_units)`.

    Returns:
        `(batch_size,)`.
    """
    return tf.reduce_mean(tf.square(projected - teacher_hidden), axis=-1)
