"""Students and their controls, from plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dualdnn.config import parse
from dualdnn.distillation.objective import Objective
from dualdnn.training.settings import DenseOptimizerSettings
from pipelines.settings import StudentNetworkSettings

CONTROLS = ("alone", "shared_label_only")
_NETWORK_KEYS = ("hidden_units", "activation", "dropout", "linear", "fm")
_KEYS = (*_NETWORK_KEYS, "distillation", "optimizer")


@dataclass(frozen=True, kw_only=True)
class StudentPlan:
    """One student, or one of its controls."""

    name: str
    network: StudentNetworkSettings
    objective: Objective
    optimizer: DenseOptimizerSettings
    owns_table: bool = False

    @property
    def graph(self) -> tuple[object, ...]:
        """What its served graph is made of: students of equal ones differ in weights alone."""
        return (self.network, self.owns_table)


def student_from(
    name: str, config: Any, run: Mapping[str, Any], teacher_layers: int, mistakes: list[str],
) -> StudentPlan | None:
    """One student with its own changes to the run's distillation and optimizer.

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

    def joined(key: str, of_run: Any) -> tuple[Any, str]:
        """The run's values with the student's own; named for whose they are."""
        own = config.get(key) or {}
        if not isinstance(own, Mapping):
            return own, f"{where}.{key}"
        if not own or not isinstance(of_run, Mapping):
            return of_run, key if key == "distillation" else "optimizer.student"
        return {**of_run, **own}, f"{where}.{key}"

    values, where_objective = joined("distillation", run.get("distillation"))
    objective = parse(Objective, values, where_objective, mistakes)
    optimizers = run.get("optimizer")
    of_students = optimizers.get("student") if isinstance(optimizers, Mapping) else None
    values, where_optimizer = joined("optimizer", of_students)
    optimizer = parse(DenseOptimizerSettings, values, where_optimizer, mistakes)
    if network:
        mistakes.extend(network.mistakes(where))
    if objective and network:
        mistakes.extend(objective.mistakes(where_objective, teacher_layers,
                                           len(network.hidden_units)))
    if optimizer:
        mistakes.extend(optimizer.mistakes(where_optimizer))
    if network is None or objective is None or optimizer is None:
        return None
    return StudentPlan(name=name, network=network, objective=objective, optimizer=optimizer)


def controls_of(student: StudentPlan, controls: Sequence[str],
                teacher_optimizer: DenseOptimizerSettings) -> list[StudentPlan]:
    """The named controls of a student."""
    labels_only = Objective()
    made = {
        # Tuned as the teacher is: a control that is not proves nothing.
        "alone": replace(student, name=f"{student.name}.alone", objective=labels_only,
                         optimizer=teacher_optimizer, owns_table=True),
        "shared_label_only": replace(student, name=f"{student.name}.shared_label_only",
                                     objective=labels_only),
    }
    return [made[name] for name in controls]
