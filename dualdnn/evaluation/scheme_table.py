"""Schemes of distillation on the same rows and seeds: one table of all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dualdnn.evaluation.comparison import TEACHER, Rows, System, compared
from dualdnn.evaluation.comparison_tables import interval_text, p_text, share_text
from dualdnn.evaluation.efficiency import efficiency
from dualdnn.evaluation.paired import PAIRED_METRICS, ComparedRows

STUDENT = "student"
# The student without a teacher.
NONE = "none"
_SHOWN = (("auc", "AUC"), ("log_loss", "log loss"), ("ece", "ECE"))


def compared_schemes(
    rows: Rows,
    seeds: Sequence[int],
    students: Mapping[str, np.ndarray],
    teacher: np.ndarray,
    own_teachers: Mapping[str, np.ndarray],
    *,
    baseline: str,
    resamples: int = 1000,
) -> dict[str, Any]:
    """Everything that can be said of students of several schemes.

    Args:
        rows: the test part.
        seeds: of the trainings.
        students: (seeds, n) logits of the student by scheme; `none` is the student alone.
        teacher: (seeds, n) of the teacher that no student has touched.
        own_teachers: (seeds, n) by scheme, of those that move their teacher.
        baseline: the scheme that others are compared with.
        resamples: draws of groups of rows.

    Returns:
        as `compared`, each scheme a system of its student and its teacher; and `efficiency` by
        scheme, the share of the way from `none` to the untouched teacher, absent where there is
        no headroom.

    Raises:
        ConfigError: there is no such baseline.
    """
    systems = [System(name=scheme, seeds=seeds, logits={
        TEACHER: own_teachers.get(scheme, teacher), STUDENT: logits})
        for scheme, logits in students.items()]
    found = compared(rows, systems, baseline=baseline, resamples=resamples)
    found["efficiency"] = {}
    if NONE in students:
        drawn = ComparedRows(rows.labels, rows.groups, rows.weights, resamples=resamples)
        best, alone = (drawn.measured(one, "auc") for one in (teacher, students[NONE]))
        for scheme, logits in students.items():
            measured = drawn.measured(logits, "auc")
            if scheme != NONE and measured and best and alone:
                share = efficiency(measured, best, alone)
                if share:
                    found["efficiency"][scheme] = share
    return found


def scheme_rows(comparison: Mapping[str, Any], baseline: str) -> list[dict[str, Any]]:
    """The table as rows: teacher, schemes in their order, teachers that a scheme has moved.

    Args:
        comparison: of `compared_schemes`.
        baseline: the scheme that others are compared with.

    Returns:
        `name`, `seeds`, `metrics` (mean and spread by metric), `less` (the name of what it is
        compared with) and `difference` by metric, `efficiency`, and of a teacher that was moved
        `of`, the scheme that did; absent where unknown. p-values of schemes are corrected over all
        differences to the baseline, that of the teacher over all of students to their teachers.
    """
    metrics = {(row["system"], row["tower"]): row for row in comparison["metrics"]}
    differences = {(row["system"], row["tower"]): row for row in comparison["differences"]}
    inner = {row["system"]: row for row in comparison["inside"]}

    def row(name: str, key: tuple[str, str], less: str | None,
            difference: Mapping[str, Any] | None) -> dict[str, Any]:
        of_tower = metrics[key]
        made = {"name": name, "seeds": of_tower["seeds"],
                "metrics": {metric: one for metric, one in of_tower.items()
                            if isinstance(one, Mapping)}}
        if less and difference and not difference["identical"]:
            made["less"] = less
            made["difference"] = {metric: difference[metric] for metric in PAIRED_METRICS
                                  if metric in difference}
        return made

    # The teacher less the student is the student less the teacher turned around.
    rows = [row(TEACHER, (baseline, TEACHER), baseline, _turned(inner[baseline]))]
    schemes = [system for system, tower in metrics if tower == STUDENT]
    for scheme in schemes:
        made = row(scheme, (scheme, STUDENT), baseline, differences.get((scheme, STUDENT)))
        if share := comparison["efficiency"].get(scheme):
            made["efficiency"] = share
        rows.append(made)
    for scheme in schemes:
        moved = differences.get((scheme, TEACHER))
        if moved and not moved["identical"]:
            made = row(f"teacher of {scheme}", (scheme, TEACHER), TEACHER, moved)
            rows.append({**made, "of": scheme})
    return rows


def _turned(difference: Mapping[str, Any]) -> dict[str, Any]:
    turned: dict[str, Any] = {"identical": difference["identical"]}
    for metric in PAIRED_METRICS:
        if metric in difference:
            one = dict(difference[metric])
            one["value"] = -one["value"]
            if "low" in one:
                one["low"], one["high"] = -one["high"], -one["low"]
            turned[metric] = one
    return turned


def scheme_table(rows: Sequence[Mapping[str, Any]], baseline: str
                 ) -> tuple[list[str], list[list[str]]]:
    """The rows as text that fits 110 columns: a line for AUC, log loss and ECE of each.

    A metric that was not measured has no line.
    """
    table = []
    for row in rows:
        # Labels of one kind have no AUC.
        measured = [one for one in _SHOWN if row["metrics"].get(one[0])]
        words = ([row["name"], "", ""] if "of" not in row
                 else ["teacher of", f"  {row['of']}", f"  less {row['less']}"])
        last = len(measured) - 1
        words[last:] = ["".join(words[last:])]
        for place, (metric, title) in enumerate(measured):
            found = row["metrics"][metric]
            difference = row.get("difference", {}).get(metric)
            spread = f" ± {found['spread']:.4f}" if "spread" in found else ""
            table.append([
                words[place], title, f"{found['mean']:.4f}{spread}",
                interval_text(difference), p_text((difference or {}).get("p_holm")),
                share_text(row.get("efficiency")) if place == 0 else ""])
    return (["", "metric", "mean ± spread", f"less {baseline} [95%]", "p (Holm)",
             "efficiency [95%]"], table)


def flat_scheme_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One flat mapping per row, `auc.mean`, `less.auc.low`, `efficiency.high`, for CSV."""
    flat = []
    for row in rows:
        made: dict[str, Any] = {"name": row["name"], "seeds": row["seeds"],
                                "less": row.get("less", "")}
        for metric, one in row["metrics"].items():
            made |= {f"{metric}.{key}": value for key, value in one.items()}
        for metric, one in row.get("difference", {}).items():
            made |= {f"less.{metric}.{key}": value for key, value in one.items()}
        made |= {f"efficiency.{key}": value for key, value in row.get("efficiency", {}).items()}
        flat.append(made)
    return flat
