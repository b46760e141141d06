"""What one student learns from: weights, temperature, hints and stop-gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import tensorflow as tf

from dualdnn.distillation.losses import (
    cosine_hint_loss,
    hint_loss,
    label_loss,
    logit_loss,
    mean_loss,
    soft_label_divergence,
    soft_label_loss,
    z_scored_logit_loss,
)
from dualdnn.distillation.schedules import Schedules

_HINT_LOSSES: Mapping[str, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]] = {
    "mse": hint_loss, "cosine": cosine_hint_loss}
HINT_LOSSES = tuple(_HINT_LOSSES)
LOGIT_LOSSES = ("squared", "z_scored")
WEIGHTS = ("label_weight", "soft_label_weight", "logit_weight", "hint_weight")


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
        logit_weight: of the difference of logits.
        logit_loss: `squared`, of the logits, or `z_scored`, of the logits standardised over the
            batch.
        hint_weight: of the hidden layers.
        hint_loss: `mse` or `cosine`.
        hints: pairs of (teacher layer, student layer), counted from 0 or, negative, from the end.
        stop_gradient: where the losses may not reach.
        schedule: how weights and temperature change while the student trains: factors of those
            above.
    """

    label_weight: float = 1.0
    soft_label_weight: float = 0.0
    temperature: float = 1.0
    logit_weight: float = 0.0
    logit_loss: str = "squared"
    hint_weight: float = 0.0
    hint_loss: str = "mse"
    hints: Sequence[tuple[int, int]] = ()
    stop_gradient: StopGradient = field(default_factory=StopGradient)
    schedule: Schedules = field(default_factory=Schedules)

    @property
    def distills(self) -> bool:
        """Does the student listen to the teacher's outputs at all?"""
        return self.soft_label_weight > 0 or self.logit_weight > 0 or self.hint_weight > 0

    @property
    def scheduled(self) -> list[str]:
        """Names of the values in use that are not the same at every step."""
        used = [name for name in WEIGHTS if getattr(self, name) > 0]
        if self.soft_label_weight > 0:
            used.append("temperature")
        return [name for name in used if not getattr(self.schedule, name).is_constant]

    def value_at(self, name: str, progress: float) -> float:
        """A weight, or the temperature.

        Args:
            name: one of `WEIGHTS`, or `temperature`.
            progress: share of the planned steps that the student has taken, in [0, 1].
        """
        return float(getattr(self, name)) * getattr(self.schedule, name).factor(progress)

    def consolidated(self) -> Objective | None:
        """What the student learns from once the teacher has finished: its logits alone.

        Labels and hints are off, the rest is as at the end of its schedules.

        Returns:
            None where nothing of the teacher's logits is left, or z-scored ones alone, which
            leave the student's mean and scale open.
        """
        ends: dict[str, Any] = {
            name: self.value_at(name, 1.0)
            for name in ("soft_label_weight", "logit_weight", "temperature")}
        scaled = ends["logit_weight"] and self.logit_loss != "z_scored"
        if not (ends["soft_label_weight"] or scaled):
            return None
        return replace(self, **ends, label_weight=0.0, hint_weight=0.0, hints=(),
                       schedule=Schedules())

    def mistakes(self, where: str, teacher_layers: int, student_layers: int) -> list[str]:
        """What is wrong with the values, one sentence each.

        Args:
            where: prefix that names the setting, such as `distillation`.
            teacher_layers: hidden layers of the teacher's MLP.
            student_layers: hidden layers of the student's MLP.
        """
        found = []
        weights = {name: getattr(self, name) for name in WEIGHTS}
        for name, value in weights.items():
            if not (math.isfinite(value) and value >= 0):
                found.append(f"{where}.{name} must be >= 0, got {value}. Use 0 to switch it off.")
        if not found and not any(weights.values()):
            found.append(f"{where}: every weight is 0, so the student would learn nothing.")
        # Beyond these, soft labels say nothing in float32, or their gradients are not finite.
        if not 0.01 <= self.temperature <= 1000:
            found.append(f"{where}.temperature must lie in [0.01, 1000], got {self.temperature}.")
        for name, known in (("logit_loss", LOGIT_LOSSES), ("hint_loss", HINT_LOSSES)):
            if getattr(self, name) not in known:
                found.append(f"{where}.{name} must be one of {', '.join(known)}, "
                             f"got {getattr(self, name)!r}.")
        wrong = self.schedule.mistakes(f"{where}.schedule")
        found += wrong
        if not wrong and not self.schedule.temperature.is_constant:
            ends = [self.value_at("temperature", progress) for progress in (0.0, 1.0)]
            found += [f"{where}.schedule.temperature leads to {value:g}, but a temperature must "
                      "lie in [0.01, 1000]." for value in ends if not 0.01 <= value <= 1000]
        if not wrong and any(weights.values()):
            found += self._silent(where)
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

    def _silent(self, where: str) -> list[str]:
        """A stretch of the schedules in which there is nothing, or no scale, to learn from."""
        for moment in self.schedule.moments():
            if not any(self.value_at(name, moment) for name in WEIGHTS):
                return [f"{where}.schedule: every weight is 0 at progress {moment:g}, so the "
                        "student would learn nothing there. Let one part last longer, or another "
                        "begin earlier."]
            if self.logit_loss == "z_scored" and self.value_at("logit_weight", moment) and not any(
                    self.value_at(name, moment) for name in ("label_weight", "soft_label_weight")):
                return [f"{where}.logit_loss: z_scored alone (at progress {moment:g}) leaves the "
                        "student's mean and scale open, so that its probabilities would mean "
                        "nothing. Give it labels or soft labels as well, or use squared."]
        return []

    def losses(
        self,
        *,
        labels: tf.Tensor,
        weights: tf.Tensor,
        student_logits: tf.Tensor,
        teacher_logits: tf.Tensor | None,
        hints: Sequence[tuple[tf.Tensor, tf.Tensor]],
        now: Mapping[str, tf.Tensor] | None = None,
    ) -> Mapping[str, tf.Tensor]:
        """The reduced losses of one student.

        Args:
            labels: `(batch_size,)`.
            weights: `(batch_size,)` sample weights; they multiply every loss alike.
            student_logits: `(batch_size,)`.
            teacher_logits: `(batch_size,)`; None where the student does not distill.
            hints: (projected student layer, teacher layer), each `(batch_size, teacher_units)`.
            now: scalars that stand for the values of `scheduled` in this step.

        Returns:
            scalars by name, before their weights, of the losses in use, and `total`.
        """
        if self.stop_gradient.teacher and teacher_logits is not None:
            teacher_logits = tf.stop_gradient(teacher_logits)
            hints = [(student, tf.stop_gradient(teacher)) for student, teacher in hints]
        now = now or {}
        parts: dict[str, tf.Tensor] = {}
        if self.label_weight:
            parts["label"] = label_loss(labels, student_logits)
        if self.soft_label_weight:
            soft = soft_label_loss if self.stop_gradient.teacher else soft_label_divergence
            parts["soft_label"] = soft(student_logits, teacher_logits,
                                       now.get("temperature", self.temperature))
        if self.logit_weight and self.logit_loss == "z_scored":
            parts["logit"] = z_scored_logit_loss(student_logits, teacher_logits, weights)
        elif self.logit_weight:
            parts["logit"] = logit_loss(student_logits, teacher_logits)
        if self.hint_weight:
            compared = _HINT_LOSSES[self.hint_loss]
            values = tf.add_n([compared(student, teacher) for student, teacher in hints])
            parts["hint"] = values / len(hints)
        reduced = {f"{part}_loss": mean_loss(values, weights)
                   for part, values in parts.items()}
        total = []
        for part in parts:
            weight = now.get(f"{part}_weight", getattr(self, f"{part}_weight"))
            total.append(weight * reduced[f"{part}_loss"])
        reduced["total"] = tf.add_n(total)
        return reduced
