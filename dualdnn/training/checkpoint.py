"""Named arrays on disk, written whole or not at all; large ones in shards of rows."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from dualdnn.errors import DataError
from dualdnn.storage import atomic_folder, remove_leftovers

_CHECKPOINTS_KEPT = 2
_SHARD_BYTES = 2**28
# Smaller arrays share one file: syncing a file of its own for each took most of a checkpoint.
_PACKED_BYTES = 2**20
_PACKED = "packed.npz"


def _shape(value: np.ndarray | tf.Variable) -> tuple[int, ...]:
    """Also of a variable that may have any number of rows."""
    return tuple(value.shape if isinstance(value, np.ndarray) else tf.shape(value).numpy().tolist())


def _bytes(value: np.ndarray | tf.Variable) -> int:
    dtype = value.dtype if isinstance(value, np.ndarray) else value.dtype.as_numpy_dtype
    return int(np.prod(_shape(value))) * np.dtype(dtype).itemsize


def _blocks(value: np.ndarray | tf.Variable) -> Iterable[np.ndarray]:
    """The rows of an array in shards; a variable is never copied whole."""
    rows = _shape(value)[0] if len(value.shape) else 0
    size = _bytes(value)
    if size <= _SHARD_BYTES:
        yield value if isinstance(value, np.ndarray) else value.numpy()
        return
    step = max(1, _SHARD_BYTES * rows // size)
    for start in range(0, rows, step):
        stop = min(start + step, rows)
        if isinstance(value, np.ndarray):
            yield value[start:stop]
        else:
            yield tf.gather(value, tf.range(start, stop)).numpy()


def save_checkpoint(
    folder: Path, arrays: Mapping[str, np.ndarray | tf.Variable], state: Mapping[str, Any]
) -> None:
    """Write arrays and state as one folder that appears by one rename.

    Args:
        folder: must not exist.
        arrays: by name.
        state: JSON-able values.
    """
    with atomic_folder(folder) as temporary:
        index: dict[str, list[str]] = {}
        packed: dict[str, np.ndarray] = {}
        for number, (name, value) in enumerate(arrays.items()):
            index[name] = []
            if _bytes(value) <= _PACKED_BYTES:
                packed[name] = value if isinstance(value, np.ndarray) else value.numpy()
                continue
            for shard, block in enumerate(_blocks(value)):
                file = f"{number:04d}-{shard:04d}.npy"
                np.save(temporary / file, block)
                index[name].append(file)
        np.savez(temporary / _PACKED, allow_pickle=False, **packed)
        (temporary / "arrays.json").write_text(json.dumps(index, indent=1))
        (temporary / "state.json").write_text(json.dumps(state, indent=1))


def read_state(folder: Path) -> dict[str, Any]:
    """The state of a checkpoint.

    Raises:
        DataError: the folder is not a checkpoint.
    """
    try:
        return json.loads((folder / "state.json").read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{folder} is not a readable checkpoint: {error}.") from error


def read_arrays(folder: Path) -> dict[str, np.ndarray]:
    """The arrays of a checkpoint, by name.

    Raises:
        DataError: a file is missing or broken.
    """
    try:
        index = json.loads((folder / "arrays.json").read_text())
        found = {}
        with open(folder / _PACKED, "rb") as file, np.load(file) as packed:
            for name, files in index.items():
                blocks = [np.load(folder / file) for file in files] or [packed[name]]
                found[name] = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
        return _with_births(found)
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{folder} is not a readable checkpoint: {error}.") from error


def _with_births(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Checkpoints from before rows knew their first step: they count from the table's."""
    for name in [name for name in arrays if name.endswith("_decayed_to")]:
        arrays.setdefault(f"{name.removesuffix('_decayed_to')}_born", np.zeros_like(arrays[name]))
    return arrays


def restore(variables: Mapping[str, tf.Variable], arrays: Mapping[str, np.ndarray],
            folder: Path) -> None:
    """Assign every variable from the array of its name.

    Raises:
        DataError: a variable has no array or another shape: the checkpoint belongs to another
            configuration.
    """
    for name, variable in variables.items():
        if name not in arrays:
            raise DataError(f"{folder} lacks `{name}`: it belongs to another configuration.")
        if arrays[name].shape != _shape(variable):
            raise DataError(
                f"{folder}: `{name}` has shape {arrays[name].shape}, expected "
                f"{_shape(variable)}: it belongs to another configuration."
            )
    for name, variable in variables.items():
        variable.assign(arrays[name])


class CheckpointFolder:
    """The checkpoints of one run, `step-NNNNNNNNNN`; older ones are pruned."""

    def __init__(self, folder: Path) -> None:
        """Use `folder`, which need not exist yet."""
        self.folder = folder

    def finished(self) -> list[Path]:
        """Finished checkpoints, oldest first."""
        return sorted(self.folder.glob("step-*"))

    def write(
        self, step: int, arrays: Mapping[str, np.ndarray | tf.Variable], state: Mapping[str, Any]
    ) -> None:
        """Write the checkpoint of a step, once, and prune older ones."""
        target = self.folder / f"step-{step:010d}"
        if target.exists():
            return
        save_checkpoint(target, arrays, state)
        for old in self.finished()[:-_CHECKPOINTS_KEPT]:
            shutil.rmtree(old)

    def newest(
        self, configuration: Mapping[str, Any]
    ) -> tuple[Path, dict[str, Any], dict[str, np.ndarray]] | None:
        """The newest checkpoint with its state and arrays; None where there is none.

        Args:
            configuration: what the state's `configuration` must equal.

        Raises:
            DataError: it is unreadable or belongs to another configuration.
        """
        remove_leftovers(self.folder)
        if not (found := self.finished()):
            return None
        state = read_state(found[-1])
        theirs = state.get("configuration", {})
        names = {**theirs, **configuration}
        if changed := [key for key in names if theirs.get(key) != configuration.get(key)]:
            raise DataError(
                f"{found[-1]} belongs to another configuration; these differ: "
                f"{', '.join(changed)}. Resume with the configuration of that run, or train in a "
                "new folder."
            )
        return found[-1], state, read_arrays(found[-1])
