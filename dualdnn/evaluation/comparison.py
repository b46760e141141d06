"""Systems side by side on the same test rows: metrics over seeds, differences and how sure.

A system is one configuration, trained with one seed or several; its towers are compared with
those of other systems and with each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from dualdnn.errors import ConfigError
from dualdnn.evaluation.metrics import weighted_scores
from dualdnn.evaluation.paired import (
    PAIRED_METRICS,
    ComparedRows,
    Resampled,
    holm,
    paired_difference,
)
from dualdnn.evaluation.ranking_agreement import ranking_agreement

TEACHER = "teacher"
# Before the name of a model of others that was trained beside the towers.
BASELINE = "baseline."
_LEVEL = 0.95
_METRICS = ("auc", "log_loss", "grouped_auc", "normalized_entropy", "calibration", "ece")
_AGREEMENT = ("top_overlap", "top_overlap_by_chance", "ndcg")


@dataclass(frozen=True, kw_only=True)
class System:
    """One configuration.

    Attributes:
        name: in tables.
        seeds: of its runs.
        logits: by tower (seeds, rows) of the test part; a tower that some run lacks is not there.
    """

    name: str
    seeds: Sequence[int]
    logits: Mapping[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The test rows that all systems share.

    Attributes:
        labels: (n,) 0 or 1.
        groups: (n,) users or requests, or None.
        weights: (n,) of `Examples.population_weights`, or None. All metrics are weighted by them
            but grouped AUC and the agreement of rankings, which count rows.
        slices: (n,) bool by name.
    """

    labels: np.ndarray
    groups: np.ndarray | None = None
    weights: np.ndarray | None = None
    slices: Mapping[str, np.ndarray] = field(default_factory=dict)


Pair = tuple[tuple[str, str], tuple[str, str]]


def _spread(values: Sequence[float]) -> dict[str, float]:
    """Mean, and the standard deviation over seeds where there are several."""
    found = {"mean": float(np.mean(values))}
    if len(values) > 1:
        found["spread"] = float(np.std(values, ddof=1))
    return found


def _metrics(rows: Rows, system: System, tower: str) -> dict[str, Any]:
    """Every metric of a tower over the seeds; one that some seed lacks is absent."""
    by_seed = []
    for seed, logits in enumerate(system.logits[tower]):
        found = weighted_scores(rows.labels, logits, groups=rows.groups, weights=rows.weights)
        if tower != TEACHER and TEACHER in system.logits and rows.groups is not None:
            found |= ranking_agreement(system.logits[TEACHER][seed], logits, rows.groups)
        by_seed.append(found)
    return {key: _spread([one[key] for one in by_seed]) for key in (*_METRICS, *_AGREEMENT)
            if all(key in one for one in by_seed)}


def _counterpart(tower: str, towers: Sequence[str]) -> str | None:
    """The tower of the same part in another system: by name, else that of its first student."""
    if tower in towers:
        return tower
    student = next((one for one in towers if one != TEACHER and "." not in one), None)
    _, dot, control = tower.partition(".")
    wanted = f"{student}{dot}{control}"
    return wanted if tower != TEACHER and wanted in towers else None


def _baseline_pairs(systems: Sequence[System], baseline: str | None) -> list[Pair]:
    """Which tower is compared with which.

    Args:
        systems: those to compare.
        baseline: None or the name of a system: its towers, part by part; `SYSTEM/TOWER`: that one.

    Raises:
        ConfigError: there is no such system or tower.
    """
    names = [system.name for system in systems]
    wanted, _, tower = (names[0] if baseline is None else baseline).partition("/")
    base = next((system for system in systems if system.name == wanted), None)
    if base is None:
        raise ConfigError(f"baseline must be one of the systems {', '.join(names)}, or SYSTEM/TOWER"
                          f", got `{baseline}`.")
    if tower and tower not in base.logits:
        raise ConfigError(f"baseline names the tower `{tower}`, but the towers of {wanted} are "
                          f"{', '.join(base.logits)}.")
    pairs: list[Pair] = []
    for system in systems:
        if system is base and not tower:
            continue
        for mine in system.logits:
            theirs = tower or _counterpart(mine, list(base.logits))
            if theirs and (system.name, mine) != (wanted, theirs):
                pairs.append(((system.name, mine), (wanted, theirs)))
    return pairs


def _inner_pairs(systems: Sequence[System]) -> list[Pair]:
    """Every student against its teacher and its own controls; all of these against baselines."""
    return [((system.name, tower), (system.name, other))
            for system in systems for tower in system.logits if "." not in tower
            for other in system.logits
            if (tower != TEACHER and (other == TEACHER or other.startswith(f"{tower}.")))
            or other.startswith(BASELINE)]


class _Differences:
    """Differences on one set of rows; every tower is resampled once."""

    def __init__(self, rows: Rows, mask: np.ndarray | None, systems: Sequence[System],
                 resamples: int) -> None:
        self._mask = np.ones(len(rows.labels), bool) if mask is None else mask
        self._systems = {system.name: system for system in systems}
        groups, weights = (None if one is None else one[self._mask]
                           for one in (rows.groups, rows.weights))
        self.compared = ComparedRows(rows.labels[self._mask], groups, weights, resamples=resamples)
        self._measured: dict[tuple[str, str, str], Resampled | None] = {}

    def measured(self, system: str, tower: str, metric: str) -> Resampled | None:
        key = system, tower, metric
        if key not in self._measured:
            self._measured[key] = self.compared.measured(
                self._systems[system].logits[tower][:, self._mask], metric)
        return self._measured[key]

    def table(self, pairs: Sequence[Pair]) -> list[dict[str, Any]]:
        """One row per pair; p-values are corrected over the pairs, metric by metric.

        Towers of the same scores, such as a teacher beside two kinds of students, are no question
        to be tested, and do not count in the correction.
        """
        table: list[dict[str, Any]] = [
            {"system": mine[0], "tower": mine[1], "to_system": theirs[0], "to_tower": theirs[1],
             "same_seeds": self._same_seeds(mine[0], theirs[0]),
             "identical": self._identical(mine, theirs)} for mine, theirs in pairs]
        for metric in PAIRED_METRICS:
            for row, (mine, theirs) in zip(table, pairs, strict=True):
                if row["identical"]:
                    continue
                first, second = self.measured(*mine, metric), self.measured(*theirs, metric)
                if first is None or second is None:
                    continue
                found = paired_difference(first, second, same_seeds=row["same_seeds"])
                row[metric] = {"value": found.value, "error": found.error, "p": found.p_value()}
                if found.error is not None:
                    row[metric]["low"], row[metric]["high"] = found.interval(_LEVEL)
            corrected = holm({str(i): row[metric]["p"] for i, row in enumerate(table)
                              if metric in row})
            for i, p in corrected.items():
                table[int(i)][metric]["p_holm"] = p
        return table

    def _identical(self, mine: tuple[str, str], theirs: tuple[str, str]) -> bool:
        first, second = (self._systems[system].logits[tower] for system, tower in (mine, theirs))
        return np.array_equal(first, second)

    def _same_seeds(self, one: str, other: str) -> bool:
        return list(self._systems[one].seeds) == list(self._systems[other].seeds)


def _slices(rows: Rows, systems: Sequence[System], pairs: Sequence[Pair],
            resamples: int) -> list[dict[str, Any]]:
    """The differences of teachers and students on the rows of every slice with both classes."""
    shown = [(mine, theirs) for mine, theirs in pairs
             if "." not in mine[1] and not theirs[1].startswith(BASELINE)]
    table = []
    for name, mask in rows.slices.items():
        if len(np.unique(rows.labels[mask])) < 2:
            continue
        differences = _Differences(rows, mask, systems, resamples)
        for row in differences.table(shown):
            if row["identical"]:
                continue
            values = {}
            for metric in PAIRED_METRICS:
                found = differences.measured(row["system"], row["tower"], metric)
                if found is not None:
                    values[f"{metric}_of_tower"] = _spread(list(found.values))
            table.append({"slice": name, "rows": int(mask.sum()), **row, **values})
    # One family over all slices: whoever looks at many finds something.
    for metric in PAIRED_METRICS:
        corrected = holm({str(i): row[metric]["p"] for i, row in enumerate(table)
                          if metric in row})
        for i, p in corrected.items():
            table[int(i)][metric]["p_holm"] = p
    return table


def compared(rows: Rows, systems: Sequence[System], *, baseline: str | None = None,
             resamples: int = 1000, towers: Sequence[str] = ()) -> dict[str, Any]:
    """Everything that can be said of systems on the same rows.

    Args:
        rows: the test part.
        systems: in the order of the tables; names differ.
        baseline: a system, whose towers others are compared with part by part (teacher with
            teacher, first student with first student), or `SYSTEM/TOWER`, with which all are;
            None takes the first system.
        resamples: draws of groups of rows.
        towers: names of those to compare; all where there are none. Students are measured against
            their teacher all the same.

    Returns:
        `rows` and `groups` of the test part, are they `weighted`, and `resamples`; `metrics`, a
        row per system and tower with mean and spread over seeds; `differences` to the baseline
        and `inside` of every system (student less teacher and its controls, teacher and student
        less models of others), each with value, 95% interval, p-value and that corrected by Holm
        over the rows of the table, or `identical` alone where both have the same scores; `slices`,
        the differences to the baseline (with one system, inside) by slice, corrected over all.

    Raises:
        ConfigError: there is no such baseline.
    """
    chosen = [replace(system, logits={tower: logits for tower, logits in system.logits.items()
                                      if not towers or tower in towers}) for system in systems]
    pairs = _baseline_pairs(chosen, baseline)
    inner = _inner_pairs(chosen)
    differences = _Differences(rows, None, chosen, resamples)
    groups = differences.compared.groups if rows.groups is not None else None
    return {
        "rows": len(rows.labels), "groups": groups, "weighted": rows.weights is not None,
        "resamples": resamples,
        "metrics": [{"system": system.name, "tower": tower, "seeds": len(system.seeds),
                     **_metrics(rows, system, tower)}
                    for system, of_it in zip(systems, chosen, strict=True)
                    for tower in of_it.logits],
        "differences": differences.table(pairs),
        "inside": differences.table(inner),
        "slices": _slices(rows, chosen, pairs or inner, resamples),
    }
