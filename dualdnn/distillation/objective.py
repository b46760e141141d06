"""What one student learns from: weights, temperature, hints and stop-gradients."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields

import tensorflow as tf

from dualdnn.distillation.losses import hint_loss, label_loss, logit_loss, soft_label_loss


@dataclass(frozen=True, kw_only=True)
class StopGradient:
    """Where a student's losses may not reach.

    Attributes:
        embedding: keep the student's gradient out of the shared table.
        teacher: keep soft labels and hints from moving the teacher.
    """

    embedding: bool = True
    teacher: bool = True


@dataclass(frozen=True, kw_only=True)
class Objective:
    """Weights of a student's losses.

    Attributes:
        label_weight: of the labels.
        soft_label_weight: of the teacher's softened probabilities.
        temperature: T of the soft labels.
        logit_weight: of the squared difference of logits.
        hint_weight: of the hidden layers.
        hints: pairs of (teacher layer, student layer), counted from 0 or, negative, from the end.
        stop_gradient: where the losses may not reach.
    """

    label_weight: float = 1.0
    soft_label_weight: float = 0.0
    temperature: float = 1.0
    logit_weight: float = 0.0
    hint_weight: float = 0.0
    hints: Sequence[tuple[int, int]] = ()
    stop_gradient: StopGradient = field(default_factory=StopGradient)

    @property
    def distills(self) -> bool:
        """Does the student listen to the teacher's outputs at all?"""
        return self.soft_label_weight > 0 or self.logit_weight > 0 or self.hint_weight > 0

    def mistakes(self, where: str, teacher_layers: int, student_layers: int) -> list[str]:
        """What is wrong with the values, one sentence each.

        Args:
            where: prefix that names the setting, such as `distillation`.
            teacher_layers: hidden layers of the teacher's MLP.
            student_layers: hidden layers of the student's MLP.
        """
        found = []
        weights = {f.name: getattr(self, f.name) for f in fields(self) if "weight" in f.name}
        for name, value in weights.items():
            if not (math.isfinite(value) and value >= 0):
                found.append(f"{where}.{name} must be >= 0, got {value}. Use 0 to switch it off.")
        if not found and not any(weights.values()):
            found.append(f"{where}: every weight is 0, so the student would learn nothing.")
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            found.append(f"{where}.temperature must be > 0, got {self.temperature}.")
        if self.hint_weight > 0 and not self.hints:
            found.append(f"{where}.hint_weight is {self.hint_weight:g} but {where}.hints is empty. "
                         "Name pairs of layers such as [[-1,-1]].")
        for pair in self.hints if self.hint_weight > 0 else ():
            if len(pair) != 2:
                found.append(f"{where}.hints must be pairs [teacher layer, student layer], "
                             f"got {list(pair)}.")
                continue
            for who, layer, count in zip(("teacher", "student"), pair,
                                         (teacher_layers, student_layers), strict=True):
                if not -count <= layer < count:
                    found.append(f"{where}.hints names {who} layer {layer}, but the {who}'s MLP "
                                 f"has {count} hidden layers.")
        return found

    def losses(
        self,
        *,
        labels: tf.Tensor,
        weights: tf.Tensor,
        student_logits: tf.Tensor,
        teacher_logits: tf.Tensor | None,
        hints: Sequence[tuple[tf.Tensor, tf.Tensor]],
    ) -> Mapping[str, tf.Tensor]:
        """The reduced losses of one student.

        Args:
            labels: `(batch_size,)`.
            weights: `(batch_size,)` sample weights; they multiply every loss alike.
            student_logits: `(batch_size,)`.
            teacher_logits: `(batch_size,)`; None where the student does not distill.
            hints: (projected student layer, teacher layer), each `(batch_size, teacher_units)`.

        Returns:
            scalars by name, before their weights, of the losses in use, and `total`.
        """
        if self.stop_gradient.teacher and teacher_logits is not None:
            teacher_logits = tf.stop_gradient(teacher_logits)
            hints = [(student, tf.stop_gradient(teacher)) for student, teacher in hints]
        parts: dict[str, tuple[float, tf.Tensor]] = {}
        if self.label_weight:
            parts["label_loss"] = (self.label_weight, label_loss(labels, student_logits))
        if self.soft_label_weight:
            values = soft_label_loss(student_logits, teacher_logits, self.temperature)
            parts["soft_label_loss"] = (self.soft_label_weight, values)
        if self.logit_weight:
            parts["logit_loss"] = (self.logit_weight, logit_loss(student_logits, teacher_logits))
        if self.hint_weight:
            values = tf.add_n([hint_loss(student, teacher) for student, teacher in hints])
            parts["hint_loss"] = (self.hint_weight, values / len(hints))
        reduced = {name: weighted_mean(values, weights) for name, (_, values) in parts.items()}
        reduced["total"] = tf.add_n([weight * reduced[name]
                                     for name, (weight, _) in parts.items()])
        return reduced


def weighted_mean(values: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Mean of `(batch_size,)` values under `(batch_size,)` weights.

    Weight 0 equals dropping the example; a batch without weight counts 0.
    """
    return tf.math.divide_no_nan(tf.reduce_sum(values * weights), tf.reduce_sum(weights))
