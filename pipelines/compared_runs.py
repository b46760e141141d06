"""From the runs that are to be compared to systems: runs of one configuration, seed by seed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dualdnn.errors import ConfigError, DataError
from dualdnn.evaluation.comparison import TEACHER, Rows, System
from dualdnn.evaluation.predictions import PREDICTIONS_FILE, Predictions, read_predictions
from dualdnn.tracking import flattened
from pipelines.runs import has_test_rows, read_report, settings_of

# What neither decides what is learned nor which rows test it.
_NOT_COMPARED = ("seed", "export", "evaluation", "published", "resume", "reuse", "debug",
                 "tracking", "paths", "data.raw", "data.lake")
DATA = "data fingerprint"
REVISION = "git revision"
_FEW_SEEDS = 5


@dataclass(frozen=True, kw_only=True)
class ComparedRun:
    """A finished run.

    Attributes:
        folder: with its predictions, of the training or of an evaluation of it.
        trained: folder of the training.
        seed: of the training.
        settings: flat `a.b.c` to text, without what does not count, and the fingerprint of the days
            that the run learned from and the revision of the code, `unknown` where it kept none.
        towers: of its report, which have scores.
        diverged: towers that became NaN or infinite while it trained, with scores of their best
            weights before that or without any.
        group: the column of the lake that its rows are grouped by, or None.
    """

    folder: Path
    trained: Path
    seed: int
    settings: Mapping[str, str]
    towers: Sequence[str]
    diverged: Sequence[str]
    group: str | None


def open_run(folder: Path, mistakes: list[str]) -> ComparedRun | None:
    """What a run was trained with; reads no scores.

    Args:
        folder: of a finished run of train or evaluate.
        mistakes: receives what is wrong, one sentence each.
    """
    report = read_report(folder)
    trained = Path(report["run"]) if report["job"] == "evaluate" else folder
    if not (folder / PREDICTIONS_FILE).exists():
        mistakes.append(f"{folder} has no test rows to compare on. Leave it out, or train it under "
                        "a window that has some." if not has_test_rows(report) else
                        f"{folder} holds no {PREDICTIONS_FILE}: an older version trained it. Score "
                        f"it with `python -m pipelines.evaluate run={trained}`, and compare the "
                        "folder that this makes.")
        return None
    try:
        settings = settings_of(trained)
    except ConfigError as error:
        mistakes.extend(error.mistakes)
        return None
    # By name: fields that differ are a line each, however many there are.
    by_name = {field["name"]: {key: value for key, value in field.items() if key != "name"}
               for field in settings["data"]["fields"]}
    named = {**settings, "data": {**settings["data"], "fields": by_name}}
    # Sorted, since the order of keys in a field of a schema means nothing.
    ordered = json.loads(json.dumps(named, sort_keys=True))
    flat = {key: value for key, value in flattened(ordered).items()
            if not any(key == one or key.startswith(f"{one}.") for one in _NOT_COMPARED)}
    training = read_report(trained)
    # As long as messages about changed days show it.
    flat[DATA] = training.get("data", {}).get("fingerprint", "unknown")[:12]
    flat[REVISION] = training.get("lineage", {}).get("git_revision", "unknown")
    return ComparedRun(folder=folder, trained=trained, seed=settings["seed"], settings=flat,
                       towers=report["towers"],
                       diverged=[tower for tower, ended in training.get("progress", {}).items()
                                 if ended["status"] == "diverged"],
                       group=settings["data"].get("group"))


def grouped_runs(runs: Sequence[ComparedRun], names: Sequence[str] | None,
                 mistakes: list[str]) -> dict[str, list[ComparedRun]]:
    """Runs that differ in nothing but the seed make one system, in the order of the first of each.

    Runs of one configuration that learned from other days, or from days that were changed since,
    are two systems. Code of another revision makes another system only where the seeds of one
    configuration would come twice: a sweep may span a commit, and a comparison of two commits is
    one all the same.

    Args:
        runs: in the order they were given.
        names: of the systems, or None for A, B, ...
        mistakes: receives what is wrong, one sentence each.
    """
    groups: dict[str, list[ComparedRun]] = {}
    for run in runs:
        kept = {key: value for key, value in run.settings.items() if key != REVISION}
        groups.setdefault(json.dumps(kept, sort_keys=True), []).append(run)
    made: list[list[ComparedRun]] = []
    for members in groups.values():
        by_revision: dict[str, list[ComparedRun]] = {"": members}
        if len({run.seed for run in members}) < len(members):
            by_revision = {}
            for run in members:
                by_revision.setdefault(run.settings[REVISION], []).append(run)
        made += by_revision.values()
    for members in made:
        seen: dict[int, ComparedRun] = {}
        for run in members:
            if run.seed in seen:
                mistakes.append(f"{seen[run.seed].folder} and {run.folder} are the same "
                                f"configuration with the same seed {run.seed}, and would count "
                                "twice. Leave one of them out.")
            seen[run.seed] = run
    if names is not None and (len(names) != len(made) or len(set(names)) < len(names)
                              or any("/" in name for name in names)):
        firsts = ", ".join(str(members[0].folder) for members in made)
        mistakes.append(f"names must be {len(made)} different names without `/`, one for each "
                        f"configuration in the order of {firsts}, got {list(names)}.")
        names = None
    return {name: sorted(members, key=lambda run: run.seed) for name, members in
            zip(names or [_letters(i) for i in range(len(made))], made, strict=True)}


def name_mistakes(systems: Mapping[str, Sequence[ComparedRun]], baseline: Any,
                  towers: Sequence[str]) -> list[str]:
    """What is wrong with the names of a baseline and of towers, one sentence each.

    Args:
        systems: of `grouped_runs`.
        baseline: None, a system, or SYSTEM/TOWER.
        towers: that are to be compared; all where there are none.
    """
    found = []
    known = {name: [tower for tower in runs[0].towers if not towers or tower in towers]
             for name, runs in systems.items()}
    everywhere = dict.fromkeys(one for runs in systems.values() for one in runs[0].towers)
    found += [f"comparison.towers names `{tower}`, but the towers of these runs are "
              f"{', '.join(everywhere)}." for tower in towers if tower not in everywhere]
    if not found:
        found += [f"comparison.towers leaves nothing of {name}, whose towers are "
                  f"{', '.join(systems[name][0].towers)}. Name one of them too, or leave out the "
                  f"runs of {name}, the first {systems[name][0].folder}."
                  for name, left in known.items() if not left]
    if baseline is None:
        return found
    name, _, tower = str(baseline).partition("/")
    if name not in known:
        found.append(f"baseline must be one of the systems {', '.join(known)}, or SYSTEM/TOWER, "
                     f"got `{baseline}`.")
    elif tower and tower not in known[name]:
        found.append(f"baseline names the tower `{tower}`, but the towers of {name} are "
                     f"{', '.join(known[name])}.")
    return found


def _letters(number: int) -> str:
    """A, ..., Z, AA, AB, ..."""
    return (_letters(number // 26 - 1) if number >= 26 else "") + chr(ord("A") + number % 26)


def differing_settings(systems: Mapping[str, Sequence[ComparedRun]]) -> dict[str, dict[str, str]]:
    """The settings in which systems differ: key to value by system; absent is empty."""
    first = {name: runs[0].settings for name, runs in systems.items()}
    revisions = {name: ", ".join(dict.fromkeys(run.settings[REVISION] for run in runs))
                 for name, runs in systems.items()}
    keys = dict.fromkeys(key for settings in first.values() for key in settings)
    table = {key: revisions if key == REVISION else
             {name: settings.get(key, "") for name, settings in first.items()} for key in keys}
    return {key: values for key, values in table.items() if len(set(values.values())) > 1}


def scored_systems(systems: Mapping[str, Sequence[ComparedRun]], towers: Sequence[str],
                   notes: list[str]) -> tuple[Rows, list[System], str | None]:
    """Read the scores of every run.

    Args:
        systems: of `grouped_runs`.
        towers: names of those that notes speak of, beside the teacher; all where there are none.
        notes: receives what was left out, in what the runs' rows differ, and which towers diverged,
            one sentence each.

    Returns:
        the rows, the systems, and the column that the rows are grouped by, None where they are not.

    Raises:
        DataError: a file is damaged, or runs were tested on different rows.
    """
    read = {run.folder: read_predictions(run.folder / PREDICTIONS_FILE)
            for runs in systems.values() for run in runs}
    first_folder, first = next(iter(read.items()))
    for folder, other in read.items():
        if other.fingerprint != first.fingerprint:
            raise DataError(
                f"runs must be tested on the same rows, but {first_folder} ({_rows(first)}) and "
                f"{folder} ({_rows(other)}) are not. Train both on the same data and window; with "
                "window=random_fraction, give window.seed=1 to all, so that seed changes the "
                "training alone.")
    runs_of_all = [run for runs in systems.values() for run in runs]
    slices = _slices(runs_of_all, read, notes)

    def same(one: np.ndarray | None, other: np.ndarray | None) -> bool:
        return (one is None) == (other is None) and (
            one is None or other is None or np.allclose(one, other, rtol=1e-5))

    if not all(same(one.weights, first.weights) for one in read.values()):
        none = " (none)" if first.weights is None else ""
        notes.append("The runs weigh the test rows differently. All are compared by the weights of "
                     f"{first_folder}{none}; name another run first to take its own.")
    made = []
    for name, runs in systems.items():
        scores = [read[run.folder].logits for run in runs]
        common = [tower for tower in scores[0] if all(tower in one for one in scores)]
        notes += _divergences(name, runs, scores, towers)
        made.append(System(name=name, seeds=[run.seed for run in runs],
                           logits={tower: np.stack([one[tower] for one in scores])
                                   for tower in common}))
    groups, column = _groups(runs_of_all, read, notes)
    return (Rows(labels=first.labels, groups=groups, weights=first.weights, slices=slices), made,
            column)


def _slices(runs: Sequence[ComparedRun], read: Mapping[Path, Predictions],
            notes: list[str]) -> dict[str, np.ndarray]:
    """The slices (n,) that are the same rows in every run; a note for each field that has others.

    Args:
        runs: all of them.
        read: their scores by folder.
        notes: receives the notes.
    """
    by_field: dict[str, list[str]] = {}
    for name in dict.fromkeys(name for one in read.values() for name in one.slices):
        by_field.setdefault(name.partition("=")[0], []).append(name)
    # `new_user` and the like are in every run that can have them.
    asked = [field for field, names in by_field.items() if "=" in names[0]]
    kept = {}
    for field, names in by_field.items():
        without = [run for run in runs if not set(names) & set(read[run.folder].slices)]
        if without:
            have = ("has" if len(without) == 1 else
                    f"and {len(without) - 1} more of the runs have")
            note = f"{without[0].folder} {have} no slices of {field}, which are left out."
            known = [one for one in asked if f"data.fields.{one}.kind" in without[0].settings]
            if field in known:
                note += (f" Make them with `python -m pipelines.evaluate run={without[0].trained} "
                         f"'evaluation.slices=[{','.join(known)}]'`, and compare the folder that "
                         "this makes.")
            notes.append(note)
            continue
        found = {name: [read[run.folder].slices.get(name) for run in runs] for name in names}
        same = [name for name, masks in found.items()
                if all(mask is not None and np.array_equal(mask, masks[0]) for mask in masks)]
        kept |= {name: read[runs[0].folder].slices[name] for name in same}
        if others := [name for name in names if name not in same]:
            notes.append("Slices that are not the same rows in every run are left out: "
                         f"{', '.join(others)}.")
    return kept


def _groups(runs: Sequence[ComparedRun], read: Mapping[Path, Predictions],
            notes: list[str]) -> tuple[np.ndarray | None, str | None]:
    """The groups (n,) of the first run that has any, and their column; a note where others differ.

    Args:
        runs: all of them.
        read: their scores by folder.
        notes: receives the note.
    """
    first = next((run for run in runs if read[run.folder].groups is not None), None)
    if first is None:
        return None, None
    groups = read[first.folder].groups
    if not all(_same_groups(groups, read[run.folder].groups) for run in runs):
        notes.append(f"The runs group the test rows differently. All are compared by the groups of "
                     f"{first.folder} ({first.group}), the first run that has any; name another "
                     "run first to take its own.")
    return groups, first.group


def _same_groups(one: np.ndarray | None, other: np.ndarray | None) -> bool:
    """Do two columns (n,) put the same rows together, whatever numbers they call them?"""
    if one is None or other is None:
        return one is other
    if np.array_equal(one, other):
        return True
    both = one.astype(np.int64) * (int(other.max()) + 1) + other
    return len(np.unique(both)) == len(np.unique(one)) == len(np.unique(other))


def _divergences(name: str, runs: Sequence[ComparedRun],
                 scores: Sequence[Mapping[str, np.ndarray]], towers: Sequence[str]) -> list[str]:
    """One sentence for every tower of a system that has no scores or diverged with some seed.

    Args:
        name: of the system.
        runs: of the system.
        scores: of each run by tower.
        towers: those that are compared; all where there are none. The teacher, which students are
            measured against, is among them.
    """
    found = []
    for tower in dict.fromkeys(tower for run, one in zip(runs, scores, strict=True)
                               for tower in (*one, *run.diverged)):
        if towers and tower not in (TEACHER, *towers):
            continue
        lost = [run for run, one in zip(runs, scores, strict=True) if tower not in one]
        diverged = [run for run in runs if tower in run.diverged]
        if lost:
            why = (": it became NaN or infinite before its first evaluation"
                   if all(run in diverged for run in lost) else "")
            found.append(f"The tower {tower} of {name} has no scores with {_seeds(lost)}{why}, and "
                         "is left out.")
        elif diverged:
            found.append(f"The tower {tower} of {name} became NaN or infinite with "
                         f"{_seeds(diverged)}; its scores there are of its best weights before "
                         "that.")
    return found


def _seeds(runs: Sequence[ComparedRun]) -> str:
    return ("seed " if len(runs) == 1 else "seeds ") + ", ".join(str(run.seed) for run in runs)


def seed_notes(systems: Mapping[str, Sequence[ComparedRun]], more: str) -> list[str]:
    """What few seeds mean for the intervals, in a sentence; nothing where there are enough.

    Args:
        systems: of `grouped_runs`.
        more: arguments of the job that train with more of them.
    """
    fewest = min(len(members) for members in systems.values())
    if fewest == 1:
        return ["With one seed, intervals know nothing of what another seed would give. Train "
                f"with {more}."]
    if fewest < _FEW_SEEDS:
        return [f"{fewest} seeds say little of how seeds differ: intervals may be too narrow "
                f"below {_FEW_SEEDS}."]
    return []


def _rows(predictions: Predictions) -> str:
    if not len(predictions.days):
        return "no rows"
    return (f"{len(predictions.labels):,} rows from {predictions.days.min()} to "
            f"{predictions.days.max()}, fingerprint {predictions.fingerprint[:12]}")
