"""Interaction layers of a tower, from plain values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import hydra
import tf_keras as keras
from hydra.errors import InstantiationException


def interactions_from(config: Any, where: str, tower: str, seed: int,
                      mistakes: list[str]) -> list[keras.layers.Layer]:
    """The layers that `interactions` of a tower's file names by `_target_`.

    Args:
        config: name to layer; null switches one off.
        where: names the setting in messages, such as `teacher.interactions`.
        tower: its name, part of the layers' names and seeds.
        seed: of the run.
        mistakes: receives what is wrong, one sentence each.
    """
    layers: list[keras.layers.Layer] = []
    if not isinstance(config, Mapping):
        mistakes.append(f"{where} must be a mapping of layers, got {config!r}.")
        return layers
    for name, layer in config.items():
        here = f"{where}.{name}"
        if layer is None:
            continue  # switched off: teacher.interactions.cin=null
        if not isinstance(layer, Mapping) or "_target_" not in layer:
            mistakes.append(f"{here} must be a mapping with _target_, got {layer!r}.")
            continue
        try:
            made = hydra.utils.instantiate(layer, seed=seed, name=f"{tower}_{name}",
                                           _convert_="all")
        except InstantiationException as error:
            mistakes.append(f"{here}: {' '.join(str(error.__cause__ or error).split())}")
            continue
        if isinstance(made, keras.layers.Layer):
            layers.append(made)
        else:
            mistakes.append(f"{here}._target_ {layer['_target_']!r} must be a Keras layer.")
    return layers
