"""`student_search`: checked, measured on both parts, and what it chooses for the export."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dualdnn.config import parse
from dualdnn.data.examples import Examples
from dualdnn.errors import DataError
from dualdnn.evaluation.student_search import ScoredRows, search_section
from dualdnn.models.dual_dnn import TEACHER, DualDNN
from dualdnn.training.best_weights import BestWeights
from dualdnn.training.measure import score_with_best
from pipelines.settings import ExportSettings


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """`student_search.*`, without the grid, whose students the run has.

    Attributes:
        distance: validation AUC below the teacher's that is near enough.
        latency_tolerance: share by which two latencies may differ and still count as equal.
    """

    distance: float
    latency_tolerance: float

    def mistakes(self) -> list[str]:
        """What is wrong with the values, one sentence each."""
        return [f"student_search.{name} must lie in [0, {below:g}), got {value:g}."
                for name, value, below in (("distance", self.distance, 0.5),
                                           ("latency_tolerance", self.latency_tolerance, 1.0))
                if not 0 <= value < below]


def search_from(config: Mapping[str, Any], window: Any,
                mistakes: list[str]) -> SearchSettings | None:
    """The settings of a search, or None where the run is none.

    Args:
        config: of the run.
        window: of the run, or None where it is wrong itself.
        mistakes: receives what is wrong, one sentence each.
    """
    given = config.get("student_search")
    if given is None:
        return None
    if not isinstance(given, Mapping):
        return None  # said where the grid was read
    settings = parse(SearchSettings, {key: one for key, one in given.items() if key != "grid"},
                     "student_search", mistakes)
    if settings:
        mistakes.extend(settings.mistakes())
    for key in ("valid", "valid_days"):
        if getattr(window, key, None) == 0:
            mistakes.append(f"student_search chooses on the validation part, and window.{key} is "
                            "0. Give it rows.")
    if getattr(window, "holdout_days", None) == 0:
        mistakes.append("student_search reports its choice on the test part, and "
                        "window.holdout_days is 0. Give it days.")
    return settings


def check_parts(examples: Examples) -> None:
    """Refuse a split that leaves nothing to choose on, before hours are spent.

    Raises:
        DataError: a part has no rows, or labels of one kind only.
    """
    split = examples.split
    if not len(split.valid) or not len(split.test):
        raise DataError(f"student_search needs rows to choose on and others to report, got "
                        f"{len(split.valid)} to validate and {len(split.test)} to test. Choose a "
                        "window that has both.")
    for name, index in (("validation", split.valid), ("test", split.test)):
        labels = np.unique(examples.labels[index])
        if len(labels) < 2:
            raise DataError(f"student_search compares by AUC, but all {len(index)} rows of the "
                            f"{name} part have the label {labels[0]:g}. Choose a window whose "
                            "parts hold both.")


def searched_section(
    settings: SearchSettings, model: DualDNN, best: BestWeights, examples: Examples,
    sections: Mapping[str, Any], test_logits: Mapping[str, np.ndarray],
) -> dict[str, Any]:
    """The section `student_search` of the report.

    Args:
        settings: of the search.
        model: its towers.
        best: their best weights.
        examples: the data.
        sections: of `measured_sections`; a student that became NaN is left out.
        test_logits: by tower, of the test part.

    Raises:
        DataError: nothing can be chosen.
    """
    if "teacher" not in sections:
        raise DataError("the teacher became NaN or infinite, and there is nothing to compare "
                        "students with. Lower optimizer.teacher.learning_rate.")
    towers = [TEACHER, *(name for name, one in sections["students"].items()
                         if one.get("status") != "diverged")]
    parts = []
    for index, logits in ((examples.split.valid, None), (examples.split.test, test_logits)):
        if logits is None:
            logits = score_with_best(model, best, examples, index)
        groups = None if examples.groups is None else examples.groups[index]
        parts.append(ScoredRows(labels=examples.labels[index], groups=groups,
                                weights=examples.stands_for(index),
                                logits={tower: logits[tower] for tower in towers}))
    measured = {TEACHER: sections["teacher"], **sections["students"]}
    return search_section({tower: measured[tower] for tower in towers}, valid=parts[0],
                          test=parts[1], distance=settings.distance,
                          latency_tolerance=settings.latency_tolerance)


def asked_export(asked: ExportSettings, search: Mapping[str, Any] | None) -> ExportSettings | None:
    """What to export: the student that was asked for, else the one that a search has chosen.

    Args:
        asked: `export` of the configuration.
        search: the section of the report, or None where there is none.

    Returns:
        None where a search has found no student near enough.
    """
    if asked.student is not None or not search:
        return asked
    if "chosen" not in search:
        return None
    return replace(asked, student=search["chosen"])
