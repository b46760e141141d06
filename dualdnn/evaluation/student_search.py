"""A grid of students on one teacher: how far each is from it, and the smallest that is near enough.

The choice is made on the validation part; the test part only says what came of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dualdnn.errors import DataError
from dualdnn.evaluation.paired import ComparedRows, paired_difference
from dualdnn.evaluation.pareto import Candidate, frontier, smallest, within

TEACHER = "teacher"
# Rows of the request whose latency counts.
TIMED_ROWS = "500"


@dataclass(frozen=True, kw_only=True)
class ScoredRows:
    """One part of the data and what every tower says about it.

    Attributes:
        labels: (n,) 0 or 1.
        logits: (n,) by tower, the teacher's among them.
        groups: (n,) users or requests, or None.
        weights: (n,) of the rows, or None.
    """

    labels: np.ndarray
    logits: Mapping[str, np.ndarray]
    groups: np.ndarray | None = None
    weights: np.ndarray | None = None


def _distances(part: ScoredRows, name: str, resamples: int) -> dict[str, dict[str, float]]:
    """AUC by tower; of students also what it is above the teacher's, with a 95% interval."""
    rows = ComparedRows(part.labels, part.groups, part.weights, resamples=resamples)
    measured = {tower: rows.measured(logits, "auc") for tower, logits in part.logits.items()}
    found: dict[str, dict[str, float]] = {}
    for tower, one in measured.items():
        teacher = measured[TEACHER]
        if one is None or teacher is None:
            raise DataError(f"student_search compares by AUC, but the labels of the {name} part "
                            "are all the same. Choose a window whose parts hold both.")
        found[tower] = {"auc": float(one.values.mean())}
        if tower != TEACHER:
            difference = paired_difference(one, teacher)
            found[tower]["difference"] = difference.value
            if difference.error is not None:
                found[tower]["low"], found[tower]["high"] = difference.interval()
    return found


def search_section(
    measured: Mapping[str, Mapping[str, Any]],
    *,
    valid: ScoredRows,
    test: ScoredRows,
    distance: float,
    latency_tolerance: float,
    resamples: int = 1000,
) -> dict[str, Any]:
    """The section `student_search` of a report.

    Args:
        measured: by tower `latency_ms_at`, of students `latency_ratio`, and `params_dense`; a
            student without them is left out.
        valid: what is chosen on.
        test: what is reported.
        distance: AUC below the teacher's that is near enough.
        latency_tolerance: see `smallest`.
        resamples: draws of groups of rows, for the intervals.

    Returns:
        `distance`, `latency_tolerance`, `least_auc`; `teacher` and `students` by name, the fastest
        first, each with `valid` and `test` (`auc`, of students `difference` to the teacher with
        `low` and `high`), `latency_ms`, `latency_ratio`, `params_dense`, of students `within` the
        distance and on the `frontier` of validation AUC and latency; `best` on validation, and
        `chosen`, absent where no student is near enough.

    Raises:
        DataError: a part has labels of one kind only, or no student has scores.
    """
    parts = {"valid": _distances(valid, "validation", resamples),
             "test": _distances(test, "test", resamples)}
    names = [name for name in valid.logits if name != TEACHER and name in measured]
    if not names:
        raise DataError("every student of the search became NaN or infinite. Lower "
                        "optimizer.student.learning_rate.")

    def about(tower: str) -> dict[str, Any]:
        one = measured[tower]
        kept = {key: one[key] for key in ("latency_ratio", "params_dense") if key in one}
        return {"latency_ms": one["latency_ms_at"][TIMED_ROWS], **kept,
                **{part: towers[tower] for part, towers in parts.items()}}

    students = {name: about(name) for name in names}
    candidates = [Candidate(name=name, latency=one["latency_ms"], parameters=one["params_dense"],
                            auc=one["valid"]["auc"]) for name, one in students.items()]
    least = parts["valid"][TEACHER]["auc"] - distance
    near = within(candidates, least_auc=least)
    chosen = smallest(near, latency_tolerance=latency_tolerance)
    on_frontier = frontier(candidates)
    for name, one in students.items():
        one["within"] = name in [student.name for student in near]
        one["frontier"] = name in on_frontier
    section = {
        "distance": distance, "latency_tolerance": latency_tolerance, "least_auc": least,
        "teacher": about(TEACHER),
        "students": dict(sorted(students.items(), key=lambda item: item[1]["latency_ms"])),
        "best": max(candidates, key=lambda one: one.auc).name,
    }
    return section | ({"chosen": chosen.name} if chosen else {})


def choice_in_words(search: Mapping[str, Any]) -> str:
    """Which student is chosen and by how much, in a sentence or two."""
    name = search.get("chosen")
    one = search["students"][name or search["best"]]
    valid, test = one["valid"]["difference"], one["test"]["difference"]
    if name is None:
        return (f"no student is within {search['distance']:g} AUC of the teacher on the validation "
                f"part; the nearest, {search['best']}, is {valid:+.4f} from it there and "
                f"{test:+.4f} on the test part")
    return (f"{name} is the smallest student within {search['distance']:g} AUC of the teacher on "
            f"the validation part: {valid:+.4f} there, {test:+.4f} on the test part, "
            f"{one['latency_ratio']:.1f}x faster, {one['params_dense']:,} dense parameters")


def search_table(search: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Heading and rows, the fastest student first, the teacher last.

    The mark says what is on the frontier (`o`) and what is chosen (`>`).
    """

    def distance(found: Mapping[str, float]) -> str:
        if "low" not in found:
            return f"{found['difference']:+.4f}"
        return f"{found['difference']:+.4f} [{found['low']:+.4f}, {found['high']:+.4f}]"

    rows = [[(">" if name == search.get("chosen") else "o" if one["frontier"] else "") , name,
             f"{one['valid']['auc']:.4f}", distance(one["valid"]),
             f"{one['test']['auc']:.4f}", f"{one['test']['difference']:+.4f}",
             f"{one['latency_ms']:.3f}", f"{one['latency_ratio']:.1f}x",
             f"{one['params_dense']:,}"] for name, one in search["students"].items()]
    teacher = search["teacher"]
    rows.append(["", TEACHER, f"{teacher['valid']['auc']:.4f}", "",
                 f"{teacher['test']['auc']:.4f}", "", f"{teacher['latency_ms']:.3f}", "1.0x",
                 f"{teacher['params_dense']:,}"])
    return (["", "student", "valid AUC", "less teacher [95%]", "test AUC", "less teacher", "ms",
             "faster", "dense params"], rows)
