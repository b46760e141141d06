"""The best weights of every tower, each with the embedding that it read at the time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from dualdnn.errors import DataError
from dualdnn.models.dual_dnn import DualDNN
from dualdnn.training.checkpoint import read_arrays, read_state, save_checkpoint


@dataclass
class BestWeights:
    """Snapshots of towers and embeddings.

    Towers stop at different steps, and a student is only as good as the embedding that it read,
    so each tower names its embedding's snapshot. Towers that share one keep one copy.

    Attributes:
        dense: by tower, the variables of its network.
        table_steps: by tower, the step of its embedding's snapshot.
        tables: by (name of the embedding, step), all of it that learns.
    """

    dense: dict[str, list[np.ndarray]] = field(default_factory=dict)
    table_steps: dict[str, int] = field(default_factory=dict)
    tables: dict[tuple[str, int], list[np.ndarray]] = field(default_factory=dict)

    def keep(self, model: DualDNN, tower: str, table_step: int) -> None:
        """Copy the tower and its embedding out of the model.

        Args:
            model: with every table up to date.
            tower: name.
            table_step: the step that the embedding's values belong to; one that no longer
                learns keeps the step of its last change.
        """
        self.dense[tower] = [v.numpy() for v in model.network_variables(tower)]
        self.table_steps[tower] = table_step
        embedding = model.embedding_of(tower)
        if (embedding.name, table_step) not in self.tables:
            self.tables[embedding.name, table_step] = [
                v.numpy() for v in embedding.trained_variables()]
        used = {(model.embedding_of(t).name, step) for t, step in self.table_steps.items()}
        self.tables = {key: value for key, value in self.tables.items() if key in used}

    def load_into(self, model: DualDNN, tower: str) -> None:
        """Put a tower's best weights and its embedding into the model."""
        embedding = model.embedding_of(tower)
        values = self.tables[embedding.name, self.table_steps[tower]]
        pairs = [*zip(model.network_variables(tower), self.dense[tower], strict=True),
                 *zip(embedding.trained_variables(), values, strict=True)]
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
    best = BestWeights(table_steps=dict(state["table_steps"]))
    for name, value in arrays.items():
        kind, *rest = name.split("/")
        # Arrays were written in the order of their variables, and are read back in it.
        if kind == "best":
            best.dense.setdefault(rest[0], []).append(value)
        elif kind == "best_table":
            best.tables.setdefault((rest[0], int(rest[1])), []).append(value)
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
