"""From a composed configuration to checked parts: every mistake is found before data is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import hydra
import tf_keras as keras
from hydra.errors import InstantiationException

from dualdnn.config import parse
from dualdnn.data.lake import Lake
from dualdnn.data.window import Window
from dualdnn.distillation.objective import Objective
from dualdnn.errors import ConfigError
from dualdnn.schema import Schema, schema_from_dict
from dualdnn.training.settings import DenseOptimizerSettings, TrainingSettings
from dualdnn.training.table_optimizer import TableOptimizerSettings

CONTROLS = ("alone", "shared_label_only")
# Keys of a data configuration that say where the log is, not what it means.
_WHERE_KEYS = ("source", "raw", "lake", "feature_lag")


class Source(Protocol):
    """Builds a lake from a public data set."""

    def mistakes(self, lake: Path) -> list[str]:
        """What is wrong with the values."""

    def prepare(self, lake: Path) -> None:
        """Build the lake, or reuse it."""


@dataclass(frozen=True, kw_only=True)
class EmbeddingSettings:
    """`embedding.*`."""

    dim: int
    initial_stddev: float

    def mistakes(self) -> list[str]:
        """What is wrong with the values, one sentence each."""
        found = []
        if self.dim < 1:
            found.append(f"embedding.dim must be >= 1, got {self.dim}.")
        if not self.initial_stddev > 0:
            found.append(f"embedding.initial_stddev must be > 0, got {self.initial_stddev}.")
        return found


@dataclass(frozen=True, kw_only=True)
class NetworkSettings:
    """The MLP of a tower."""

    hidden_units: Sequence[int]
    activation: str
    dropout: float

    def mistakes(self, where: str) -> list[str]:
        """What is wrong with the values, one sentence each."""
        found = []
        if any(units < 1 for units in self.hidden_units):
            found.append(f"{where}.hidden_units must be >= 1 each, got {list(self.hidden_units)}.")
        if not 0 <= self.dropout < 1:
            found.append(f"{where}.dropout must lie in [0, 1), got {self.dropout}.")
        try:
            keras.activations.get(self.activation)
        except ValueError:
            found.append(f"{where}.activation must be a Keras activation such as relu, "
                         f"got {self.activation!r}.")
        return found


@dataclass(frozen=True, kw_only=True)
class StudentPlan:
    """One student, or one of its controls."""

    name: str
    network: NetworkSettings
    objective: Objective
    optimizer: DenseOptimizerSettings
    owns_table: bool = False


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything a run needs, checked."""

    seed: int
    schema: Schema
    lake: Lake
    source: Source | None
    window: Window
    embedding: EmbeddingSettings
    teacher: NetworkSettings
    linear: bool
    interactions: list[keras.layers.Layer]
    students: list[StudentPlan]
    controls: list[StudentPlan]
    table: TableOptimizerSettings
    teacher_optimizer: DenseOptimizerSettings
    training: TrainingSettings
    slices: Sequence[str] = field(default=())


def _instance(config: Any, where: str, mistakes: list[str]) -> Any:
    """A dataclass named by `_target_`, its types checked."""
    if not isinstance(config, Mapping) or "_target_" not in config:
        mistakes.append(f"{where} must be a mapping with _target_, got {config!r}.")
        return None
    try:
        cls = hydra.utils.get_class(config["_target_"])
    except Exception as error:
        mistakes.append(f"{where}._target_ {config['_target_']!r} cannot be imported: {error}.")
        return None
    values = {key: value for key, value in config.items() if key != "_target_"}
    return parse(cls, values, where, mistakes)


def _schema(data: Mapping[str, Any], mistakes: list[str]) -> Schema | None:
    lag = data.get("feature_lag", "1d")
    if str(lag) not in ("1d", "0"):
        mistakes.append(f"data.feature_lag must be 1d or 0, got {lag!r}.")
    if not isinstance(data.get("lake"), str) or not data["lake"]:
        mistakes.append("data.lake must be a directory of dt=YYYY-MM-DD folders, "
                        f"got {data.get('lake')!r}.")
    try:
        return schema_from_dict({k: v for k, v in data.items() if k not in _WHERE_KEYS})
    except ConfigError as error:
        mistakes.extend(error.mistakes)
        return None


def _interactions(config: Any, seed: int, mistakes: list[str]) -> list[keras.layers.Layer]:
    layers = []
    if not isinstance(config, Mapping):
        mistakes.append(f"teacher.interactions must be a mapping of layers, got {config!r}.")
        return layers
    for name, layer in config.items():
        try:
            layers.append(hydra.utils.instantiate(layer, seed=seed, name=f"teacher_{name}",
                                                  _convert_="all"))
        except InstantiationException as error:
            cause = error.__cause__ or error
            mistakes.append(f"teacher.interactions.{name}: {cause}")
    return layers


_STUDENT_KEYS = ("hidden_units", "activation", "dropout", "distillation", "optimizer")


def _student(
    name: str, config: Mapping[str, Any], run: Mapping[str, Any], teacher_layers: int,
    mistakes: list[str],
) -> StudentPlan | None:
    where = f"student {name}"
    for key in config:
        if key not in _STUDENT_KEYS:
            mistakes.append(f"{where}.{key} is not known; known are {', '.join(_STUDENT_KEYS)}.")
    network_values = {k: config[k] for k in ("hidden_units", "activation", "dropout")
                      if k in config}
    network = parse(NetworkSettings, network_values, where, mistakes)
    own = config.get("distillation") or {}
    objective = parse(Objective, {**run["distillation"], **own},
                      f"{where}.distillation" if own else "distillation", mistakes)
    own = config.get("optimizer") or {}
    optimizer = parse(DenseOptimizerSettings, {**run["optimizer"]["student"], **own},
                      f"{where}.optimizer" if own else "optimizer.student", mistakes)
    if network is None or objective is None or optimizer is None:
        return None
    mistakes.extend(network.mistakes(where))
    mistakes.extend(objective.mistakes("distillation", teacher_layers, len(network.hidden_units)))
    mistakes.extend(optimizer.mistakes("optimizer.student"))
    return StudentPlan(name=name, network=network, objective=objective, optimizer=optimizer)


def _controls(student: StudentPlan, controls: Sequence[str],
              teacher_optimizer: DenseOptimizerSettings) -> list[StudentPlan]:
    labels_only = Objective()
    made = {
        # Tuned as the teacher is: a control that is not proves nothing.
        "alone": replace(student, name=f"{student.name}.alone", objective=labels_only,
                         optimizer=teacher_optimizer, owns_table=True),
        "shared_label_only": replace(student, name=f"{student.name}.shared_label_only",
                                     objective=labels_only),
    }
    return [made[name] for name in controls]


def plan_from(config: Mapping[str, Any]) -> Plan:
    """Check a resolved configuration of `train` as a whole.

    Args:
        config: plain values; `student_configs` holds the configuration of each student by name.

    Raises:
        ConfigError: with every mistake at once.
    """
    mistakes: list[str] = []
    seed = config["seed"]
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        mistakes.append(f"seed must be a whole number >= 0, got {seed!r}.")
        seed = 0
    if config["scheme"] != "co_training":
        mistakes.append(f"scheme `{config['scheme']}` is not supported by this version; "
                        "use co_training.")
    data = config["data"]
    schema = _schema(data, mistakes)
    source = _instance(data["source"], "data.source", mistakes) if data.get("source") else None
    if source and isinstance(data.get("lake"), str):
        mistakes.extend(source.mistakes(Path(data["lake"])))
    window = _instance(config["window"], "window", mistakes)
    if window:
        mistakes.extend(window.mistakes())
    embedding = parse(EmbeddingSettings, config["embedding"], "embedding", mistakes)
    if embedding:
        mistakes.extend(embedding.mistakes())

    teacher_values = dict(config["teacher"])
    linear = teacher_values.pop("linear", True)
    if not isinstance(linear, bool):
        mistakes.append(f"teacher.linear must be true or false, got {linear!r}.")
    interactions = _interactions(teacher_values.pop("interactions", {}), seed, mistakes)
    teacher = parse(NetworkSettings, teacher_values, "teacher", mistakes)
    if teacher:
        mistakes.extend(teacher.mistakes("teacher"))

    optimizer = config["optimizer"]
    table = parse(TableOptimizerSettings, optimizer["table"], "optimizer.table", mistakes)
    if table:
        mistakes.extend(table.mistakes("optimizer.table"))
    teacher_optimizer = parse(DenseOptimizerSettings, optimizer["teacher"], "optimizer.teacher",
                              mistakes)
    if teacher_optimizer:
        mistakes.extend(teacher_optimizer.mistakes("optimizer.teacher"))
    training = parse(TrainingSettings, config["training"], "training", mistakes)
    if training:
        mistakes.extend(training.mistakes())

    controls = config["controls"]
    if not isinstance(controls, list) or any(name not in CONTROLS for name in controls):
        mistakes.append(f"controls must be a list out of {', '.join(CONTROLS)}, got {controls!r}.")
        controls = []
    students = []
    for name, of_student in config["student_configs"].items():
        made = _student(name, of_student, config, len(teacher.hidden_units) if teacher else 99,
                        mistakes)
        if made:
            students.append(made)
    wanted = config["export"]["student"]
    if wanted is not None and wanted not in config["student_configs"]:
        mistakes.append(f"export.student `{wanted}` is not among the students of this run: "
                        f"{', '.join(config['student_configs']) or 'none'}.")
    slices = config["evaluation"]["slices"]
    known = [one.name for one in schema.fields] if schema else []
    for name in slices if schema else ():
        if name not in known:
            mistakes.append(f"evaluation.slices names `{name}`, which is not a field; fields are "
                            f"{', '.join(known)}.")
    if mistakes:
        # One setting can be wrong for several students; say it once.
        raise ConfigError(list(dict.fromkeys(mistakes)))
    return Plan(
        seed=seed, schema=schema, lake=Lake(Path(data["lake"])), source=source, window=window,
        embedding=embedding, teacher=teacher, linear=linear, interactions=interactions,
        students=students,
        controls=[c for s in students for c in _controls(s, controls, teacher_optimizer)],
        table=table, teacher_optimizer=teacher_optimizer, training=training, slices=slices,
    )
