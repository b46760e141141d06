"""The checked configuration of the jobs that run every day."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dualdnn.config import parse
from dualdnn.data.admission import Admission
from dualdnn.data.partition_settings import PartitionSettings
from dualdnn.data.window import Rolling
from dualdnn.distillation.schemes import CO_TRAINING, SCHEMES
from dualdnn.errors import ConfigError
from dualdnn.evaluation.gate import GateSettings
from dualdnn.evaluation.golden import GoldenRequest, read_golden_requests
from dualdnn.export.retention import policy_mistakes
from dualdnn.training.settings import TrainingSettings
from pipelines.plan import Plan, plan_from
from pipelines.teachers import finished_members

_SECTIONS = ("finetune", "online", "admission", "partitions", "gate", "retention")
_VALUES = ("finetune_newest", "scope", "source", "golden_requests", "force")


@dataclass(frozen=True, kw_only=True)
class FinetuneSettings:
    """`finetune.*`: how a trained model goes on with the newest samples.

    Attributes:
        epochs: passes.
        batch_size: rows a step.
        order: of the rows in a pass, `shuffled` or `time`.
        held_back: share of the newest rows in time that is not learned.
    """

    epochs: int
    batch_size: int
    order: str
    held_back: float

    def training(self, settings: TrainingSettings) -> TrainingSettings:
        """The settings of a fine-tune after a training with `settings`."""
        return replace(settings, epochs=self.epochs, consolidation_epochs=0,
                       batch_size=self.batch_size, order=self.order, evaluations_per_epoch=1)

    def mistakes(self) -> list[str]:
        """What is wrong with the values, one sentence each."""
        found = [mistake.replace("training.", "finetune.")
                 for mistake in self.training(TrainingSettings()).mistakes()]
        if not 0 < self.held_back < 1:
            found.append(f"finetune.held_back must lie between 0 and 1, got {self.held_back:g}.")
        return found


@dataclass(frozen=True, kw_only=True)
class RetentionSettings:
    """`retention.*`: what stays.

    Attributes:
        versions: newest versions, beside the champion and what a rollback returns to.
        encoded_days: encoded days before as_of.
    """

    versions: int | None
    encoded_days: int | None

    def mistakes(self, window_days: int) -> list[str]:
        """What is wrong with the values, one sentence each."""
        found = [] if self.versions is None else [
            mistake.replace("keep", "versions", 1)
            for mistake in policy_mistakes(self.versions, None, "retention.")]
        if self.encoded_days is not None and self.encoded_days < window_days:
            found.append(f"retention.encoded_days must be >= {window_days}, the days of a window, "
                         f"got {self.encoded_days}: tomorrow's retrain would encode them again.")
        return found


@dataclass(frozen=True, kw_only=True)
class DailyPlan:
    """What a daily job needs, checked.

    Attributes:
        towers: data, window, towers and their training.
        settings: all of it as plain values, to be kept with what is trained.
        finetune: on the newest samples.
        admission: expiry and capacity of rows.
        partitions: what the checks of days let pass.
        gate: rules of the gate.
        golden: requests with a band for their answers.
        retention: what stays.
        finetune_newest: learn the holdout after the gate.
        force: run a day again.
    """

    towers: Plan
    settings: Mapping[str, Any]
    finetune: FinetuneSettings
    admission: Admission
    partitions: PartitionSettings
    gate: GateSettings
    golden: Sequence[GoldenRequest]
    retention: RetentionSettings
    finetune_newest: bool
    force: bool

    @property
    def window(self) -> Rolling:
        """The sliding window."""
        assert isinstance(self.towers.window, Rolling)
        return self.towers.window

    @property
    def student(self) -> str:
        """The student that is published."""
        return self.towers.export.student or self.towers.students[0].name


def split_daily(settings: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings that `train` knows as well, and those of daily jobs alone."""
    own = {key: settings[key] for key in (*_SECTIONS, *_VALUES) if key in settings}
    shared = {key: value for key, value in settings.items() if key not in own}
    # Daily jobs resume by themselves.
    return {**shared, "resume": True, "reuse": False}, own


def daily_scheme_mistakes(settings: Mapping[str, Any]) -> list[str]:
    """Which schemes cannot go on day after day."""
    students = settings.get("student_configs") or {}
    chosen = {"scheme": settings["scheme"]} | {
        f"student/{name}.scheme": student["scheme"] for name, student in students.items()
        if isinstance(student, Mapping) and student.get("scheme") is not None}
    return [f"{where} must be {CO_TRAINING} in a daily job, got {scheme}: teacher and students go "
            "on together with the samples of each day. Compare schemes with pipelines.train."
            for where, scheme in chosen.items() if scheme in SCHEMES and scheme != CO_TRAINING]


def daily_teacher_mistakes(settings: Mapping[str, Any]) -> list[str]:
    """Which members of a pool of teachers cannot go on day after day."""
    return [f"teacher.towers.{name} is a finished model, which cannot go on in a daily job: it "
            "has no scores of tomorrow's rows. Leave it out, or use it with pipelines.train."
            for name in finished_members(settings.get("teacher"))]


def daily_plan_from(settings: Mapping[str, Any], mistakes: Sequence[str] = (), *,
                    stored: bool = False) -> DailyPlan:
    """Check the resolved configuration of a daily job as a whole.

    Args:
        settings: plain values.
        mistakes: found so far, reported together with those found here.
        stored: of a published version, of which nothing is needed that its training state holds
            or that only its own gate has asked for: the files that it names may be gone.

    Raises:
        ConfigError: with every mistake at once.
    """
    shared, own = split_daily(settings)
    found = list(mistakes)
    finetune = parse(FinetuneSettings, own["finetune"], "finetune", found)
    admission = parse(Admission, own["admission"], "admission", found)
    partitions = parse(PartitionSettings, own["partitions"], "partitions", found)
    gate = parse(GateSettings, own["gate"], "gate", found)
    retention = parse(RetentionSettings, own["retention"], "retention", found)
    found += finetune.mistakes() if finetune else []
    found += admission.mistakes("admission") if admission else []
    found += partitions.mistakes("partitions") if partitions else []
    found += gate.mistakes() if gate else []
    for key in ("finetune_newest", "force"):
        if not isinstance(own.get(key, False), bool):
            found.append(f"{key} must be true or false, got {own[key]!r}.")
    golden: Sequence[GoldenRequest] = ()
    if (path := own.get("golden_requests")) and not stored:
        try:
            golden = read_golden_requests(Path(str(path)))
        except ConfigError as error:
            found.extend(error.mistakes)
    window = shared.get("window") or {}
    if window.get("_target_") != "dualdnn.data.window.Rolling":
        found.append("a daily job needs window=rolling, got "
                     f"{window.get('_target_', window)!r}.")
    if window.get("valid_days"):
        found.append(f"window.valid_days must be 0 in a daily job, got {window['valid_days']}: it "
                     "takes a fixed number of passes and stops no tower early.")
    if retention and isinstance(window.get("days"), int):
        found += retention.mistakes(window["days"])
    if not shared.get("students"):
        found.append("a daily job publishes a student, got students=[]. Name one.")
    found += daily_scheme_mistakes(shared)
    found += daily_teacher_mistakes(shared)
    towers = plan_from(shared, found, stored=stored)
    # Else plan_from raised.
    assert finetune
    assert admission
    assert partitions
    assert gate
    assert retention
    return DailyPlan(
        towers=towers, settings=dict(settings), finetune=finetune, admission=admission,
        partitions=partitions, gate=gate, golden=golden, retention=retention,
        finetune_newest=own.get("finetune_newest", True), force=own.get("force", False),
    )
