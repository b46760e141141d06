"""The students of a search: every combination of widths, FM vector and losses, by name."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from dualdnn.errors import ConfigError

# All of them learn in one pass and are timed side by side; beyond it, search in two steps.
MOST_STUDENTS = 64
_AXES = ("hidden_units", "fm", "distillation")
_KEYS = ("grid", "distance", "latency_tolerance")

Choices = dict[str, Any]


def searched_students(
    search: Any, base_name: str, base: DictConfig,
    losses_of: Callable[[str], Mapping[str, Any]], mistakes: list[str],
) -> dict[str, DictConfig]:
    """The configuration of every student of the grid.

    Args:
        search: `student_search` of the configuration.
        base_name: of the student that all start from.
        base: its configuration, which keeps what the grid does not change.
        losses_of: by name of a file under distillation/, in what it differs from the run's.
        mistakes: receives what is wrong, one sentence each.

    Returns:
        by name such as `64-32-fm-labels_only`: widths (the name of the base where the grid has
        none), `fm` where it is on, and the losses where the grid has several.
    """
    if not isinstance(search, DictConfig) or not isinstance(search.get("grid"), DictConfig):
        mistakes.append(f"student_search must be null or a mapping with {', '.join(_KEYS)}, grid a "
                        f"mapping, got {search!r}. Start from experiment=student_search.")
        return {}
    grid = OmegaConf.to_container(search.grid)
    assert isinstance(grid, dict)
    before = len(mistakes)
    mistakes.extend(f"student_search.grid.{key} is not known; known are {', '.join(_AXES)}. Other "
                    "settings are of the student that all start from: student=NAME, "
                    f"student.{key}=..." for key in grid if key not in _AXES)
    axes = [_widths(grid.get("hidden_units"), base_name, mistakes), _fm(grid.get("fm"), mistakes),
            _losses(grid.get("distillation"), losses_of, mistakes)]
    if len(mistakes) > before:
        return {}
    number = len(axes[0]) * len(axes[1]) * len(axes[2])
    if number > MOST_STUDENTS:
        mistakes.append(f"student_search.grid makes {number} students, expected at most "
                        f"{MOST_STUDENTS}. Search coarsely first, then around what it finds.")
        return {}
    students = {}
    for chosen in itertools.product(*(axis.items() for axis in axes)):
        name = "-".join(part for part, _ in chosen if part)
        student = base.copy()
        OmegaConf.set_struct(student, False)
        for _, changes in chosen:
            student = OmegaConf.merge(student, changes)
            assert isinstance(student, DictConfig)
        if name in students:
            mistakes.append(f"student_search.grid makes two students named {name}. Give the losses "
                            "in student_search.grid.distillation other names.")
        students[name] = student
    return students


def _listed(given: Any, where: str, what: str, mistakes: list[str]) -> list[Any]:
    """The values of an axis; a mistake where it is no list, empty, or says one twice."""
    if not isinstance(given, list) or not given:
        mistakes.append(f"{where} must be a list of {what}, got {given!r}.")
        return []
    if any(one in given[:place] for place, one in enumerate(given)):
        mistakes.append(f"{where} lists a value twice: {given}.")
    return given


def _widths(given: Any, base_name: str, mistakes: list[str]) -> Choices:
    if given is None:
        return {base_name: {}}
    where = "student_search.grid.hidden_units"
    found = {}
    for one in _listed(given, where, "lists of widths such as [[64,32],[16]]", mistakes):
        if not isinstance(one, list) or not all(type(units) is int for units in one):
            mistakes.append(f"{where} must be a list of lists of widths such as [[64,32],[16]], "
                            f"got {one!r} in it.")
            continue
        found["-".join(map(str, one)) or "none"] = {"hidden_units": one}
    return found


def _fm(given: Any, mistakes: list[str]) -> Choices:
    if given is None:
        return {"": {}}
    where = "student_search.grid.fm"
    values = _listed(given, where, "true and false", mistakes)
    mistakes.extend(f"{where} must be a list of true and false, got {one!r} in it."
                    for one in values if not isinstance(one, bool))
    return {"fm" if one else "": {"fm": one} for one in values}


def _losses(given: Any, losses_of: Callable[[str], Mapping[str, Any]],
            mistakes: list[str]) -> Choices:
    """Short names for files under distillation/ or for changes to the run's; null for none."""
    where = "student_search.grid.distillation"
    if given is not None and not isinstance(given, Mapping):
        mistakes.append(f"{where} must be a mapping of short names to files under distillation/ or "
                        f"to changes, got {given!r}.")
        return {}
    named = {name: losses for name, losses in (given or {}).items() if losses is not None}
    if not named:
        return {"": {}}
    found: Choices = {}
    for name, losses in named.items():
        if isinstance(losses, str):
            try:
                losses = losses_of(losses)
            except ConfigError as error:
                mistakes.extend(error.mistakes)
                continue
        if not isinstance(losses, Mapping):
            mistakes.append(f"{where}.{name} must be a name under distillation/ or a mapping of "
                            f"changes to distillation, got {losses!r}.")
            continue
        found[str(name) if len(named) > 1 else ""] = {"distillation": dict(losses)}
    return found

