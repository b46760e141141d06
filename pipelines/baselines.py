"""Baselines of a run, from plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tf_keras as keras

from dualdnn.baselines.gbdt import GbdtSettings
from dualdnn.config import parse
from dualdnn.evaluation.comparison import BASELINE
from dualdnn.models.teacher import DEEP, adds_to_logit
from dualdnn.training.settings import DenseOptimizerSettings
from dualdnn.training.table_optimizer import TableOptimizerSettings
from pipelines.interactions import interactions_from
from pipelines.settings import NetworkSettings

_NETWORK_KEYS = ("hidden_units", "activation", "dropout", "linear")
_KEYS = (*_NETWORK_KEYS, "interactions", "deep", "optimizer", "gbdt")


@dataclass(frozen=True, kw_only=True)
class BaselinePlan:
    """One model to compare with: a network of the teacher's form that learns from labels alone.

    Attributes:
        name: of its file.
        network: its MLP, and whether it adds first-order weights.
        interactions: its interaction layers.
        deep: what the MLP reads, see `Teacher`.
        table: how its embedding learns.
        optimizer: how its dense variables learn.
        gbdt: of the trees whose leaves it reads beside the fields, or None.
    """

    name: str
    network: NetworkSettings
    interactions: Sequence[keras.layers.Layer]
    deep: str
    table: TableOptimizerSettings
    optimizer: DenseOptimizerSettings
    gbdt: GbdtSettings | None

    @property
    def tower(self) -> str:
        """The name of its tower."""
        return f"{BASELINE}{self.name}"


def baseline_from(name: str, config: Any, run: Mapping[str, Any], seed: int,
                  mistakes: list[str]) -> BaselinePlan | None:
    """One baseline with its own changes to the run's optimizer.

    Args:
        name: of its file.
        config: its file with its overrides.
        run: the configuration of the run.
        seed: of the run.
        mistakes: receives what is wrong, one sentence each.
    """
    where, before = f"baseline_model/{name}", len(mistakes)
    if not isinstance(config, Mapping):
        mistakes.append(f"{where} must be a mapping, got {config!r}.")
        return None
    mistakes += [f"{where}.{key} is not known; known are {', '.join(_KEYS)}."
                 for key in config if key not in _KEYS]
    network = parse(NetworkSettings, {key: config[key] for key in _NETWORK_KEYS if key in config},
                    where, mistakes)
    interactions = interactions_from(config.get("interactions", {}), f"{where}.interactions",
                                     f"{BASELINE}{name}", seed, mistakes)
    deep, gbdt = config.get("deep", "fields"), None
    if deep not in DEEP:
        mistakes.append(f"{where}.deep must be one of {', '.join(DEEP)}, got {deep!r}.")
    elif deep in ("interactions", "both") and all(map(adds_to_logit, interactions)):
        mistakes.append(f"{where}.deep is interactions, but there is no interaction layer that the "
                        "MLP could read. Name one such as dualdnn.layers.fm.BiInteraction, or use "
                        "fields.")
    if network:
        mistakes.extend(network.mistakes(where))
        if deep == "none" and network.hidden_units:
            mistakes.append(f"{where}.hidden_units must be [] where deep is none, got "
                            f"{list(network.hidden_units)}. Use deep: fields for an MLP.")
        if deep == "none" and not interactions and not network.linear:
            mistakes.append(f"{where} reads nothing: deep is none, linear is false and there is no "
                            "interaction layer. Switch one of them on.")
    if config.get("gbdt") is not None:
        gbdt = parse(GbdtSettings, config["gbdt"], f"{where}.gbdt", mistakes)
        if gbdt:
            mistakes.extend(gbdt.mistakes(f"{where}.gbdt"))
    table, optimizer = _optimizers(where, config.get("optimizer") or {}, run.get("optimizer"),
                                   mistakes)
    if network is None or table is None or optimizer is None or len(mistakes) > before:
        return None
    return BaselinePlan(name=name, network=network, interactions=interactions, deep=deep,
                        table=table, optimizer=optimizer, gbdt=gbdt)


def _optimizers(
    where: str, own: Any, of_run: Any, mistakes: list[str]
) -> tuple[TableOptimizerSettings | None, DenseOptimizerSettings | None]:
    """The run's optimizer of tables and of the teacher, with a baseline's own changes."""
    if not isinstance(own, Mapping) or not all(isinstance(one, Mapping) for one in own.values()):
        mistakes.append(f"{where}.optimizer must hold table and teacher, as the run's does, got "
                        f"{own!r}.")
        own = {}
    mistakes += [f"{where}.optimizer.{key} is not known; known are table, teacher."
                 for key in own if key not in ("table", "teacher")]
    found: list[Any] = []
    for key, cls in (("table", TableOptimizerSettings), ("teacher", DenseOptimizerSettings)):
        given = of_run.get(key) if isinstance(of_run, Mapping) else None
        changes = own.get(key, {})
        if not isinstance(given, Mapping):
            found.append(None)  # a mistake of the run's, and told as such
            continue
        here = f"{where}.optimizer.{key}" if changes else f"optimizer.{key}"
        settings = parse(cls, {**given, **changes}, here, mistakes)
        if settings:
            mistakes.extend(settings.mistakes(here))
        found.append(settings)
    return found[0], found[1]


def baselines_from(config: Mapping[str, Any], seed: int, mistakes: list[str]) -> list[BaselinePlan]:
    """The baselines of a resolved configuration, which may have been written before there were any.

    Args:
        config: with `baseline_configs` by name.
        seed: of the run.
        mistakes: receives what is wrong, one sentence each.
    """
    found = [baseline_from(name, one, config, seed, mistakes)
             for name, one in config.get("baseline_configs", {}).items()]
    return [one for one in found if one is not None]
