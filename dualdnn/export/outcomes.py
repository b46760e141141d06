"""How a daily job ended for a day, kept beside the training states: a day is not done twice."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dualdnn.storage import write_json

DONE, REJECTED = "done", "rejected"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The end of one daily job.

    Attributes:
        status: `done` or `rejected`.
        configuration: digest of the settings that it ran with.
        run: its run folder.
        version: what was published; None where the gate has rejected.
        decision: of the gate, as `Decision.to_dict`.
    """

    status: str
    configuration: str
    run: str
    version: int | None
    decision: Mapping[str, Any]


def _path(state: Path, job: str, key: str) -> Path:
    return state / "outcomes" / job / f"{key}.json"


def outcome_of(state: Path, job: str, key: str) -> Outcome | None:
    """How a job ended; None where it has not ended yet.

    Args:
        state: `paths.state/NAME`.
        job: its name.
        key: what it was for, such as the day.
    """
    path = _path(state, job, key)
    return Outcome(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None


def record_outcome(state: Path, job: str, key: str, outcome: Outcome) -> None:
    """Keep how a job ended, in place of an earlier end."""
    write_json(_path(state, job, key), asdict(outcome))


def remove_outcomes(state: Path, before: datetime.date) -> None:
    """Forget the outcomes of days before one."""
    for path in (state / "outcomes").glob("*/*.json"):
        if path.stem[:10] < str(before):
            path.unlink(missing_ok=True)
