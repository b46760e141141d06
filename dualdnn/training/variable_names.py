"""Names of variables that are the same in every process."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

import tf_keras as keras

from dualdnn.layers.cross import CrossNetwork
from dualdnn.models.dual_dnn import DualDNN
from dualdnn.models.teacher import Teacher
from dualdnn.models.teacher_pool import TeacherPool

_NUMBERED = re.compile(r"(.+?)(?:_(\d+))?")


def lasting_names(model: DualDNN, names: Collection[str]) -> dict[str, str]:
    """By name of a variable the one that it has in every process.

    Keras names a layer that was given no name after its class and, from the second one of the
    process on, by a number: a PReLU, or what an interaction layer holds. Here the number is the
    place of the layer among its like in the layer that holds it. Names that were given stay.

    Args:
        model: its layers tell which names are of Keras' making.
        names: paths of all variables, of this model or of an earlier process.
    """
    holders = list(_holders(model))
    kinds = {_numbered(layer.name)[0] for holder in holders for layer in holder.submodules
             if isinstance(layer, keras.layers.Layer) and _is_of_keras(layer)}
    places = {layer.name for layer in holders}
    # With the number of parts that are not inside of a holder; the last part is the variable.
    paths = {name: _path(name, places) for name in names}
    numbers: dict[tuple[str, ...], set[int]] = {}
    for path, outer in paths.values():
        for i in range(outer, len(path) - 1):
            kind, number = _numbered(path[i])
            numbers.setdefault((*path[:i], kind), set()).add(number)

    def lasting(path: list[str], i: int) -> str:
        kind, number = _numbered(path[i])
        alike = sorted(numbers[(*path[:i], kind)])
        if kind not in kinds or 0 in alike:  # Keras gives no 0: somebody counts for himself
            return path[i]
        return f"{kind}_{place}" if (place := alike.index(number)) else kind

    return {name: "/".join([*path[:outer],
                            *(lasting(path, i) for i in range(outer, len(path) - 1)),
                            *path[max(outer, len(path) - 1):]])
            for name, (path, outer) in paths.items()}


def _holders(model: DualDNN) -> Iterator[keras.layers.Layer]:
    """The layers of all towers that may hold some without a name."""
    pool = model.teacher
    for network in [*(pool.networks if isinstance(pool, TeacherPool) else [pool]),
                    *(student.network for student in model.students.values())]:
        yield network.mlp
        if isinstance(network, Teacher):
            # A cross network has names of its own for all that it holds.
            yield from (layer for layer in network.interactions
                        if not isinstance(layer, CrossNetwork))


def _path(name: str, places: Collection[str]) -> tuple[list[str], int]:
    """Parts of a name, and how many of them lead to and into a layer of `places`."""
    path = name.split("/")
    return path, max((i + 1 for i, part in enumerate(path) if part in places), default=len(path))


def _numbered(layer: str) -> tuple[str, int]:
    """A layer's name without its number, and the number; -1 for none."""
    found = _NUMBERED.fullmatch(layer)
    assert found is not None, "a layer without a name"
    return found[1], -1 if found[2] is None else int(found[2])


def _is_of_keras(layer: keras.layers.Layer) -> bool:
    """Has a layer a name that Keras would make of its class, as p_re_lu_4 of PReLU?"""
    kind = type(layer).__name__
    made = ("private" if kind.startswith("_") else "") + kind.replace("_", "").lower()
    return _numbered(layer.name)[0].replace("_", "") == made
