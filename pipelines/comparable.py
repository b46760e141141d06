"""What a run leaves behind so that it can be compared: test scores row by row, and its curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dualdnn.data.examples import Examples
from dualdnn.evaluation.predictions import PREDICTIONS_FILE, predictions_of, write_predictions
from dualdnn.evaluation.slices import category_masks
from dualdnn.storage import atomic_file
from dualdnn.training.measure import categories_of, known_masks
from pipelines.plan import Plan

HISTORY_FILE = "history.parquet"
# As many values of a field as the report has slices of.
_MOST_VALUES = 10


def keep_comparable(run: Path, plan: Plan, examples: Examples, logits: Mapping[str, np.ndarray],
                    history: Sequence[Mapping[str, Any]] = ()) -> None:
    """Write `predictions.parquet` and, of a training, `history.parquet` into a run folder.

    Args:
        run: its folder.
        plan: of the run.
        examples: its data.
        logits: (test rows,) by tower, as trained.
        history: of the trainer: rows of step, epoch, tower, part, metric and value.
    """
    index = examples.split.test
    if len(index):
        masks = known_masks(examples, index)
        for name in plan.slices:
            masks |= category_masks(name, categories_of(examples, name, index),
                                    max_values=_MOST_VALUES)
        write_predictions(run / PREDICTIONS_FILE, predictions_of(examples, index, logits, masks))
    if history:
        with atomic_file(run / HISTORY_FILE) as temporary:
            pd.DataFrame(list(history)).to_parquet(temporary, index=False)


def read_history(run: Path) -> list[dict[str, Any]]:
    """The curves of a training run; empty where it kept none."""
    path = run / HISTORY_FILE
    if not path.exists():
        return []
    return [{str(key): value for key, value in row.items()}
            for row in pd.read_parquet(path).to_dict("records")]
