"""The teacher, one tower or a pool of them, from plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tf_keras as keras

from dualdnn.config import parse
from dualdnn.evaluation.comparison import BASELINE
from dualdnn.models.teacher import Teacher
from dualdnn.models.teacher_pool import PoolTower, TeacherPool, pool_mistakes
from pipelines.interactions import interactions_from
from pipelines.runs import read_report, unfinished
from pipelines.settings import NetworkSettings

SHARED, OWN = "shared", "own"
_GATES = ("mean", "learned")
# Of a pool, beside what its towers take from it where they do not say it themselves.
_COMBINATION_KEYS = ("gate", "weights", "hint_from")
_POOL_KEYS = ("towers", *_COMBINATION_KEYS)
_NETWORK_KEYS = ("linear", "hidden_units", "activation", "dropout")
_TOWER_KEYS = (*_NETWORK_KEYS, "interactions", "embedding")
# A dot would make a name look like that of a student's control.
_NAME_SIGNS = "letters, digits, `_` and `-`"


@dataclass(frozen=True, kw_only=True)
class TowerPlan:
    """A tower that learns.

    Attributes:
        network: its MLP, and whether it adds first-order weights.
        interactions: its layers.
        embedding: `shared` or `own`.
    """

    network: NetworkSettings
    interactions: list[keras.layers.Layer]
    embedding: str = SHARED


@dataclass(frozen=True, kw_only=True)
class FinishedPlan:
    """A member of a pool that has learned before: an earlier run, or a file of its scores.

    Attributes:
        run: folder of a finished training run.
        tower: of that run.
        scores: file of scores, see `read_scores`.
    """

    run: str | None = None
    tower: str = "teacher"
    scores: str | None = None

    def mistakes(self, where: str) -> list[str]:
        """What is wrong with the values, one sentence each."""
        if (self.run is None) == (self.scores is None):
            return [f"{where} must have either run, the folder of a finished run, or scores, a "
                    f"file; got run={self.run} and scores={self.scores}."]
        return []

    def absences(self, where: str) -> list[str]:
        """What is not there to be scored with, one sentence each; a run asks for it once."""
        if self.scores is not None:
            return [] if Path(self.scores).is_file() else [
                f"{where}.scores: file {self.scores} does not exist. Check the path."]
        if (what := unfinished(Path(str(self.run)), ("train",))) is not None:
            return [f"{where}.run must be the folder of a finished training run, but {self.run} "
                    f"{what}"]
        report = read_report(Path(str(self.run)))
        if self.tower not in report["towers"]:
            return [f"{where}.tower names `{self.tower}`, which is no tower of {self.run}; it has "
                    f"{', '.join(report['towers'])}."]
        if "gbdt" in report.get("baselines", {}).get(self.tower.removeprefix(BASELINE), {}):
            return [f"{where}.tower names `{self.tower}`, which reads leaves of trees that only "
                    "its own run finds. Give a file of its scores, or another tower."]
        return []


@dataclass(frozen=True, kw_only=True)
class _Combination:
    """How a pool makes one score and its hints of its members, see `TeacherPlan`."""

    gate: str
    weights: Mapping[str, float] | None = None
    hint_from: str | None = None


@dataclass(frozen=True, kw_only=True)
class TeacherPlan:
    """One tower, or a pool.

    Attributes:
        towers: those that learn, by name; one named `teacher` where there is no pool.
        finished: members of the pool that have learned before, by name.
        learned_gate: shares by example instead of fixed ones.
        weights: fixed shares by member; None for equal ones.
        hint_from: the tower whose hidden layers students may imitate.
        is_pool: combine the members by a gate.
    """

    towers: Mapping[str, TowerPlan]
    finished: Mapping[str, FinishedPlan] = field(default_factory=dict)
    learned_gate: bool = False
    weights: Mapping[str, float] | None = None
    hint_from: str
    is_pool: bool = False

    @property
    def members(self) -> list[str]:
        """Of the pool, as its gate counts them; none where there is no pool."""
        return [*self.towers, *self.finished] if self.is_pool else []

    @property
    def hidden_units(self) -> Sequence[int]:
        """Of the MLP that students may imitate."""
        return self.towers[self.hint_from].network.hidden_units

    @property
    def linear(self) -> bool:
        """Does the shared embedding have first-order weights?"""
        return any(one.network.linear for one in self.towers.values() if one.embedding == SHARED)

    @property
    def interactions(self) -> list[keras.layers.Layer]:
        """The layers of all towers."""
        return [layer for tower in self.towers.values() for layer in tower.interactions]

    @property
    def own_embeddings(self) -> dict[str, bool]:
        """By tower with an embedding of its own, whether that has first-order weights."""
        return {name: one.network.linear for name, one in self.towers.items()
                if one.embedding == OWN}


def teacher_from(config: Any, seed: int, mistakes: list[str]) -> TeacherPlan | None:
    """The teacher of a run.

    Args:
        config: `teacher`.
        seed: of the run.
        mistakes: receives what is wrong, one sentence each.
    """
    if isinstance(config, Mapping) and "towers" in config:
        return _pool(config, seed, mistakes)
    tower = _tower(config, seed, "teacher", "teacher", mistakes)
    return None if tower is None else TeacherPlan(towers={"teacher": tower}, hint_from="teacher")


def _tower(config: Any, seed: int, where: str, name: str, mistakes: list[str],
           embedding: str = SHARED) -> TowerPlan | None:
    values = dict(config) if isinstance(config, Mapping) else {}
    interactions = interactions_from(values.pop("interactions", {}), f"{where}.interactions", name,
                                     seed, mistakes)
    network = parse(NetworkSettings, values if values else config, where, mistakes)
    if network is None:
        return None
    mistakes.extend(network.mistakes(where))
    return TowerPlan(network=network, interactions=interactions, embedding=embedding)


def _pool(config: Mapping[str, Any], seed: int, mistakes: list[str]) -> TeacherPlan | None:
    for key in config:
        if key not in (*_POOL_KEYS, *_NETWORK_KEYS):
            mistakes.append(f"teacher.{key} is not known of a pool; known are "
                            f"{', '.join((*_POOL_KEYS, *_NETWORK_KEYS))}.")
    given = config["towers"]
    if not isinstance(given, Mapping):
        mistakes.append(f"teacher.towers must be a mapping of towers by name, got {given!r}.")
        return None
    of_pool = {key: config[key] for key in _NETWORK_KEYS if key in config}
    before = len(mistakes)
    towers: dict[str, TowerPlan] = {}
    finished: dict[str, FinishedPlan] = {}
    for name, one in given.items():
        where = f"teacher.towers.{name}"
        if not str(name).replace("_", "").replace("-", "").isalnum() or name == "teacher":
            mistakes.append(f"{where}: a tower must be named by {_NAME_SIGNS}, and not `teacher`.")
        elif one is None:
            continue  # switched off: teacher.towers.dcn=null
        elif not isinstance(one, Mapping):
            mistakes.append(f"{where} must be a mapping, got {one!r}.")
        elif "run" in one or "scores" in one:
            if (plan := parse(FinishedPlan, one, where, mistakes)) is not None:
                mistakes.extend(plan.mistakes(where))
                finished[name] = plan
        else:
            tower = _tower_of_pool({**of_pool, **one}, seed, where, name, mistakes)
            if tower is not None:
                towers[name] = tower
    combined = parse(_Combination, {key: config[key] for key in _COMBINATION_KEYS
                                    if key in config}, "teacher", mistakes)
    if combined and combined.gate not in _GATES:
        mistakes.append(f"teacher.gate must be one of {', '.join(_GATES)}, got "
                        f"{combined.gate!r}.")
    if combined and len(mistakes) == before:
        mistakes.extend(pool_mistakes(
            embeddings={name: int(one.embedding == OWN) for name, one in towers.items()},
            scored=list(finished), weights=combined.weights,
            learned_gate=combined.gate == "learned", hint_from=combined.hint_from,
            where="teacher"))
    if combined is None or len(mistakes) > before:
        return None
    return TeacherPlan(
        towers=towers, finished=finished, learned_gate=combined.gate == "learned",
        weights=combined.weights, hint_from=combined.hint_from or next(iter(towers)),
        is_pool=True)


def _tower_of_pool(config: Mapping[str, Any], seed: int, where: str, name: str,
                   mistakes: list[str]) -> TowerPlan | None:
    values = dict(config)
    embedding = values.pop("embedding", SHARED)
    if embedding not in (SHARED, OWN):
        mistakes.append(f"{where}.embedding must be {SHARED} or {OWN}, got {embedding!r}.")
    for key in config:
        if key not in _TOWER_KEYS:
            mistakes.append(f"{where}.{key} is not known; known are {', '.join(_TOWER_KEYS)}, or "
                            "run, tower and scores of a finished model.")
            values.pop(key)
    return _tower(values, seed, where, f"teacher.{name}", mistakes, embedding)


def finished_members(teacher: Any) -> list[str]:
    """Names of the members of a configured pool that have learned before."""
    towers = teacher.get("towers") if isinstance(teacher, Mapping) else None
    return [name for name, one in towers.items()
            if isinstance(one, Mapping) and ("run" in one or "scores" in one)
            ] if isinstance(towers, Mapping) else []


def absent_members(teacher: Any) -> list[str]:
    """Which finished members of a configured pool are not there to be scored with.

    One sentence each. That is for a new run; it keeps the scores, and needs nobody later.
    """
    found: list[str] = []
    for name in finished_members(teacher):
        where = f"teacher.towers.{name}"
        member = parse(FinishedPlan, teacher["towers"][name], where, [])
        if member is not None and not member.mistakes(where):
            found += member.absences(where)
    return found


def build_teacher(plan: TeacherPlan, seed: int, name: str) -> Teacher | TeacherPool:
    """The network, whose towers with an embedding of their own read it in the order of the plan.

    Args:
        plan: checked.
        seed: of the run.
        name: of the tower.
    """

    def network(tower: TowerPlan, name: str) -> Teacher:
        return Teacher(interactions=tower.interactions, hidden_units=tower.network.hidden_units,
                       activation=tower.network.activation, dropout=tower.network.dropout,
                       seed=seed, name=name)

    if not plan.is_pool:
        (tower,) = plan.towers.values()
        return network(tower, name)
    own = list(plan.own_embeddings)
    return TeacherPool(
        towers={one: PoolTower(network=network(tower, f"{name}.{one}"),
                               linear=tower.network.linear,
                               embedding=1 + own.index(one) if one in own else 0)
                for one, tower in plan.towers.items()},
        scored=list(plan.finished), weights=plan.weights, learned_gate=plan.learned_gate,
        hint_from=plan.hint_from, name=name)
