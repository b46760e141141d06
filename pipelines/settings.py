"""The sections of a configuration that the library has no class for, with their ranges."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import tf_keras as keras

from dualdnn.training.settings import DenseOptimizerSettings
from dualdnn.training.table_optimizer import TableOptimizerSettings

_FOLDER_NAME = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")


@dataclass(frozen=True, kw_only=True)
class PathSettings:
    """`paths.*`: where a job writes."""

    outputs: str
    exported_models: str
    state: str


@dataclass(frozen=True, kw_only=True)
class TrackingSettings:
    """`tracking.*`: of mlflow; null for the defaults."""

    uri: str | None
    experiment: str | None = None


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """`evaluation.*`.

    Attributes:
        slices: fields by whose values the metrics are sliced.
    """

    slices: Sequence[str]

    def mistakes(self, fields: Sequence[str]) -> list[str]:
        """What is wrong with the values, one sentence each."""
        return [f"evaluation.slices names `{name}`, which is not a field of this run; fields are "
                f"{', '.join(fields)}." for name in self.slices if name not in fields]


@dataclass(frozen=True, kw_only=True)
class TrainedEvaluationSettings(EvaluationSettings):
    """`evaluation.*` of a job that trains.

    Attributes:
        references: fit the references of a source that knows its truth.
    """

    references: bool = True


@dataclass(frozen=True, kw_only=True)
class ComparisonSettings:
    """`comparison.*`.

    Attributes:
        names: of the systems; None for A, B, ...
        towers: those to compare; empty for all.
        resamples: draws of groups of rows.
    """

    names: Sequence[str] | None
    towers: Sequence[str]
    resamples: int

    def mistakes(self) -> list[str]:
        """What is wrong with the values, one sentence each."""
        if self.resamples >= 100:
            return []
        return [f"comparison.resamples must be >= 100, got {self.resamples}. 1000 know a standard "
                "error to 2%."]


@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """`export.*`: null for `<data.name>_dev` and the first student."""

    name: str | None
    student: str | None

    def mistakes(self, students: Sequence[str], data_name: str | None) -> list[str]:
        """What is wrong with the values, one sentence each."""
        found = []
        if self.student is not None and self.student not in students:
            found.append(f"export.student `{self.student}` is not among the students of the run: "
                         f"{', '.join(students) or 'none'}.")
        if self.name is not None and not _FOLDER_NAME.match(self.name):
            found.append("export.name must be a folder name of letters, digits, `_`, `-` and `.`, "
                         f"got {self.name!r}.")
        if self.name is not None and self.name == data_name:
            # Servers load the newest version below it.
            found.append(f"export.name `{self.name}` is the name that accepted models are "
                         f"published under. Choose another, such as {self.name}_dev.")
        return found

    def folder_name(self, data_name: str) -> str:
        """The folder below `paths.exported_models`."""
        return self.name or f"{data_name}_dev"


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
    """The MLP of a tower, and whether it adds first-order weights."""

    hidden_units: Sequence[int]
    activation: str
    dropout: float
    linear: bool = True

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
class StudentNetworkSettings(NetworkSettings):
    """The network of a student.

    Attributes:
        fm: give its MLP the FM vector beside the fields.
    """

    fm: bool = False


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
    """`optimizer.*`: of the tables, the teacher (and its control `alone`) and every student."""

    table: TableOptimizerSettings
    teacher: DenseOptimizerSettings
    student: DenseOptimizerSettings

    def mistakes(self) -> list[str]:
        """What is wrong with the values, one sentence each."""
        return [*self.table.mistakes("optimizer.table"),
                *self.teacher.mistakes("optimizer.teacher"),
                *self.student.mistakes("optimizer.student")]


@dataclass(frozen=True, kw_only=True)
class PublishedFigures:
    """`published.*`: figures of others, printed beside ours.

    Attributes:
        latency_ratio: teacher time / student time.
        size_ratio: teacher size / student size.
        baseline_latency_ratio: xDeepFM time / GBDT+FM+DNN time, from lowest to highest.
    """

    latency_ratio: float | None = None
    size_ratio: float | None = None
    baseline_latency_ratio: Sequence[float] | None = None

    def mistakes(self) -> list[str]:
        """What is wrong with the values, one sentence each."""
        given = self.baseline_latency_ratio
        if given is None or (len(given) == 2 and 0 < given[0] <= given[1]):
            return []
        return ["published.baseline_latency_ratio must be the lowest and the highest figure, such "
                f"as [2.5, 3.5], got {list(given)}."]
