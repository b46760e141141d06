"""The best weights of every tower, each with the embedding that it read at the time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from dualdnn.errors import DataError
from dualdnn.layers.shared_embedding import SharedEmbedding
from dualdnn.models.dual_dnn import DualDNN
from dualdnn.training.checkpoint import read_arrays, read_state, save_checkpoint


@dataclass
class BestWeights:
    """Snapshots of towers and embeddings.

    Towers stop at different steps, and a student is only as good as the embedding that it read,
    so each tower names its embedding's snapshot. Towers that share one keep one copy.

    Attributes:
        dense: by tower, the variables of its network.
        table_steps: by tower and name of an embedding that it reads, the step of its snapshot.
        tables: by (name of the embedding, step), all of it that learns.
    """

    dense: dict[str, list[np.ndarray]] = field(default_factory=dict)
    table_steps: dict[str, dict[str, int]] = field(default_factory=dict)
    tables: dict[tuple[str, int], list[np.ndarray]] = field(default_factory=dict)

    def keep(self, model: DualDNN, tower: str, table_step: int,
             rested: Mapping[str, int] | None = None) -> None:
        """Copy the tower and its embeddings out of the model.

        Args:
            model: with every table up to date.
            tower: name.
            table_step: the step that the values of its embeddings belong to.
            rested: by name of an embedding that no longer learns, the step of its last change.
        """
        self.dense[tower] = [v.numpy() for v in model.network_variables(tower)]
        self.table_steps[tower] = steps = {
            one.name: (rested or {}).get(one.name, table_step)
            for one in model.embeddings_of(tower)}
        for embedding in model.embeddings_of(tower):
            key = embedding.name, steps[embedding.name]
            if key not in self.tables:
                self.tables[key] = [v.numpy() for v in embedding.trained_variables()]
        used = {key for steps in self.table_steps.values() for key in steps.items()}
        self.tables = {key: value for key, value in self.tables.items() if key in used}

    def of_tower(self, tower: str) -> list[np.ndarray]:
        """The network of a tower, and then all that learns of each of its embeddings."""
        tables = [value for key in self.table_steps[tower].items() for value in self.tables[key]]
        return [*self.dense[tower], *tables]

    def load_into(self, model: DualDNN, tower: str) -> None:
        """Put a tower's best weights and its embeddings into the model."""
        self._load(model, tower, model.embeddings_of(tower))

    def load_owned(self, model: DualDNN, tower: str) -> None:
        """Put back what a tower trains itself; an embedding of others stays as it is."""
        self._load(model, tower, model.owned_embeddings(tower))

    def _load(self, model: DualDNN, tower: str, embeddings: Sequence[SharedEmbedding]) -> None:
        pairs = [*zip(model.network_variables(tower), self.dense[tower], strict=True)]
        for one in embeddings:
            values = self.tables[one.name, self.table_steps[tower][one.name]]
            pairs += zip(one.trained_variables(), values, strict=True)
        for variable, value in pairs:
            variable.assign(value)

    def to_arrays(self) -> tuple[dict[str, np.ndarray | tf.Variable], dict[str, Any]]:
        """Named arrays and JSON-able state, for a checkpoint."""
        arrays: dict[str, np.ndarray | tf.Variable] = {}
        for tower, values in self.dense.items():
            arrays.update({f"best/{tower}/{i}": v for i, v in enumerate(values)})
        for (embedding, step), values in self.tables.items():
            arrays.update({f"best_table/{embedding}/{step}/{i}": v for i, v in enumerate(values)})
        return arrays, {"table_steps": self.table_steps}

    def save(self, folder: Path) -> None:
        """Write the finished model: this is what evaluation and export read."""
        save_checkpoint(folder, *self.to_arrays())


def best_weights_from(arrays: Mapping[str, np.ndarray], state: Mapping[str, Any]) -> BestWeights:
    """Undo `BestWeights.to_arrays`; other arrays are left alone."""
    best = BestWeights()
    for name, value in arrays.items():
        kind, *rest = name.split("/")
        # Arrays were written in the order of their variables, and are read back in it.
        if kind == "best":
            best.dense.setdefault(rest[0], []).append(value)
        elif kind == "best_table":
            best.tables.setdefault((rest[0], int(rest[1])), []).append(value)
    for tower, steps in state["table_steps"].items():
        # Once every tower read one embedding: its own, which had its name, or the shared one.
        best.table_steps[tower] = steps if isinstance(steps, dict) else {
            tower if (tower, steps) in best.tables else "shared": steps}
        # An embedding of frozen vectors alone has nothing that learns, and so left no array.
        for key in best.table_steps[tower].items():
            best.tables.setdefault(key, [])
    return best


def load_best_weights(folder: Path, towers: Sequence[str]) -> BestWeights:
    """Read what `BestWeights.save` wrote.

    Raises:
        DataError: the folder is unreadable or lacks a tower.
    """
    best = best_weights_from(read_arrays(folder), read_state(folder))
    missing = [tower for tower in towers if tower not in best.dense]
    if missing:
        raise DataError(f"{folder} holds no weights of {', '.join(missing)}; it has "
                        f"{', '.join(best.dense)}.")
    return best
