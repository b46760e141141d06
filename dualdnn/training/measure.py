"""Measuring every tower with its best weights on one part of the data."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from dualdnn.data.examples import Examples
from dualdnn.errors import DataError
from dualdnn.evaluation.metrics import evaluate_scores
from dualdnn.evaluation.slices import Categories, evaluate_slices
from dualdnn.models.dual_dnn import TEACHER, DualDNN
from dualdnn.schema import Field
from dualdnn.training.best_weights import BestWeights
from dualdnn.training.scoring import Scorer


def score_with_best(
    model: DualDNN, best: BestWeights, examples: Examples, index: np.ndarray
) -> dict[str, np.ndarray]:
    """Logits (n,) float32 of every tower that has best weights; they end up in the model."""
    scorer = Scorer(model)
    rows = examples.rows[index]
    logits = {}
    for tower in best.dense:
        best.load_into(model, tower)
        logits.update(scorer(rows, [tower]))
    return logits


def count_parameters(model: DualDNN, tower: str) -> dict[str, int]:
    """Parameters that a served tower has; hint projections are not among them."""
    if tower == TEACHER:
        dense = model.teacher.count_params()
        columns = model.table.columns()
    else:
        dense = model.students[tower].network.count_params()
        columns = [model.table_of(tower).vectors]
    embedding = sum(int(np.prod(column.shape)) for column in columns)
    return {"params_dense": dense, "params_embedding": embedding, "bytes_dense": 4 * dense}


def weights_sha256(model: DualDNN, best: BestWeights, tower: str) -> str:
    """Hex digest of a tower's best weights and its table, bit for bit."""
    digest = hashlib.sha256()
    table = best.tables[model.table_of(tower).name, best.table_steps[tower]]
    for value in [*best.dense[tower], *table]:
        digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()


def _identity(fields: Sequence[Field], side: str) -> str | None:
    """The field that says which user or item it is: the first `id` of that side."""
    return next((f.name for f in fields if f.kind == "id" and f.side == side), None)


def _known_masks(examples: Examples, index: np.ndarray) -> dict[str, np.ndarray]:
    masks = {}
    for side in ("user", "item"):
        if name := _identity(examples.schema.fields, side):
            known = examples.is_known(name, index)
            masks.update({f"known_{side}": known, f"new_{side}": ~known})
    return masks


def _categories(examples: Examples, name: str, index: np.ndarray) -> Categories:
    """The values of a categorical field, or the buckets of a number, in the chosen rows."""
    field = next((f for f in examples.schema.fields if f.name == name), None)
    if field is None:
        raise DataError(
            f"evaluation.slices names `{name}`, which is not a field of this run; it has "
            f"{', '.join(f.name for f in examples.schema.fields)}."
        )
    if field.kind == "number":
        position = examples.schema.fields.index(field)
        rows = examples.rows[index, examples.columns(name).start]
        bounds = [-np.inf, *examples.row_map.boundaries_of(position).tolist(), np.inf]
        first = int(examples.row_map.bucket_rows[position])
        codes = np.where(rows == examples.row_map.oov_rows[position], -1, rows - first)
        return Categories(codes=codes, values=[f"[{a:g}, {b:g})"
                                               for a, b in itertools.pairwise(bounds)])
    codes = np.full((len(index), field.width), -1, np.int64)
    code_of: dict[str, int] = {}
    start = 0
    for day in examples.days:
        inside = np.flatnonzero((index >= start) & (index < start + day.rows))
        section = day.section(name)
        texts = day.values()[section]
        mapped = np.array([code_of.setdefault(text, len(code_of)) for text in texts] + [-1])
        cells = day.cells(name)[index[inside] - start].astype(np.int64) - section.start
        present = (cells >= 0) & (cells < len(texts))
        codes[inside] = mapped[np.where(present, cells, -1)]
        start += day.rows
    return Categories(codes=codes, values=list(code_of))


def measure(
    model: DualDNN,
    best: BestWeights,
    examples: Examples,
    index: np.ndarray,
    *,
    slices: Sequence[str] = (),
) -> tuple[dict[str, dict[str, Any]], dict[str, np.ndarray]]:
    """Metrics, slices, sizes and weight digests of every tower.

    Args:
        model: the towers; it ends with the last tower's best weights.
        best: of training.
        examples: the data.
        index: (n,) row numbers of the part to measure.
        slices: fields by whose values to slice, beside new and known users and items.

    Returns:
        by tower its numbers, as the report holds them, and its logits (n,).
    """
    logits = score_with_best(model, best, examples, index)
    labels = examples.labels[index]
    groups = None if examples.groups is None else examples.groups[index]
    weights = None if examples.weights is None else examples.weights[index]
    masks = _known_masks(examples, index)
    categories = {name: _categories(examples, name, index) for name in slices}
    measured: dict[str, dict[str, Any]] = {}
    for tower, scores in logits.items():
        measured[tower] = {
            **evaluate_scores(labels, scores, groups=groups, weights=weights),
            **count_parameters(model, tower),
            "weights_sha256": weights_sha256(model, best, tower),
            "slices": evaluate_slices(labels, scores, masks=masks, categories=categories,
                                      groups=groups, weights=weights),
        }
    return measured, logits
