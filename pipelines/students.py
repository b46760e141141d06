"""Students and their controls, from plain values."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dualdnn.config import parse
from dualdnn.distillation.objective import WEIGHTS, Objective
from dualdnn.distillation.schemes import (
    ALONE,
    CO_TRAINING,
    FEATURE_TRANSFER,
    OWN,
    SCHEMES,
    SHARED_AND_EXTRA,
    Scheme,
)
from dualdnn.models.dual_dnn import SHARED_EMBEDDING, TEACHER
from dualdnn.schema import Schema
from dualdnn.training.settings import DenseOptimizerSettings
from pipelines.settings import OptimizerSettings, StudentNetworkSettings

CONTROLS = ("alone", "shared_label_only")
_NETWORK_KEYS = ("hidden_units", "activation", "dropout", "linear", "fm")
_KEYS = (*_NETWORK_KEYS, "scheme", "extra_fields", "distillation", "optimizer")
# What of an objective says nothing without the weight of its loss.
_BELONGS = {"temperature": "soft_label_weight", "logit_loss": "logit_weight",
            "hint_loss": "hint_weight", "hints": "hint_weight"}
# Part of folders, of tensor names and, with a dot, of its controls' names.
_NAME = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9_-]*$")


def is_student_name(name: str, mistakes: list[str]) -> bool:
    """Can a student be called so?"""
    if _NAME.match(name) and name not in (TEACHER, SHARED_EMBEDDING):
        return True
    mistakes.append("a student must be named by letters, digits, `_` and `-`, and not "
                    f"`{TEACHER}` or `{SHARED_EMBEDDING}`, got `{name}`. Rename it.")
    return False


@dataclass(frozen=True, kw_only=True)
class StudentPlan:
    """One student, or one of its controls."""

    name: str
    network: StudentNetworkSettings
    objective: Objective
    optimizer: DenseOptimizerSettings
    scheme: Scheme = SCHEMES[CO_TRAINING]
    extra_fields: Sequence[str] = ()

    @property
    def owns_table(self) -> bool:
        """Does it read an embedding of its own instead of the teacher's?"""
        return self.scheme.reads == OWN

    @property
    def graph(self) -> tuple[object, ...]:
        """What its served graph is made of: students of equal ones differ in weights alone."""
        return (self.network, self.scheme.reads, tuple(self.extra_fields))

    @property
    def moves_teacher(self) -> bool:
        """Is the teacher another one than without this student?"""
        stop = self.objective.stop_gradient
        return ((not stop.embedding and not self.owns_table)
                or (not stop.teacher and self.objective.distills))

    @property
    def needs_teacher(self) -> bool:
        """Does it read the teacher's embedding, or listen to the teacher?"""
        return not self.owns_table or self.objective.distills


def scheme_mistakes(name: Any, where: str) -> list[str]:
    """What is wrong with the name of a scheme."""
    if isinstance(name, str) and name in SCHEMES:
        return []
    return [f"{where} must be one of {', '.join(SCHEMES)}, got {name!r}."]


def merged(of_run: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a run with a student's own, mappings joined key by key."""
    joined = dict(of_run)
    for key, value in own.items():
        before = of_run.get(key)
        joined[key] = (merged(before, value)
                       if isinstance(value, Mapping) and isinstance(before, Mapping) else value)
    return joined


def student_from(
    name: str, config: Any, run: Mapping[str, Any], teacher_layers: int, mistakes: list[str],
) -> StudentPlan | None:
    """One student with its own changes to the run's scheme, distillation and optimizer.

    Parts of the run's distillation that its scheme lacks are off; the student's own are refused.

    Args:
        name: of the student.
        config: its file with its overrides.
        run: the configuration of the run.
        teacher_layers: hidden layers of the teacher's MLP, for the hints.
        mistakes: receives what is wrong, one sentence each.
    """
    where = f"student/{name}"
    if not isinstance(config, Mapping):
        mistakes.append(f"{where} must be a mapping, got {config!r}.")
        return None
    for key in config:
        if key not in _KEYS:
            mistakes.append(f"{where}.{key} is not known; known are {', '.join(_KEYS)}.")
    values = {key: config[key] for key in _NETWORK_KEYS if key in config}
    network = parse(StudentNetworkSettings, values, where, mistakes)
    chosen = config.get("scheme")
    if wrong := scheme_mistakes(chosen, f"{where}.scheme") if chosen is not None else []:
        mistakes.extend(wrong)
    # The run's own is checked once, with the run.
    scheme = SCHEMES.get(str(chosen if chosen is not None else run.get("scheme")),
                         SCHEMES[CO_TRAINING])

    def joined(key: str, of_run: Any, where_of_run: str) -> tuple[Any, str]:
        """The run's values with the student's own; named for whose they are."""
        own = config.get(key) or {}
        if not isinstance(own, Mapping):
            return own, f"{where}.{key}"
        if not own or not isinstance(of_run, Mapping):
            return of_run, where_of_run
        return merged(of_run, own), f"{where}.{key}"

    values, where_objective = joined("distillation", run.get("distillation"), "distillation")
    objective = parse(Objective, values, where_objective, mistakes)
    given = config.get("distillation")
    own: Mapping[str, Any] = given if isinstance(given, Mapping) else {}
    optimizers = run.get("optimizer")
    of_scheme = optimizers.get(scheme.tuned_as) if isinstance(optimizers, Mapping) else None
    values, where_optimizer = joined("optimizer", of_scheme, f"optimizer.{scheme.tuned_as}")
    optimizer = parse(DenseOptimizerSettings, values, where_optimizer, mistakes)
    extra = _extra_fields(config, scheme, where, mistakes)
    if network:
        mistakes.extend(network.mistakes(where))
    if objective and network:
        masked = scheme.masked(objective, own)
        # What is left of a part that the scheme lacks need not be looked at.
        mistakes.extend(scheme.mistakes(objective, own, where_objective)
                        or masked.mistakes(where_objective, teacher_layers,
                                           len(network.hidden_units)))
    if optimizer:
        mistakes.extend(optimizer.mistakes(where_optimizer))
    if network is None or objective is None or optimizer is None:
        return None
    return StudentPlan(name=name, network=network, objective=scheme.masked(objective, own),
                       optimizer=optimizer, scheme=scheme, extra_fields=extra)


def _extra_fields(config: Mapping[str, Any], scheme: Scheme, where: str,
                  mistakes: list[str]) -> Sequence[str]:
    names = config.get("extra_fields") or []
    if not isinstance(names, Sequence) or isinstance(names, str) or not all(
            isinstance(name, str) for name in names):
        mistakes.append(f"{where}.extra_fields must be a list of names of fields, got {names!r}.")
        return ()
    if len(set(names)) < len(names):
        mistakes.append(f"{where}.extra_fields lists a name twice: {', '.join(names)}.")
    if names and scheme.reads != SHARED_AND_EXTRA:
        mistakes.append(f"{where}.extra_fields needs scheme {FEATURE_TRANSFER}, got {scheme.name}, "
                        "whose students read all fields in one embedding. Choose that scheme for "
                        "this student, or leave extra_fields empty.")
    return tuple(names)


def extra_field_mistakes(student: StudentPlan, schema: Schema,
                         kept: Collection[str]) -> list[str]:
    """What is wrong with a student's extra fields, one sentence each.

    Args:
        student: of the run.
        schema: of the run.
        kept: names of the fields that the window leaves.
    """
    where = f"student/{student.name}.extra_fields"
    public = [field.name for field in schema.public.fields if field.name in kept]
    known = [field.name for field in schema.fields]
    found = []
    for name in student.extra_fields:
        if name not in known:
            found.append(f"{where} names `{name}`, which is not a field of the schema; fields are "
                         f"{', '.join(known)}.")
        elif name not in kept:
            found.append(f"{where} names `{name}`, a label statistic, which this window drops. "
                         "Leave it out, or choose a window that follows time.")
        elif name not in public:
            found.append(f"{where} names `{name}`, which is privileged: no student reads it. Leave "
                         "it out.")
    if not found and student.extra_fields and set(public) <= set(student.extra_fields):
        found.append(f"{where} names every field, so nothing of the teacher would be transferred. "
                     f"Leave one out, or use scheme {ALONE}.")
    return found


def unheard_mistakes(of_run: Any, own: Mapping[str, Any],
                     students: Sequence[StudentPlan]) -> list[str]:
    """Settings of distillation that are of a loss which no student, or not this one, has.

    Args:
        of_run: `distillation`, plain values.
        own: by name of a student its file with its overrides.
        students: of the run, as they are trained.
    """
    objective, default = parse(Objective, of_run, "distillation", []), Objective()
    objectives = [one.objective for one in students]
    if objective is None or not students:
        return []
    found = [f"distillation.{name} is given, but no student of this run has a {weight} above 0. "
             "Give it one, or leave this out." for name, weight in _BELONGS.items()
             # Pairs of layers stand in every group, for whoever sets a weight.
             if name != "hints" and getattr(objective, name) != getattr(default, name)
             and not any(getattr(one, weight) for one in objectives)]
    for name in (*WEIGHTS, "temperature"):
        weight = _BELONGS.get(name, name)
        if not getattr(objective.schedule, name).is_constant and all(
                getattr(one.schedule, name).is_constant or not getattr(one, weight)
                for one in objectives):
            found.append(f"distillation.schedule.{name} is given, but no student of this run has a "
                         f"{weight} above 0 under a scheme with schedules of it. Give it one, or "
                         "leave this out.")
    if not objective.stop_gradient.teacher and not any(one.distills for one in objectives):
        found.append("distillation.stop_gradient.teacher is false, but no student of this run "
                     "listens to the teacher. Give one a loss that does, or leave it at true.")
    for one in students:
        changes = own[one.name].get("distillation") or {}
        asked = [(name, weight) for name, weight in _BELONGS.items() if name in changes]
        asked += [(f"schedule.{name}", _BELONGS.get(name, name))
                  for name in changes.get("schedule") or {}]
        found += [f"student/{one.name}.distillation.{name} is given, but the {weight} of this "
                  "student is 0. Give it one above 0, or leave this out."
                  for name, weight in asked if not getattr(one.objective, weight)]
    return found


def unreached_tower_mistakes(students: Sequence[StudentPlan]) -> list[str]:
    """Students that are to move the towers of a pool with a learned gate, one sentence each."""
    return [f"student {student.name} has a stop_gradient.teacher of false, but with "
            "teacher.gate=learned its soft-label and logit losses reach no tower of the pool: the "
            "gate reads their logits without a gradient. Use teacher.gate=mean, or leave "
            "stop_gradient.teacher at true." for student in students
            if not student.objective.stop_gradient.teacher
            and (student.objective.soft_label_weight > 0 or student.objective.logit_weight > 0)]


def unclean_teacher_mistakes(students: Sequence[StudentPlan]) -> list[str]:
    """Students that would learn from a teacher that another one moves."""
    moving = [student.name for student in students if student.moves_teacher]
    disturbed = [f"{student.name} ({student.scheme.name})" for student in students
                 if student.name not in moving and student.needs_teacher]
    if len(moving) > 1:
        return [f"students {', '.join(moving)} each move the teacher or its embedding "
                "(rocket_launching, or a stop_gradient of false), so that each would learn from "
                "what the others do to it. Give each a run of its own, as "
                "experiment=scheme_comparison does."]
    if not moving or not disturbed:
        return []
    return [f"student {moving[0]} moves the teacher or its embedding (rocket_launching, or a "
            f"stop_gradient of false), so {', '.join(disturbed)} would not see the clean teacher. "
            f"Give these a run of their own; only scheme {ALONE} can go along."]


def controls_of(student: StudentPlan, controls: Sequence[str],
                optimizer: OptimizerSettings) -> list[StudentPlan]:
    """The named controls of a student.

    Args:
        student: of the run.
        controls: names of `CONTROLS`.
        optimizer: of the run.
    """
    labels_only = Objective()
    # Of a student that learns an embedding, and so is tuned as the teacher, this one does not.
    on_shared = student.optimizer if student.scheme.tuned_as == "student" else optimizer.student
    # It starts when the student does.
    shared = SCHEMES[FEATURE_TRANSFER if student.scheme.after_teacher else CO_TRAINING]
    made = {
        # Tuned as the teacher is: a control that is not proves nothing.
        "alone": replace(student, name=f"{student.name}.alone", objective=labels_only,
                         optimizer=optimizer.teacher, scheme=SCHEMES[ALONE], extra_fields=()),
        "shared_label_only": replace(student, name=f"{student.name}.shared_label_only",
                                     objective=labels_only, optimizer=on_shared, scheme=shared,
                                     extra_fields=()),
    }
    return [made[name] for name in controls]
