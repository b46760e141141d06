"""How a student and the teacher meet: what it reads, when it starts, which losses it has."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from dualdnn.distillation.objective import WEIGHTS, Objective, StopGradient
from dualdnn.distillation.schedules import Schedule, Schedules

# What a student reads.
SHARED, OWN, SHARED_AND_EXTRA = "shared", "own", "shared and extra"
# The parts of an objective, each with its weight first and what else it alone uses.
PARTS: Mapping[str, tuple[str, ...]] = {
    "label": ("label_weight",),
    "soft_label": ("soft_label_weight", "temperature"),
    "logit": ("logit_weight", "logit_loss"),
    "hint": ("hint_weight", "hints", "hint_loss"),
}
_BLOCKED = StopGradient()


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """One way to train a student beside, or after, a teacher.

    No scheme lets a student read a privileged field, and none but `rocket_launching` lets it touch
    the teacher or the shared embedding.

    Attributes:
        name: as configurations say it.
        reads: `SHARED`, the teacher's embedding; `OWN`, one that the student learns; or
            `SHARED_AND_EXTRA`, the teacher's, and one of its own for its extra fields.
        after_teacher: does it start when the teacher has finished, or together with it?
        parts: of an objective that it has, names of `PARTS`.
        moves_embedding: does the shared embedding learn from the student too?
        instead: of an objective whose listening parts it has none of.
        tuned_as: whose optimizer settings it takes, `student` or, where it learns a whole
            embedding as the teacher does, `teacher`.
    """

    name: str
    reads: str = SHARED
    after_teacher: bool = False
    parts: Sequence[str] = tuple(PARTS)
    moves_embedding: bool = False
    instead: Mapping[str, Any] = field(default_factory=dict)
    tuned_as: str = "student"

    @property
    def _unscheduled(self) -> list[str]:
        """Parts without schedules: those that are off, and labels that have nothing beside them."""
        return [part for part in PARTS if part not in self.parts or len(self.parts) == 1]

    def masked(self, objective: Objective, own: Collection[str] = ()) -> Objective:
        """The objective of a run as a student of this scheme has it.

        Parts that the scheme lacks are off. Where nothing is left of an objective that listens to
        the teacher, the scheme's own way of listening takes its place.

        Args:
            objective: of the run, with the student's own changes.
            own: names of these changes. A weight that the student says itself, such as 0, stays.
        """
        off = [part for part in PARTS if part not in self.parts]
        changes: dict[str, Any] = {PARTS[part][0]: 0.0 for part in off}
        if "hint" in off:
            changes["hints"] = ()
        changes["schedule"] = replace(objective.schedule, **{
            name: Schedule() for part in self._unscheduled for name in _scheduled(part)})
        if self.moves_embedding:
            changes["stop_gradient"] = StopGradient(embedding=False)
        found = replace(objective, **changes)
        unsaid = not any(name in own for name in self.instead)
        if self.instead and unsaid and objective.distills and not found.distills:
            return replace(found, **self.instead)
        return found

    def mistakes(self, objective: Objective, own: Mapping[str, Any], where: str) -> list[str]:
        """What a student asks for that the scheme does not have, one sentence each.

        Args:
            objective: of the run, with the student's own changes.
            own: these changes, as plain values.
            where: prefix that names them, such as `student/light.distillation`.
        """
        found = []
        has = ", ".join(self.parts)
        asked = {**own, **{f"schedule.{name}": value for name, value in
                           (own.get("schedule") or {}).items()}}
        for part in (part for part in PARTS if part not in self.parts):
            for name in PARTS[part]:
                if name in asked and not (name == PARTS[part][0] and asked[name] == 0):
                    found.append(f"{where}.{name}: scheme {self.name} has no {part} loss, only "
                                 f"{has}. Remove it, or choose another scheme for this student.")
        for name in (name for part in self._unscheduled for name in _scheduled(part)):
            if f"schedule.{name}" in asked:
                found.append(f"{where}.schedule.{name}: scheme {self.name} has no schedule of it: "
                             f"its losses are {has}. Remove it, or choose another scheme for this "
                             "student.")
        if any(getattr(objective, name) for name in WEIGHTS) and not any(
                getattr(self.masked(objective, own), name) for name in WEIGHTS):
            found.append(f"{where}: scheme {self.name} has {has} loss only, and its weight is 0, "
                         "so the student would learn nothing.")
        stop = objective.stop_gradient
        if self.moves_embedding:
            if not stop.teacher or (own.get("stop_gradient") or {}).get("embedding"):
                found.append(f"{where}.stop_gradient: scheme {self.name} trains the embedding from "
                             "both networks and blocks the teacher's outputs (embedding: false, "
                             "teacher: true). Leave it out, or use co_training.")
        elif self.name != CO_TRAINING and stop != _BLOCKED:
            why = ("starts when the teacher has finished" if self.after_teacher
                   else "does not meet the teacher")
            found.append(f"{where}.stop_gradient must be left at true under scheme {self.name}, "
                         f"which {why}: there is nothing to move. Use co_training or "
                         "rocket_launching.")
        return found


def _scheduled(part: str) -> list[str]:
    """The values of a part that have a schedule."""
    return [one.name for one in fields(Schedules) if one.name in PARTS[part]]


CO_TRAINING, ALONE, FEATURE_TRANSFER = "co_training", "alone", "feature_transfer"
_LOGITS = ("label", "soft_label", "logit")
SCHEMES: Mapping[str, Scheme] = {scheme.name: scheme for scheme in (
    # One stage, as published: frozen shared input, any loss, hidden hints included.
    Scheme(name=CO_TRAINING),
    # Hinton et al. 2015 (arXiv:1503.02531) on the embedding of the finished teacher.
    Scheme(name="two_stage", after_teacher=True, parts=_LOGITS,
           instead={"soft_label_weight": 1.0}),
    # FitNets (Romero et al. 2015, arXiv:1412.6550), the hints beside the rest instead of before it.
    Scheme(name="two_stage_hints", after_teacher=True),
    # Two stages without anything of the teacher's but its answers.
    Scheme(name="two_stage_own_embedding", reads=OWN, after_teacher=True, parts=_LOGITS,
           instead={"soft_label_weight": 1.0}, tuned_as="teacher"),
    # Feature transfer of Baidu's CTR 3.0: the finished teacher's embedding stays frozen, fields
    # that the student has for itself are learned with it, from labels.
    Scheme(name=FEATURE_TRANSFER, reads=SHARED_AND_EXTRA, after_teacher=True, parts=("label",)),
    # Rocket Launching (Zhou et al. 2018, arXiv:1708.04106): both networks train the embedding, the
    # light one follows the booster's logits, which its loss does not move.
    Scheme(name="rocket_launching", parts=("label", "logit"), moves_embedding=True,
           instead={"logit_weight": 0.5}),
    # No teacher: the same light network with an embedding of its own.
    Scheme(name=ALONE, reads=OWN, parts=("label",), tuned_as="teacher"),
)}
