"""From a resolved configuration to checked parts: every mistake is found before data is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Any, Protocol

import hydra

from dualdnn.config import parse
from dualdnn.data.lake import Lake
from dualdnn.data.pseudonyms import key_from_environment
from dualdnn.data.window import Window
from dualdnn.errors import ConfigError
from dualdnn.schema import Schema, schema_from_dict
from dualdnn.training.settings import DenseOptimizerSettings, TrainingSettings
from dualdnn.training.table_optimizer import TableOptimizerSettings
from pipelines.baselines import BaselinePlan, baselines_from
from pipelines.settings import (
    EmbeddingSettings,
    EvaluationSettings,
    ExportSettings,
    OptimizerSettings,
    PathSettings,
    PublishedFigures,
    TrackingSettings,
    TrainedEvaluationSettings,
)
from pipelines.student_search import SearchSettings, search_from
from pipelines.students import (
    CONTROLS,
    StudentPlan,
    controls_of,
    extra_field_mistakes,
    scheme_mistakes,
    student_from,
    unclean_teacher_mistakes,
    unheard_mistakes,
    unreached_tower_mistakes,
)
from pipelines.teachers import TeacherPlan, teacher_from

_SECTIONS = (
    "data", "window", "teacher", "student_configs", "distillation", "optimizer", "training",
    "evaluation", "export", "embedding", "published", "paths", "tracking", "baseline_configs",
)
_VALUES = ("seed", "students", "student_overrides", "student_search", "scheme_comparison",
           "controls", "scheme", "resume", "reuse", "debug", "baselines", "baseline_overrides")
# Keys of a data configuration that say where the log is, not what it means.
_WHERE_KEYS = ("source", "raw", "lake", "feature_lag")


class Source(Protocol):
    """Builds a lake from a public data set."""

    def mistakes(self, lake: Path) -> list[str]:
        """What is wrong with the values."""

    def prepare(self, lake: Path) -> None:
        """Build the lake, or reuse it."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything a run needs, checked."""

    seed: int
    schema: Schema
    lake: Lake
    source: Source | None
    feature_lag: str | None
    window: Window
    embedding: EmbeddingSettings
    teacher: TeacherPlan
    students: list[StudentPlan]
    controls: list[StudentPlan]
    baselines: list[BaselinePlan]
    table: TableOptimizerSettings
    teacher_optimizer: DenseOptimizerSettings
    training: TrainingSettings
    slices: Sequence[str]
    references: bool
    export: ExportSettings
    search: SearchSettings | None = None


def _instance(config: Any, where: str, methods: Sequence[str], mistakes: list[str]) -> Any:
    """A dataclass named by `_target_`, its types checked."""
    if not isinstance(config, Mapping) or "_target_" not in config:
        mistakes.append(f"{where} must be a mapping with _target_, got {config!r}.")
        return None
    target = config["_target_"]
    try:
        cls = hydra.utils.get_class(target)
    except Exception as error:
        mistakes.append(f"{where}._target_ {target!r} cannot be imported: {error}.")
        return None
    if not is_dataclass(cls) or not all(hasattr(cls, method) for method in methods):
        mistakes.append(f"{where}._target_ {target!r} must be a dataclass with the methods "
                        f"{', '.join(methods)}.")
        return None
    return parse(cls, {k: v for k, v in config.items() if k != "_target_"}, where, mistakes)


def data_from(data: Any, mistakes: list[str]) -> tuple[Schema | None, Source | None]:
    """The schema and, where one is named, the source of a data configuration."""
    if not isinstance(data, Mapping):
        mistakes.append(f"data must be a mapping, got {data!r}. Choose one with data=NAME.")
        return None, None
    lake, source = data.get("lake"), None
    if not isinstance(lake, str) or not lake:
        mistakes.append(f"data.lake must be a directory of dt=YYYY-MM-DD folders, got {lake!r}.")
    if data.get("source") is not None:
        source = _instance(data["source"], "data.source", ("mistakes", "prepare"), mistakes)
        if source and isinstance(lake, str):
            mistakes.extend(source.mistakes(Path(lake)))
    else:
        if data.get("raw") is not None:
            mistakes.append(f"data.raw is {data['raw']!r}, but this data has no source that reads "
                            "raw files. Point data.lake at the lake, and leave data.raw out.")
        if str(data.get("feature_lag", "1d")) not in ("1d", "0"):
            mistakes.append(f"data.feature_lag must be 1d or 0, got {data['feature_lag']!r}.")
    try:
        return schema_from_dict({k: v for k, v in data.items() if k not in _WHERE_KEYS}), source
    except ConfigError as error:
        mistakes.extend(error.mistakes)
        return None, source


def _check_values(config: Mapping[str, Any], mistakes: list[str]) -> None:
    """The settings that are plain values."""
    known = (*_SECTIONS, *_VALUES)
    for key in config:
        if key not in known:
            mistakes.append(f"`{key}` is not supported by this version; remove it. Known are "
                            f"{', '.join(sorted(known))}.")
    seed = config["seed"]
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        mistakes.append(f"seed must be a whole number >= 0, got {seed!r}.")
    mistakes.extend(scheme_mistakes(config["scheme"], "scheme"))
    controls = config["controls"]
    if not isinstance(controls, list) or any(name not in CONTROLS for name in controls):
        mistakes.append(f"controls must be a list out of {', '.join(CONTROLS)}, got {controls!r}.")
    elif len(set(controls)) < len(controls):
        mistakes.append(f"controls lists a name twice: {', '.join(controls)}.")
    for key in ("reuse", "debug"):
        if not isinstance(config[key], bool):
            mistakes.append(f"{key} must be true or false, got {config[key]!r}.")
    if not isinstance(config["resume"], bool | str):
        mistakes.append(f"resume must be true, false or a run folder, got {config['resume']!r}.")


def _schema_mistakes(schema: Schema, evaluation: EvaluationSettings | None,
                     stored: bool = False) -> list[str]:
    """What a schema needs beyond itself, and what may not be asked of its fields."""
    found = []
    if schema.pii_columns:
        try:
            key_from_environment()
        except ConfigError as error:
            found.extend(error.mistakes)
    sliced = evaluation.slices if evaluation else ()
    for field in schema.fields:
        if field.file and not stored and not Path(field.file).is_file():
            found.append(f"field `{field.name}`: file {field.file} does not exist. Check the path.")
        if field.name in sliced and field.pii:
            found.append(f"evaluation.slices names `{field.name}`, which is pii: its values are in "
                         "no report. Slice by another field.")
        if field.name in sliced and field.is_vector_column:
            found.append(f"evaluation.slices names `{field.name}`, a column of vectors, which has "
                         "no values to slice by. Slice by another field.")
    return found


def plan_from(config: Mapping[str, Any], mistakes: Sequence[str] = (), *,
              begins: bool = False, stored: bool = False) -> Plan:
    """Check a resolved configuration of `train` as a whole.

    Args:
        config: plain values; `student_configs` holds the configuration of each student by name.
        mistakes: found so far, reported together with those found here.
        begins: also refuse settings of a loss that no student has. A run that is there already was
            accepted when it began, and runs of several schemes share one `distillation`.
        stored: of a model whose state holds the vectors of the files that its fields name.

    Raises:
        ConfigError: with every mistake at once.
    """
    found = list(mistakes)
    _check_values(config, found)
    schema, source = data_from(config.get("data"), found)
    window = _instance(config.get("window"), "window", ("mistakes", "split"), found)
    if window:
        found.extend(window.mistakes())
    embedding = parse(EmbeddingSettings, config.get("embedding"), "embedding", found)
    if embedding:
        found.extend(embedding.mistakes())
    seed = config["seed"] if isinstance(config["seed"], int) else 0
    teacher = teacher_from(config.get("teacher"), seed, found)
    optimizer = parse(OptimizerSettings, config.get("optimizer"), "optimizer", found)
    if optimizer:
        found.extend(optimizer.mistakes())
    training = parse(TrainingSettings, config.get("training"), "training", found)
    if training:
        found.extend(training.mistakes())
    # Without a teacher to count the layers of, hints are not what is wrong.
    layers = len(teacher.hidden_units) if teacher else 10**6
    students = [student_from(name, of_student, config, layers, found)
                for name, of_student in config["student_configs"].items()]
    baselines = baselines_from(config, seed, found)
    search = search_from(config, window, found)
    export = parse(ExportSettings, config.get("export"), "export", found)
    if export:
        found.extend(export.mistakes(list(config["student_configs"]),
                                     schema.name if schema else None))
    evaluation = parse(TrainedEvaluationSettings, config.get("evaluation"), "evaluation", found)
    if schema:
        found.extend(_schema_mistakes(schema, evaluation, stored))
    if schema:
        leaks = window is not None and not window.follows_time
        kept = [field for field in schema.fields if not (leaks and field.label_statistic)]
        if all(field.privileged for field in kept):
            found.append("data.fields: this window drops label statistics, and no other field is "
                         "left that a student may read. Add one, or choose a window that follows "
                         "time.")
        if evaluation:
            found.extend(evaluation.mistakes([field.name for field in kept]))
        for student in filter(None, students):
            found.extend(extra_field_mistakes(student, schema, [field.name for field in kept]))
    found.extend(unclean_teacher_mistakes([student for student in students if student]))
    if teacher and teacher.learned_gate:
        found.extend(unreached_tower_mistakes([student for student in students if student]))
    if begins and all(students):
        found.extend(unheard_mistakes(config["distillation"], config["student_configs"],
                                      students))
    for cls, name in ((PathSettings, "paths"), (TrackingSettings, "tracking")):
        parse(cls, config.get(name), name, found)
    published = parse(PublishedFigures, config.get("published"), "published", found)
    if published:
        found.extend(published.mistakes())
    if found:
        # One setting can be wrong for several students; say it once.
        raise ConfigError(list(dict.fromkeys(found)))
    return Plan(
        seed=seed, schema=schema, lake=Lake(Path(config["data"]["lake"])), source=source,
        feature_lag=str(config["data"]["feature_lag"]) if "feature_lag" in config["data"] else None,
        window=window, embedding=embedding, teacher=teacher, students=students,
        controls=[control for student in students
                  for control in controls_of(student, config["controls"], optimizer)],
        baselines=baselines, table=optimizer.table, teacher_optimizer=optimizer.teacher,
        training=training, slices=evaluation.slices, references=evaluation.references,
        export=export, search=search,
    )
